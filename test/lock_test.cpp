// lock_test.cpp - a lock on FILE.lock keeps other writers out, and -k finds the
// one that has it.

#include "support.h"

namespace {

void lock(const std::string &file, short type, int how = F_SETLK) {
  struct flock whole = {};
  whole.l_type = type;
  whole.l_whence = SEEK_SET;
  // The descriptor stays open, also across exec.
  if (fcntl(open(file.c_str(), O_RDWR), how, &whole) == -1)
    _exit(126);
}

class LockTest : public Sandbox {
protected:
  std::string none_here() const {
    return log() + ": no pinglog on this machine or container writes it";
  }

  static std::string not_ours() { return " (is it another user's? use -o)"; }

  // Expects that -k kills nobody and no pinglog starts: something that is no
  // pinglog, or cannot be seen from here, holds the lock.
  void expect_failure_of_both() {
    Launch launch = killer();
    launch.before_exec = [] { setpgid(0, 0); };
    expect_failure(launch, none_here());
    expect_failure(
        quick(),
        log() + ": locked by an unknown process, perhaps in a container");
  }

  void expect_killed(pid_t writer) {
    const Result result = run(killer());
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.out + result.err, "");
    EXPECT_TRUE(eventually([writer] { return !is_alive(writer); }));
    EXPECT_EQ(check_log(log()).fault, "");
    EXPECT_THAT(log_lines().back(), StartsWith(end_label));
  }
};

// --- One writer --------------------------------------------------------------

TEST_F(LockTest, SecondStartIsRefusedAndChangesNothing) {
  const pid_t daemon = start_daemon(counting({"-i", "0.1"}));
  for (int i = 0; i < 3; ++i) // a refused start leaves the lock alone
    expect_refusal(daemon);
  while_stopped(daemon,
                [&] { // and a torn line, which the writer may go on with
                  const std::string whole = read_file(log());
                  write_file(log(), whole + "ping resu");
                  expect_refusal(daemon);
                  EXPECT_EQ(read_file(log()), whole + "ping resu");
                  fs::resize_file(log(), whole.size());
                });
  expect_failure(quick({"-f"}), refusal(daemon));
  await_cycles(2);
  expect_killed(daemon);
  EXPECT_EQ(check_log(log(), 1).fault, "");
}

TEST_F(LockTest, FiftyStartsAtOnceMakeOneDaemon) {
  std::vector<std::unique_ptr<Process>> starters;
  const Launch launch = counting({"-i", "0.2"});
  for (int i = 0; i < 50; ++i)
    starters.push_back(std::make_unique<Process>(launch));
  std::string greetings;
  std::multiset<std::string> refusals;
  for (const auto &starter : starters) {
    const Result result = starter->wait();
    greetings += result.out;
    refusals.insert(result.err);
  }
  const pid_t daemon = writer(log());
  EXPECT_EQ(greetings, "Daemon PID " + std::to_string(daemon) +
                           " pings h0-x, logs to " + log() + "\n");
  EXPECT_EQ(refusals.count("pinglog: " + refusal(daemon) + "\n"), 49u);
  await_cycles(2);
  stop(daemon);
  EXPECT_EQ(check_log(log(), 1).fault, "");
}

// In the new directory another pinglog has the lock, and so the log.
TEST_F(LockTest, PinglogWhoseDirectoryWasReplacedWritesNoLineIntoAnothersLog) {
  const std::string directory = move_log();
  const Words options = {"-i", "1000", "-e", held_ping()};
  const pid_t first = start_daemon(pinglog(options + Words{"held1"}));
  await(start_label);
  fs::rename(directory, path("moved"));
  fs::create_directory(directory);
  const pid_t second = start_daemon(pinglog(options + Words{"held2"}));
  await(start_label);
  release("held1");
  EXPECT_TRUE(eventually([first] { return !is_alive(first); }));
  release("held2");
  await(result_label);
  expect_killed(second);
  EXPECT_EQ(count("held1"), 0);
}

