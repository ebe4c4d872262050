// cycles_test.cpp - when cycles start, how many there are (-c, -i), and that
// they leak nothing.

#include "support.h"

#include <cmath>
#include <complex>
#include <sstream>

namespace {

using Clock = std::chrono::steady_clock;

class CyclesTest : public Sandbox {
protected:
  // A ping's first command. The shell's state tells when pinglog forked it,
  // even if the shell had to wait for a busy machine.
  static constexpr char note[] =
      "read -r state </proc/$$/stat\necho $state >>$0.starts\n";

  // The seconds at which the pings were forked, by a clock that nobody sets.
  std::vector<double> starts() const {
    std::vector<double> found;
    for (const std::string &line : read_lines(path("ping.starts"))) {
      std::istringstream fields(line);
      std::string ticks;
      for (int field = 1; field <= 22; ++field) // starttime in proc(5)
        fields >> ticks;
      found.push_back(std::stod(ticks) / sysconf(_SC_CLK_TCK));
    }
    return found;
  }

  // The mean phase of these starts in the interval, as a point in the unit
  // circle: on its edge if all agree, at its center if they are spread evenly.
  static std::complex<double> phase(const std::vector<double> &starts,
                                    double interval) {
    std::complex<double> sum;
    for (double start : starts)
      sum += std::polar(1.0, 2 * M_PI * start / interval);
    return sum / static_cast<double>(starts.size());
  }

  // Starts pinglog anew until its first ping has stopped it before its last
  // ping was started. Each of its pings runs this command and then answers.
  void stop_while_it_starts(const Words &options, size_t hosts,
                            const std::string &command) {
    Launch launch = pinglog(
        options + Words{"-f", "-e",
                        script("ping", "echo >>$0.started\n"
                                       "[ $3 = host0 ] && kill -STOP $PPID\n" +
                                           command + "\necho time=1 ms")});
    for (size_t host = 0; host < hosts; ++host)
      launch.arguments.push_back("host" + std::to_string(host));
    ASSERT_TRUE(eventually([&] {
      process_.reset(); // kills the last one
      EXPECT_TRUE(eventually([&] { return processes().empty(); }));
      fs::remove(path("ping.started"));
      fs::remove(log());
      process_.emplace(launch);
      EXPECT_TRUE(eventually([&] {
        return process_state(process_->pid()) == 'T' && // all pings have ended
               children_of(process_->pid()) == zombies_of(process_->pid());
      }));
      return started() < hosts;
    }));
  }
  // How many pings have been started. Each one counts itself.
  size_t started() const { return read_lines(path("ping.started")).size(); }

  std::optional<Process> process_;
};

TEST_F(CyclesTest, CountEndsPinglogAfterThatManyFullCycles) {
  for (const char *mode : {"-f", "-i1"}) {
    const auto begin = Clock::now();
    EXPECT_EQ(run(pinglog({mode, "-c", "3", "-i", "0.3", "-e", answering_ping(),
                           "a", "b"}))
                  .status,
              0);
    EXPECT_TRUE(eventually([&] { return writer(log()) == -1; }));
    EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(900));
    EXPECT_EQ(count(start_label), 3);
    EXPECT_EQ(count(result_label), 6);
    expect_sound_log(2);
    fs::remove(log());
  }
}

// A busy machine may delay some start lines into the next second, but not all.
TEST_F(CyclesTest, NextCycleStartsInTheSecondInWhichTheLastOneEnds) {
  // With this interval, the cycles end at different points of a second.
  EXPECT_EQ(run(quick({"-f", "-i", "1.1", "-c", "5"})).status, 0);
  const Words lines = log_lines();
  int at_once = 0;
  for (size_t i = 1; i < lines.size(); ++i)
    at_once += lines[i - 1].rfind(end_label, 0) == 0 &&
               lines[i - 1].substr(label_size) == lines[i].substr(label_size);
  EXPECT_GT(at_once, 0) << read_file(log());
}

