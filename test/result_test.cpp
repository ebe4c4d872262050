// result_test.cpp - one result line for each ping, and what it says.
//
// The pings are scripts, and what a script plays depends on its host: so one
// pinglog plays a whole table at once. Where pings end by themselves the
// interval is a minute, which no machine is too slow for; the test ends
// pinglog as soon as the lines are there.

#include "support.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <set>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char forever[] = "60"; // seconds: the test ends it before

// A ping to play: it prints the output, then it ends as the shell is told.
struct Case {
  std::string host;
  std::string output;
  std::string end;
  std::string verdict;
};

class ResultTest : public Sandbox {
protected:
  // Runs the script for all hosts at once until each has its line in the log.
  // Where there are deadlines, a machine that is too busy may turn any verdict
  // into no answer, but not for ever.
  void expect_verdicts(const std::string &ping,
                       const std::map<std::string, std::string> &verdicts,
                       const std::string &interval = forever) {
    std::set<std::string> expected;
    std::set<std::string> accepted;
    std::vector<std::string> arguments = {"-f", "-i", interval, "-e", ping};
    for (const auto &[host, verdict] : verdicts) {
      arguments.push_back(host);
      expected.insert(host + " " + verdict);
      accepted.insert(host + " fail no answer in " + interval + " s");
    }
    accepted.insert(expected.begin(), expected.end());
    Process process(pinglog(arguments));
    std::set<std::string> missing;
    EXPECT_TRUE(eventually([&] {
      const std::vector<std::string> found = results();
      missing = expected;
      for (const std::string &result : found)
        missing.erase(result);
      return missing.empty() || process.has_ended() ||
             (interval == forever && found.size() == expected.size());
    }));
    EXPECT_THAT(missing, IsEmpty());
    ASSERT_FALSE(process.has_ended()) << process.err();
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait().status, 0);
    EXPECT_EQ(fault_in_log(log()), "");
    EXPECT_EQ(count(start_label), count(end_label));
    std::set<std::string> wrong;
    for (const std::string &result : results())
      if (accepted.count(result) == 0)
        wrong.insert(result);
    EXPECT_THAT(wrong, IsEmpty());
    EXPECT_TRUE(interval != forever || results().size() == expected.size())
        << "not one line for each host";
  }

  void expect_verdicts(const std::vector<Case> &cases,
                       const std::string &interval = forever) {
    std::map<std::string, std::string> verdicts;
    std::string body = "case $3 in\n";
    for (const Case &one : cases) {
      const std::string file = "ping." + std::to_string(verdicts.size());
      write_file(path(file), one.output);
      body += one.host + ") cat " + path(file) + "; " + one.end + " ;;\n";
      verdicts[one.host] = one.verdict;
    }
    ASSERT_EQ(verdicts.size(), cases.size()) << "a host stands there twice";
    expect_verdicts(script("ping", body + "esac"), verdicts, interval);
  }

  std::string last_result() const {
    const auto all = results();
    return all.empty() ? "" : all.back();
  }

  // True when, but for these, no process of this test is left. Those that
  // were killed and are nobody's children here may take a moment to go.
  bool only_left(const std::vector<pid_t> &pids) const {
    return eventually(
        [&] { return processes_with_environment(mark()) == pids; });
  }
};

constexpr char no_answer[] = "fail no answer in 0.4 s"; // with -i 0.4

// What ../shared/pings.md measured, ping by ping.

