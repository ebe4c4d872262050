// lock_test.cpp - one pinglog writes a log, whoever starts another one, and -k
// finds it by the log alone.

#include "support.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>

namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::StartsWith;

void lock(const std::string &file, short type) {
  struct flock whole = {};
  whole.l_type = type;
  whole.l_whence = SEEK_SET;
  // Open for good, also through exec.
  if (fcntl(open(file.c_str(), O_RDWR), F_SETLK, &whole) == -1)
    _exit(126);
}

class LockTest : public Sandbox {
protected:
  Launch killer() const { return command(program(), {"-k", "-o", log()}); }

  std::string none_here() const {
    return log() + ": no pinglog writes it here";
  }

  void expect_killed(pid_t writer) {
    const Result result = run(killer());
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.out + result.err, "");
    EXPECT_TRUE(eventually([writer] { return !is_alive(writer); }));
    EXPECT_EQ(fault_in_log(log()), "");
    EXPECT_THAT(log_lines().back(), StartsWith(end_label));
  }
};

// --- One writer --------------------------------------------------------------

TEST_F(LockTest, SecondStartIsRefusedAndChangesNothing) {
  const pid_t daemon = start_daemon(counting({"-i", "0.1"}));
  for (int i = 0; i < 3; ++i) // a refused one leaves the lock alone
    expect_refusal(daemon);
  const Result foreground = run(quick({"-f"}));
  EXPECT_EQ(foreground.status, 1);
  EXPECT_EQ(foreground.err, "pinglog: " + log() + ": already written by PID " +
                                std::to_string(daemon) + " (-k stops it)\n");
  await_cycles(2);
  stop(daemon);
  EXPECT_EQ(fault_in_log(log()), "");
  EXPECT_EQ(check_lines(log_lines(), 1).fault, "");
}

TEST_F(LockTest, FiftyStartedAtOnceAreOneDaemonAndRefusals) {
  std::vector<std::unique_ptr<Process>> starters;
  const Launch launch = counting({"-i", "0.2"});
  for (int i = 0; i < 50; ++i)
    starters.push_back(std::make_unique<Process>(launch));
  std::string greetings;
  std::multiset<std::string> refusals;
  for (const auto &starter : starters) {
    const Result result = starter->wait();
    if (result.status == 0)
      greetings += result.out;
    else
      refusals.insert(result.err);
  }
  const pid_t daemon = writer(log());
  EXPECT_EQ(greetings, "Daemon PID " + std::to_string(daemon) + "\n");
  EXPECT_EQ(refusals.size(), 49u);
  EXPECT_EQ(refusals.count("pinglog: " + log() + ": already written by PID " +
                           std::to_string(daemon) + " (-k stops it)\n"),
            49u);
  await_cycles(2);
  stop(daemon);
  EXPECT_EQ(fault_in_log(log()), "");
  EXPECT_EQ(check_lines(log_lines(), 1).fault, "");
}

// Its pings live on, and hold no lock.
TEST_F(LockTest, KillDashNineLeavesNoLock) {
  const pid_t first = start_daemon(
      pinglog({"-i", "1000", "-e", script("ping", "exec sleep 1"), "host"}));
  await_lines(start_label, 1);
  stop(first, SIGKILL);
  const pid_t second = start_daemon(quick());
  expect_refusal(second);
  stop(second);
}

// Whoever is first to make the new log has it; the lines of the other one wait
// until it may write there.
TEST_F(LockTest, NewLogThatAnotherHasIsLeftToItUntilItEnds) {
  const pid_t first =
      start_daemon(pinglog({"-i", "1000", "-e", held_ping(), "held"}));
  await_lines(start_label, 1);
  fs::rename(log(), path("old"));
  const pid_t second =
      start_daemon(pinglog({"-i", "1000", "-e", "true", "second"}));
  await_lines(result_label, 1);
  release("held");
  ASSERT_TRUE(is_left_with(0, first));
  expect_refusal(second);
  stop(second);
  EXPECT_EQ(log_lines().size(), 3u);
  stop(first);
  EXPECT_EQ(read_lines(path("old")).size(), 1u);
  EXPECT_EQ(fault_in_log(log()), "");
  const Words lines = log_lines();
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[1], result_label + std::string("second ok"));
  EXPECT_THAT(lines[2], StartsWith(end_label));
  EXPECT_EQ(lines[3], result_label + std::string("held fail exit status 1"));
  EXPECT_THAT(lines[4], StartsWith(end_label));
}

// It may be a log of its own.
TEST_F(LockTest, FileThatRotationMadeIsNobodysLock) {
  const std::string name = log();
  set_log(name + ".0");
  const pid_t other = start_daemon(quick());
  set_log(name);
  EXPECT_EQ(run(killer()).status, 1);
  const pid_t daemon = start_daemon(quick());
  await_cycles(1);
  expect_killed(daemon);
  EXPECT_EQ(run(killer()).status, 1);
  EXPECT_TRUE(is_alive(other));
}

