// fuzz_judge.cpp - libFuzzer target: what a ping prints is an attacker's text.
//
// It is built and run, in test/, by this line:
// clang-format off
// clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all fuzz_judge.cpp ../daemon.cpp -o /tmp/fuzz_judge && mkdir -p /tmp/fuzz_found && /tmp/fuzz_judge -max_len=4200 -max_total_time=600 /tmp/fuzz_found corpus
// clang-format on
//
// An input is a kind ('0' to '4'), a value, a separator and a text. '0': the
// ping ended with status 0 and had printed the text. '1': with a status of that
// value. '2': killed by a signal of that number. '3': overdue, and ended by
// SIGINT. '4': the text is the value of a numeric option.

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unistd.h>

// The program calls exit() where it refuses a number. Here it must go on, and
// say nothing.
static jmp_buf refused;
[[noreturn]] static void leave(int) {
  longjmp(refused, 1);
}
static ssize_t say_nothing(int, const void *, size_t size) {
  return static_cast<ssize_t>(size);
}
#define exit leave
#define write say_nothing
#define main pinglog_main
#include "../pinglog.cpp"
#undef main
#undef write
#undef exit

namespace {

#define EXPECT(condition)                                                      \
  ((condition) ? (void)0 : fail(#condition, verdict, __LINE__))

[[noreturn]] void fail(const char *condition, const std::string &verdict,
                       int line) {
  (void)fprintf(stderr, "line %d: not so: %s\n'%s'\n", line, condition,
                verdict.c_str());
  abort();
}

void check_verdict(const std::string &output, int status,
                   const char *patience) {
  // Of the exact size, on the heap: AddressSanitizer sees a byte too far.
  const std::unique_ptr<char[]> text(new char[output.size()]);
  std::copy(output.begin(), output.end(), text.get());
  const Text judged = judge({text.get(), output.size()}, status, patience);
  const std::string verdict{std::string_view(judged)};
  EXPECT(std::all_of(verdict.begin(), verdict.end(),
                     [](char byte) { return byte >= ' ' && byte <= '~'; }));
  const bool succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const bool received = output.find(" 0 received") == std::string::npos;
  const bool timed = verdict.compare(0, 3, "ok ") == 0;
  EXPECT(succeeded || !timed);
  if (succeeded && (received || timed)) {
    if (verdict == "ok")
      return;
    EXPECT(verdict.size() > 6 && verdict.compare(0, 3, "ok ") == 0);
    EXPECT(verdict.compare(verdict.size() - 3, 3, " ms") == 0);
    EXPECT(verdict.find_first_not_of("0123456789.", 3) == verdict.size() - 3);
    EXPECT(output.find("time=" + verdict.substr(3)) != std::string::npos);
    return;
  }
  EXPECT(verdict.size() > 5 && verdict.compare(0, 5, "fail ") == 0);
  EXPECT(verdict.size() <= 5 + longest_reason);
  const std::string reason = verdict.substr(5);
  std::string printable = output;
  for (char &byte : printable)
    if (byte != '\n' && (byte < ' ' || byte > '~'))
      byte = '?';
  // The ping explains itself, in its own words; where it was silent, we say
  // how it ended.
  const bool silent = output.find_first_not_of(" \t\r\n") == std::string::npos;
  const bool quoted = printable.find(reason) != std::string::npos;
  const bool ours = reason.compare(0, 13, "no answer in ") == 0 ||
                    reason.compare(0, 17, "killed by signal ") == 0 ||
                    reason.compare(0, 12, "exit status ") == 0;
  EXPECT(silent ? ours : quoted || ours);
}

// The same again, slowly: the exact value, or -1 where it is none.
__int128 reference_number(const std::string &text, int64_t one) {
  const size_t point = one > 1 ? text.find('.') : std::string::npos;
  const std::string whole = text.substr(0, point);
  std::string fraction =
      point == std::string::npos ? "" : text.substr(point + 1);
  if ((whole + fraction).empty() ||
      (whole + fraction).find_first_not_of("0123456789") != std::string::npos)
    return -1;
  __int128 value = 0;
  for (char digit : whole)
    value = std::min<__int128>(value * 10 + (digit - '0'), INT64_MAX);
  fraction.resize(std::to_string(one).size() - 1, '0');
  __int128 part = 0;
  for (char digit : fraction)
    part = part * 10 + (digit - '0');
  return value * one + part;
}

void check_number(const std::string &text, int64_t one, int64_t low,
                  int64_t high) {
  std::string verdict = text.c_str(); // an argument ends at its first NUL
  const __int128 expected = reference_number(verdict, one);
  const bool good = expected >= low && expected <= high;
  if (setjmp(refused) == 0) {
    const int64_t value = parse_number("-i", verdict.c_str(), one, low, high);
    EXPECT(good && value == expected);
  } else {
    EXPECT(!good);
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3)
    return 0;
  const int kind = (data[0] + 256 - '0') % 256 % 5;
  const int value = (data[1] + 256 - '0') % 256;
  const std::string text(reinterpret_cast<const char *>(data) + 3, size - 3);
  const std::string patience(value, '1');
  switch (kind) {
  case 0: check_verdict(text, 0, value % 2 ? "3" : nullptr); break;
  case 1: check_verdict(text, value << 8, nullptr); break;
  case 2:
    check_verdict(text, (value & 0x80) | (1 + value % 64), nullptr);
    break;
  case 3: check_verdict(text, SIGINT, patience.c_str()); break;
  default:
    check_number(text, 1, 1, most_number);
    check_number(text, second_ns, second_ns / 100, 86400 * second_ns);
  }
  return 0;
}
