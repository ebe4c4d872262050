// result_test.cpp - what a ping printed and how it ended, and the line that
// comes of it; and the time in the lines around it.
//
// The pings are scripts, and what a script plays depends on its host: so one
// pinglog plays a whole table at once. They end by themselves, and the interval
// is a minute, which no machine is too slow for: pinglog is ended as soon as
// the lines are there.

#include "support.h"

#include <csignal>
#include <ctime>

namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// A ping to play: it prints the output, then it ends as the shell is told.
struct Case {
  std::string host;
  std::string output;
  std::string end;
  std::string verdict;
};

class ResultTest : public Sandbox {
protected:
  // Writes the ping that plays these cases, and returns its launch.
  Launch playing(const std::vector<Case> &cases, const std::string &interval) {
    Launch launch = pinglog({"-f", "-i", interval, "-e", path("ping")});
    std::string body = "ulimit -c 0\ncase $3 in\n";
    for (const Case &one : cases) {
      launch.arguments.push_back(one.host);
      body += one.host + ") ";
      if (!one.output.empty()) {
        write_file(path(one.host.substr(0, 100)), one.output);
        body += "cat '" + path(one.host.substr(0, 100)) + "'; ";
      }
      body += (one.end.empty() ? ":" : one.end) + " ;;\n";
    }
    (void)script("ping", body + "esac");
    return launch;
  }

  // Each host has one line, and in it the verdict of its case.
  void expect_verdicts(const std::vector<Case> &cases) {
    std::multiset<std::string> expected, wrong;
    for (const Case &one : cases)
      expected.insert(one.host + " " + one.verdict);
    Process process(playing(cases, "60"));
    EXPECT_TRUE(eventually([&] {
      return results().size() >= cases.size() || process.has_ended();
    }));
    ASSERT_FALSE(process.has_ended()) << process.err();
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait().status, 0);
    EXPECT_EQ(fault_in_log(log()), "");
    for (const std::string &result : results()) {
      const auto found = expected.find(result);
      found != expected.end() ? (void)expected.erase(found)
                              : (void)wrong.insert(result);
    }
    EXPECT_THAT(expected, IsEmpty()) << "these are missing";
    EXPECT_THAT(wrong, IsEmpty());
  }
};

// What real pings print. The files are where the fuzzer begins, too: the first
// line of each tells how that ping ended.
const std::map<std::string, std::string> corpus_verdicts = {
    {"bsd-unknown-name",
     "fail ping: cannot resolve nowhere.invalid: Unknown host"},
    {"busybox-alive", "ok"},
    {"busybox-answer", "ok 0.064 ms"},
    {"busybox-unknown-name", "fail ping: bad address 'nowhere.invalid'"},
    {"fping-answer", "ok"},
    {"inetutils-answer", "ok 0.058 ms"},
    {"inetutils-no-neighbour",
     "fail 92 bytes from 10.9.0.1: Destination Host Unreachable"},
    {"iputils-answer", "ok 0.041 ms"},
    {"iputils-no-capability", "fail ping: socket: Operation not permitted"},
    {"iputils-no-neighbour",
     "fail From 10.9.0.1 icmp_seq=1 Destination Host Unreachable"},
    {"iputils-no-route", "fail ping: connect: Network is unreachable"},
    {"iputils-silence",
     "fail 1 packets transmitted, 0 received, 100% packet loss, time 0ms"},
    {"iputils-unknown-name",
     "fail ping: www.baidu.com: Name or service not known"},
    {"openbsd-interrupted", "fail killed by signal 2"},
    {"oping-interrupted",
     "fail 1 packets transmitted, 0 received, 100.00% packet loss, time 0.0ms"},
    {"toybox-answer", "ok 0 ms"},
};

TEST_F(ResultTest, WhatRealPingsPrintIsUnderstood) {
  std::vector<Case> cases;
  for (const auto &entry : fs::directory_iterator(
           fs::canonical("/proc/self/exe").parent_path() / "corpus")) {
    const std::string name = entry.path().filename();
    const std::string text = read_file(entry.path());
    ASSERT_GE(text.size(), 3u) << name;
    const std::string value = std::to_string((text[1] + 256 - '0') % 256);
    const std::map<char, std::string> ends = {{'0', ":"},
                                              {'1', "exit " + value},
                                              {'2', "kill -" + value + " $$"},
                                              {'3', "exit 1"}};
    if (text[0] == '4') // a number of an option
      continue;
    ASSERT_EQ(corpus_verdicts.count(name), 1u) << name;
    cases.push_back(
        {name, text.substr(3), ends.at(text[0]), corpus_verdicts.at(name)});
  }
  EXPECT_EQ(cases.size(), corpus_verdicts.size());
  expect_verdicts(cases);
}

