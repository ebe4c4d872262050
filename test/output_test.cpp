// output_test.cpp - standard output as the log: a pipe, a terminal or a device.
// full_disk_test.cpp tests a regular file.
//
// README promises:
//   - -f -o - is standard output
//   - 1: it could not start or go on, or nobody reads its output

#include "support.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <termios.h>

namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Gt;
using ::testing::Le;

// The launch, changed to write the log to this descriptor.
Launch writing_to(Launch launch, int output) {
  launch.arguments[1] = "-";
  launch.before_exec = [output] { dup2(output, STDOUT_FILENO); };
  return launch;
}

class OutputTest : public Sandbox {};

TEST_F(OutputTest, LogNamedDashIsStandardOutput) {
  Launch launch = quick({"-f", "-c", "2", "-s", "0"});
  launch.arguments[1] = "-";
  const Result result = run(launch);
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  write_file(log(), result.out);
  expect_sound_log(1);
  EXPECT_EQ(count(start_label), 2);
  EXPECT_THAT(result.out, ::testing::StartsWith(started_label));
  for (const char *file : {"-", "-.lock", "standard output.lock"})
    EXPECT_FALSE(fs::exists(path(file))) << file;
}

TEST_F(OutputTest, FullDeviceAsOutputIsRefusedAtTheStart) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full == -1)
    GTEST_SKIP() << "/dev/full: " << strerror(errno);
  // The test must not capture the output: reading /dev/full never ends.
  const Result result =
      run(writing_to(counting({"-f", "-i", "0.1", "-c", "3"}), full));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: standard output: No space left on device\n");
  close(full);
}

TEST_F(OutputTest, ClosedOrReadOnlyStandardOutputIsRefused) {
  const int reading = open("/dev/null", O_RDONLY | O_CLOEXEC);
  Launch closed = quick({"-f", "-c", "1"});
  closed.arguments[1] = "-";
  Launch read_only = closed;
  closed.before_exec = [] { close(STDOUT_FILENO); };
  read_only.before_exec = [reading] { dup2(reading, STDOUT_FILENO); };
  for (const Launch &launch : {closed, read_only}) {
    const Result result = run(launch);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.err, std::string("pinglog: standard output: ") +
                              strerror(EBADF) + "\n");
  }
  close(reading);
}

// --- A pipe ------------------------------------------------------------------

class PipeTest : public OutputTest {
protected:
  void SetUp() override {
    OutputTest::SetUp();
    if (IsSkipped())
      return;
    ASSERT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    (void)fcntl(ends_[0], F_SETPIPE_SZ, 4096); // the smallest size
  }
  void TearDown() override {
    for (int end : ends_)
      close(end);
    OutputTest::TearDown();
  }

  // Makes the pipe large enough for all lines that wait. At its exit, pinglog
  // waits only 250 ms for a reader, and a busy test may read later.
  void make_room() const {
    ASSERT_NE(fcntl(ends_[0], F_SETPIPE_SZ, 1 << 18), -1) << strerror(errno);
  }

  // Reads until every writer has closed the pipe.
  std::string read_all() {
    close(ends_[1]);
    ends_[1] = -1;
    std::string text;
    char buffer[4096];
    for (ssize_t size; (size = read(ends_[0], buffer, sizeof buffer)) > 0;)
      text.append(buffer, size);
    return text;
  }

  int ends_[2] = {-1, -1};
};

TEST_F(PipeTest, StalledReaderDelaysNoPingAndGetsAllLinesLater) {
  Process process(writing_to(counting({"-f", "-i", "0.2"}, 2, true), ends_[1]));
  ASSERT_TRUE(eventually([&] { return cycles() >= 7; })); // 1 KB each
  make_room();
  process.signal(SIGTERM);
  write_file(log(), read_all());
  EXPECT_EQ(process.wait().status, 0);
  const Account account = check_log(log(), 2);
  EXPECT_EQ(account.fault, "");
  EXPECT_GE(account.lines, 6 * 4 + 2); // plus two outages
  EXPECT_EQ(account.lost, 0);
}