TEST_F(ResultTest, IputilsIsUnderstood) {
  const std::string ping = "PING h (10.9.0.2) 56(84) bytes of data.\n";
  const std::string statistics = "\n--- h ping statistics ---\n"
                                 "1 packets transmitted, 0 received, 100% "
                                 "packet loss, time 0ms\n\n";
  expect_verdicts({
      {"answer",
       ping +
           "64 bytes from 10.9.0.2: icmp_seq=1 ttl=64 time=0.045 ms\n\n"
           "--- h ping statistics ---\n1 packets transmitted, 1 received, 0% "
           "packet loss, time 0ms\nrtt min/avg/max/mdev = "
           "0.045/0.045/0.045/0.000 ms\n",
       "", "ok 0.045 ms"},
      {"whole", "64 bytes from 10.9.0.2: icmp_seq=1 ttl=64 time=41.0 ms\n", "",
       "ok 41.0 ms"},
      {"small", ping + "16 bytes from 10.9.0.2: icmp_seq=1 ttl=64\n", "", "ok"},
      {"silence", ping + statistics, "exit 1",
       "fail 1 packets transmitted, 0 received, 100% packet loss, time 0ms"},
      {"neighbour",
       ping + "From 10.9.0.1 icmp_seq=1 Destination Host Unreachable\n" +
           statistics,
       "exit 1", "fail From 10.9.0.1 icmp_seq=1 Destination Host Unreachable"},
      {"route", "ping: connect: Network is unreachable\n", "exit 2",
       "fail ping: connect: Network is unreachable"},
      {"name", "ping: h: Name or service not known\n", "exit 2",
       "fail ping: h: Name or service not known"},
      {"server", "ping: h: Temporary failure in name resolution\n", "exit 2",
       "fail ping: h: Temporary failure in name resolution"},
      {"capability",
       "ping: socktype: SOCK_RAW\nping: socket: Operation not permitted\n"
       "ping: => missing cap_net_raw+p capability or setuid?\n",
       "exit 2", "fail ping: socket: Operation not permitted"},
  });
}

TEST_F(ResultTest, InetutilsIsUnderstood) {
  const std::string ping = "PING h (10.9.0.2): 56 data bytes\n";
  const std::string statistics = "--- h ping statistics ---\n1 packets "
                                 "transmitted, 0 packets received, 100% "
                                 "packet loss\n";
  expect_verdicts({
      {"answer",
       ping + "64 bytes from 10.9.0.2: icmp_seq=0 ttl=64 time=0.069 ms\n"
              "--- h ping statistics ---\n1 packets transmitted, 1 packets "
              "received, 0% packet loss\nround-trip min/avg/max/stddev = "
              "0.069/0.069/0.069/0.000 ms\n",
       "", "ok 0.069 ms"},
      {"silence", ping + statistics, "exit 1",
       "fail 1 packets transmitted, 0 packets received, 100% packet loss"},
      {"neighbour",
       ping + "92 bytes from 10.9.0.1: Destination Host Unreachable\n" +
           statistics,
       "exit 1", "fail 92 bytes from 10.9.0.1: Destination Host Unreachable"},
      {"route", ping + "ping: sending packet: Network is unreachable\n",
       "exit 1", "fail ping: sending packet: Network is unreachable"},
      {"name", "ping: unknown host\n", "exit 1", "fail ping: unknown host"},
  });
}

TEST_F(ResultTest, BusyBoxWithAndWithoutFancyPingIsUnderstood) {
  const std::string ping = "PING h (10.9.0.2): 56 data bytes\n";
  expect_verdicts({
      {"answer",
       ping + "64 bytes from 10.9.0.2: seq=0 ttl=64 time=0.047 ms\n\n"
              "--- h ping statistics ---\n1 packets transmitted, 1 packets "
              "received, 0% packet loss\n"
              "round-trip min/avg/max = 0.047/0.047/0.047 ms\n",
       "", "ok 0.047 ms"},
      {"silence",
       ping + "\n--- h ping statistics ---\n1 packets transmitted, 0 packets "
              "received, 100% packet loss\n",
       "exit 1",
       "fail 1 packets transmitted, 0 packets received, 100% packet loss"},
      {"route", ping + "ping: sendto: Network is unreachable\n", "exit 1",
       "fail ping: sendto: Network is unreachable"},
      {"name", "ping: bad address 'h'\n", "exit 1",
       "fail ping: bad address 'h'"},
      {"capability", ping + "ping: permission denied (are you root?)\n",
       "exit 1", "fail ping: permission denied (are you root?)"},
      {"alive", "h is alive!\n", "", "ok"},
      {"dead", "No response from h\n", "exit 1", "fail No response from h"},
      {"plain-route", "sendto: Network is unreachable\n", "exit 1",
       "fail sendto: Network is unreachable"},
      {"plain-name", "bad address 'h'\n", "exit 1", "fail bad address 'h'"},
  });
}