// As when cron runs beside logrotate. PINGLOG_STORM sets how many starts.
TEST_F(LockTest, StormOfRenamesAndStartsLeavesOneInstance) {
  std::set<pid_t> alive;
  for (int round = rounds("PINGLOG_STORM", 40); round > 0; --round) {
    std::error_code missing;
    fs::rename(log(), path("old." + std::to_string(round)), missing);
    if (run(quick()).status == 0)
      alive.insert(writer(log()));
  }
  EXPECT_EQ(alive.size(), 1u);
  await_cycles(1);
  for (const auto &entry : fs::directory_iterator(path("")))
    if (entry.path().filename().string().rfind("old.", 0) == 0) {
      EXPECT_EQ(check_log(entry.path()).fault, "");
    }
  ASSERT_EQ(alive.count(writer(log())), 1u);
  expect_killed(writer(log()));
  EXPECT_TRUE(eventually([this] { return processes().empty(); }));
}

TEST_F(LockTest, StormOfRotationsAndStartsLeavesOneInstanceAndNoTornLine) {
  Launch launch = pinglog({"-i", "0.01", "-s", "1", "-e", "true", "host"});
  const pid_t daemon = start_daemon(launch);
  for (int round = rounds("PINGLOG_STORM", 40); round > 0; --round) {
    EXPECT_EQ(run(launch).status, 1);
    EXPECT_EQ(check_log(log() + ".0").fault, "");
  }
  expect_killed(daemon);
}

// The replaced pinglog notices this even in a cycle that logs nothing.
TEST_F(LockTest, InstanceThatWasReplacedInARecreatedDirectoryExits) {
  const std::string directory = move_log();
  Process first(quick({"-f", "-i", "0.3", "-q", "1000000"}));
  await(end_label);
  pid_t second = -1;
  while_stopped(first.pid(), [&] {
    fs::rename(directory, path("moved"));
    fs::create_directory(directory);
    second = start_daemon(quick());
  });
  const Result result = first.wait();
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: " + refusal(second) + "\n");
  expect_killed(second);
}

// Only a write lock on FILE.lock counts. The owner of that file may read-lock
// it: -k must not kill that process. The lock of an open file description or of
// another container has no PID here: fcntl() reports -1 or 0, and -k must not
// pass either to kill().
TEST_F(LockTest, LocksOfOthersAreRespectedButNeverTakenForAWriter) {
  write_file(log(), "");
  write_file(log() + ".lock", "");
  Launch launch = command("sleep", {"1000"});
  launch.before_exec = [log = log()] { lock(log, F_WRLCK); };
  Process on_log(launch);
  EXPECT_TRUE(eventually(
      [&] { return process_status(on_log.pid(), "Name") == "sleep"; }));
  const pid_t daemon = start_daemon(quick());
  await_cycles(2);
  expect_killed(daemon);

  launch.before_exec = [log = log()] { lock(log + ".lock", F_RDLCK); };
  auto reader = std::make_unique<Process>(launch);
  ASSERT_TRUE(eventually([&] { return writer(log()) == reader->pid(); }));
  expect_failure_of_both();
  reader.reset();

  const int file = open((log() + ".lock").c_str(), O_RDWR | O_CLOEXEC);
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  ASSERT_EQ(fcntl(file, F_OFD_SETLK, &whole), 0);
  expect_failure_of_both();
  close(file);
}

TEST_F(LockTest, OtherUsersCanNeitherTakeTheLockNorStopItsHolder) {
  SKIP_IF(why_not_as_nobody());
  const pid_t daemon = start_daemon(quick());
  const std::string file = log() + ".lock";
  struct stat status = {};
  ASSERT_EQ(stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode, S_IFREG | 0600u);
  Launch start = quick(), kill = killer();
  start.as_nobody = kill.as_nobody = true;
  const std::string hint = " (only its owner or root can stop it)";
  expect_failure(start, log() + ": Permission denied" + not_ours());
  expect_failure(kill, file + ": Permission denied" + hint);
  // Other users who may read the lock file still cannot signal its holder.
  ASSERT_EQ(chmod(file.c_str(), 0644), 0);
  expect_failure(kill, "PID " + std::to_string(daemon) +
                           ": Operation not permitted" + hint);
  EXPECT_TRUE(is_alive(daemon));
}

// --- A lock file of a stranger -----------------------------------------------