TEST_F(ResultTest, ExitStatusZeroIsAnAnswerUnlessNothingWasReceived) {
  const std::string none = "1 packets transmitted, 0 received, 100% loss";
  expect_verdicts({
      {"mute", "", "", "ok"},
      {"warning", "ping: Warning: time of day goes backwards\ntime=7 ms\n", "",
       "ok 7 ms"},
      {"stderr", "", "echo 'time=1.25 ms' >&2", "ok 1.25 ms"},
      {"unanswered", "time=8 ms\n", "exit 1", "fail time=8 ms"},
      {"none", none + "\n", "", "fail " + none},
      {"late", "time=9 ms\n" + none + "\n", "", "ok 9 ms"},
      {"ten", "11 packets transmitted, 10 received\n", "", "ok"},
  });
}

TEST_F(ResultTest, OnlyAPlausibleNumberOfMillisecondsIsATime) {
  expect_verdicts({
      {"exact", "time=0012.3400 ms\n", "", "ok 0012.3400 ms"},
      {"long", "time=123456789012.34 ms\n", "", "ok 123456789012.34 ms"},
      {"longer", "time=1234567890123.45 ms\n", "", "ok"},
      {"empty", "time= ms\n", "", "ok"},
      {"word", "time=abc ms\n", "", "ok"},
      {"dot", "time=. ms\n", "", "ok"},
      {"comma", "time=1,5 ms\n", "", "ok"},
      {"negative", "time=-1 ms\n", "", "ok"},
      {"exponent", "time=1e3 ms\n", "", "ok"},
      {"less", "time<1 ms\n", "", "ok"},
      {"unit", "time=5 us\n", "", "ok"},
      {"bare", "time=5", "", "ok"},
      {"cut", "time=", "", "ok"},
      {"escape", "time=5\033[2J ms\n", "", "ok"},
      {"twice", "time=3.5 ms time=9 ms\n", "", "ok 3.5 ms"},
  });
}

TEST_F(ResultTest, ReasonIsTheLineThatExplainsThenStatisticsThenTheEnd) {
  const std::string usual =
      "PING h\nPing h\n--- h ping statistics ---\nrtt min/avg\nround-trip x\n"
      "ping: socktype: SOCK_RAW\n\n \t\n\r\n\x1b \xff\n";
  const std::string statistics = "1 packets transmitted, 0 received\n";
  expect_verdicts({
      {"explanation", usual + statistics + "first\nsecond\n", "exit 1",
       "fail first"},
      {"killed-explanation", usual + "first\n", "kill -9 $$", "fail first"},
      {"statistics", usual + statistics, "exit 1",
       "fail 1 packets transmitted, 0 received"},
      {"killed-statistics", usual + statistics, "kill -9 $$",
       "fail 1 packets transmitted, 0 received"},
      {"status", usual, "exit 2", "fail exit status 2"},
      {"signal", usual, "kill -9 $$", "fail killed by signal 9"},
      {"unfinished", usual + "no newline", "exit 1", "fail no newline"},
      {"stderr", usual, "echo explained >&2; exit 1", "fail explained"},
  });
}

TEST_F(ResultTest, ReasonIsOnePrintableLineOfTwoHundredCharacters) {
  const std::string most(200, 'x');
  const std::string lot(100 * 1024, 'x');        // more than the pipe holds
  std::string bytes = "b", printable = "fail b"; // a newline ends the line
  for (int byte = 0; byte <= 0xff; ++byte)
    if (byte != '\n' && (byte < '!' || byte > '}')) {
      bytes += static_cast<char>(byte);
      printable += byte == ' ' || byte == '~' ? static_cast<char>(byte) : '?';
    }
  expect_verdicts({
      {"bound", most + "\n", "exit 1", "fail " + most},
      {"over", most + "x\n", "exit 1", "fail " + most},
      {std::string(255, 'h'), most + "x\n", "exit 1", "fail " + most},
      {"lot", lot, "exit 1", "fail " + most},
      {"answered-lot", lot, "exit 0", "ok"},
      {"bytes", bytes + "\n", "exit 1", printable},
      {"return", "a\rb\r\n", "exit 1", "fail a?b?"},
      {"escape", "\033[2J\033]0;title\007gone\n", "exit 1",
       "fail ?[2J?]0;title?gone"},
  });
}