TEST_F(ResultTest, ToyboxFpingAndOpingAreUnderstood) {
  const std::string toybox = "Ping h (10.9.0.2): 56(84) bytes.\n";
  const std::string oping = "PING h (10.9.0.2) 56 bytes of data.\n";
  expect_verdicts({
      {"toybox",
       toybox + "64 bytes from 10.9.0.2: icmp_seq=1 ttl=64 time=12 ms\n\n"
                "--- h ping statistics ---\n1 packets transmitted, 1 received, "
                "0% packet loss\nround-trip min/avg/max = 12/12/12 ms\n",
       "", "ok 12 ms"},
      {"toybox-silence",
       toybox + "\n--- h ping statistics ---\n1 packets transmitted, 0 "
                "received, 100% packet loss\n",
       "exit 1", "fail 1 packets transmitted, 0 received, 100% packet loss"},
      {"toybox-route", toybox + "ping: sendto: Network is unreachable\n",
       "exit 1", "fail ping: sendto: Network is unreachable"},
      {"toybox-name", "ping: h: Name or service not known\n", "exit 1",
       "fail ping: h: Name or service not known"},
      {"fping",
       "h : [0], 64 bytes, 0.064 ms (0.064 avg, 0% loss)\n\n"
       "h : xmt/rcv/%loss = 1/1/0%, min/avg/max = 0.064/0.064/0.064\n",
       "", "ok"},
      {"fping-silence",
       "h : [0], timed out (NaN avg, 100% loss)\n\n"
       "h : xmt/rcv/%loss = 1/0/100%\n",
       "exit 1", "fail h : [0], timed out (NaN avg, 100% loss)"},
      {"fping-route", "\nh : xmt/rcv/%loss = 1/0/100%\n", "exit 1",
       "fail h : xmt/rcv/%loss = 1/0/100%"},
      {"fping-name", "h: Name or service not known\n", "exit 2",
       "fail h: Name or service not known"},
      {"oping",
       oping + "56 bytes from h (10.9.0.2): icmp_seq=1 ttl=64 time=0.03 ms\n\n"
               "--- h ping statistics ---\n1 packets transmitted, 1 received, "
               "0.00% packet loss, time 0.0ms\n"
               "RTT[ms]: min = 0, median = 0, p(95) = 0, max = 0\n",
       "", "ok 0.03 ms"},
      {"oping-name",
       "Adding host `h' failed: getaddrinfo: Name or service not known\n",
       "exit 1",
       "fail Adding host `h' failed: getaddrinfo: Name or service not known"},
  });
}

TEST_F(ResultTest, TheBsdsAreUnderstood) {
  const std::string ping = "PING h (10.9.0.2): 56 data bytes\n";
  const std::string statistics = "\n--- h ping statistics ---\n"
                                 "1 packets transmitted, 0 packets received, "
                                 "100.0% packet loss\n";
  expect_verdicts({
      {"freebsd",
       ping + "64 bytes from 10.9.0.2: icmp_seq=0 ttl=64 time=0.064 ms\n", "",
       "ok 0.064 ms"},
      {"freebsd-silence", ping + statistics, "exit 2",
       "fail 1 packets transmitted, 0 packets received, 100.0% packet loss"},
      {"freebsd-neighbour",
       ping + "36 bytes from 10.9.0.1: Destination Host Unreachable\n" +
           statistics,
       "exit 2", "fail 36 bytes from 10.9.0.1: Destination Host Unreachable"},
      {"freebsd-route", "ping: connect: Network is unreachable\n", "exit 1",
       "fail ping: connect: Network is unreachable"},
      {"freebsd-name", "ping: cannot resolve h: Unknown host\n", "exit 68",
       "fail ping: cannot resolve h: Unknown host"},
      {"macos-route", ping + "ping: sendto: No route to host\n" + statistics,
       "exit 2", "fail ping: sendto: No route to host"},
      // It ends itself so that a shell sees an interrupt.
      {"openbsd-silence", ping + statistics, "kill -INT $$",
       "fail 1 packets transmitted, 0 packets received, 100.0% packet loss"},
      {"openbsd-route", ping + "ping: sendmsg: No route to host\n" + statistics,
       "exit 1", "fail ping: sendmsg: No route to host"},
      {"openbsd-name", "ping: no address associated with name\n", "exit 1",
       "fail ping: no address associated with name"},
  });
}