TEST_F(CyclesTest, StubbornPingsNeitherShiftTheGridNorOverlap) {
  const std::string ping =
      script("ping", std::string("trap '' INT TERM\n") + note +
                         "[ -e \"$0.last\" ] && read last <\"$0.last\" &&\n"
                         "kill -0 $last 2>/dev/null && : >\"$0.overlap\"\n"
                         "echo $$ >\"$0.last\"; exec sleep 1000");
  // This count does not fit into 32 bits.
  Process process(
      pinglog({"-f", "-c", "4294967297", "-i", "1", "-e", ping, "host"}));
  ASSERT_TRUE(eventually([&] { return starts().size() >= 10; }));
  expect_end(process);
  EXPECT_FALSE(fs::exists(ping + ".overlap"));
  expect_sound_log(1);
  // Each kill takes a tenth of this interval. If these delays added up, the
  // starts would spread over all phases. A busy machine only blurs the phase.
  EXPECT_GT(std::abs(phase(starts(), 1)), 0.5) << PrintToString(starts());
}

TEST_F(CyclesTest, SuspensionCausesNoBurstAndDoesNotShiftTheGrid) {
  const pid_t pid =
      start_daemon(pinglog({"-i", "1", "-e", script("ping", note), "host"}));
  ASSERT_TRUE(eventually([&] { return starts().size() >= 3; }));
  const std::complex<double> before = phase(starts(), 1);
  send_signal(pid, SIGSTOP);
  ASSERT_TRUE(eventually([&] { // and each ping has noted its start
    return process_state(pid) == 'T' && children_of(pid) == zombies_of(pid);
  }));
  const size_t known = starts().size();
  // With half an interval, the old grid differs from one that begins anew.
  sleep_ms(4500);
  const auto begin = Clock::now();
  send_signal(pid, SIGCONT);
  ASSERT_TRUE(eventually([&] { return starts().size() >= known + 4; }));
  std::vector<double> after = starts();
  const std::chrono::duration<double> past = Clock::now() - begin;
  after.erase(after.begin(), after.begin() + known);
  EXPECT_LE(after.size(), past.count() + 2) << "a burst of cycles";
  // A new grid would have the opposite phase.
  EXPECT_GT((phase(after, 1) * std::conj(before)).real(), 0)
      << PrintToString(starts());
  stop(pid);
  expect_sound_log();
}

// A stalled disk, for one, can hold pinglog up while it starts the pings.
TEST_F(CyclesTest, PingsHaveHalfAnIntervalIfStartingThemTookAWholeOne) {
  // The grace between SIGINT and SIGKILL is shorter than this ping.
  stop_while_it_starts({"-c", "1", "-i", "5"}, 40, "sleep 0.3");
  const size_t before = started();
  sleep_ms(5000); // the interval
  process_->signal(SIGCONT);
  EXPECT_EQ(process_->wait().status, 0);
  EXPECT_THAT(results(), SizeIs(40));
  // The other pings may be too slow on a busy machine.
  EXPECT_GT(static_cast<size_t>(count(" ok 1 ms")), before);
}

TEST_F(CyclesTest, StopDoesNotWaitForAThousandPingsToStart) {
  stop_while_it_starts({"-i", "1000"}, 1000, ":");
  const size_t before = started();
  EXPECT_EQ(run(killer()).status, 0); // it continues pinglog, too
  EXPECT_EQ(process_->wait().status, 0);
  EXPECT_LE(started(), before + 16);
  expect_sound_log();
}

// PINGLOG_CYCLES sets how many cycles; 20,000 take some minutes.
TEST_F(CyclesTest, MemoryAndDescriptorsDoNotGrowOverManyCycles) {
  const int cycles = rounds("PINGLOG_CYCLES", 200);
  write_file(path("noise"), std::string(100 * 1024, '\033'));
  const pid_t pid = start_daemon(
      pinglog({"-i", "0.02", "-e", "cat -- " + path("noise"), "a", "b", "c"}));
  const auto anonymous_kib = [pid] { // other memory can be reclaimed
    for (const std::string &line :
         read_lines("/proc/" + std::to_string(pid) + "/smaps_rollup"))
      if (line.rfind("Anonymous:", 0) == 0)
        return std::stol(line.substr(10));
    return -1L;
  };
  await(end_label, 50);
  const long early = anonymous_kib();
  for (int some = 100; some <= cycles; some += 100)
    await(end_label, some); // each within the bound of a wait
  // The first ping that times out on a busy machine may take another page or
  // two of the stack. A leak in each cycle would take more.
  EXPECT_THAT(anonymous_kib(), AllOf(Gt(0), Le(early + 8)));
  EXPECT_LE(descriptors_of(pid).size(), 5u + 3 + 1); // those of the pings, too
  stop(pid);
  expect_sound_log(3);
}

} // namespace