TEST_F(ResultTest, EveryExitStatusAndSignalIsNamed) {
  const std::set<int> harmless = {SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP,
                                  SIGTTIN, SIGTTOU, SIGURG,  SIGWINCH};
  std::vector<Case> cases = {{"e0", "", "exit 0", "ok"}};
  for (int status = 1; status < 256; ++status) {
    const std::string number = std::to_string(status);
    cases.push_back(
        {"e" + number, "", "exit " + number, "fail exit status " + number});
  }
  for (int number = 1; number <= SIGRTMAX; ++number)
    if (harmless.count(number) == 0 && (number < 32 || number >= SIGRTMIN))
      cases.push_back({"s" + std::to_string(number), "",
                       "kill -" + std::to_string(number) + " $$",
                       "fail killed by signal " + std::to_string(number)});
  expect_verdicts(cases);
}

// The deadline itself is the matter of pings_test.cpp. A machine that is too
// busy may turn any of these verdicts into no answer, but not for ever.
TEST_F(ResultTest, OverduePingIsJudgedByWhatItHasPrintedWhenItIsInterrupted) {
  const std::string no_answer = "fail no answer in 0.5 s";
  const std::string statistics = "1 packets transmitted, 0 received";
  const auto at_interrupt = [](const std::string &commands) {
    return "trap '" + commands + "' INT; sleep 1000 & wait";
  };
  const std::vector<Case> cases = {
      {"statistics", "PING h\n",
       at_interrupt("echo " + statistics + "; exit 1"), "fail " + statistics},
      {"explained", "From 10.9.0.1: Unreachable\n",
       at_interrupt("echo " + statistics + "; exit 1"),
       "fail From 10.9.0.1: Unreachable"},
      {"answered", "64 bytes from 10.9.0.2: time=7.5 ms\n",
       at_interrupt("echo " + statistics + "; exit 0"), "ok 7.5 ms"},
      // oping tries for ever to send, and exits 0 when it is interrupted.
      {"oping", "",
       at_interrupt("echo ping_send failed; echo 0 packets transmitted, 0 "
                    "received; exit 0"),
       "fail ping_send failed"},
      {"status", "PING h\n", at_interrupt("exit 3"), no_answer},
      {"signal", "PING h\n", "exec sleep 1000", no_answer},
  };
  Process process(playing(cases, "0.50"));
  for (const Case &one : cases)
    EXPECT_TRUE(eventually([&] {
      return ::testing::Matches(Contains(one.host + " " + one.verdict))(
          results());
    })) << one.host;
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_EQ(fault_in_log(log()), "");
}

TEST_F(ResultTest, LinesAroundItHaveTheLocalTimeAsCtimeWritesIt) {
  const std::pair<const char *, long> zones[] = {
      {"UTC0", 0},
      {"XXX-05:30", (5 * 60 + 30) * 60}, // what is before Greenwich is negative
      {"XXX+11", -11 * 60 * 60}};
  for (const auto &[zone, east] : zones) {
    SCOPED_TRACE(zone);
    fs::remove(log());
    Launch launch = pinglog({"-f", "-c", "1", "-i", "0.2", "-e", "true", "h"});
    launch.environment["TZ"] = zone;
    timespec now = {}; // time() lags behind by a tick
    time_t second = time(nullptr);
    EXPECT_EQ(run(launch).status, 0);
    clock_gettime(CLOCK_REALTIME, &now);
    Words starts, ends; // what may stand there
    for (; second <= now.tv_sec; ++second) {
      const time_t there = second + east;
      std::string text = asctime(gmtime(&there));
      text.pop_back();
      starts.push_back("start time---------:" + text);
      ends.push_back("end of time--------:" + text);
    }
    const Words lines = log_lines();
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_THAT(starts, Contains(lines[0]));
    EXPECT_THAT(lines[1], StartsWith("ping result--------:h "));
    EXPECT_THAT(ends, Contains(lines[2]));
  }
}

} // namespace