// Whoever may read the log can lock it for reading: that makes nobody a writer
// whom -k would kill, and is no reason to wait for ever.
TEST_F(LockTest, OfAReaderIsNotTakenForAWriters) {
  write_file(log(), "");
  Launch launch = command("sleep", {"1000"});
  launch.before_exec = [log = log()] { lock(log, F_RDLCK); };
  const Process reader(launch);
  ASSERT_TRUE(eventually([&] { return writer(log()) == reader.pid(); }));
  for (const auto &[start, message] :
       {std::pair(killer(), none_here()),
        {quick(),
         log() + ": " + "locked, but by no pinglog that is seen from here"}}) {
    const Result result = run(start);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, "pinglog: " + message + "\n");
  }
}

// That of a process in another container has no PID here, as that of an open
// file. Nobody must be stopped, least of all everybody: kill(0).
TEST_F(LockTest, OfAProcessThatIsNotSeenFromHereIsRespected) {
  write_file(log(), "");
  const int file = open(log().c_str(), O_RDWR | O_CLOEXEC);
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  ASSERT_EQ(fcntl(file, F_OFD_SETLK, &whole), 0);
  Launch launch = killer();
  launch.before_exec = [] { setpgid(0, 0); };
  expect_failure(launch, none_here());
  expect_failure(quick(), log() + ": locked, but by no pinglog that is seen "
                                  "from here");
  close(file);
}

TEST_F(LockTest, IsSafeFromWhoeverMayOnlyRead) {
  SKIP_UNLESS_NOBODY_CAN_RUN();
  const pid_t daemon = start_daemon(quick());
  for (auto [launch, error] : {std::pair(quick(), EACCES), {killer(), EPERM}}) {
    launch.user = nobody;
    const Result result = run(launch);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.err, "pinglog: " + log() + ": " + strerror(error) + "\n");
  }
  EXPECT_TRUE(is_alive(daemon));
  stop(daemon);
}

// --- -k ----------------------------------------------------------------------

TEST_F(LockTest, KillSaysThatNobodyWrites) {
  expect_failure(killer(), none_here());
  EXPECT_FALSE(fs::exists(log()));
  ASSERT_EQ(mkfifo(log().c_str(), 0644), 0); // which is not waited for
  expect_failure(killer(), none_here());
  fs::remove(log());
  write_file(log(), "");
  expect_failure(killer(), none_here());
}

TEST_F(LockTest, KillStopsTheWriterAndWaitsForItsLastLine) {
  // To end so many pings takes time.
  Launch launch = pinglog({"-i", "1000", "-e", silent_ping()});
  launch.arguments.insert(launch.arguments.end(), 200, "host");
  const pid_t busy = start_daemon(launch);
  await_lines(start_label, 1);
  expect_killed(busy);

  // It must be woken up first.
  const pid_t stopped = start_daemon(quick());
  await_cycles(1);
  send_signal(stopped, SIGSTOP);
  expect_killed(stopped);

  // It is the file that counts, not its name.
  fs::remove(log());
  const pid_t renamed =
      start_daemon(pinglog({"-i", "1000", "-e", "true", "host"}));
  await_lines(result_label, 1);
  const std::string name = log();
  fs::rename(name, path("renamed"));
  EXPECT_EQ(run(killer()).status, 1);
  set_log(path("renamed"));
  EXPECT_EQ(run(killer()).status, 0);
  EXPECT_TRUE(eventually([&] { return !is_alive(renamed); }));
  EXPECT_THAT(read_lines(name), ElementsAre(StartsWith(end_label)));
}

// It grants ten seconds. The writer stays a zombie here: what counts is that
// its lock has gone.
TEST_F(LockTest, KillWaitsForTheWriterButNotForEver) {
  write_file(log(), "");
  Launch launch = command("sh", {"-c", "trap 'echo >>asked' TERM\n"
                                       ": >ready\n"
                                       "until [ -e go ]; do sleep 0.05; done"});
  launch.before_exec = [log = log()] { lock(log, F_WRLCK); };
  Process slow(launch);
  ASSERT_TRUE(eventually([&] { return fs::exists(path("ready")); }));
  EXPECT_EQ(writer(log()), slow.pid());
  const Result in_vain = run(killer());
  EXPECT_EQ(in_vain.status, 1);
  EXPECT_EQ(in_vain.err, "pinglog: " + log() + ": its writer does not end\n");
  EXPECT_EQ(read_file(path("asked")), "\n");
  Process patient(killer());
  ASSERT_TRUE(eventually([&] { return read_file(path("asked")) == "\n\n"; }));
  EXPECT_FALSE(patient.has_ended());
  write_file(path("go"), "");
  EXPECT_EQ(patient.wait().status, 0);
  EXPECT_EQ(process_state(slow.pid()), 'Z');
}

} // namespace