// The rules by themselves.

TEST_F(ResultTest, ExitStatusZeroIsAnAnswerWhateverElseIsPrinted) {
  expect_verdicts({
      {"mute", "", "", "ok"},
      {"warning", "ping: Warning: time of day goes backwards\ntime=7 ms\n", "",
       "ok 7 ms"},
      {"stderr", "", "echo 'time=1.25 ms' >&2", "ok 1.25 ms"},
      {"unanswered", "time=8 ms\n", "exit 1", "fail time=8 ms"},
      {"translated", "",
       "[ \"$LC_ALL\" = C ] && echo time=3 ms || echo Zeit=3 ms", "ok 3 ms"},
  });
}

TEST_F(ResultTest, OnlyAPlausibleNumberOfMillisecondsIsATime) {
  expect_verdicts({
      {"exact", "time=0012.3400 ms\n", "", "ok 0012.3400 ms"},
      {"long", "time=123456789012.34 ms\n", "", "ok 123456789012.34 ms"},
      {"huge", "time=" + std::string(400, '9') + " ms\n", "", "ok"},
      {"empty", "time= ms\n", "", "ok"},
      {"word", "time=abc ms\n", "", "ok"},
      {"dot", "time=. ms\n", "", "ok"},
      {"dots", "time=... ms\n", "", "ok"},
      {"comma", "time=1,5 ms\n", "", "ok"},
      {"negative", "time=-1 ms\n", "", "ok"},
      {"exponent", "time=1e3 ms\n", "", "ok"},
      {"less", "time<1 ms\n", "", "ok"},
      {"unit", "time=5 us\n", "", "ok"},
      {"bare", "time=5", "", "ok"},
      {"end", "time=", "", "ok"},
      {"escape", "time=5\033[2J ms\n", "", "ok"},
      {"second", "time=x ms time=2.5 us time=3.5 ms time=9 ms\n", "",
       "ok 3.5 ms"},
  });
}

TEST_F(ResultTest, ReasonIsTheLineThatExplainsThenStatisticsThenTheEnd) {
  const std::string usual =
      "PING h\nPing h\n--- h ping statistics ---\nrtt min/avg\nround-trip x\n"
      "socktype: SOCK_RAW\n\n \t\n\r\n";
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
  const std::string lot(100 * 1024, 'x');
  std::string high = "h";
  std::string high_verdict = "fail h";
  for (int byte = 0x7f; byte <= 0xff; ++byte) {
    high += static_cast<char>(byte);
    high_verdict += '?';
  }
  std::string low = "l";
  std::string low_verdict = "fail l";
  for (char byte = 0; byte < ' '; ++byte)
    if (byte != '\n') {
      low += byte;
      low_verdict += '?';
    }
  expect_verdicts({
      {"bound", most + "\n", "exit 1", "fail " + most},
      {"over", most + "x\n", "exit 1", "fail " + most},
      {std::string(255, 'h'), most + "x\n", "exit 1", "fail " + most},
      {"lot", lot, "exit 1", "fail " + most},
      {"answered-lot", lot, "exit 0", "ok"},
      {"high", high + "\n", "exit 1", high_verdict},
      {"low", low + "\n", "exit 1", low_verdict},
      {"edges", " ~\x7f\n", "exit 1", "fail  ~?"},
      {"nul", std::string("a\0b\0\nc\n", 7), "exit 1", "fail a?b?"},
      {"return", "a\rb\r\n", "exit 1", "fail a?b?"},
      {"escape", "\033[2J\033]0;title\007gone\n", "exit 1",
       "fail ?[2J?]0;title?gone"},
  });
}