TEST_F(PipeTest, DroppedLinesAreCountedWhereTheyAreMissing) {
  constexpr int hosts = 190; // with lines of 507 bytes
  Launch launch = pinglog({"-f", "-i", "1000", "-e", held_ping()});
  const Words names = long_hosts(hosts);
  launch.arguments.insert(launch.arguments.end(), names.begin(), names.end());
  Process process(writing_to(launch, ends_[1]));
  pollfd input = {ends_[0], POLLIN, 0};
  ASSERT_EQ(poll(&input, 1, 60'000), 1); // the cycle has begun
  ASSERT_TRUE(is_left_with(0, hosts, process.pid()));
  make_room();
  process.signal(SIGTERM);
  write_file(log(), read_all());
  EXPECT_EQ(process.wait().status, 0);
  const Account account = check_log(log(), hosts);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 1 + hosts + 2);
  EXPECT_THAT(account.before_mark, AllOf(Gt(65536u - 507), Le(65536u + 4096)));
}

TEST_F(PipeTest, ReaderThatStallsUntilTheExitIsReported) {
  const std::string full(4096, '#');
  for (pollfd output = {ends_[1], POLLOUT, 0}; poll(&output, 1, 0) == 1;)
    ASSERT_EQ(write(ends_[1], full.data(), full.size()), 4096);
  const Result result = run(writing_to(quick({"-f", "-c", "2"}), ends_[1]));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: standard output: its reader has stalled\n");
  EXPECT_EQ(read_all().find_first_not_of('#'), std::string::npos);
}

// As with `pinglog -f -o - | head -1`.
TEST_F(PipeTest, ReaderThatExitsEndsPinglogAndItsPingsSilently) {
  Process process(writing_to(
      pinglog({"-f", "-i", "0.3", "-e", silent_ping(), "host", "other"}),
      ends_[1]));
  close(std::exchange(ends_[1], -1));
  char byte;
  ASSERT_EQ(read(ends_[0], &byte, 1), 1);
  close(std::exchange(ends_[0], -1));
  const Result result = process.wait();
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(eventually(
      [this] { return processes_with_environment(mark()).empty(); }));
}

// With -q, no line may be due for hours.
TEST_F(PipeTest, ReaderThatExitsIsNoticedInAQuietCycleToo) {
  Process process(writing_to(quick({"-f", "-q", "1000000"}), ends_[1]));
  close(std::exchange(ends_[1], -1));
  std::string text;
  while (text.find(end_label) == std::string::npos) {
    char byte;
    ASSERT_EQ(read(ends_[0], &byte, 1), 1);
    text += byte;
  }
  close(std::exchange(ends_[0], -1));
  const Result result = process.wait();
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "");
}

// --- A terminal --------------------------------------------------------------

// Reads until no output has come for a while.
std::string read_all(const Terminal &terminal) {
  std::string text;
  char buffer[4096];
  for (pollfd input = {terminal.master(), POLLIN, 0};
       poll(&input, 1, 100) == 1;) {
    const ssize_t size = read(terminal.master(), buffer, sizeof buffer);
    if (size <= 0)
      break;
    text.append(buffer, size);
  }
  return text;
}

// Waits for output and returns the first part.
std::string read_first_output(const Terminal &terminal) {
  char text[4096];
  pollfd input = {terminal.master(), POLLIN, 0};
  if (poll(&input, 1, 60000) != 1)
    return "";
  const ssize_t size = read(terminal.master(), text, sizeof text);
  return std::string(text, static_cast<size_t>(std::max<ssize_t>(size, 0)));
}

