// signals_test.cpp - which signals end it and how, which mean nothing, and what
// becomes of those that the caller has ignored or blocked.

#include "support.h"

#include <cerrno>
#include <csignal>
#include <sys/wait.h>

namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

class SignalsTest : public Sandbox {
protected:
  // Lets a part of this time go by, whichever.
  void nap(double seconds) {
    std::uniform_real_distribution<double> moment(0, seconds);
    std::this_thread::sleep_for(std::chrono::duration<double>(moment(random_)));
  }

private:
  std::mt19937 random_{std::random_device{}()};
};

TEST_F(SignalsTest, ThoseThatEndTheForegroundKillItsPingsAndBlameNobody) {
  const std::string ping =
      script("ping", "[ $3 = fast ] && exit; trap '' INT TERM; echo explained; "
                     ": >\"$0.$3\"; sleep 1000");
  for (const int number : {SIGTERM, SIGINT, SIGQUIT, SIGHUP}) {
    SCOPED_TRACE(strsignal(number));
    Process process(
        pinglog({"-f", "-i", "1000", "-e", ping, "a", "fast", "b"}));
    ASSERT_TRUE(eventually([&] {
      return access((ping + ".a").c_str(), F_OK) == 0 &&
             access((ping + ".b").c_str(), F_OK) == 0 && results().size() == 1;
    }));
    process.signal(number);
    EXPECT_EQ(process.wait().status, 0);
    EXPECT_TRUE(
        eventually([&] { return processes_with_environment(mark()).empty(); }));
    EXPECT_THAT(log_lines(), ElementsAre(StartsWith(start_label),
                                         std::string(result_label) + "fast ok",
                                         StartsWith(end_label)));
    for (const std::string &file : {ping + ".a", ping + ".b", log()})
      (void)unlink(file.c_str());
  }
}

// PINGLOG_STOPS: how many daemons are stopped; 500 take a minute or two.
TEST_F(SignalsTest, EndOfTheDaemonAtAnyMomentOfACycleLeavesNothing) {
  const Subreaper parent; // the daemons, and what they leave
  const std::string ping = script(
      "ping", "[ $3 = quick ] && echo time=12.3 ms && exit; exec sleep 1000");
  const int ends[] = {SIGTERM, SIGINT, SIGQUIT};
  for (int round = rounds("PINGLOG_STOPS", 12); round > 0; --round) {
    SCOPED_TRACE(round);
    const Result start = run(pinglog({"-i", "0.1", "-e", ping, "quick", "x"}));
    int pid = -1;
    ASSERT_EQ(sscanf(start.out.c_str(), "Daemon PID %d", &pid), 1);
    nap(0.2);
    send_signal(pid, ends[round % 3]);
    int status = -1;
    ASSERT_TRUE(
        eventually([&] { return waitpid(pid, &status, WNOHANG) == pid; }));
    EXPECT_EQ(status, 0);
    // Neither a ping nor a zombie: it would be a child of the test now.
    errno = 0;
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
    expect_sound_log();
    expect_a_line_for_each_host(2);
    EXPECT_EQ(count(std::string(result_label) + "x fail killed"), 0);
    if (HasFailure())
      break;
    unlink(log().c_str());
  }
}

// dd and nginx have taught people to send SIGUSR1, others SIGHUP.
TEST_F(SignalsTest, OthersMeanNothingToTheDaemonAtWhateverMoment) {
  const pid_t pid = start_daemon(quick());
  for (int times = 0; times < 6; ++times)
    for (const int number : {SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGPIPE,
                             SIGXFSZ, SIGCHLD, SIGCONT}) {
      send_signal(pid, number);
      nap(0.02);
    }
  await_cycles(3);
  EXPECT_EQ(writer(log()), pid);
  stop(pid);
  expect_sound_log();
  expect_a_line_for_each_host(1);
}

// A process group whose parent is in its session can be stopped, as by a shell.
TEST_F(SignalsTest, StopFromTheTerminalSuspendsTheForeground) {
  Launch launch = quick({"-f"});
  launch.before_exec = [] { setpgid(0, 0); };
  Process process(launch);
  await_lines(end_label, 1);
  process.signal(SIGTSTP);
  EXPECT_TRUE(eventually([&] { return process_state(process.pid()) == 'T'; }));
  process.signal(SIGCONT);
  await_cycles(2);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

TEST_F(SignalsTest, WhatTheCallerIgnoredOrBlockedHarmsNeitherItNorThePing) {
  // No shell: some clear the mask of signals themselves. sed copies the first
  // of its files and complains of those that are meant for a ping.
  const std::string ping =
      "sed -n -e w" + path("signals") + " -- /proc/self/status";
  const std::string none = "0000000000000000";
  for (const bool foreground : {false, true}) {
    SCOPED_TRACE(foreground ? "-f" : "daemon");
    Launch launch = pinglog({"-i", "0.2", "-e", ping, "host"});
    if (foreground)
      launch.arguments.insert(launch.arguments.begin(), "-f");
    for (int number = 1; number <= SIGRTMAX; ++number) {
      launch.ignored.push_back(number); // SIGKILL, say, refuses
      launch.blocked.push_back(number);
    }
    Process process(launch);
    await_lines(std::string(result_label) + "host fail sed: ", 2);
    const pid_t pid = writer(log());
    EXPECT_TRUE(eventually([&] { return zombies_of(pid).empty(); }));
    // The file is written anew in each cycle.
    EXPECT_TRUE(eventually([&] {
      const std::string text = read_file(path("signals"));
      return text.find("SigBlk:\t" + none) != std::string::npos &&
             text.find("SigIgn:\t" + none) != std::string::npos &&
             text.find("SigCgt:\t" + none) != std::string::npos;
    })) << read_file(path("signals"));
    // As of `nohup pinglog -f`.
    send_signal(pid, SIGHUP);
    await_cycles(2);
    stop(pid);
    EXPECT_EQ(process.wait().status, 0); // the launcher's, or that of -f
    expect_sound_log();
    unlink(log().c_str());
  }
}

} // namespace