TEST_F(ResultTest, EachExitStatusIsNamed) {
  std::map<std::string, std::string> verdicts = {{"s0", "ok"}};
  for (int status = 1; status < 256; ++status)
    verdicts["s" + std::to_string(status)] =
        "fail exit status " + std::to_string(status);
  expect_verdicts(script("ping", "exit ${3#s}"), verdicts);
}

TEST_F(ResultTest, EachSignalIsNamed) {
  std::map<std::string, std::string> verdicts;
  const std::set<int> harmless = {SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP,
                                  SIGTTIN, SIGTTOU, SIGURG,  SIGWINCH};
  for (int number = 1; number <= SIGRTMAX; ++number)
    if (harmless.count(number) == 0 && (number < 32 || number >= SIGRTMIN))
      verdicts["s" + std::to_string(number)] =
          "fail killed by signal " + std::to_string(number);
  expect_verdicts(script("ping", "ulimit -c 0; kill -${3#s} $$"), verdicts);
}

TEST_F(ResultTest, PingThatIsGoneOrUnusableIsNamedAndUsedAgainWhenItIsBack) {
  const std::string ping = answering_ping();
  Process process(pinglog({"-f", "-i", "0.1", "-e", ping, "host"}));
  const auto expect_soon = [&](const std::string &result) {
    const size_t before = results().size();
    EXPECT_TRUE(eventually([&] {
      const auto all = results();
      return std::count(all.begin() + before, all.end(), result) >= 2;
    })) << result;
  };
  const std::string failed = "host fail " + ping + ": ";
  expect_soon("host ok 12.3 ms");
  ASSERT_EQ(rename(ping.c_str(), path("away").c_str()), 0);
  expect_soon(failed + "No such file or directory");
  ASSERT_EQ(chmod(path("away").c_str(), 0644), 0);
  ASSERT_EQ(rename(path("away").c_str(), ping.c_str()), 0);
  expect_soon(failed + "Permission denied");
  write_file(path("data"), "no program\n", 0755);
  ASSERT_EQ(rename(path("data").c_str(), ping.c_str()), 0);
  expect_soon(failed + "Exec format error");
  (void)answering_ping();
  expect_soon("host ok 12.3 ms");
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_EQ(fault_in_log(log()), "");
}

