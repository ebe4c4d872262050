// network_test.cpp - the pings that people have, on networks that are real.
//
// Whatever needs another network than the loopback runs in a network namespace
// that the test makes. In there one end of a veth pair has an address and the
// other end has none: nobody answers ARP, nor what is sent to a neighbour whose
// hardware address is given. No name server can be reached.

#include "support.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <unistd.h>

namespace {

using ::testing::IsEmpty;
using ::testing::MatchesRegex;

constexpr char unreachable[] = "10.9.0.2"; // ARP fails
constexpr char silent[] = "10.9.0.3";
constexpr char elsewhere[] = "192.0.2.1"; // no route
// The resolver refuses it without asking anybody.
constexpr char impossible[] = "no..such.invalid";
constexpr char unknown[] = "nosuch.invalid";

bool succeeds(const std::string &command) {
  return system((command + " >/dev/null 2>&1").c_str()) == 0;
}

bool has_ipv6_loopback() {
  return read_file("/proc/net/if_inet6").find("00000001 01 80 10 80") !=
         std::string::npos;
}

using Verdicts = std::map<std::string, std::string>; // host -> regex

std::string host_of(const std::string &result) {
  return result.substr(0, result.find(' '));
}

bool matches(const std::string &result, const Verdicts &verdicts,
             const std::string &or_else = "") {
  const std::string host = host_of(result);
  const std::string regex = "(" + verdicts.at(host) + or_else + ")";
  return ::testing::Matches(MatchesRegex(host + " " + regex))(result);
}

class NetworkTest : public Sandbox {
protected:
  // Runs it until each host has the verdict that matches. A ping that a busy
  // machine starts too late has no answer; all else is wrong.
  void expect_verdicts(Launch launch, const Verdicts &verdicts) {
    for (const auto &verdict : verdicts)
      launch.arguments.push_back(verdict.first);
    Process process(launch);
    std::set<std::string> missing;
    EXPECT_TRUE(eventually([&] {
      missing.clear();
      for (const auto &[host, verdict] : verdicts)
        missing.insert(host);
      for (const std::string &result : results())
        if (matches(result, verdicts))
          missing.erase(host_of(result));
      return missing.empty() || process.has_ended();
    }));
    EXPECT_THAT(missing, IsEmpty()) << "for these there is no such line";
    ASSERT_FALSE(process.has_ended()) << process.err();
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait().status, 0) << process.err();
    EXPECT_EQ(fault_in_log(log()), "");
    std::set<std::string> wrong;
    for (const std::string &result : results())
      if (!matches(result, verdicts, "|fail no answer in 1 s"))
        wrong.insert(result);
    EXPECT_THAT(wrong, IsEmpty());
    EXPECT_THAT(processes_with_environment(mark()), IsEmpty());
  }

  Launch every_second(const std::string &ping) const {
    return pinglog({"-f", "-i", "1", "-e", ping});
  }
};

// Adds the loopback of IPv6 where there is one.
Verdicts with_loopback(Verdicts verdicts, const std::string &answer) {
  verdicts["127.0.0.1"] = answer;
  if (has_ipv6_loopback())
    verdicts["::1"] = answer;
  return verdicts;
}

constexpr char decimal_time[] = "ok [0-9]+[.][0-9]+ ms";

TEST_F(NetworkTest, IputilsOnTheLoopbackAndWithAnUnknownName) {
  if (!succeeds("ping -n -c 1 127.0.0.1"))
    GTEST_SKIP() << "ping does not work here";
  expect_verdicts(
      every_second("ping -n"),
      with_loopback({{impossible, "fail ping: .*: Name or service not known"}},
                    decimal_time));
}

TEST_F(NetworkTest, BusyBoxOnTheLoopbackAndWithAnUnknownName) {
  if (!succeeds("busybox ping -c 1 127.0.0.1"))
    GTEST_SKIP() << "busybox ping does not work here";
  expect_verdicts(every_second("busybox ping"),
                  with_loopback({{impossible, "fail ping: bad address '.*'"}},
                                decimal_time));
}

class NamespaceTest : public NetworkTest {
protected:
  void SetUp() override {
    SKIP_UNLESS_ROOT();
    SKIP_WITHOUT("ip");
    // A test that was killed has left its own.
    std::error_code none;
    for (const auto &entry :
         std::filesystem::directory_iterator("/run/netns", none)) {
      const std::string name = entry.path().filename();
      if (name.rfind(prefix_, 0) == 0 &&
          process_state(std::stoi("0" + name.substr(prefix_.size()))) == '\0')
        (void)succeeds("ip netns delete " + name);
    }
    if (!succeeds("ip netns add " + name_))
      GTEST_SKIP() << "no network namespaces here";
    const std::string neighbours = "/proc/sys/net/ipv4/neigh/v0/";
    ASSERT_TRUE(inside("ip link set lo up"));
    ASSERT_TRUE(inside("ip link add v0 type veth peer name v1"));
    ASSERT_TRUE(inside("ip address add 10.9.0.1/24 dev v0"));
    ASSERT_TRUE(inside("ip link set v0 up"));
    ASSERT_TRUE(inside("ip link set v1 up"));
    ASSERT_TRUE(inside(std::string("ip neigh add ") + silent +
                       " lladdr 02:00:00:00:00:01 dev v0 nud permanent"));
    // ARP gives up after 0.15 s, not after 3 s.
    ASSERT_TRUE(inside("sh -c 'echo 50 >" + neighbours + "retrans_time_ms'"));
  }

  void TearDown() override {
    NetworkTest::TearDown(); // nobody is in it any more
    EXPECT_TRUE(access(("/run/netns/" + name_).c_str(), F_OK) != 0 ||
                succeeds("ip netns delete " + name_));
  }

