// output_test.cpp - standard output as the log (-f -o -): a pipe, a terminal or
// a device. full_disk_test.cpp tests a regular file.

#include "support.h"

#include <sys/mman.h>
#include <sys/socket.h>

namespace {

class OutputTest : public Sandbox {
protected:
  // The launch, changed to write the log to this descriptor.
  static Launch writing_to(Launch launch, int output) {
    launch.arguments[1] = "-";
    launch.before_exec = [output] { dup2(output, STDOUT_FILENO); };
    return launch;
  }
};

TEST_F(OutputTest, LogNamedDashIsStandardOutput) {
  Launch launch = quick({"-f", "-c", "2", "-s", "0"});
  launch.arguments[1] = "-";
  const Result result = run(launch);
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  write_file(log(), result.out);
  expect_sound_log(1);
  EXPECT_EQ(count(start_label), 2);
  EXPECT_THAT(result.out, StartsWith(started_label));
  for (const char *file : {"-", "-.lock", "standard output.lock"})
    EXPECT_FALSE(fs::exists(path(file))) << file;
}

TEST_F(OutputTest, ClosedReadOnlyOrFullStandardOutputIsReported) {
  for (const auto &[name, flags, error] : {std::tuple("", 0, EBADF),
                                           {"/dev/null", O_RDONLY, EBADF},
                                           {"/dev/full", O_WRONLY, ENOSPC}}) {
    SCOPED_TRACE(name);
    Launch launch = quick({"-f", "-c", "3"});
    launch.arguments[1] = "-";
    launch.before_exec = [name = name, flags = flags] {
      close(STDOUT_FILENO);
      (void)!open(name, flags);
    };
    expect_failure(launch, std::string("standard output: ") + strerror(error));
  }
}

// As a terminal may do, this file takes a part of a line that cannot be cut off
// again.
TEST_F(OutputTest, LineOfWhichAPartIsTakenGetsTheRestOnce) {
  for (const unsigned size : {50, 100, 130}) { // within each of three lines
    SCOPED_TRACE(size);
    const int file = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK) == -1)
      GTEST_SKIP() << "no sealed file: " << strerror(errno);
    Launch launch =
        writing_to(pinglog({"-f", "-i", "1000", "-e", held_ping(), "a"}), file);
    launch.before_exec = [before = launch.before_exec, size] {
      before();
      (void)!set_soft_limit(0, RLIMIT_FSIZE, size);
    };
    Process process(launch);
    ASSERT_TRUE(is_left_with(0, 1, process.pid()));
    const std::string name = "/proc/self/fd/" + std::to_string(file);
    EXPECT_EQ(read_file(name).size(), size);
    EXPECT_TRUE(set_soft_limit(process.pid(), RLIMIT_FSIZE, {}));
    expect_end(process);
    write_file(log(), read_file(name));
    expect_sound_log(1);
    EXPECT_EQ(check_log(log(), 1).lines, 4);
    fs::remove(path("held-ping.started"));
    close(file);
  }
}

// --- A pipe ------------------------------------------------------------------

class PipeTest : public OutputTest {
protected:
  PipeTest() {
    EXPECT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    (void)fcntl(ends_[0], F_SETPIPE_SZ, 4096); // the smallest size
  }
  ~PipeTest() override {
    for (int end : ends_)
      close(end);
  }

  void fill() const {
    const std::string page(4096, '#');
    for (pollfd output = {ends_[1], POLLOUT, 0}; poll(&output, 1, 0) == 1;)
      ASSERT_EQ(write(ends_[1], page.data(), page.size()), 4096);
  }

  // Reads until a line has this text, or else until every writer has closed
  // the pipe, and then closes it.
  std::string read_until(const std::string &text = "\xff") {
    close(std::exchange(ends_[1], -1));
    std::string found;
    for (char byte; read(ends_[0], &byte, 1) == 1;) {
      found += byte;
      if (byte == '\n' && found.find(text) != std::string::npos)
        break;
    }
    close(std::exchange(ends_[0], -1));
    return found;
  }

  int ends_[2] = {-1, -1};
};

