// cycles_test.cpp - the cycles: how many there are, when they begin, in which
// order their lines stand, and what they leave behind.

#include "support.h"

#include <cmath>
#include <csignal>

namespace {

using ::testing::ElementsAre;
using Clock = std::chrono::steady_clock;

class CyclesTest : public Sandbox {
protected:
  // What a ping does first: it notes when that is, by a clock that nobody sets.
  static constexpr char note[] =
      "read up rest </proc/uptime\necho $up >>\"$0.starts\"\n";

  std::vector<double> starts() const {
    std::vector<double> found;
    for (const std::string &line : read_lines(path("ping.starts")))
      found.push_back(std::stod(line));
    return found;
  }

  // Those that stand where this one does in the interval, more or less: one or
  // the other is late on a busy machine.
  static size_t in_phase(const std::vector<double> &starts, double one,
                         double interval) {
    return std::count_if(starts.begin(), starts.end(), [=](double start) {
      return std::abs(std::remainder(start - one, interval)) < interval / 6;
    });
  }
  // The one of these with most of the others in phase.
  static double usual(const std::vector<double> &starts, double interval) {
    return *std::max_element(starts.begin(), starts.end(),
                             [&](double one, double two) {
                               return in_phase(starts, one, interval) <
                                      in_phase(starts, two, interval);
                             });
  }
};

TEST_F(CyclesTest, CountEndsItAfterSoManyCyclesOfTheirFullLength) {
  for (const int cycles : {1, 3}) {
    SCOPED_TRACE(cycles);
    const auto begin = Clock::now();
    Launch launch = pinglog({"-c", std::to_string(cycles), "-i", "0.3", "-e",
                             answering_ping(), "a", "b"});
    if (cycles == 1) {
      launch.arguments.push_back("-f");
      EXPECT_EQ(run(launch).status, 0);
    } else {
      const pid_t pid = start_daemon(launch);
      EXPECT_TRUE(eventually([&] { return !is_alive(pid); }));
    }
    EXPECT_GE(Clock::now() - begin, cycles * std::chrono::milliseconds(300));
    EXPECT_EQ(count(start_label), cycles);
    EXPECT_EQ(log_lines().size(), 4u * cycles);
    expect_sound_log();
    expect_a_line_for_each_host(2);
    unlink(log().c_str());
  }
}

// Most of them within the same second, were the machine ever so busy.
TEST_F(CyclesTest, NextOneBeginsAsThisOneEnds) {
  EXPECT_EQ(run(quick({"-f", "-i", "1", "-c", "5"})).status, 0);
  const Words lines = log_lines();
  ASSERT_EQ(lines.size(), 5u * 3);
  int at_once = 0;
  for (size_t i = 2; i + 1 < lines.size(); i += 3)
    at_once += lines[i].substr(strlen(end_label)) ==
               lines[i + 1].substr(strlen(start_label));
  EXPECT_GT(at_once, 0) << read_file(log());
}

TEST_F(CyclesTest, StubbornPingsDoNotMoveTheGridAndNeverOverlap) {
  const std::string ping =
      script("ping", std::string("trap '' INT TERM\n") + note +
                         "[ -e \"$0.last\" ] && read last <\"$0.last\" &&\n"
                         "kill -0 $last 2>/dev/null && : >\"$0.overlap\"\n"
                         "echo $$ >\"$0.last\"; exec sleep 1000");
  // The number is more than fits into 32 bits.
  Process process(
      pinglog({"-f", "-c", "4294967297", "-i", "0.4", "-e", ping, "host"}));
  ASSERT_TRUE(eventually([&] { return starts().size() >= 9; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_NE(access((ping + ".overlap").c_str(), F_OK), 0);
  expect_sound_log();
  expect_a_line_for_each_host(1);
  // Each kill takes a quarter of this interval. If that were added up, the
  // starts would spread over all phases of the interval.
  const std::vector<double> all = starts();
  EXPECT_GT(2 * in_phase(all, usual(all, 0.4), 0.4), all.size())
      << ::testing::PrintToString(all);
}

TEST_F(CyclesTest, StoppedForAWhileItMakesUpForNoneAndKeepsTheGrid) {
  constexpr double interval = 0.3;
  const pid_t pid =
      start_daemon(pinglog({"-i", "0.3", "-e", script("ping", note), "host"}));
  ASSERT_TRUE(eventually([&] { return starts().size() >= 4; }));
  const double before = usual(starts(), interval);
  send_signal(pid, SIGSTOP);
  ASSERT_TRUE(eventually([&] { return process_state(pid) == 'T'; }));
  const size_t known = starts().size();
  // Half an interval more, or a grid begun anew would look like the old one.
  std::this_thread::sleep_for(std::chrono::duration<double>(6.5 * interval));
  const auto begin = Clock::now();
  send_signal(pid, SIGCONT);
  ASSERT_TRUE(eventually([&] { return starts().size() >= known + 6; }));
  const std::chrono::duration<double> past = Clock::now() - begin;
  std::vector<double> after = starts();
  after.erase(after.begin(), after.begin() + known);
  EXPECT_LE(after.size(), past.count() / interval + 2) << "a burst";
  EXPECT_GT(2 * in_phase(after, before, interval), after.size())
      << ::testing::PrintToString(starts());
  stop(pid);
  expect_sound_log();
}

TEST_F(CyclesTest, ResultIsInTheLogWhileASlowerPingStillRuns) {
  const std::string ping =
      script("ping", "[ $3 = fast ] || until [ -e \"$0.go\" ]; do sleep 0.01; "
                     "done; echo time=1 ms");
  Process process(pinglog({"-f", "-i", "1000", "-e", ping, "slow", "fast"}));
  EXPECT_TRUE(eventually([&] { return !results().empty(); }));
  EXPECT_THAT(results(), ElementsAre("fast ok 1 ms"));
  write_file(ping + ".go", "");
  EXPECT_TRUE(eventually([&] { return results().size() == 2; }));
  EXPECT_THAT(results(), ElementsAre("fast ok 1 ms", "slow ok 1 ms"));
  EXPECT_EQ(count(end_label), 0);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

// What it holds, while it is stopped. The figure in `status` is kept for each
// CPU and lags; this one is counted.
struct Sample {
  long anonymous_kib = 0; // what a file backs may be reclaimed
  size_t descriptors = 0;
  size_t children = 0;
};

Sample sample_of(const Process &process) {
  process.signal(SIGSTOP);
  EXPECT_TRUE(eventually([&] { return process_state(process.pid()) == 'T'; }));
  Sample sample;
  for (const std::string &line :
       read_lines("/proc/" + std::to_string(process.pid()) + "/smaps_rollup"))
    if (line.rfind("Anonymous:", 0) == 0)
      sample.anonymous_kib = std::stol(line.substr(10));
  sample.descriptors = descriptors_of(process.pid()).size();
  sample.children = children_of(process.pid()).size();
  process.signal(SIGCONT);
  return sample;
}

// PINGLOG_CYCLES: how many; 20,000 take some minutes.
TEST_F(CyclesTest, ManyCyclesOfNoisyPingsHoldNoMoreThanTheFirst) {
  const int cycles = rounds("PINGLOG_CYCLES", 200);
  write_file(path("noise"), std::string(100 * 1024, '\033'));
  Process process(pinglog(
      {"-f", "-i", "0.02", "-e", "cat -- " + path("noise"), "a", "b", "c"}));
  // Between two cycles, where nothing is in flight: the log, /dev/null, 0 to 2.
  const auto idle_sample = [&] {
    Sample sample;
    EXPECT_TRUE(eventually([&] {
      sample = sample_of(process);
      return sample.children == 0 && sample.descriptors == 5;
    })) << sample.children
        << " children, " << sample.descriptors << " descriptors";
    return sample.anonymous_kib;
  };
  await_lines(end_label, 50);
  const long early = idle_sample();
  await_lines(end_label, cycles);
  // The first ping that a busy machine makes too slow may take a page or two of
  // the stack; what is kept of each cycle would be more.
  EXPECT_LE(idle_sample(), early + 8);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  expect_sound_log();
  expect_a_line_for_each_host(3);
}

} // namespace
