// outage_test.cpp - outages, and -q.
//
// README promises:
//   - The log tells when the line was down, for how long, and why.
//   - Two failures of a host in a row are an outage, and the log says when it
//     ended. It lasts from the start of the first failed cycle to the answer
//     that ends it:
//   - If you stop pinglog during an outage, only the line `is down` stays.
//   - -q n       log only changes; each n-th cycle in full, 1 to 10^12
//     (default 1)

#include "support.h"

#include <csignal>
#include <fstream>

namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

class OutageTest : public Sandbox {
protected:
  // A ping that answers (o) or fails (f) in each cycle as the pattern says, and
  // then repeats the last letter. In cycle N it fails with `reason N`.
  std::string patterned_ping(const std::string &pattern) const {
    // The script forks nothing: a ping that is too slow would be a failure.
    return script("ping", "n=0\n"
                          "[ -e $0.count ] && read -r n <$0.count\n"
                          "n=$((n + 1))\n"
                          "echo $n >$0.count\n"
                          "pattern=" +
                              pattern +
                              "\n"
                              "skipped=1\n"
                              "while [ $((skipped += 1)) -le $n ]; do\n"
                              "  [ ${#pattern} = 1 ] || pattern=${pattern#?}\n"
                              "done\n"
                              "case $pattern in\n"
                              "o*) echo time=12.3 ms ;;\n"
                              "*) echo reason $n; exit 1 ;;\n"
                              "esac");
  }

  // Runs as many cycles as the pattern has letters. If the machine is too busy
  // for one of the pings, tries again with a longer interval.
  void run_pattern(const std::string &pattern,
                   const Words &options = {}) const {
    const std::string ping = patterned_ping(pattern);
    const std::string length = std::to_string(pattern.size());
    for (const char *interval : {"0.5", "1", "2", "4", "8"}) {
      for (const std::string &file : {log(), ping + ".count"})
        fs::remove(file);
      Words words = {"-f", "-i", interval, "-c", length, "-e", ping};
      words.insert(words.end(), options.begin(), options.end());
      words.push_back("host");
      Process process(pinglog(words));
      EXPECT_EQ(process.wait(std::chrono::seconds(150)).status, 0);
      if (read_file(ping + ".count") == length + "\n" &&
          read_file(log()).find(" no answer in ") == std::string::npos)
        return;
    }
    ADD_FAILURE() << "the machine is too busy for -i 8";
  }

  // One letter for each line of the log: s and e start and end a cycle, o and f
  // are results, d and u are down and up again.
  std::string shape() const {
    std::string letters;
    for (const std::string &line : log_lines())
      letters += line.rfind(started_label, 0) == 0          ? 'S'
                 : line.rfind(start_label, 0) == 0          ? 's'
                 : line.rfind(end_label, 0) == 0            ? 'e'
                 : line.find(" host ok ") != line.npos      ? 'o'
                 : line.find(" host fail ") != line.npos    ? 'f'
                 : line.find(" host is down") != line.npos  ? 'd'
                 : line.find(" host was down") != line.npos ? 'u'
                                                            : '?';
    return letters;
  }

  static std::string time_of(const std::string &line) {
    return line.substr(strlen(result_label), time_size);
  }
  static double seconds_between(const std::string &from,
                                const std::string &until) {
    tm parts[2] = {};
    EXPECT_TRUE(strptime(from.c_str(), "%a %b %d %T %Y", &parts[0]));
    EXPECT_TRUE(strptime(until.c_str(), "%a %b %d %T %Y", &parts[1]));
    return difftime(timegm(&parts[1]), timegm(&parts[0]));
  }
};

TEST_F(OutageTest, SingleFailuresAreNoOutage) {
  run_pattern("fofof");
  EXPECT_EQ(shape(), "Ssfesoesfesoesfe");
}

