// outage_test.cpp - outages, and -q.

#include "support.h"

namespace {

class OutageTest : public Sandbox {
protected:
  // Runs as many cycles as the pattern has letters: in each, the ping answers
  // (o) or fails with `reason N` (f). If the machine is too busy for one of the
  // pings, tries again with a longer interval.
  void run_pattern(const std::string &pattern,
                   const Words &options = {}) const {
    // The script forks nothing: a ping that is too slow would be a failure.
    const std::string ping = script("ping", R"(n=0
[ -e $0.count ] && read -r n <$0.count
n=$((n + 1))
echo $n >$0.count
rest=)" + pattern + R"(
skipped=1
while [ $((skipped += 1)) -le $n ]; do rest=${rest#?}; done
case $rest in
o*) echo time=12.3 ms ;;
*) echo reason $n; exit 1 ;;
esac)");
    const std::string length = std::to_string(pattern.size());
    for (const char *interval : {"0.5", "1", "2", "4", "8"}) {
      for (const std::string &file : {log(), ping + ".count"})
        fs::remove(file);
      Process process(pinglog(options + Words{"-f", "-i", interval, "-c",
                                              length, "-e", ping, "host"}));
      EXPECT_EQ(process.wait().status, 0);
      if (read_file(ping + ".count") == length + "\n" &&
          count(" no answer in ") == 0)
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

  static std::string since(const std::string &line) {
    return " since " + line.substr(label_size, time_size) + ": ";
  }
};

TEST_F(OutageTest, TwoFailuresInARowAreAnOutageWithItsOwnBeginAndReason) {
  run_pattern("fofffofff");
  ASSERT_EQ(shape(), "Ssfesoesfesfdesfesouesfesfdesfue");
  const Words lines = log_lines();
  const std::string first = since(lines[7]) + "reason 3";
  const std::string second = since(lines[21]) + "reason 7";
  EXPECT_THAT(
      outages(),
      ElementsAre("host is down" + first,
                  AllOf(StartsWith("host was down 0:00:"), EndsWith(first)),
                  "host is down" + second,
                  AllOf(StartsWith("host was down 0:00:"), EndsWith(second))));
}

// How fast a ping fails does not matter: the outage begins with the cycle.
TEST_F(OutageTest, EachHostHasItsOwnOutageSinceTheSameCycle) {
  const std::string ping = script("ping", "echo >>$0.$3\n"
                                          "[ $(wc -l <$0.$3) -gt 2 ] && exit\n"
                                          "[ $3 = silent ] && exec sleep 1000\n"
                                          "echo $3 refuses; exit 1");
  Process process(pinglog({"-f", "-i", "2", "-e", ping, "a", "silent", "b"}));
  await(" was down ", 3);
  expect_sound_end(process, 3);
  const std::string begin = log_lines()[1];
  for (const std::string &line : log_lines())
    if (const size_t at = line.find(" was down 0:00:"); at != line.npos) {
      EXPECT_THAT(line, HasSubstr(since(begin)));
      // The lines' times are truncated to seconds; the duration is rounded.
      const int seconds = std::stoi(line.substr(at + 15));
      EXPECT_GE(seconds, 4); // two cycles, and a busy machine takes longer
      EXPECT_LE(std::abs(time_of(line) - time_of(begin) - seconds), 1);
    }
}

TEST_F(OutageTest, LastingOutageIsInTheLogEvenAfterKillDashNine) {
  const pid_t pid = start_daemon(quick({"-e", "false"}));
  await(outage_label);
  stop(pid, SIGKILL);
  EXPECT_THAT(outages(), ElementsAre(StartsWith("host is down since ")));
  // A new pinglog knows of no outage, because nothing pinged in between.
  EXPECT_EQ(run(quick({"-f", "-c", "1"})).status, 0);
  EXPECT_THAT(outages(), SizeIs(1));
}

TEST_F(OutageTest, LongestHostAndLongestReasonFitIntoOneLineAlsoInANewLog) {
  const std::string host(255, 'h'), reason(200, 'r');
  const std::string ping =
      script("ping", "[ -e $0.up ] || { echo " + reason + "; exit 1; }");
  // On a busy machine, the first ping may be silent.
  const auto has_reason =
      AnyOf(EndsWith(": " + reason), EndsWith(": no answer in 2 s"));
  Process process(pinglog({"-f", "-i", "2", "-e", ping, host}));
  await(outage_label);
  EXPECT_THAT(outages(), ElementsAre(AllOf(StartsWith(host + " is down since "),
                                           has_reason)));
  fs::remove(log());
  write_file(ping + ".up", "");
  await(outage_label);
  EXPECT_THAT(outages(),
              ElementsAre(AllOf(StartsWith(host + " was down "), has_reason)));
}

// --- -q ----------------------------------------------------------------------

TEST_F(OutageTest, QuietCyclesHoldOnlyChangesAndOutages) {
  // Cycles 1, 5 and 9 are full.
  run_pattern("oofoofffoooo", {"-q", "4"});
  EXPECT_EQ(shape(), "Ssoe"   // cycle 1, full
                     "sfesoe" // 3 and 4: a change each
                     "soe"    // 5, full
                     "sfe"    // 6: a change
                     "sfde"   // 7: an outage; 8 logs nothing
                     "soue"   // 9, full
                     "e");    // 12, the last, shows the exit
}

TEST_F(OutageTest, WaitingLinesAreWrittenInAQuietCycleToo) {
  const std::string directory = move_log();
  const std::string ping =
      script("ping", "[ ! -e $0.down ] || { echo >>$0.down; exit 1; }");
  Process process(
      pinglog({"-f", "-i", "0.5", "-q", "1000", "-e", ping, "host"}));
  await(end_label);
  fs::rename(directory, path("away"));
  write_file(ping + ".down", "");
  // Six cycles; only the first two have anything to log.
  ASSERT_TRUE(
      eventually([&] { return read_lines(ping + ".down").size() >= 6; }));
  fs::rename(path("away"), directory);
  await(outage_label);
}

// The next run begins an outage of its own. In quiet cycles only the beginning
// is logged, and the exit.
TEST_F(OutageTest, StopDuringOutagesLogsTheirLengthsBeforeTheLastLine) {
  const std::string ping = script("ping", "echo >>$0.count; exec sleep 1000");
  for (const size_t run : {1, 2}) {
    SCOPED_TRACE(run);
    const auto begin = std::chrono::steady_clock::now();
    const pid_t pid = start_daemon(
        pinglog({"-i", "1", "-q", "1000", "-e", ping, "one", "two"}));
    ASSERT_TRUE(eventually(
        [&] { return read_lines(ping + ".count").size() >= run * 8; }));
    stop(pid);
    const std::chrono::duration<double> most =
        std::chrono::steady_clock::now() - begin;
    constexpr size_t lines_of_a_run = 14;
    const Words lines = log_lines();
    ASSERT_EQ(lines.size(), run * lines_of_a_run);
    const size_t first = (run - 1) * lines_of_a_run, last = lines.size() - 1;
    const std::string reason = since(lines[first + 1]) + "no answer in 1 s";
    EXPECT_THAT(lines[last - 2],
                AllOf(HasSubstr(" one was down 0:00:"), EndsWith(reason)));
    EXPECT_THAT(lines[last - 1],
                AllOf(HasSubstr(" two was down 0:00:"), EndsWith(reason)));
    EXPECT_THAT(lines[last], StartsWith(end_label));
    int seconds = 0;
    (void)sscanf(outages().back().c_str(), "two was down 0:00:%d ", &seconds);
    EXPECT_GE(seconds, 3); // three cycles have ended
    EXPECT_LE(seconds, most.count() + 0.5);
  }
}

TEST_F(OutageTest, StartLineOfAQuietCycleHasTheTimeOfItsStart) {
  const Words options = {"-f", "-i", "1.5", "-c", "2", "-q", "9"};
  EXPECT_EQ(run(pinglog(options + Words{"-e", silent_ping(), "host"})).status,
            0);
  ASSERT_EQ(shape(), "Ssfesfdue");
  EXPECT_NE(time_of(log_lines()[4]), time_of(log_lines()[5]));
}

} // namespace