TEST_F(OutputTest, ClosedTerminalEndsPinglogWithStatusOne) {
  Terminal terminal;
  if (!terminal)
    GTEST_SKIP() << terminal.why();
  const int slave =
      open(terminal.name().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  Launch launch = writing_to(quick({"-f"}), slave);
  launch.before_exec = [before = launch.before_exec] {
    setsid(); // or the hangup could send SIGHUP
    before();
  };
  Process process(launch);
  close(slave);
  EXPECT_NE(read_first_output(terminal), "");
  terminal.close();
  EXPECT_EQ(process.wait().status, 1);
  EXPECT_EQ(process.err(), "");
}

// poll() reports room on a terminal that has less room than a line: write()
// would block with all signals blocked. `docker run -t` has such a terminal.
TEST_F(OutputTest, TerminalThatNobodyReadsDelaysNeitherPingsNorTheStop) {
  const Terminal terminal;
  if (!terminal)
    GTEST_SKIP() << terminal.why();
  const int slave =
      open(terminal.name().c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  Launch launch = counting({"-f", "-i", "0.3"}, 20, true); // 10 KB a cycle
  launch = writing_to(launch, slave);
  launch.before_exec = [before = launch.before_exec] {
    before();
    dup2(STDOUT_FILENO, STDERR_FILENO); // a message would stall, too
  };
  Process process(launch);
  ASSERT_TRUE(eventually([&] { return cycles() >= 8; }));
  EXPECT_EQ(fcntl(slave, F_GETFL) & O_NONBLOCK, 0); // the shell has it, too
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 1);
  close(slave);
}

// A nonblocking terminal with OPOST takes what it has room for, even a part of
// a line. The terminal is full at first, so all lines wait. Whenever the test
// has read and a ping ends, pinglog writes some 16 KB at once. The kernel
// counts in units of 256 bytes: one for the result of a host with a short name,
// two for the others. In each attempt other hosts have short names, until it is
// a result of which only half fits.
TEST_F(OutputTest, TerminalThatTakesPartOfALineGetsTheRestOnce) {
  constexpr int hosts = 120;
  const Words held = {"held1", "held2", "held3"};
  bool cut = false;
  for (int attempt = 0; attempt < 20 && !cut && !HasFailure(); ++attempt) {
    Launch launch = pinglog({"-f", "-i", "1000", "-e", held_ping()});
    launch.arguments.insert(launch.arguments.end(), held.begin(), held.end());
    Words others = long_hosts(hosts - static_cast<int>(held.size()));
    for (size_t i = 0; i < others.size(); i += 3 + attempt)
      others[i].resize(3);
    launch.arguments.insert(launch.arguments.end(), others.begin(),
                            others.end());
    const Terminal terminal;
    if (!terminal)
      GTEST_SKIP() << terminal.why();
    const int slave = open(terminal.name().c_str(),
                           O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    termios raw = {};
    ASSERT_EQ(tcgetattr(slave, &raw), 0);
    cfmakeraw(&raw);
    raw.c_oflag = OPOST;
    ASSERT_EQ(tcsetattr(slave, TCSANOW, &raw), 0);
    const std::string unit(256, '#');
    for (pollfd output = {slave, POLLOUT, 0}; poll(&output, 1, 0) == 1;)
      ASSERT_GT(write(slave, unit.data(), unit.size()), 0);

    Process process(writing_to(launch, slave));
    std::string text;
    size_t left = held.size();
    for (const std::string &host : held) {
      ASSERT_TRUE(is_left_with(left--, hosts, process.pid()));
      text += read_all(terminal);
      text.erase(0, text.find_first_not_of('#'));
      cut = cut || (!text.empty() && text.back() != '\n');
      release(host);
    }
    ASSERT_TRUE(is_left_with(0, hosts, process.pid()));
    text += read_all(terminal); // makes room for what is left at the exit
    process.signal(SIGTERM);
    EXPECT_TRUE(eventually([&] {
      text += read_all(terminal);
      return process.has_ended();
    }));
    text += read_all(terminal);
    EXPECT_EQ(process.wait().status, 0);
    close(slave);
    for (const char *word : {"started", "held1", "held2", "held3"})
      fs::remove(path("held-ping.") + word);
    write_file(log(), text);
    const Account account = check_log(log(), hosts);
    EXPECT_EQ(account.fault, "");
    EXPECT_EQ(account.lines, 1 + hosts + 2);
  }
  if (!cut)
    GTEST_SKIP() << "the kernel never took a part of a line";
}

} // namespace
