// fuzz.cpp - libFuzzer target: what a ping prints is an attacker's text.
//
// An input is a kind ('0' to '4'), a value, a separator and a text. '0': the
// ping ended with status 0 and had printed the text. '1': with a status of that
// value. '2': killed by a signal of that number. '3': overdue, and ended by
// SIGINT. '4': the text is the value of a numeric option.

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

// The program calls exit() where it refuses a number. Here it must go on, and
// say nothing.
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
  (void)fprintf(stderr, "line %d: not so: %s\n'%s'\n", line, condition,
                verdict.c_str());
  abort();
}

void check_verdict(std::string output, int status, int64_t patience_ns) {
  // Of the exact size, on the heap: AddressSanitizer sees a byte too far.
  const std::unique_ptr<char[]> text(new char[output.size() + 1]());
  std::copy(output.begin(), output.end(), text.get());
  const Verdict judged = judge(text.get(), output.size(), status, patience_ns);
  const std::string verdict = judged.text;
  const auto begins_with = [&verdict](const char *beginning) {
    return verdict.rfind(beginning, 0) == 0;
  };
  for (char &byte : output)
    if (byte != '\n' && !is_printable(byte))
      byte = '?';
  EXPECT(std::all_of(verdict.begin(), verdict.end(), is_printable));
  const bool succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const bool received = output.find(" 0 received") == std::string::npos;
  const bool timed = begins_with(" ok ");
  EXPECT(succeeded || !timed);
  if (timed) {
    EXPECT(verdict.find_first_not_of("0123456789.", 4) == verdict.size() - 3);
    EXPECT(output.find("time=" + verdict.substr(4)) != std::string::npos);
    EXPECT(verdict.size() > 7 && verdict.substr(verdict.size() - 3) == " ms");
  } else if (succeeded && received) {
    EXPECT(verdict == " ok");
  } else {
    EXPECT(verdict.size() > 6 && begins_with(" fail "));
    EXPECT(verdict.size() <= 6 + longest_reason);
    // The ping explains itself, in its own words; where it was silent, we say
    // how it ended.
    const std::string reason = verdict.substr(6);
    const bool silent = output.find_first_not_of(" ?\n") == std::string::npos;
    const bool ours = begins_with(" fail no answer in ") ||
                      begins_with(" fail killed by signal ") ||
                      begins_with(" fail exit status ");
    EXPECT(ours || (!silent && output.find(reason) != std::string::npos));
  }
}

// The same again, slowly: the exact value, or -1 where it is none.
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

void check_number(const std::string &text, int64_t one, int64_t low,
                  int64_t high) {
  std::string verdict = text.c_str(); // an argument ends at its first NUL
  const __int128 expected = reference_number(verdict, one);
  const bool good = expected >= low && expected <= high;
  optarg = verdict.data();
  if (setjmp(refused) == 0)
    EXPECT(decimal("-i", one, low, high) == expected && good);
  else
    EXPECT(!good);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3)
    return 0;
  const int value = (data[1] + 256 - '0') % 256;
  const std::string text(reinterpret_cast<const char *>(data) + 3, size - 3);
  switch ((data[0] + 256 - '0') % 256 % 5) {
  case 0: check_verdict(text, 0, value % 2); break;
  case 1: check_verdict(text, value << 8, 0); break;
  case 2: check_verdict(text, (value & 0x80) | (1 + value % 64), 0); break;
  case 3: check_verdict(text, SIGINT, 1 + value * most_number); break;
  default:
    check_number(text, 1, 1, most_number);
    check_number(text, second_ns, second_ns / 100, 86400 * second_ns);
  }
  return 0;
}