  bool inside(const std::string &command) const {
    return succeeds("ip netns exec " + name_ + " " + command);
  }

  // The same launch, but in the namespace.
  Launch inside(Launch launch) const {
    launch.arguments.insert(launch.arguments.begin(),
                            {"netns", "exec", name_, launch.executable});
    launch.executable = "ip";
    return launch;
  }

  const std::string prefix_ = "pinglog-test-";
  const std::string name_ = prefix_ + std::to_string(getpid());
};

// What each of them makes of each host, as regular expressions.
struct Tool {
  const char *name;
  const char *command;
  const char *answer;
  const char *unreachable;
  const char *silent;
  const char *elsewhere;
  const char *impossible;
  const char *unknown;
};

void PrintTo(const Tool &tool, std::ostream *stream) {
  *stream << tool.command;
}

constexpr char glibc_unknown[] =
    "fail ping: nosuch.invalid: (Name or service not known|Temporary failure "
    "in name resolution)";
constexpr char nothing_received[] =
    "fail 1 packets transmitted, 0 (packets )?received, 100% packet loss.*";

const Tool tools[] = {
    {"iputils", "ping -n", decimal_time,
     "fail From 10.9.0.1 icmp_seq=1 Destination Host Unreachable",
     nothing_received, "fail ping: connect: Network is unreachable",
     "fail ping: no..such.invalid: Name or service not known", glibc_unknown},
    {"busybox", "busybox ping", decimal_time, nothing_received,
     nothing_received, "fail ping: sendto: Network is unreachable",
     "fail ping: bad address 'no..such.invalid'",
     "fail ping: bad address 'nosuch.invalid'"},
    {"toybox", "toybox ping", "ok [0-9]+ ms", nothing_received,
     nothing_received, "fail ping: sendto: Network is unreachable",
     "fail ping: no..such.invalid: Name or service not known", glibc_unknown},
    {"fping", "fping", "ok",
     "fail ICMP Host Unreachable from 10.9.0.1 for ICMP Echo sent to 10.9.0.2",
     "fail 10.9.0.3 : .0., timed out .*", "fail 192.0.2.1 : xmt/rcv/.*",
     "fail no..such.invalid: Name or service not known",
     "fail nosuch.invalid: (Name or service not known|Temporary failure in "
     "name resolution)"},
    // It tries again without end until it is interrupted, and exits 0. Where
    // nothing answers, its own time-out is a second, too.
    {"oping", "oping", decimal_time,
     "fail (ping_send failed: .*|echo reply from 10[.]9[.]0[.]2 .* timeout)",
     "fail (ping_send failed: .*|echo reply from 10[.]9[.]0[.]3 .* timeout)",
     "fail ping_send failed: .*",
     "fail Adding host `no..such.invalid' failed: getaddrinfo: .*",
     "fail Adding host `nosuch.invalid' failed: getaddrinfo: .*"},
};

class ToolTest : public NamespaceTest,
                 public ::testing::WithParamInterface<Tool> {};

TEST_P(ToolTest, IsUnderstoodWhateverBecomesOfTheHost) {
  const Tool &tool = GetParam();
  const std::string program =
      std::string(tool.command).substr(0, strcspn(tool.command, " "));
  if (!succeeds("command -v " + program))
    GTEST_SKIP() << "no " << program << " on this machine";
  // toybox wants it, and the others may use it.
  ASSERT_TRUE(inside("sh -c 'echo 0 2147483647 "
                     ">/proc/sys/net/ipv4/ping_group_range'"));
  expect_verdicts(inside(every_second(tool.command)),
                  with_loopback({{unreachable, tool.unreachable},
                                 {silent, tool.silent},
                                 {elsewhere, tool.elsewhere},
                                 {impossible, tool.impossible},
                                 {unknown, tool.unknown}},
                                tool.answer));
}

INSTANTIATE_TEST_SUITE_P(Ping, ToolTest, ::testing::ValuesIn(tools),
                         [](const auto &tool) { return tool.param.name; });

TEST_F(NamespaceTest, PingMayRunInAnotherNamespaceThanPinglog) {
  SKIP_WITHOUT("ping");
  expect_verdicts(
      every_second("ip netns exec " + name_ + " ping -n"),
      {{"127.0.0.1", decimal_time},
       {unreachable,
        "fail From 10.9.0.1 icmp_seq=1 Destination Host Unreachable"}});
}

TEST_F(NamespaceTest, PingWithoutItsCapabilitySaysSo) {
  SKIP_WITHOUT("ping");
  SKIP_WITHOUT("setpriv");
  // A copy has neither the capability nor the set-user-ID bit.
  ASSERT_TRUE(succeeds("cp $(command -v ping) " + path("ping")));
  expect_verdicts(inside(every_second("setpriv --reuid 65534 --regid 65534 "
                                      "--clear-groups " +
                                      path("ping"))),
                  {{"127.0.0.1", "fail .*ping: socket: Operation not "
                                 "permitted"}});
}

TEST_F(NamespaceTest, StopKillsRealPingsAndBlamesNobody) {
  SKIP_WITHOUT("ping");
  Process process(inside(
      pinglog({"-f", "-i", "60", "-e", "ping -n", "127.0.0.1", silent})));
  // The one that waits has been started before the other one has its line.
  EXPECT_TRUE(eventually([&] {
    return results().size() == 1 &&
           processes_with_environment(mark()).size() == 2;
  }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_THAT(processes_with_environment(mark()), IsEmpty());
  EXPECT_THAT(results(), ::testing::ElementsAre(MatchesRegex(
                             std::string("127.0.0.1 ") + decimal_time)));
  EXPECT_EQ(count(end_label), 1);
}

} // namespace