TEST_F(ResultTest, ForkThatFailsIsAFailLineEachCycleUntilItSucceeds) {
  SKIP_UNLESS_ROOT();
  const std::string ping = answering_ping();
  Launch launch = pinglog({"-f", "-i", "0.1", "-e", ping, "host"});
  launch.user = 50000 + getpid() % 10000; // who runs nothing else
  launch.limits[RLIMIT_NPROC] = 2;
  write_file(log(), "");
  ASSERT_EQ(chown(log().c_str(), *launch.user, *launch.user), 0);
  Launch other = command("sleep", {"1000"});
  other.user = launch.user;
  std::optional<Process> second(other);
  ASSERT_TRUE(eventually(
      [&] { return process_status(second->pid(), "Name") == "sleep"; }));
  Process process(launch);
  ASSERT_TRUE(eventually([&] { return count(end_label) >= 3; }));
  EXPECT_THAT(results(), Each("host fail " + ping + ": " + strerror(EAGAIN)));
  EXPECT_THAT(results(), SizeIs(Gt(2u)));
  second.reset();
  EXPECT_TRUE(eventually([&] { return last_result() == "host ok 12.3 ms"; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_EQ(fault_in_log(log()), "");
}

// Pings that do not end in time.

TEST_F(ResultTest, SilenceUntilTheDeadlineIsNoAnswer) {
  const Result result =
      run(pinglog({"-f", "-c", "1", "-i", "0.50", "-e", silent_ping(), "h"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(results(), ElementsAre("h fail no answer in 0.50 s"));
}

TEST_F(ResultTest, InterruptAtTheDeadlineLetsThePingExplain) {
  // The sleep in the background ignores SIGINT and holds the pipe.
  const auto at_interrupt = [](const std::string &commands) {
    return "trap '" + commands + "' INT; sleep 1000 & wait";
  };
  const std::string statistics = "1 packets transmitted, 0 received";
  expect_verdicts(
      {
          {"statistics", "PING h\n",
           at_interrupt("echo " + statistics + "; exit 1"),
           "fail " + statistics},
          {"explained", "From 10.9.0.1: Unreachable\n",
           at_interrupt("echo " + statistics + "; exit 1"),
           "fail From 10.9.0.1: Unreachable"},
          {"answered", "64 bytes from 10.9.0.2: time=7.5 ms\n",
           at_interrupt("echo " + statistics + "; exit 0"), "ok 7.5 ms"},
          {"late", "", at_interrupt("echo time=8.5 ms; exit 0"), "ok 8.5 ms"},
          {"wrapped", "",
           "trap : INT; sh -c 'trap \"echo explained; exit\" INT; sleep 1000 & "
           "wait'; exit 1",
           "fail explained"},
          // oping tries for ever to send, and exits 0 when it is interrupted.
          {"oping", "",
           at_interrupt("echo ping_send failed: Interrupted; echo 0 packets "
                        "transmitted, 0 received; exit 0"),
           "fail ping_send failed: Interrupted"},
      },
      "0.4");
}

TEST_F(ResultTest, PingThatCannotBeAskedToEndIsKilledAtTheDeadline) {
  expect_verdicts(
      {
          {"look-up", "", "exec sleep 1000", no_answer},
          {"header", "PING h\n", "exec sleep 1000", no_answer},
          {"status", "", "trap 'exit 3' INT; sleep 1000 & wait", no_answer},
          {"deaf", "", "trap '' INT TERM; sleep 1000", no_answer},
          {"stopped", "", "kill -STOP $$", no_answer},
          {"stopped-talker", "explained\n", "kill -STOP $$", "fail explained"},
          {"closed", "", "exec >&- 2>&-; exec sleep 1000", no_answer},
          {"endless", "", "trap '' INT; while :; do echo again; done",
           "fail again"},
          {"unbroken", "", "trap '' INT; while :; do printf xxxxxxxx; done",
           "fail " + std::string(200, 'x')},
      },
      "0.4");
  EXPECT_TRUE(only_left({}));
}

// Starts what ignores signals and holds the pipe in the group of the ping.
constexpr char family[] =
    "trap '' INT TERM; "
    "sh -c 'sleep 1000 & sleep 1000 & : >\"$0.up\"; wait' \"$0\" & "
    "until [ -e \"$0.up\" ]; do sleep 0.01; done; ";

TEST_F(ResultTest, ChildrenOfAPingThatHasEndedAreKilled) {
  const std::string ping = script("ping", std::string(family) + "exit 3");
  Process process(pinglog({"-f", "-i", forever, "-e", ping, "h"}));
  EXPECT_TRUE(eventually([&] { return !results().empty(); }));
  EXPECT_THAT(results(), ElementsAre("h fail exit status 3"));
  EXPECT_TRUE(only_left({process.pid()}));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

TEST_F(ResultTest, ChildrenOfAPingThatDoesNotEndAreKilled) {
  const std::string ping = script("ping", std::string(family) + "wait");
  const Result result =
      run(pinglog({"-f", "-c", "1", "-i", "0.5", "-e", ping, "h"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(results(), ElementsAre("h fail no answer in 0.5 s"));
  EXPECT_TRUE(only_left({}));
}

TEST_F(ResultTest, StrayThatKeepsThePipeOpenDelaysNothing) {
  const std::string ping =
      script("ping", "up=$0.$3; [ -e $up ] || setsid sh -c 'echo $$ >$0.new; "
                     "mv $0.new $0; exec sleep 1000' $up & "
                     "until [ -e $up ]; do sleep 0.01; done; "
                     "[ $3 = mute ] || echo time=1.5 ms");
  const std::vector<std::string> hosts = {"mute", "talker"};
  Process process(pinglog({"-f", "-i", "0.5", "-e", ping, hosts[0], hosts[1]}));
  EXPECT_TRUE(eventually([&] {
    const auto all = results();
    return std::count(all.begin(), all.end(), "talker ok 1.5 ms") >= 3 &&
           std::count(all.begin(), all.end(), "mute ok") >= 3;
  }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  for (const std::string &host : hosts) {
    std::ifstream file(ping + "." + host);
    pid_t stray = 0;
    ASSERT_TRUE(file >> stray);
    EXPECT_TRUE(is_alive(stray)) << "it held nothing open";
    send_signal(stray, SIGKILL);
  }
}

TEST_F(ResultTest, PingThatEvenSigkillDoesNotEndFailsEachCycleAndStaysAlone) {
  SKIP_UNLESS_ROOT();
  SKIP_WITHOUT("setpriv");
  // A ping that becomes root is out of an ordinary user's reach.
  constexpr uid_t user = 65534;
  ASSERT_EQ(system(("cp $(command -v setpriv) " + path("setpriv")).c_str()), 0);
  ASSERT_EQ(chown(path("setpriv").c_str(), 0, user), 0);
  ASSERT_EQ(chmod(path("setpriv").c_str(), 04710), 0);
  const std::string ping = script(
      "ping", "[ -e \"$0.go\" ] && exit; exec " + path("setpriv") +
                  " --reuid 0 --regid 0 --clear-groups sh -c 'echo x "
                  ">>\"$0.up\"; until [ -e \"$0.go\" ]; do sleep 0.02; done' "
                  "\"$0\"");
  Launch launch = pinglog({"-f", "-i", "0.5", "-e", ping, "h"});
  launch.user = user;
  write_file(log(), "");
  ASSERT_EQ(chown(log().c_str(), user, user), 0);
  Process process(launch);
  // It may be caught before it is root, but not for ever.
  EXPECT_TRUE(eventually([&] { return !read_file(ping + ".up").empty(); }));
  const int failed = count(result_label);
  EXPECT_TRUE(eventually([&] { return count(result_label) >= failed + 3; }));
  EXPECT_THAT(results(), Each("h fail no answer in 0.5 s"));
  EXPECT_EQ(read_file(ping + ".up"), "x\n") << "a second ping was started";
  EXPECT_THAT(children_of(process.pid()), SizeIs(1));
  write_file(ping + ".go", "");
  EXPECT_TRUE(eventually([&] { return last_result() == "h ok"; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

// The cycles.

TEST_F(ResultTest, ResultIsInTheLogWhileASlowerPingStillRuns) {
  const std::string ping =
      script("ping", "[ $3 = fast ] || until [ -e \"$0.go\" ]; do sleep 0.01; "
                     "done; echo time=1 ms");
  Process process(pinglog({"-f", "-i", forever, "-e", ping, "slow", "fast"}));
  EXPECT_TRUE(eventually([&] { return !results().empty(); }));
  EXPECT_THAT(results(), ElementsAre("fast ok 1 ms"));
  write_file(ping + ".go", "");
  EXPECT_TRUE(eventually([&] { return results().size() == 2; }));
  EXPECT_THAT(results(), ElementsAre("fast ok 1 ms", "slow ok 1 ms"));
  EXPECT_EQ(count(end_label), 0);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

TEST_F(ResultTest, StubbornPingsDoNotMoveTheGridAndNeverOverlap) {
  const std::string ping = script(
      "ping", "trap '' INT TERM\n"
              "read up rest </proc/uptime; echo $up >>\"$0.starts\"\n"
              "[ -e \"$0.last\" ] && read last <\"$0.last\" &&\n"
              "kill -0 $last 2>/dev/null && echo $last >>\"$0.overlap\"\n"
              "echo $$ >\"$0.last\"; exec sleep 1000");
  const double interval = 0.4;
  EXPECT_EQ(
      run(pinglog({"-f", "-c", "9", "-i", "0.4", "-e", ping, "h"})).status, 0);
  EXPECT_THAT(results(), SizeIs(9));
  EXPECT_THAT(results(), Each(std::string("h ") + no_answer));
  EXPECT_EQ(read_file(ping + ".overlap"), "");
  // Each kill takes a quarter of this interval. If that were added up, the
  // starts would spread over all phases of the interval; so most stand at one,
  // however late some may be on a busy machine.
  std::vector<double> starts;
  std::ifstream file(ping + ".starts");
  for (double start; file >> start;)
    starts.push_back(start);
  EXPECT_THAT(starts, SizeIs(Gt(5u)));
  size_t together = 0;
  for (double one : starts)
    together = std::max<size_t>(
        together, std::count_if(starts.begin(), starts.end(), [&](double two) {
          return std::abs(std::remainder(two - one, interval)) < interval / 5;
        }));
  EXPECT_GT(2 * together, starts.size()) << read_file(ping + ".starts");
}

TEST_F(ResultTest, StopDuringACycleKillsThePingsAndBlamesNobody) {
  const std::string ping =
      script("ping", "[ $3 = fast ] && exit; trap '' INT TERM; echo explained; "
                     ": >\"$0.$3\"; sleep 1000");
  for (int number : {SIGTERM, SIGINT}) {
    for (const char *host : {".a", ".b"})
      (void)unlink((ping + host).c_str());
    (void)unlink(log().c_str());
    Process process(
        pinglog({"-f", "-i", forever, "-e", ping, "a", "fast", "b"}));
    EXPECT_TRUE(eventually([&] {
      return access((ping + ".a").c_str(), F_OK) == 0 &&
             access((ping + ".b").c_str(), F_OK) == 0 && results().size() == 1;
    }));
    process.signal(number);
    EXPECT_EQ(process.wait().status, 0);
    EXPECT_TRUE(only_left({}));
    EXPECT_THAT(log_lines(), ElementsAre(::testing::StartsWith(start_label),
                                         std::string(result_label) + "fast ok",
                                         ::testing::StartsWith(end_label)));
  }
}

TEST_F(ResultTest, NoisyPingsLeaveNeitherMemoryNorDescriptorsBehind) {
  // Not from status: its counts are kept for each processor and are off by
  // more than what is looked for.
  const auto memory = [](pid_t pid, const std::string &key) {
    for (const std::string &line :
         read_lines("/proc/" + std::to_string(pid) + "/smaps_rollup"))
      if (line.rfind(key + ":", 0) == 0)
        return std::stol(line.substr(key.size() + 1));
    return -1L;
  };
  const std::string ping = script("ping", "cat \"$0.noise\"; exit 1");
  write_file(ping + ".noise", std::string(100 * 1024, '\033'));
  Process process(pinglog({"-f", "-i", "0.02", "-e", ping, "a"}));
  EXPECT_TRUE(eventually([&] { return count(end_label) >= 20; }));
  const long all = memory(process.pid(), "Rss");
  const long anonymous = memory(process.pid(), "Anonymous");
  const size_t descriptors = descriptors_of(process.pid()).size();
  if (all == -1)
    GTEST_SKIP() << "no /proc/PID/smaps_rollup";
  EXPECT_TRUE(eventually([&] { return count(end_label) >= 200; }));
  EXPECT_LT(memory(process.pid(), "Rss") - all, 64);
  EXPECT_LT(memory(process.pid(), "Anonymous") - anonymous, 64);
  EXPECT_LT(descriptors_of(process.pid()).size(), descriptors + 4);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_EQ(fault_in_log(log()), "");
}

} // namespace
