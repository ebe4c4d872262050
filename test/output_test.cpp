// output_test.cpp - `-f -o -`: standard output as a pipe, a terminal, a device.
// As a file it is in full_disk_test.cpp.

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

// This launch of pinglog with its lines on such a descriptor.
Launch writing_to(Launch launch, int output) {
  launch.arguments[1] = "-";
  launch.before_exec = [output] { dup2(output, STDOUT_FILENO); };
  return launch;
}

class OutputTest : public Sandbox {};

TEST_F(OutputTest, DashIsStandardOutputAndNoFile) {
  Launch launch = quick({"-f", "-c", "2", "-s", "0"});
  launch.arguments[1] = "-";
  const Result result = run(launch);
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  write_file(log(), result.out);
  expect_sound_log();
  expect_a_line_for_each_host(1);
  EXPECT_EQ(count(start_label), 2);
  EXPECT_FALSE(fs::exists(path("-")));
}

TEST_F(OutputTest, FullDeviceIsSaidAtTheEnd) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full == -1)
    GTEST_SKIP() << "/dev/full: " << strerror(errno);
  // Not captured, which would read it without end.
  const Result result =
      run(writing_to(counting({"-f", "-i", "0.1", "-c", "3"}), full));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: standard output: No space left on device\n");
  EXPECT_GT(cycles(), 1); // it has gone on
  close(full);
}

// --- A pipe ------------------------------------------------------------------

class PipeTest : public OutputTest {
protected:
  void SetUp() override {
    OutputTest::SetUp();
    if (IsSkipped())
      return;
    ASSERT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    (void)fcntl(ends_[0], F_SETPIPE_SZ, 4096); // as small as may be
  }
  void TearDown() override {
    for (int end : ends_)
      close(end);
    OutputTest::TearDown();
  }

  // Reads until the end of all writers.
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

TEST_F(PipeTest, StalledReaderStallsNoPingAndGetsTheRestInOrder) {
  Process process(
      writing_to(counting({"-f", "-i", "0.2", "-c", "9"}, 2, true), ends_[1]));
  ASSERT_TRUE(eventually([&] { return cycles() >= 7; })); // 1 KB each
  write_file(log(), read_all());
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_EQ(fault_in_log(log()), "");
  const Account account = check_lines(log_lines(), 2);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 9 * 4);
  EXPECT_EQ(account.lost, 0);
}

TEST_F(PipeTest, LinesThatMemoryHasNoRoomForAreCountedWhereTheyAreMissing) {
  constexpr int hosts = 300; // 290 bytes each
  Launch launch = pinglog({"-f", "-i", "1000", "-e", "false"});
  launch.arguments.insert(launch.arguments.end(), hosts, std::string(255, 'h'));
  Process process(writing_to(launch, ends_[1]));
  pollfd input = {ends_[0], POLLIN, 0};
  ASSERT_EQ(poll(&input, 1, 60'000), 1); // it has begun
  ASSERT_TRUE(is_left_with(0, process.pid()));
  process.signal(SIGTERM);
  write_file(log(), read_all());
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_EQ(fault_in_log(log()), "");
  const Account account = check_lines(log_lines(), hosts);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, hosts + 2);
  EXPECT_THAT(account.before_mark, AllOf(Gt(65536u - 300), Le(65536u + 4096)));
}

TEST_F(PipeTest, ReaderThatStallsToTheEndIsSaidThen) {
  const std::string full(4096, '#');
  for (pollfd output = {ends_[1], POLLOUT, 0}; poll(&output, 1, 0) == 1;)
    ASSERT_EQ(write(ends_[1], full.data(), full.size()), 4096);
  const Result result = run(writing_to(quick({"-f", "-c", "2"}), ends_[1]));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: standard output: Resource temporarily "
                        "unavailable\n");
  EXPECT_EQ(read_all().find_first_not_of('#'), std::string::npos);
}

// As with `pinglog -f -o - | head -1`.
TEST_F(PipeTest, ItEndsWithItsPingsAndSaysNothingWhenTheReaderHasGone) {
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

// --- A terminal --------------------------------------------------------------

// Reads until nothing comes for a while.
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

// One that does not block and has OPOST takes what it has room for, be it a
// part of a line. It is full at first, so that all lines wait. Whenever it has
// been read and a ping ends, some 16 KB are written at once. The kernel counts
// in units of 256 bytes: one for the start line, two for each result, and so it
// is a result that finds room for its half, mostly.
TEST_F(OutputTest, TerminalThatTakesAPartOfALineGetsTheRestOnce) {
  constexpr int hosts = 200;
  const Words held = {"held1", "held2", "held3"};
  Launch launch = pinglog({"-f", "-i", "1000", "-e", held_ping()});
  launch.arguments.insert(launch.arguments.end(), held.begin(), held.end());
  launch.arguments.resize(launch.arguments.size() + hosts - held.size(),
                          std::string(255, 'x'));
  bool cut = false;
  for (int attempt = 0; attempt < 10 && !cut && !HasFailure(); ++attempt) {
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
      ASSERT_TRUE(is_left_with(left--, process.pid()));
      text += read_all(terminal);
      text.erase(0, text.find_first_not_of('#'));
      cut = cut || (!text.empty() && text.back() != '\n');
      release(host);
    }
    ASSERT_TRUE(is_left_with(0, process.pid()));
    process.signal(SIGTERM);
    EXPECT_TRUE(eventually([&] {
      text += read_all(terminal);
      return process.has_ended();
    }));
    text += read_all(terminal);
    EXPECT_EQ(process.wait().status, 0);
    close(slave);
    for (const std::string &host : held)
      fs::remove(path("held-ping." + host));
    write_file(log(), text);
    EXPECT_EQ(fault_in_log(log()), "");
    const Account account = check_lines(log_lines(), hosts);
    EXPECT_EQ(account.fault, "");
    EXPECT_EQ(account.lines, hosts + 2);
  }
  if (!cut)
    GTEST_SKIP() << "this kernel has cut no line";
}

} // namespace