TEST_F(OutageTest, OutageBeginsWithTheSecondFailureAndEndsWithAnAnswer) {
  run_pattern("offfoo");
  ASSERT_EQ(shape(), "Ssoesfesfdesfesouesoe");
  const Words lines = log_lines();
  const std::string since = time_of(lines[4]); // the start of the cycle
  const std::string down = " since " + since + ": reason 2";
  const std::string was_down = "host was down 0:00:";
  ASSERT_THAT(outages(),
              ElementsAre("host is down" + down,
                          AllOf(StartsWith(was_down), EndsWith(down))));
  // The lines' times are truncated to seconds; the duration is rounded.
  const int seconds = std::stoi(outages()[1].substr(was_down.size()));
  EXPECT_GT(seconds, 0);
  EXPECT_LE(std::abs(seconds_between(since, time_of(lines[16])) - seconds), 1);
}

TEST_F(OutageTest, SecondOutageOfAHostHasItsOwnBeginAndReason) {
  run_pattern("fffofff");
  ASSERT_EQ(shape(), "Ssfesfdesfesouesfesfdesfe");
  const Words lines = log_lines();
  EXPECT_THAT(
      outages(),
      ElementsAre("host is down since " + time_of(lines[1]) + ": reason 1",
                  AllOf(StartsWith("host was down 0:00:"),
                        EndsWith(" since " + time_of(lines[1]) + ": reason 1")),
                  "host is down since " + time_of(lines[15]) + ": reason 5"));
}

// How fast a ping fails does not matter: the outage begins with the cycle.
TEST_F(OutageTest, SilentAndRefusingHostsHaveTheSameOutage) {
  const std::string ping = script("ping", "echo >>$0.$3\n"
                                          "[ $(wc -l <$0.$3) -gt 2 ] && exit\n"
                                          "[ $3 = refusing ] && exit 1\n"
                                          "exec sleep 1000");
  Process process(
      pinglog({"-f", "-i", "2", "-c", "3", "-e", ping, "refusing", "silent"}));
  EXPECT_EQ(process.wait().status, 0);
  const Words lines = log_lines();
  int ended = 0;
  for (const std::string &line : lines) {
    if (line.find(" was down 0:00:") == std::string::npos)
      continue;
    ++ended;
    const std::string since = time_of(lines[1]);
    EXPECT_THAT(line, HasSubstr(" since " + since + ": "));
    const int seconds = std::stoi(line.substr(line.find(" 0:00:") + 6));
    EXPECT_GE(seconds, 4); // two cycles, and a busy machine takes longer
    EXPECT_LE(std::abs(seconds_between(since, time_of(line)) - seconds), 1);
  }
  EXPECT_EQ(ended, 2) << read_file(log());
}

TEST_F(OutageTest, EachHostHasItsOwnOutage) {
  const std::string ping = script("ping", "[ $3 = up ] || exit 1");
  Process process(pinglog({"-f", "-i", "1", "-e", ping, "up", "one", "two"}));
  await_lines(outage_label, 2);
  EXPECT_THAT(outages(), ::testing::UnorderedElementsAre(
                             StartsWith("one is down since "),
                             StartsWith("two is down since ")));
}

TEST_F(OutageTest, PingThatCannotBeStartedIsAnOutage) {
  const std::string ping = answering_ping();
  Process process(pinglog({"-f", "-i", "1", "-e", ping, "host"}));
  await_results("host ok", 1);
  fs::rename(ping, path("away"));
  await_lines(outage_label, 1);
  await_results("host fail " + ping + ": " + strerror(ENOENT), 1);
  fs::rename(path("away"), ping);
  await_lines(outage_label, 2);
  EXPECT_THAT(outages()[1], StartsWith("host was down 0:00:"));
}

TEST_F(OutageTest, LastingOutageIsInTheLogEvenAfterKillDashNine) {
  const pid_t pid = start_daemon(quick({"-e", "false"}));
  await_lines(outage_label, 1);
  stop(pid, SIGKILL);
  EXPECT_THAT(outages(), ElementsAre(StartsWith("host is down since ")));
  // A new pinglog knows of no outage, because nothing pinged in between.
  Launch launch = quick({"-f", "-c", "2"});
  launch.arguments[3] = "1"; // time for the ping
  EXPECT_EQ(run(launch).status, 0);
  EXPECT_THAT(outages(), SizeIs(1));
}