// In a sticky directory, as /tmp is, another user can make the lock's file and
// so choose which process holds the lock.
class StrangersLockTest : public LockTest {
protected:
  void SetUp() override {
    LockTest::SetUp();
    if (IsSkipped())
      return;
    SKIP_IF(why_not_as_nobody());
    fs::create_directory(path("tmp"));
    ASSERT_EQ(chmod(path("tmp").c_str(), 01777), 0);
    set_log(path("tmp/ping.log"));
  }

  // A process of user nobody that makes the lock's file and holds the lock.
  std::unique_ptr<Process> stranger() const {
    Launch launch = command("sleep", {"1000"});
    launch.as_nobody = true;
    launch.before_exec = [file = log() + ".lock"] {
      (void)!open(file.c_str(), O_RDWR | O_CREAT, 0666);
      lock(file, F_WRLCK);
    };
    auto process = std::make_unique<Process>(launch);
    EXPECT_TRUE(eventually([&] { return writer(log()) == process->pid(); }));
    return process;
  }
};

TEST_F(StrangersLockTest, StartNamesTheOwnerAndTheProcess) {
  const auto holder = stranger();
  for (const Launch &launch : {quick(), quick({"-f"})})
    expect_failure(launch, log() + ".lock: user 65534 owns it, and PID " +
                               std::to_string(holder->pid()) +
                               " has locked it");
  EXPECT_TRUE(is_alive(holder->pid()));
  EXPECT_FALSE(fs::exists(log()));
}

TEST_F(StrangersLockTest, RunningPinglogReplacesTheFileAndGoesOn) {
  const pid_t daemon = start_daemon(quick());
  std::unique_ptr<Process> holder;
  while_stopped(daemon, [&] {
    fs::remove(log() + ".lock");
    holder = stranger();
  });
  EXPECT_TRUE(eventually([&] { return writer(log()) == daemon; }));
  EXPECT_TRUE(is_alive(holder->pid()));
  // Both lock files that were replaced are closed.
  EXPECT_TRUE(eventually([&] { return descriptors_of(daemon).size() == 5; }));
  expect_refusal(daemon);
  stop(daemon);
  EXPECT_THAT(log_lines().back(), StartsWith(end_label));
}

