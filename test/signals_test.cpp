// signals_test.cpp - which signals stop pinglog, and which do not.

#include "support.h"

namespace {

class SignalsTest : public Sandbox {};

void nap(int most_ms) {
  sleep_ms(static_cast<int>(std::random_device{}() % most_ms));
}

TEST_F(SignalsTest, StopOfTheForegroundKillsItsPingsAndLogsNoFailure) {
  const std::string ping =
      script("ping", "[ $3 = fast ] && exit; trap '' INT TERM; echo explained; "
                     ": >\"$0.$3\"; sleep 1000");
  for (const int number : {SIGTERM, SIGINT, SIGQUIT, SIGHUP}) {
    SCOPED_TRACE(strsignal(number));
    Process process(
        pinglog({"-f", "-i", "1000", "-e", ping, "a", "fast", "b"}));
    ASSERT_TRUE(eventually([&] {
      return fs::exists(ping + ".a") && fs::exists(ping + ".b") &&
             results().size() == 1;
    }));
    process.signal(number);
    EXPECT_EQ(process.wait().status, 0);
    EXPECT_TRUE(eventually([&] { return processes().empty(); }));
    EXPECT_THAT(log_lines(),
                ElementsAre(StartsWith(started_label), StartsWith(start_label),
                            EndsWith(" fast ok"), StartsWith(end_label)));
    for (const std::string &file : {ping + ".a", ping + ".b", log()})
      fs::remove(file);
  }
}

// PINGLOG_STOPS sets how many daemons are stopped; 500 take a minute or two.
TEST_F(SignalsTest, StopOfTheDaemonAtAnyMomentLeavesNoProcess) {
  const Subreaper parent; // of the daemons, and of what they leave
  const std::string ping =
      script("ping", "[ $3 = quick ] && exit 3; exec sleep 1000");
  const int ends[] = {SIGTERM, SIGINT, SIGQUIT};
  for (int round = rounds("PINGLOG_STOPS", 12); round > 0 && !HasFailure();
       --round) {
    SCOPED_TRACE(round);
    const pid_t pid =
        start_daemon(pinglog({"-i", "0.1", "-e", ping, "quick", "x"}));
    nap(200);
    const auto asked = std::chrono::steady_clock::now();
    send_signal(pid, ends[round % 3]);
    int status = -1;
    ASSERT_TRUE(
        eventually([&] { return waitpid(pid, &status, WNOHANG) == pid; }));
    EXPECT_EQ(status, 0);
    // A ping left behind would be a child of the test now, as the child is that
    // calls fsync(). A ping that was killed may be about to exit: on a busy
    // machine, half a second is not enough.
    const bool has_waited = std::chrono::steady_clock::now() - asked >=
                            std::chrono::milliseconds(500);
    EXPECT_TRUE(eventually([&] {
      const pid_t left = waitpid(-1, &status, WNOHANG);
      EXPECT_TRUE(left <= 0 || !WIFEXITED(status) || WEXITSTATUS(status) == 0 ||
                  has_waited);
      return left == -1 && errno == ECHILD;
    }));
    expect_sound_log(2);
    EXPECT_EQ(count(" x fail killed"), 0);
    fs::remove(log());
  }
}

// People send SIGUSR1 to dd and nginx, and SIGHUP to other daemons.
TEST_F(SignalsTest, DaemonIgnoresAllOtherSignals) {
  const pid_t pid = start_daemon(quick());
  for (int times = 0; times < 6; ++times)
    for (const int number : {SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGPIPE,
                             SIGXFSZ, SIGCHLD, SIGCONT}) {
      send_signal(pid, number);
      nap(20);
    }
  await_cycles(3);
  EXPECT_EQ(writer(log()), pid);
  stop(pid);
  expect_sound_log(1);
}

// The parent is in the same session, as a shell is, or SIGTSTP has no effect.
TEST_F(SignalsTest, ControlZSuspendsTheForeground) {
  Launch launch = quick({"-f"});
  launch.before_exec = [] { setpgid(0, 0); };
  Process process(launch);
  await(end_label);
  process.signal(SIGTSTP);
  EXPECT_TRUE(eventually([&] { return process_state(process.pid()) == 'T'; }));
  process.signal(SIGCONT);
  await_cycles(2);
  expect_end(process);
}

TEST_F(SignalsTest,
       IgnoredSignalsStayIgnoredInTheForegroundAndAreResetForPings) {
  // The ping is no shell, because some shells clear the signal mask. sed copies
  // the first file, and fails because -c, 1 and HOST are no files.
  const std::string ping =
      "sed -n -e w" + path("signals") + " -- /proc/self/status";
  const std::string none = "0000000000000000";
  for (const bool foreground : {false, true}) {
    SCOPED_TRACE(foreground ? "-f" : "daemon");
    Launch launch =
        pinglog({foreground ? "-f" : "-i1", "-i", "1", "-e", ping, "host"});
    launch.before_exec = ignore_and_block_signals;
    Process process(launch);
    await(" host fail sed: ");
    const pid_t pid = writer(log());
    EXPECT_TRUE(eventually([&] { return zombies_of(pid).empty(); }));
    // Each cycle overwrites the file.
    EXPECT_TRUE(eventually([&] {
      const std::string text = read_file(path("signals"));
      return text.find("SigBlk:\t" + none) != std::string::npos &&
             text.find("SigIgn:\t" + none) != std::string::npos &&
             text.find("SigCgt:\t" + none) != std::string::npos;
    })) << read_file(path("signals"));
    // nohup ignores SIGHUP; a script ignores the other two for a `&` command.
    for (const int number : {SIGHUP, SIGINT, SIGQUIT})
      if (foreground || number == SIGHUP)
        send_signal(pid, number);
    await_cycles(1);
    stop(pid);
    EXPECT_EQ(process.wait().status, 0); // the launcher's, or pinglog's
    expect_sound_log();
    fs::remove(log());
  }
}

} // namespace
