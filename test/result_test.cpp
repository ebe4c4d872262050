// result_test.cpp - how a ping's output and exit status make its result line.
//
// The pings are scripts that choose by their host what to print, so one pinglog
// runs a whole table of cases in one cycle. The interval is a minute, long
// enough for a busy machine; the test stops pinglog as soon as the lines are
// there.

#include "support.h"

namespace {

// A ping to imitate: a script prints the output, then runs the command `end`.
struct Case {
  std::string host;
  std::string output;
  std::string end;
  std::string verdict;
};

class ResultTest : public Sandbox {
protected:
  // Writes a ping that plays these cases. Returns the launch of its pinglog.
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

  // Expects one result for each host, with the verdict of its case.
  void expect_verdicts(const std::vector<Case> &cases) {
    Words expected;
    for (const Case &one : cases)
      expected.push_back(one.host + " " + one.verdict);
    Process process(playing(cases, "60"));
    EXPECT_TRUE(eventually([&] {
      return results().size() >= cases.size() || process.has_ended();
    }));
    ASSERT_FALSE(process.has_ended()) << process.err();
    expect_end(process);
    EXPECT_EQ(check_log(log()).fault, "");
    EXPECT_THAT(results(), UnorderedElementsAreArray(expected));
  }
};

// The verdict on each file of corpus/, the output of a real ping. The first
// line tells how that ping ended. The fuzzer starts with the same files.
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

TEST_F(ResultTest, OutputOfEachRealPingIsUnderstood) {
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
    if (text[0] == '4') // an option's number, for the fuzzer
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
  const std::string bsd = "1 packets transmitted, 0 packets received";
  expect_verdicts({
      {"mute", "", "", "ok"},
      {"warning", "ping: Warning: time of day goes backwards\ntime=7 ms\n", "",
       "ok 7 ms"},
      {"stderr", "", "echo 'time=1.25 ms' >&2", "ok 1.25 ms"},
      {"unanswered", "time=8 ms\n", "exit 1", "fail time=8 ms"},
      {"none", none + "\n", "", "fail " + none},
      {"bsd-none", bsd + "\n", "", "fail " + bsd},
      {"late", "time=9 ms\n" + none + "\n", "", "ok 9 ms"},
      {"ten", "11 packets transmitted, 10 received\n", "", "ok"},
  });
}

TEST_F(ResultTest, OnlyAPlausibleNumberOfMillisecondsIsLoggedAsTheTime) {
  expect_verdicts({
      {"exact", "time=0012.3400 ms\n", "", "ok 0012.3400 ms"},
      {"interval", "time=60000 ms\n", "", "ok 60000 ms"},
      {"longer", "time=60000.1 ms\n", "", "ok"},
      {"clock", "time=1728000000000 ms\n", "", "ok"},
      {"huge", "time=" + std::string(100, '9') + " ms\n", "", "ok"},
      {"zeros", "time=" + std::string(198, '0') + " ms\n", "", "ok"},
      {"blank", "time= 21.16 ms\n", "", "ok 21.16 ms"},
      {"no-blank", "time=59.1ms\n", "", "ok 59.1 ms"},
      {"terminal", "time=1.5 ms\r\n", "", "ok 1.5 ms"},
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

const std::string statistics = "1 packets transmitted, 0 received";
const std::string unreachable =
    "From 10.9.0.1 icmp_seq=1 Destination Host Unreachable";
const std::string no_ipv6 =
    "ping: socket: Address family not supported by protocol\n";

TEST_F(ResultTest, ReasonOfAPingThatSentIsALineAboutThePacketOrTheStatistics) {
  const std::string header6 = "PING6(56=40+8+8 bytes) ::1 --> ::2\n";
  const std::string bsd = "1 packets transmitted, 0 packets received";
  const std::string bsd_unreachable =
      "92 bytes from 10.9.0.1: Destination Host Unreachable";
  const std::string usual =
      "PING h\nPing h\n--- h ping statistics ---\nrtt min/avg\nround-trip x\n"
      "ping: socktype: SOCK_RAW\n\n \t\n\r\n\x1b \xff\nat the start\n";
  const std::string local = "ping: local error: message too long, mtu=1500";
  expect_verdicts({
      {"statistics", usual + statistics + "\n", "exit 1", "fail " + statistics},
      {"killed", usual + statistics + "\n", "kill -9 $$", "fail " + statistics},
      {"unreachable", usual + unreachable + "\nfrom 2\n" + statistics, "exit 1",
       "fail " + unreachable},
      {"no-ipv6", no_ipv6 + statistics, "exit 1", "fail " + statistics},
      {"no-ipv6-unreachable", no_ipv6 + unreachable + "\n" + statistics,
       "exit 1", "fail " + unreachable},
      {"bsd", header6 + bsd, "exit 2", "fail " + bsd},
      {"bsd-sendmsg", header6 + "ping6: sendmsg: No route to host\n" + bsd,
       "exit 2", "fail ping6: sendmsg: No route to host"},
      {"receive", "ping: recvmsg: Network is down\n" + statistics, "exit 1",
       "fail ping: recvmsg: Network is down"},
      {"local", local + "\n" + statistics, "exit 1", "fail " + local},
      {"redirect",
       "92 bytes from 10.9.0.1: Redirect Host(New addr: 10.9.0.2)\n"
       "Vr HL TOS  Len   ID Flg  off TTL Pro  cks      Src      Dst\n"
       " 4  5  00 5400 9c4b   0 0000  40  01 8a5d 10.9.0.3  10.9.0.9\n" +
           bsd,
       "exit 2", "fail " + bsd},
      {"redirect-unreachable",
       "From 10.9.0.1: icmp_seq=1 Redirect Host(New nexthop: 10.9.0.2)\n"
       "From 10.9.0.2 icmp_seq=1 Time to live exceeded\n" +
           statistics,
       "exit 1", "fail From 10.9.0.2 icmp_seq=1 Time to live exceeded"},
      {"timeout",
       "Request timeout for icmp_seq 0\n" + bsd_unreachable + "\n" + bsd,
       "exit 2", "fail " + bsd_unreachable},
      {"received",
       "64 bytes from 10.9.0.7: icmp_seq=1 ttl=64 time=0.044 ms\n"
       "16 bytes from 10.9.0.7: icmp_seq=2 ttl=64\n"
       "4 packets transmitted, 2 received, 50% packet loss\n",
       "exit 1", "fail 4 packets transmitted, 2 received, 50% packet loss"},
      {"hping",
       "HPING 10.9.0.7 (eth0 10.9.0.7): icmp mode set, 28 headers\n" +
           statistics,
       "exit 1", "fail " + statistics},
      {"sending",
       "ping: a notice\nping: sending packet: Network is unreachable\n" + bsd,
       "exit 1", "fail ping: sending packet: Network is unreachable"},
      {"sendto", "ping: a notice\nping: sendto: No route to host\n" + bsd,
       "exit 2", "fail ping: sendto: No route to host"},
      {"answer6", "16 bytes from ::1, icmp_seq=0 hlim=64 time=0.1 ms\n" + bsd,
       "exit 2", "fail " + bsd},
      {"2ping", "2PING h\n" + statistics, "exit 1", "fail " + statistics},
      {"terminal", "ARPING h\r\n" + unreachable + "\r\n" + statistics + "\r\n",
       "exit 1", "fail " + unreachable},
      // The host's name has a word of the rule.
      {"sendgrid.net", "ping: sendgrid.net: a notice\n" + statistics, "exit 1",
       "fail " + statistics},
      {"redirect.example", "From redirect.example Time exceeded\n" + statistics,
       "exit 1", "fail From redirect.example Time exceeded"},
      {"named", "named: an answer from 10.9.0.1\n" + statistics, "exit 1",
       "fail named: an answer from 10.9.0.1"},
      {"e", unreachable + "\n" + statistics, "exit 1", "fail " + unreachable},
      {"h.example", "ping: h.example: sendmsg: error\n" + statistics, "exit 1",
       "fail ping: h.example: sendmsg: error"},
  });
}

TEST_F(ResultTest, ReasonOfAPingThatDiedEarlyIsItsFirstLineThatIsNoNotice) {
  const std::string notices =
      "PING h\n" + no_ipv6 +
      "ping: Warning: source address might be selected on device other than: "
      "wwan0\n"
      "ping: WARNING: interface is ignored\n"
      "ERROR: ld.so: object 'x.so' from LD_PRELOAD cannot be preloaded "
      "(cannot open shared object file): ignored.\n"
      "ping: sock4.fd: 3 (socktype: SOCK_RAW)\n"
      "From 10.9.0.1: icmp_seq=1 Redirect Host(New nexthop: 10.9.0.2)\n";
  const std::string loader = "ping: error while loading shared libraries: "
                             "libcap.so.2: cannot open shared object file";
  const std::string preload =
      "ping: cannot set preload to value greater than 3: 5";
  const std::string resolution = ": Temporary failure in name resolution";
  std::vector<Case> cases = {
      {"first", notices + "first\nsecond\n", "exit 1", "fail first"},
      {"killed", notices + "first\n", "kill -9 $$", "fail first"},
      {"unfinished", notices + "no newline", "exit 1", "fail no newline"},
      {"stderr", notices, "echo explained >&2; exit 1", "fail explained"},
      {"notice", notices, "exit 1", "fail " + no_ipv6},
      {"header", "PING h\n--- h\n \t\n\x1b \xff\n", "exit 2",
       "fail exit status 2"},
      {"signal", "PING h\n", "kill -9 $$", "fail killed by signal 9"},
      {"silent", "", "exit 255", "fail exit status 255"},
      {"silent-signal", "", "kill -15 $$", "fail killed by signal 15"},
      {"arping", "ARPING h\n", "exit 2", "fail exit status 2"},
      {"ping6", "at the start\nping6: unknown host\n", "exit 1",
       "fail ping6: unknown host"},
      {"lower-case", "ping: warning: old\nan error\n", "exit 1",
       "fail an error"},
      {"preload", preload + "\n", "exit 2", "fail " + preload},
      {"loader", loader + "\n", "exit 127", "fail " + loader},
      {"ssh",
       "** WARNING: connection is not using a post-quantum key exchange "
       "algorithm.\r\n** This session may be vulnerable.\r\n** See "
       "https://openssh.com/pq.html\r\n"
       "ping: connect: Network is unreachable\r\n",
       "exit 2", "fail ping: connect: Network is unreachable"},
      {"pattern", "PATTERN: 0xff\nping: x" + resolution + "\n", "exit 2",
       "fail ping: x" + resolution},
      {"shout", "ping: SHOPPING: unknown host\n", "exit 1",
       "fail ping: SHOPPING: unknown host"},
  };
  cases[4].verdict.pop_back(); // the newline
  for (const std::string host :
       {"hstspreload.org", "early-warning", "sendgrid.net"})
    cases.push_back({host, notices + "ping: " + host + resolution + "\nusage\n",
                     "exit 2", "fail ping: " + host + resolution});
  expect_verdicts(cases);
}

TEST_F(ResultTest, ReasonIsCutToTwoHundredPrintableCharacters) {
  const std::string most(200, 'x');
  const std::string lot(100 * 1024, 'x');        // more than the pipe holds
  std::string bytes = "b", printable = "fail b"; // without the newline
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
      {"return", "a\rb\r\n", "exit 1", "fail a?b"},
      {"escape", "\033[2J\033]0;title\007gone\n", "exit 1",
       "fail ?[2J?]0;title?gone"},
  });
}

// pings_test.cpp tests the deadline itself. On a busy machine any of these
// pings may get no answer in some cycles, but not forever.
TEST_F(ResultTest, OverduePingIsJudgedByWhatItPrintsWhenInterrupted) {
  const std::string no_answer = "fail no answer in 1.5 s";
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
      // oping tries forever to send, and exits with 0 when it is interrupted.
      {"oping", "",
       at_interrupt("echo ping_send failed; echo 0 packets transmitted, 0 "
                    "received; exit 0"),
       "fail ping_send failed"},
      {"status", "PING h\n", at_interrupt("exit 3"), no_answer},
      {"success", "PING h\n", at_interrupt("exit 0"), no_answer},
      {"pattern", "PATTERN: 0xff\n", "exec sleep 1000", no_answer},
      {"signal", "PING h\n", "exec sleep 1000", no_answer},
      {"notice", no_ipv6, "exec sleep 1000", no_answer},
  };
  Process process(playing(cases, "1.50"));
  for (const Case &one : cases)
    EXPECT_TRUE(eventually([&] {
      return Matches(Contains(one.host + " " + one.verdict))(results());
    })) << one.host;
  expect_end(process);
  EXPECT_EQ(check_log(log()).fault, "");
}

TEST_F(ResultTest, LinesHaveTheLocalTimeAsCtimeWritesIt) {
  const std::pair<const char *, int> zones[] = {
      {"UTC0", 0},
      {"XXX-05:30", (5 * 60 + 30) * 60}, // east of Greenwich is negative
      {"XXX+11", -11 * 60 * 60}};
  for (const auto &[zone, east] : zones) {
    SCOPED_TRACE(zone);
    Launch launch = quick({"-f", "-c", "1"});
    launch.environment["TZ"] = zone;
    const time_t begin = time(nullptr);
    EXPECT_EQ(run(launch).status, 0);
    const time_t end = time(nullptr) + 1; // the clock of time() may be late
    EXPECT_THAT(log_lines(), SizeIs(4));
    for (const std::string &line : log_lines())
      EXPECT_THAT(time_of(line) - east, AllOf(Ge(begin), Le(end))) << line;
    fs::remove(log());
  }
}

} // namespace
