// corner_test.cpp - what takes a contrived machine to happen: no memory at the
// start, a terminal that takes a part of a line, a writer that does not end, a
// hangup while the log is full, a clock at one-digit figures.

#include "support.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sys/resource.h>
#include <termios.h>
#include <tuple>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class CornerTest : public Sandbox {};

// --- Memory ------------------------------------------------------------------

// The least RLIMIT_DATA, in steps, under which the program can start at all;
// 0 if it takes more than a few megabytes (an emulator).
unsigned long least_data(Launch launch) {
  launch.arguments = {"-V"};
  for (unsigned long limit = 1UL << 16; limit <= 1UL << 22;
       limit += 1UL << 16) {
    launch.limits[RLIMIT_DATA] = limit;
    if (run(launch).status == 0)
      return limit;
  }
  return 0;
}

TEST_F(CornerTest, NoMemoryAtTheStartIsSaidAndNobodyIsLeft) {
  if (read_file(program()).find("__asan_init") != std::string::npos)
    GTEST_SKIP() << "AddressSanitizer itself needs terabytes";
  const unsigned long least = least_data(pinglog({}));
  if (least == 0)
    GTEST_SKIP() << "does not start under any small limit of data";
  struct Row {
    const char *object; // of the message
    Words arguments;
    size_t variables;   // further ones in the environment
    unsigned long room; // bytes above the least
  };
  // The words of the first take 1000 KB, the environment of the second 1200 KB,
  // both at the start. The hosts of the third take 1600 KB in the daemon: the
  // launcher has to fail as well.
  Row rows[] = {
      {"memory", {"-e", "true" + std::string(125'000, ' ')}, 0, 1 << 18},
      {"LC_ALL", {"-e", "true"}, 150'000, 1 << 19},
      {"memory", Words(100'000, "a"), 0, 1 << 20}};
  rows[2].arguments.insert(rows[2].arguments.begin(), {"-e", "true"});
  for (const Row &row : rows) {
    SCOPED_TRACE(row.variables + row.arguments.size());
    Launch launch = pinglog(row.arguments);
    std::vector<char *> variables(row.variables, const_cast<char *>("A="));
    launch.before_exec = [&variables] {
      for (char **entry = environ; *entry != nullptr; ++entry)
        variables.push_back(*entry);
      variables.push_back(nullptr);
      environ = variables.data();
    };
    launch.limits[RLIMIT_DATA] = least + row.room;
    const Result result = run(launch);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, std::string("pinglog: ") + row.object +
                              ": Cannot allocate memory\n");
    EXPECT_THAT(processes_with_environment(mark()), IsEmpty());
    EXPECT_EQ(read_file(log()), "");
  }
}

// --- Standard output ---------------------------------------------------------

// A terminal whose output may be cut anywhere: it does not block, and with
// OPOST a write takes what there is room for. (Without, and in a pipe, the
// kernel takes lines of this length whole or not at all.)
class Terminal {
public:
  Terminal() : master_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    termios raw = {};
    if (master_ != -1 && grantpt(master_) == 0 && unlockpt(master_) == 0)
      slave_ =
          open(ptsname(master_), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    made_ = slave_ != -1 && tcgetattr(slave_, &raw) == 0;
    cfmakeraw(&raw);
    raw.c_oflag = OPOST;
    made_ = made_ && tcsetattr(slave_, TCSANOW, &raw) == 0;
  }
  Terminal(const Terminal &) = delete;
  Terminal &operator=(const Terminal &) = delete;
  ~Terminal() {
    close(slave_);
    close(master_);
  }

  explicit operator bool() const { return made_; }
  int slave() const { return slave_; }
  bool is_full() const {
    pollfd output = {slave_, POLLOUT, 0};
    return poll(&output, 1, 0) == 0;
  }
  // Writes pieces that the kernel gives 256 bytes each, until there is no more
  // room or there were so many. Returns how many.
  int fill(int most) const {
    int pieces = 0;
    while (pieces < most && !is_full() &&
           write(slave_, std::string(256, '#').data(), 256) == 256)
      ++pieces;
    return pieces;
  }
  // What has been written and not been read, until nothing comes for a while.
  std::string read_all() const {
    std::string text;
    char buffer[4096];
    for (pollfd input = {master_, POLLIN, 0}; poll(&input, 1, 50) == 1;) {
      const ssize_t size = read(master_, buffer, sizeof buffer);
      if (size <= 0)
        break;
      text.append(buffer, size);
    }
    return text;
  }

private:
  int master_;
  int slave_ = -1;
  bool made_ = false;
};

// Of the last pieces of room the start line takes one, and the result line
// wants two. When the kernel moves what is written is not known exactly, so
// more or less room is left until a line is cut.
TEST_F(CornerTest, TerminalThatTakesAPartOfALineGetsTheRestOnce) {
  const std::string host(255, 'x');
  const std::string result = result_label + host + " fail exit status 1";
  const std::string ping = script("noting-ping", ">pinged; exit 1");
  bool cut = false;
  for (int attempt = 0; attempt < 40 && !cut && !HasFailure(); ++attempt) {
    const Terminal terminal;
    if (!terminal)
      GTEST_SKIP() << "no pseudo-terminal: " << strerror(errno);
    const int room = terminal.fill(1000);
    (void)terminal.read_all();
    (void)terminal.fill(room - 1 - attempt % 4);
    Launch launch = pinglog({"-f", "-i", "1000", "-e", ping, host});
    launch.arguments[1] = "-";
    fs::remove(path("pinged"));
    launch.before_exec = [fd = terminal.slave()] { dup2(fd, STDOUT_FILENO); };
    Process process(launch);
    // The ping has gone and been reaped: it has written what it can.
    ASSERT_TRUE(eventually([&] {
      return fs::exists(path("pinged")) && children_of(process.pid()).empty() &&
             process_state(process.pid()) == 'S';
    }));
    std::string text = terminal.read_all();
    cut = !text.empty() && text.back() == 'x';
    process.signal(SIGTERM);
    EXPECT_TRUE(eventually([&] {
      text += terminal.read_all();
      return process.has_ended();
    }));
    text += terminal.read_all();
    EXPECT_EQ(process.wait().status, 0);
    text.erase(0, text.find_first_not_of('#'));
    write_file(path("text"), text);
    const Words lines = read_lines(path("text"));
    ASSERT_EQ(lines.size(), 3u) << text;
    EXPECT_THAT(lines[0], StartsWith(start_label));
    EXPECT_EQ(lines[1], result);
    EXPECT_THAT(lines[2], StartsWith(end_label));
    EXPECT_EQ(lines[0].size(), lines[2].size());
  }
  if (!cut)
    GTEST_SKIP() << "this kernel has cut no line in 40 attempts";
}

// Whether its PID can be printed is not the daemon's concern.
TEST_F(CornerTest, DaemonIsUpAlsoWhereItsPidCannotBePrinted) {
  Launch launch = pinglog({"-e", answering_ping(), "host"});
  launch.before_exec = [] {
    dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
  };
  EXPECT_EQ(run(launch).status, 0);
  EXPECT_TRUE(eventually([&] { return count(result_label) == 1; }));
  EXPECT_EQ(run(pinglog({"-k"})).status, 0);
}

// --- The log -----------------------------------------------------------------

// Ten seconds are what the option grants.
TEST_F(CornerTest, KillSaysSoWhenTheWriterDoesNotEnd) {
  write_file(log(), "");
  // exec closes neither the file nor lets go of its lock.
  Launch launch = command("sleep", {"1000"});
  launch.ignored = {SIGTERM};
  launch.before_exec = [log = log(), locked = path("locked")] {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    if (fcntl(open(log.c_str(), O_RDWR), F_SETLK, &lock) == -1 ||
        close(creat(locked.c_str(), 0644)) == -1)
      _exit(126);
  };
  Process writer(launch);
  ASSERT_TRUE(eventually([&] { return fs::exists(path("locked")); }));
  const Result result = Process(pinglog({"-k"})).wait(std::chrono::seconds(60));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: " + log() + ": its writer does not end\n");
  EXPECT_TRUE(is_alive(writer.pid()));
}

TEST_F(CornerTest, HangupWithinACycleDoesNotRotateAFullLog) {
  Launch launch = pinglog({"-f", "-s", "1", "-i", "1000", "-e", "false"});
  for (int i = 0; i < 10; ++i)
    launch.arguments.push_back(std::string(200, 'x') + std::to_string(i));
  launch.ignored = {SIGHUP}; // or else it ends the foreground
  Process process(launch);
  ASSERT_TRUE(eventually([&] { return results().size() == 10; }));
  EXPECT_GT(fs::file_size(log()), 1024u);
  process.signal(SIGHUP);
  process.signal(SIGTERM); // both are seen at once, or the first one first
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_FALSE(fs::exists(log() + ".0"));
  EXPECT_EQ(log_lines().size(), 12u);
}

// It is the zone that is chosen so, whatever the clock shows.
TEST_F(CornerTest, FiguresOfTheTimeHaveTwoDigitsAlsoBelowTen) {
  const std::tuple<long, const char *> rows[] = {
      {(1 * 60 + 5) * 60 + 1, "01:05:[0-9][0-9]"},
      {(23 * 60 + 55) * 60 + 11, "23:5[56]:[0-9][0-9]"}};
  for (const auto &[wanted, figures] : rows) {
    SCOPED_TRACE(figures);
    fs::remove(log());
    const long west = time(nullptr) % 86400 - wanted;
    const long size = std::abs(west);
    Launch launch = pinglog({"-f", "-c", "1", "-i", "0.01", "-e", "true", "h"});
    launch.environment["TZ"] =
        (west < 0 ? "XXX-" : "XXX+") + std::to_string(size / 3600) + ":" +
        std::to_string(size / 60 % 60) + ":" + std::to_string(size % 60);
    EXPECT_EQ(run(launch).status, 0);
    ASSERT_EQ(log_lines().size(), 3u);
    EXPECT_THAT(log_lines()[0],
                MatchesRegex("start time---------:[A-Z][a-z][a-z] "
                             "[A-Z][a-z][a-z] [ 123][0-9] " +
                             std::string(figures) + " [0-9]{4}"));
  }
}

} // namespace