TEST_F(PipeTest, StalledReaderDelaysNoPingAndGetsAllLinesLater) {
  // 4 KB a cycle
  Process process(writing_to(counting({"-f", "-i", "1.5"}, 8, true), ends_[1]));
  ASSERT_TRUE(eventually([&] { return cycles() >= 4; }));
  // Make room for all lines that wait: at its exit, pinglog waits only 250 ms
  // for a reader, and a busy test may read later.
  ASSERT_NE(fcntl(ends_[0], F_SETPIPE_SZ, 1 << 18), -1) << strerror(errno);
  process.signal(SIGTERM);
  write_file(log(), read_until());
  EXPECT_EQ(process.wait().status, 0);
  expect_sound_log(8);
  EXPECT_GE(count(start_label), 4);
}

TEST_F(PipeTest, ReaderThatStallsUntilTheExitIsReported) {
  fill();
  expect_failure(writing_to(quick({"-f", "-c", "2"}), ends_[1]),
                 "standard output: its reader has stalled");
  EXPECT_EQ(read_until().find_first_not_of('#'), std::string::npos);
}

// The launcher has to print where nobody reads, so it is there to be stopped.
TEST_F(PipeTest, LauncherIsStoppedByControlCWhateverItsCallerIgnores) {
  fill();
  Launch launch = quick();
  launch.before_exec = [this] {
    dup2(ends_[1], STDOUT_FILENO);
    ignore_and_block_signals();
  };
  Process launcher(launch);
  await(end_label);
  launcher.signal(SIGINT);
  EXPECT_EQ(launcher.wait().status, 128 + SIGINT);
  await_cycles(1);
  EXPECT_EQ(run(killer()).status, 0);
}

// As with `pinglog -f -o - | head -1`. With -q, no line may be due for hours.
// The second reader is at the end of a socket, as the journal is.
TEST_F(PipeTest, ReaderThatExitsEndsPinglogAndItsPingsSilently) {
  for (const auto &[launch, last] :
       {std::pair(pinglog({"-f", "-i", "0.3", "-e", silent_ping(), "a", "b"}),
                  started_label),
        {quick({"-f", "-i", "1", "-q", "1000000"}), end_label}}) {
    SCOPED_TRACE(last);
    if (ends_[0] == -1) {
      ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_), 0);
    }
    Process process(writing_to(launch, ends_[1]));
    EXPECT_THAT(read_until(last), HasSubstr(last));
    const Result result = process.wait();
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.err, "");
    EXPECT_TRUE(eventually([this] { return processes().empty(); }));
  }
}

// --- A terminal --------------------------------------------------------------

TEST_F(OutputTest, ClosedTerminalEndsPinglogWithStatusOne) {
  Terminal terminal;
  SKIP_IF(terminal.why());
  const int slave = terminal.open_slave();
  Launch launch = writing_to(quick({"-f"}), slave);
  launch.before_exec = [before = launch.before_exec] {
    setsid(); // or the hangup could send SIGHUP
    before();
  };
  Process process(launch);
  close(slave);
  pollfd input = {terminal.master(), POLLIN, 0};
  EXPECT_EQ(poll(&input, 1, 60'000), 1); // the first line
  terminal.close();
  EXPECT_EQ(process.wait().status, 1);
  EXPECT_EQ(process.err(), "");
}

// poll() reports room on a terminal that has less room than a line: write()
// would block with all signals blocked. `docker run -t` has such a terminal.
TEST_F(OutputTest, TerminalThatNobodyReadsDelaysNeitherPingsNorTheStop) {
  const Terminal terminal;
  SKIP_IF(terminal.why());
  const int slave = terminal.open_slave();
  // 30 KB a cycle
  Launch launch = writing_to(counting({"-f", "-i", "1"}, 60, true), slave);
  launch.before_exec = [before = launch.before_exec] {
    before();
    dup2(STDOUT_FILENO, STDERR_FILENO); // a message would stall, too
  };
  Process process(launch);
  ASSERT_TRUE(eventually([&] { return cycles() >= 4; }));
  EXPECT_EQ(fcntl(slave, F_GETFL) & O_NONBLOCK, 0); // the shell has it, too
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 1);
  close(slave);
}

} // namespace
