// fuzz.cpp - libFuzzer target: what a ping prints may be an attacker's text.
//
// An input is one byte each for a kind, a value and a separator, then a text.
// For kind '4' the text is the argument of a numeric option. For the others it
// is what a ping printed before it
// '0': exited with status 0, overdue if the value is odd;
// '1': exited with the value as status;
// '2': was killed by the signal that the value stands for;
// '3': was overdue, and SIGINT ended it;
// '5': was overdue, and SIGKILL ended it, or did not.

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

// pinglog prints a message and calls exit() to refuse a number. Here it prints
// nothing, and exit() jumps back to the check.
static jmp_buf refused;
[[noreturn]] static void leave(int) { longjmp(refused, 1); }
#define exit leave
#define dprintf(...) 0
#define main pinglog_main
#include "../../pinglog.cpp"
#undef main
#undef dprintf
#undef exit

namespace {

bool is_printable(char byte) { return byte >= ' ' && byte <= '~'; }

#define EXPECT(condition)                                                      \
  ((condition) ? (void)0 : fail(#condition, verdict, __LINE__))

[[noreturn]] void fail(const char *condition, const std::string &verdict,
                       int line) {
  (void)fprintf(stderr, "line %d: is false: %s\n'%s'\n", line, condition,
                verdict.c_str());
  abort();
}

void check_verdict(std::string output, int status, bool overdue) {
  // In a heap block of the exact size, AddressSanitizer notices an access one
  // byte beyond the end.
  const std::unique_ptr<char[]> text(new char[output.size() + 1]());
  std::copy(output.begin(), output.end(), text.get());
  const Verdict judged =
      judge(text.get(), static_cast<ssize_t>(output.size()), status, overdue);
  const std::string verdict = std::string(" ") + judged.text;
  const auto begins_with = [&verdict](const char *beginning) {
    return verdict.rfind(beginning, 0) == 0;
  };
  for (char &byte : output)
    if (byte != '\n' && !is_printable(byte))
      byte = '?';
  EXPECT(std::all_of(verdict.begin(), verdict.end(), is_printable));
  EXPECT(judged.answered == begins_with(" ok"));
  const bool succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const bool received = output.find(" 0 received") == std::string::npos &&
                        output.find(" 0 packets received") == std::string::npos;
  const bool timed = begins_with(" ok ");
  EXPECT(succeeded || WIFSIGNALED(status) || !timed);
  if (timed) {
    EXPECT(verdict.find_first_not_of("0123456789.", 4) == verdict.size() - 3);
    EXPECT(verdict.size() > 7 && verdict.substr(verdict.size() - 3) == " ms");
    const std::string time = verdict.substr(4, verdict.size() - 7);
    EXPECT(output.find(time) != std::string::npos);
    EXPECT(atof(verdict.c_str() + 4) < options.interval_ns / 1e6 + 1);
  } else if (succeeded && received && !overdue) {
    EXPECT(verdict == " ok");
  } else {
    EXPECT(verdict.size() > 6 && begins_with(" fail "));
    EXPECT(verdict.size() <= 6 + longest_reason);
    // The reason is in the ping's own words. If it was silent, pinglog says how
    // it ended.
    const std::string reason = verdict.substr(6);
    const bool silent = output.find_first_not_of(" ?\n") == std::string::npos;
    const bool ours = begins_with(" fail no answer in ") ||
                      begins_with(" fail killed by signal ") ||
                      begins_with(" fail exit status ");
    EXPECT(ours || (!silent && output.find(reason) != std::string::npos));
  }
}

// What decimal() has to return, computed slowly; -1 if the text is no number.
__int128 reference_number(const std::string &text, int64_t one) {
  const size_t point = one > 1 ? text.find('.') : std::string::npos;
  const std::string whole = text.substr(0, point);
  std::string part = point == std::string::npos ? "" : text.substr(point + 1);
  if ((whole + part).empty() ||
      (whole + part).find_first_not_of("0123456789") != std::string::npos)
    return -1;
  __int128 value = 0;
  for (char digit : whole)
    value = std::min<__int128>(value * 10 + (digit - '0'), INT64_MAX);
  part.resize(std::to_string(one).size() - 1, '0');
  return value * one + std::stoll("0" + part);
}

void check_number(const std::string &text, const char *option, int64_t one,
                  int64_t low, int64_t high) {
  std::string verdict = text.c_str(); // an argument ends at its first NUL
  const __int128 expected = reference_number(verdict, one);
  const bool good = expected >= low && expected <= high;
  optarg = verdict.data();
  if (setjmp(refused) == 0)
    EXPECT(decimal(option, one, low, high) == expected && good);
  else
    EXPECT(!good);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3)
    return 0;
  const int value = (data[1] + 256 - '0') % 256;
  const std::string text(reinterpret_cast<const char *>(data) + 3, size - 3);
  const int kind = (data[0] + 256 - '0') % 256 % 6;
  switch (kind) {
  case 0: check_verdict(text, 0, value % 2 != 0); break;
  case 1: check_verdict(text, value << 8, false); break;
  case 2: check_verdict(text, (value & 0x80) | (1 + value % 64), false); break;
  case 3: check_verdict(text, SIGINT, true); break;
  case 5: check_verdict(text, SIGKILL, true); break;
  default:
    check_number(text, "-c", 1, 1, largest_number);
    check_number(text, "-i", second_ns, second_ns / 100, 86400 * second_ns);
  }
  return 0;
}