// Neither may two pinglogs of root write one log because a stranger has
// replaced the file that the first one locks.
TEST_F(StrangersLockTest, FileThatNobodyLocksIsMadeAnew) {
  (void)stranger(); // exits at once
  expect_failure(killer(), none_here());
  const pid_t daemon = start_daemon(quick());
  struct stat status = {};
  ASSERT_EQ(stat((log() + ".lock").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, geteuid());
  EXPECT_EQ(writer(log()), daemon);
  expect_refusal(daemon);
  expect_killed(daemon);
}

// A user who may not remove it in a sticky directory is refused.
TEST_F(StrangersLockTest, FileThatCannotBeRemovedIsRefusedWithAHint) {
  write_file(log() + ".lock", "");
  ASSERT_EQ(chmod((log() + ".lock").c_str(), 0666), 0);
  ASSERT_EQ(chown((log() + ".lock").c_str(), 1, 1), 0);
  Launch start = quick();
  start.as_nobody = true;
  expect_failure(start, log() + ": Operation not permitted" + not_ours());
}

// A hard link is as good as a file of one's own: another user can lock it.
TEST_F(StrangersLockTest, HardLinkOfAFileOfOursIsNotTrusted) {
  write_file(path("ours"), "");
  fs::create_hard_link(path("ours"), log() + ".lock");
  Launch launch = command("sleep", {"1000"});
  launch.before_exec = [file = path("ours")] { lock(file, F_WRLCK); };
  const Process victim(launch);
  ASSERT_TRUE(eventually([&] { return writer(log()) == victim.pid(); }));
  const std::string pid = "PID " + std::to_string(victim.pid());
  expect_failure(killer(), log() +
                               ".lock: another user may have linked it "
                               "here to stop " +
                               pid);
  expect_failure(quick(), log() + ".lock: user 0 owns it, and " + pid +
                              " has locked it");
  EXPECT_TRUE(is_alive(victim.pid()));
}

// The owner of the file chose the process, and root does what the owner may do.
TEST_F(StrangersLockTest, OptionKillOfRootStopsOnlyProcessesOfTheOwner) {
  Launch launch = quick();
  launch.as_nobody = true;
  const pid_t daemon = start_daemon(launch);
  expect_killed(daemon);

  ASSERT_EQ(chown((log() + ".lock").c_str(), nobody, nobody), 0);
  Launch sleep = command("sleep", {"1000"});
  sleep.before_exec = [file = log() + ".lock"] { lock(file, F_WRLCK); };
  const Process roots(sleep);
  ASSERT_TRUE(eventually([&] { return writer(log()) == roots.pid(); }));
  expect_failure(killer(), "PID " + std::to_string(roots.pid()) +
                               ": Operation not permitted (the owner of the "
                               "lock file may not stop it)");
  EXPECT_TRUE(is_alive(roots.pid()));
}

// On vfat, CIFS and FUSE one user owns the directory and each file in it.
TEST_F(StrangersLockTest, OwnerOfTheDirectoryIsNoStranger) {
  ASSERT_EQ(chown(path("tmp").c_str(), nobody, nobody), 0);
  auto holder = stranger();
  expect_refusal(holder->pid());
  holder.reset();
  const pid_t daemon = start_daemon(quick());
  ASSERT_EQ(chown((log() + ".lock").c_str(), nobody, nobody), 0);
  expect_killed(daemon);
}

// --- -k ----------------------------------------------------------------------

TEST_F(LockTest, OptionKillFailsIfNoPinglogWritesTheLog) {
  const std::string name = log();
  set_log(name + ".0"); // may be the log of another pinglog
  const pid_t other = start_daemon(quick());
  set_log(name);
  expect_failure(killer(), none_here());
  EXPECT_FALSE(fs::exists(log()));
  ASSERT_EQ(mkfifo((log() + ".lock").c_str(), 0644), 0); // must not block
  expect_failure(killer(), none_here());
  fs::remove(log() + ".lock");
  expect_killed(start_daemon(quick()));
  expect_failure(killer(), none_here());
  EXPECT_TRUE(is_alive(other));
}

TEST_F(LockTest, OptionKillStopsTheWriterAndWaitsForItsLastLine) {
  // Killing so many pings takes time. A stopped writer must be continued first.
  const pid_t busy = start_daemon(
      pinglog(Words{"-i", "1000", "-e", silent_ping()} + Words(200, "host")));
  await(start_label);
  send_signal(busy, SIGSTOP);
  expect_killed(busy);
}

// As when a supervisor starts another pinglog at once.
TEST_F(LockTest, OptionKillDoesNotWaitForTheNextWriter) {
  const pid_t daemon = start_daemon(quick());
  Launch launch = command("sleep", {"1000"});
  launch.before_exec = [file = log() + ".lock"] {
    lock(file, F_WRLCK, F_SETLKW);
  };
  const Process next(launch);
  const std::string waiting = " WRITE " + std::to_string(next.pid()) + " ";
  ASSERT_TRUE(eventually([&] {
    return read_file("/proc/locks").find(waiting) != std::string::npos;
  }));
  expect_killed(daemon);
  EXPECT_TRUE(eventually([&] { return writer(log()) == next.pid(); }));
}

// -k waits ten seconds, and only for the lock to be released: at the end of
// this test the writer is a zombie.
TEST_F(LockTest, OptionKillWaitsForTheWriterButNotForever) {
  write_file(log() + ".lock", "");
  Launch launch = command("sh", {"-c", "trap 'echo >>asked' TERM\n"
                                       ": >ready\n"
                                       "until [ -e go ]; do sleep 0.05; done"});
  launch.before_exec = [log = log()] { lock(log + ".lock", F_WRLCK); };
  Process slow(launch);
  ASSERT_TRUE(eventually([&] { return fs::exists(path("ready")); }));
  expect_failure(killer(), "PID " + std::to_string(slow.pid()) +
                               ": does not exit; only kill -9 is left");
  EXPECT_EQ(read_file(path("asked")), "\n");
  Process patient(killer());
  ASSERT_TRUE(eventually([&] { return read_file(path("asked")) == "\n\n"; }));
  EXPECT_FALSE(patient.has_ended());
  write_file(path("go"), "");
  EXPECT_EQ(patient.wait().status, 0);
  EXPECT_TRUE(eventually([&] { return process_state(slow.pid()) == 'Z'; }));
}

} // namespace