TEST_F(OutageTest, LongestHostAndLongestReasonFitIntoOneLine) {
  const std::string host(255, 'h'), reason(200, 'r');
  const std::string ping =
      script("ping", "[ -e $0.up ] || { echo " + reason + "; exit 1; }");
  Process process(pinglog({"-f", "-i", "4", "-e", ping, host}));
  await_lines(outage_label, 1);
  write_file(ping + ".up", "");
  await_lines(outage_label, 2);
  for (const std::string &line : outages())
    EXPECT_THAT(line, AllOf(StartsWith(host), EndsWith(": " + reason)));
}

TEST_F(OutageTest, OutageGoesOnAfterRotation) {
  const std::string ping = script("ping", "[ -e $0.up ]");
  Process process(pinglog(
      {"-f", "-i", "0.3", "-q", "1000", "-s", "1", "-e", ping, "host"}));
  await_lines(outage_label, 1);
  std::ofstream(log(), std::ios::app) << std::string(600, '#') << "\n";
  ASSERT_TRUE(eventually([&] { return fs::exists(log() + ".0"); }));
  write_file(ping + ".up", "");
  await_lines(outage_label, 1);
  EXPECT_THAT(outages(), ElementsAre(StartsWith("host was down ")));
}

// --- -q ----------------------------------------------------------------------

TEST_F(OutageTest, QuietCyclesHoldOnlyChangesAndOutages) {
  // Cycles 1, 5 and 9 are full.
  run_pattern("oofoofffoooo", {"-q", "4"});
  EXPECT_EQ(shape(), "Ssoe"   // cycle 1, full
                     "sfesoe" // 3 and 4: a change each
                     "soe"    // 5, full
                     "sfe"    // 6: a change
                     "sfde"   // 7: an outage
                     "soue"   // 9, full
                     "e");    // 12, the last, shows the exit
}

TEST_F(OutageTest, QuietCyclesInAnOutageLogNothing) {
  run_pattern("offffffo", {"-q", "1000"});
  EXPECT_EQ(shape(), "Ssoesfesfdesoue");
}

TEST_F(OutageTest, WaitingLinesAreWrittenInAQuietCycleToo) {
  fs::create_directory(path("d"));
  set_log(path("d/ping.log"));
  const std::string ping =
      script("ping", "[ ! -e $0.down ] || { echo >>$0.down; exit 1; }");
  Process process(
      pinglog({"-f", "-i", "0.3", "-q", "1000", "-e", ping, "host"}));
  await_lines(end_label, 1);
  fs::rename(path("d"), path("away"));
  write_file(ping + ".down", "");
  // Six cycles; only the first two have anything to log.
  ASSERT_TRUE(
      eventually([&] { return read_lines(ping + ".down").size() >= 6; }));
  fs::rename(path("away"), path("d"));
  await_lines(outage_label, 1);
}

TEST_F(OutageTest, StopInAQuietCycleLogsTheEndLine) {
  const std::string ping = script("ping", "echo >>$0.count");
  const pid_t pid =
      start_daemon(pinglog({"-i", "2", "-q", "1000", "-e", ping, "host"}));
  ASSERT_TRUE(
      eventually([&] { return read_lines(ping + ".count").size() > 1; }));
  stop(pid);
  EXPECT_EQ(count(end_label), count(start_label) + 1);
  EXPECT_THAT(log_lines().back(), StartsWith(end_label));
}

TEST_F(OutageTest, StartLineOfAQuietCycleHasTheTimeOfItsStart) {
  // The ping fails more than a second after the cycle's start.
  const std::string ping = script("ping", "echo >>$0.count\n"
                                          "[ $(wc -l <$0.count) = 1 ] || "
                                          "{ sleep 1.2; exit 1; }");
  Process process(
      pinglog({"-f", "-i", "5", "-c", "2", "-q", "9", "-e", ping, "host"}));
  EXPECT_EQ(process.wait().status, 0);
  ASSERT_THAT(log_lines(), SizeIs(7));
  EXPECT_NE(time_of(log_lines()[4]), time_of(log_lines()[5]));
}

} // namespace
