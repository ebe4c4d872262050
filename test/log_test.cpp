// log_test.cpp - the log when its file is taken, full, moved, locked or gone.
//
// Most tests count lines. The fake ping prints, for each host, the how-manieth
// it is, so the place of every line in the whole of what should have been
// logged is known, and check_lines() finds each that is lost, doubled, out of
// order or wrongly counted in a `lines lost` line.

#include "support.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <random>
#include <sched.h>
#include <set>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Lines = std::vector<std::string>;

constexpr uid_t nobody = 65534;

std::string operator+(const Lines &lines, const std::string &end) {
  std::string text;
  for (const std::string &line : lines)
    text += line + end;
  return text;
}

const std::string whole_line = "end of time--------:Sun Nov 22 07:45:00 2026\n";

// Whole lines, and more than `-s 4` leaves in a log.
std::string long_text() {
  std::string text;
  while (text.size() < 5000)
    text += whole_line;
  return text;
}

// A mount namespace that the test process is in, so that all it mounts goes
// with the last process that is in there.
class MountNamespace {
public:
  MountNamespace()
      : outside_(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)),
        directory_(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    inside_ = outside_ != -1 && directory_ != -1 && unshare(CLONE_NEWNS) == 0 &&
              mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) == 0;
  }
  MountNamespace(const MountNamespace &) = delete;
  MountNamespace &operator=(const MountNamespace &) = delete;
  ~MountNamespace() {
    if (outside_ != -1 && setns(outside_, CLONE_NEWNS) == -1)
      ADD_FAILURE() << "setns: " << strerror(errno);
    if (directory_ != -1 && fchdir(directory_) == -1)
      ADD_FAILURE() << "fchdir: " << strerror(errno);
    close(directory_);
    close(outside_);
  }
  explicit operator bool() const { return inside_; }

private:
  int outside_;
  int directory_;
  bool inside_;
};

#define ENTER_MOUNT_NAMESPACE(name)                                            \
  SKIP_UNLESS_ROOT();                                                          \
  const MountNamespace name;                                                   \
  if (!name)                                                                   \
  GTEST_SKIP() << "no mount namespace to be had: " << strerror(errno)

// What check_lines() finds.
struct Account {
  std::string fault;      // "" if there is none
  int lines = 0;          // those counted as lost included
  int lost = 0;           // lines that are counted as lost
  size_t before_mark = 0; // bytes before the first `lines lost`
};

// Whether these are all lines of cycles of so many hosts, in order, from the
// line `first` of the first cycle on.
Account check_lines(const Lines &lines, int hosts, int first = 0) {
  Account account;
  int place = first;
  int silent = 0; // pings that a busy machine was too slow for
  std::map<std::string, int> last;
  bool after_mark = false;
  for (const std::string &line : lines) {
    const int within = place % (hosts + 2);
    const int cycle = place / (hosts + 2) + 1;
    const std::string label = line.substr(0, strlen(start_label));
    std::string expected = result_label;
    if (within == 0)
      expected = start_label;
    else if (within == hosts + 1)
      expected = end_label;
    int number = 0;
    char host[256] = "";
    bool good = label == expected;
    if (label == lost_label) {
      number = atoi(line.c_str() + label.size());
      good = number > 0 && !after_mark &&
             line == lost_label + std::to_string(number);
      account.lost += number;
    } else if (label == result_label &&
               sscanf(line.c_str() + label.size(), "%255s fail %d ", host,
                      &number) == 2) {
      // One that was too slow may not have counted. Of those among the lost
      // lines nobody knows; there the caller's total tells.
      good = good && number > last[host] && number <= cycle &&
             (account.lost > 0 || number >= cycle - silent);
      last[host] = number;
    } else if (label == result_label) {
      ++silent;
    }
    if (!good && account.fault.empty())
      account.fault = "expected line " + std::to_string(within) + " of cycle " +
                      std::to_string(cycle) + ": " + line;
    after_mark = label == lost_label;
    place += after_mark ? number : 1;
    if (account.lost == 0)
      account.before_mark += line.size() + 1;
  }
  account.lines = place - first;
  return account;
}

class LogTest : public Sandbox {
protected:
  // The log where it is not the sandbox's own, which would be log().
  std::string file_ = log();

  // A ping for cycles() and check_lines(): a line of 200 bytes that begins with
  // a number.
  std::string counting_ping() const {
    return script("counting-ping", "counter=$0.${3%%-*}\n"
                                   "n=0\n"
                                   "[ -f $counter ] && read n <$counter\n"
                                   "n=$((n + 1))\n"
                                   "echo $n >$counter\n"
                                   "printf '%d %0190d\\n' $n 0\n"
                                   "exit 1");
  }

  // The cycles whose pings have been started, as far as they came to count.
  int cycles() const {
    int most = 0;
    for (const char *host : {"h0", "h1", "h2", "h7", "h19"})
      most = std::max(most,
                      atoi(read_file(path("counting-ping.") + host).c_str()));
    return most;
  }

  [[nodiscard]] bool reaches_cycle(int cycle) const {
    return eventually([&] { return cycles() >= cycle; });
  }

  // `pinglog -o file_ ARGUMENTS` with the counting ping and so many hosts. The
  // long names make 480 bytes of each result line.
  Launch counting(std::vector<std::string> arguments, int hosts = 1,
                  bool long_names = false) const {
    Launch launch = pinglog(std::move(arguments));
    launch.arguments[1] = file_;
    launch.arguments.insert(launch.arguments.end(), {"-e", counting_ping()});
    for (int i = 0; i < hosts; ++i)
      launch.arguments.push_back("h" + std::to_string(i) + "-" +
                                 std::string(long_names ? 240 : 1, 'x'));
    return launch;
  }

  // One that logs quickly and shortly.
  Launch quick(std::vector<std::string> arguments = {}) const {
    Launch launch = pinglog({"-i", "0.1", "-e", "true", "host"});
    launch.arguments[1] = file_;
    launch.arguments.insert(launch.arguments.begin() + 2, arguments.begin(),
                            arguments.end());
    return launch;
  }

  // The lock still holds, and says who has it.
  void expect_refusal(pid_t holder) const {
    const Result second = run(quick({"-c", "1"}));
    EXPECT_EQ(second.status, 1);
    EXPECT_EQ(second.out, "");
    EXPECT_EQ(second.err, "pinglog: " + file_ + ": already written by PID " +
                              std::to_string(holder) + "\n");
  }

  void expect_start_error(const Launch &launch, const std::string &message) {
    const Result result = run(launch);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, StartsWith("pinglog: "));
    EXPECT_THAT(result.err, HasSubstr(message));
  }

  // It has, and has done what it does then: it waits again.
  [[nodiscard]] static bool has_seen_signal(pid_t pid) {
    return process_status(pid, "ShdPnd") == "0000000000000000" &&
           process_state(pid) == 'S';
  }

  [[nodiscard]] static bool grows(const std::string &name) {
    const size_t before = read_file(name).size();
    return eventually([&] { return read_file(name).size() > before; });
  }

  // The lines without those of a last cycle that was cut short.
  static Lines whole_cycles(Lines lines) {
    while (!lines.empty() && lines.back().rfind(result_label, 0) != 0)
      lines.pop_back();
    return lines;
  }

  // The place of the first of these lines of one host, told by a result.
  static int place_of(const Lines &lines) {
    for (size_t i = 0; i < lines.size(); ++i) {
      int place = number_of(lines[i]) * 3 - 2 - static_cast<int>(i);
      while (place < 0) // the first ones were too slow to count
        place += 3;
      if (number_of(lines[i]) > 0)
        return place;
    }
    return 0;
  }

  // The number in a result line, or 0.
  static int number_of(const std::string &line) {
    int number = 0;
    (void)sscanf(line.c_str(), "ping result--------:%*s fail %d ", &number);
    return number;
  }

  // A disk of 16 KiB with the log on it; `ENTER_MOUNT_NAMESPACE` first.
  std::string mount_disk() {
    const std::string disk = path("disk");
    EXPECT_EQ(mkdir(disk.c_str(), 0755), 0);
    EXPECT_EQ(mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=16k"), 0)
        << strerror(errno);
    file_ = disk + "/ping.log";
    return disk;
  }

  static void enlarge(const std::string &disk) {
    ASSERT_EQ(mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "size=1024k"),
              0)
        << strerror(errno);
  }

  static void fill(const std::string &filler) {
    const int file = open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    ASSERT_NE(file, -1);
    const std::string page(4096, '#');
    while (write(file, page.data(), page.size()) > 0) {
    }
    EXPECT_EQ(errno, ENOSPC);
    close(file);
  }
};

// --- A disk that is full -----------------------------------------------------

TEST_F(LogTest, LinesWaitInOrderUntilAFullDiskHasRoomAgain) {
  ENTER_MOUNT_NAMESPACE(inside);
  const std::string disk = mount_disk();
  Process daemon(counting({"-f", "-i", "0.2", "-c", "9"}, 2, true));
  ASSERT_TRUE(reaches_cycle(2));
  fill(disk + "/filler");
  ASSERT_TRUE(reaches_cycle(7)); // more than the log's last page takes
  EXPECT_LT(read_lines(file_).size(), 5u * 4);
  EXPECT_TRUE(eventually([&] { return fault_in_log(file_).empty(); }));
  expect_refusal(daemon.pid());
  fs::remove(disk + "/filler");
  EXPECT_EQ(daemon.wait().status, 0);
  const Account account = check_lines(read_lines(file_), 2);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 9 * 4);
  EXPECT_EQ(account.lost, 0);
}

TEST_F(LogTest, WhatDoesNotFitIntoMemoryIsCountedWhereItIsMissing) {
  ENTER_MOUNT_NAMESPACE(inside);
  const std::string disk = mount_disk();
  Process daemon(counting({"-f", "-i", "0.4", "-c", "13"}, 20, true));
  ASSERT_TRUE(reaches_cycle(11)); // 10 KB each: 16 and 64 KiB are full
  const size_t on_disk = read_file(file_).size();
  EXPECT_THAT(on_disk, ::testing::Gt(16384u - 512));
  enlarge(disk);
  EXPECT_EQ(daemon.wait().status, 0);
  EXPECT_EQ(fault_in_log(file_), "");
  const Account account = check_lines(read_lines(file_), 20);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 13 * 22);
  EXPECT_GT(account.lost, 0);
  // No line was dropped while 64 KiB had room for it and the mark.
  EXPECT_GT(account.before_mark, on_disk + 65536 - 600);
  EXPECT_LE(account.before_mark, 16384u + 65536);
}

TEST_F(LogTest, DiskThatIsFullToTheEndIsSaidAtTheEnd) {
  ENTER_MOUNT_NAMESPACE(inside);
  const std::string disk = mount_disk();
  fill(disk + "/filler");
  expect_start_error(quick({"-f", "-c", "2"}),
                     "not all lines could be written");
}

TEST_F(LogTest, KilledAgainAndAgainOnAFullDiskItLeavesWholeLines) {
  ENTER_MOUNT_NAMESPACE(inside);
  const std::string disk = mount_disk();
  const Launch launch = counting({"-i", "0.02"}, 3, true);
  for (int kills = 1; kills <= 8; ++kills) {
    const pid_t daemon = start_daemon(launch);
    ASSERT_TRUE(reaches_cycle(cycles() + 3 + kills % 3));
    stop(daemon, SIGKILL);
    if (kills == 2)
      fill(disk + "/filler");
  }
  enlarge(disk);
  const pid_t daemon = start_daemon(launch);
  EXPECT_TRUE(grows(file_));
  stop(daemon);
  EXPECT_EQ(fault_in_log(file_), "");
}

// At the limit, not below it, SIGXFSZ is sent.
TEST_F(LogTest, FileSizeLimitDoesNotKillItAndTheLinesWait) {
  const std::string before = long_text();
  const rlim_t size = before.size();
  write_file(file_, before);
  Launch launch =
      counting({"-f", "-i", "0.4", "-s", "0", "-c", "13"}, 20, true);
  launch.before_exec = [size] {
    const rlimit limit = {size, 1 << 24};
    setrlimit(RLIMIT_FSIZE, &limit);
  };
  Process daemon(launch);
  ASSERT_TRUE(reaches_cycle(11));
  expect_refusal(daemon.pid());
  EXPECT_EQ(fs::file_size(file_), size);
  const rlimit raised = {1 << 24, 1 << 24};
  ASSERT_EQ(prlimit(daemon.pid(), RLIMIT_FSIZE, &raised, nullptr), 0);
  EXPECT_EQ(daemon.wait().status, 0);
  const std::string text = read_file(file_);
  EXPECT_THAT(text, StartsWith(before));
  write_file(path("new"), text.substr(before.size()));
  const Account account = check_lines(read_lines(path("new")), 20);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 13 * 22);
  EXPECT_GT(account.lost, 0);
}

// --- kill -9 -----------------------------------------------------------------

// The text up to the end of its last whole line.
void expect_whole_lines(const std::string &name, const std::string &copy) {
  const std::string text = read_file(name);
  write_file(copy, text.substr(0, text.rfind('\n') + 1));
  EXPECT_EQ(fault_in_log(copy), "") << name;
}

TEST_F(LogTest, KilledAtRandomMomentsOfRotationNoLineIsTorn) {
  const char *wanted = getenv("PINGLOG_TEST_KILLS");
  const int kills = wanted != nullptr ? atoi(wanted) : 60;
  std::mt19937 random(std::random_device{}());
  const std::string old = file_ + ".0";
  Launch launch = pinglog({"-s", "4", "-i", "0.01", "-e", "true"});
  for (char host = 'a'; host <= 'h'; ++host)
    launch.arguments.push_back(std::string(40, host));
  int rotations = 0;
  ino_t inode = 0;
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    const pid_t daemon = start_daemon(launch); // a stale lock would refuse
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 120000));
    stop(daemon, SIGKILL);
    // The last line may be torn until the next start, no other one may.
    expect_whole_lines(file_, path("copy"));
    EXPECT_EQ(fault_in_log(old), "") << "after " << i << " kills";
    struct stat status = {};
    if (stat(old.c_str(), &status) == 0 && status.st_ino != inode) {
      ++rotations;
      inode = status.st_ino;
    }
  }
  const pid_t daemon = start_daemon(launch);
  EXPECT_TRUE(eventually([&] { return fault_in_log(file_).empty(); }));
  stop(daemon);
  EXPECT_EQ(fault_in_log(file_), "");
  EXPECT_EQ(fault_in_log(old), "");
  EXPECT_GT(rotations, 0);
}

// --- What the log ends in at start -------------------------------------------

struct Tail {
  const char *name;
  std::string before;
  std::string kept;
};

class TailTest : public LogTest, public ::testing::WithParamInterface<Tail> {};

TEST_P(TailTest, IsCutOffIfOursAndElseKeptAndEnded) {
  write_file(file_, GetParam().before);
  EXPECT_EQ(run(quick({"-f", "-c", "1"})).status, 0);
  const std::string text = read_file(file_);
  EXPECT_EQ(text.substr(0, text.find(start_label, GetParam().kept.size())),
            GetParam().kept);
  write_file(path("rest"), text.substr(GetParam().kept.size()));
  EXPECT_EQ(fault_in_log(path("rest")), "");
  EXPECT_EQ(read_lines(path("rest")).size(), 3u);
}

const std::string longest_result =
    result_label + std::string(255, 'h') + " fail " + std::string(200, 'r');

INSTANTIATE_TEST_SUITE_P(
    Of, TailTest,
    ::testing::Values(
        Tail{"NewLog", "", ""}, Tail{"WholeLine", whole_line, whole_line},
        Tail{"TornStart", whole_line + "start time---------:Sun No",
             whole_line},
        Tail{"TornResult", whole_line + "ping result--------:host f",
             whole_line},
        Tail{"TornLongestResult", whole_line + longest_result, whole_line},
        Tail{"TornEnd",
             whole_line + "end of time--------:Sun Nov 22 07:45:00 "
                          "2026",
             whole_line},
        Tail{"TornMark", whole_line + "lines lost---------:1", whole_line},
        Tail{"TornLabel", whole_line + "lines l", whole_line},
        Tail{"NothingButTorn", "ping result--------:host f", ""},
        Tail{"OtherText", whole_line + "mine, and unfinished",
             whole_line + "mine, and unfinished\n"},
        Tail{"OtherTextAlone", "mine", "mine\n"},
        Tail{"OtherTextLong", std::string(2000, 'm'),
             std::string(2000, 'm') + "\n"}),
    [](const auto &info) { return std::string(info.param.name); });

TEST_F(LogTest, TornLineIsCutOffBeforeTheLogIsRotatedAtStart) {
  const std::string whole = long_text();
  write_file(file_, whole + "start time---------:Sun No");
  EXPECT_EQ(run(quick({"-f", "-c", "1", "-s", "4"})).status, 0);
  EXPECT_TRUE(read_file(file_ + ".0") == whole); // or it prints 10 KB
  EXPECT_EQ(fault_in_log(file_), "");
}

// --- The file goes away while it runs ----------------------------------------

struct Disturbance {
  const char *name;
  bool root = false;
  std::function<void(const std::string &log)> begin;
  std::function<void(const std::string &log)> end = [](auto &) {};
  // Holds the lines from before, if they still are to be had.
  std::string older = "";
};

void PrintTo(const Disturbance &disturbance, std::ostream *out) {
  *out << disturbance.name;
}

class DisturbanceTest : public LogTest,
                        public ::testing::WithParamInterface<Disturbance> {};

void check(const std::string &command) {
  EXPECT_EQ(system(command.c_str()), 0) << command;
}

// The log is replaced by something that is no log.
auto replaced_by(std::function<int(const char *)> make) {
  return [make](const std::string &log) {
    fs::rename(log, log + ".old");
    EXPECT_EQ(make(log.c_str()), 0) << strerror(errno);
  };
}

void remove_log(const std::string &log) {
  EXPECT_TRUE(fs::remove(log));
}

TEST_P(DisturbanceTest, EndsAndItLogsThereAgainWithTheLock) {
  const Disturbance &disturbance = GetParam();
  if (disturbance.root)
    SKIP_UNLESS_ROOT();
  std::optional<MountNamespace> inside;
  if (disturbance.root && !inside.emplace())
    GTEST_SKIP() << "no mount namespace to be had: " << strerror(errno);
  ASSERT_TRUE(fs::create_directory(path("d")));
  file_ = path("d/ping.log");
  Process daemon(counting({"-f", "-i", "0.15"}));
  ASSERT_TRUE(reaches_cycle(2));
  disturbance.begin(file_);
  const int disturbed = cycles();
  ASSERT_TRUE(reaches_cycle(disturbed + 3));
  disturbance.end(file_);
  const int mended = cycles();
  EXPECT_TRUE(eventually([&] {
    const Lines written = read_lines(file_);
    return std::any_of(written.begin(), written.end(),
                       [&](auto &line) { return number_of(line) > mended; });
  }));
  expect_refusal(daemon.pid());
  daemon.signal(SIGTERM);
  EXPECT_EQ(daemon.wait().status, 0);

  Lines lines;
  if (!disturbance.older.empty())
    lines = read_lines(file_ + disturbance.older);
  const Lines newer = read_lines(file_);
  lines.insert(lines.end(), newer.begin(), newer.end());
  EXPECT_EQ(fault_in_log(file_), "");
  const int first = place_of(lines);
  const Account account = check_lines(whole_cycles(lines), 1, first);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lost, 0);
  // The rest of the cycle went with the old file, nothing else did.
  EXPECT_LE(first, disturbance.older.empty() ? (disturbed + 1) * 3 : 0);
  EXPECT_FALSE(fs::exists(path("d/elsewhere")));
  EXPECT_THAT(read_file(path("d/victim")), AnyOf("", "untouched"));
}

INSTANTIATE_TEST_SUITE_P(
    Of, DisturbanceTest,
    ::testing::Values(
        Disturbance{"Renamed", false,
                    [](auto &log) { fs::rename(log, log + ".old"); },
                    [](auto &) {}, ".old"},
        Disturbance{"RenamedAndMadeAnew", false,
                    [](auto &log) {
                      fs::rename(log, log + ".0");
                      write_file(log, "", 0600);
                    },
                    [](auto &) {}, ".0"},
        Disturbance{"Removed", false, remove_log},
        Disturbance{"TruncatedInPlace", false,
                    [](auto &log) { fs::resize_file(log, 0); }},
        Disturbance{"DirectoryRemovedAndMadeAgain", false,
                    [](auto &log) {
                      EXPECT_GT(fs::remove_all(fs::path(log).parent_path()),
                                0u);
                    },
                    [](auto &log) {
                      fs::create_directory(fs::path(log).parent_path());
                    }},
        Disturbance{"ReplacedByADirectory", false,
                    replaced_by([](auto name) { return mkdir(name, 0755); }),
                    remove_log, ".old"},
        Disturbance{"ReplacedByAFifo", false,
                    replaced_by([](auto name) { return mkfifo(name, 0644); }),
                    remove_log, ".old"},
        Disturbance{
            "ReplacedByADanglingLink", false,
            replaced_by([](auto name) { return symlink("elsewhere", name); }),
            remove_log, ".old"},
        Disturbance{"ReplacedByALink", false, replaced_by([](auto name) {
                      write_file(fs::path(name).parent_path() / "victim",
                                 "untouched");
                      return symlink("victim", name);
                    }),
                    remove_log, ".old"},
        // The open descriptor keeps a remount from being read-only (EBUSY), so
        // here the directory is seen through a read-only mount as it reopens.
        Disturbance{"RenamedAndReadOnly", true,
                    [](auto &log) {
                      const std::string d = fs::path(log).parent_path();
                      fs::rename(log, log + ".old");
                      check("mount --bind " + d + " " + d);
                      check("mount -o remount,bind,ro " + d);
                    },
                    [](auto &log) {
                      check("umount " + fs::path(log).parent_path().string());
                    },
                    ".old"},
        // Writes to the open descriptor fail, which is what is seen of a file
        // system that turned read-only.
        Disturbance{"Immutable", true,
                    [](auto &log) { check("chattr +i " + log); },
                    [](auto &log) { check("chattr -i " + log); }}),
    [](const auto &info) { return std::string(info.param.name); });

// The kernel itself makes it read-only, as after an error on the disk. It stays
// so until it is unmounted, which frees it once the daemon has let go of it.
TEST_F(LogTest, FileSystemThatTurnsReadOnlyIsMountedAgain) {
  ENTER_MOUNT_NAMESPACE(inside);
  SKIP_WITHOUT("mkfs.ext4");
  const std::string disk = path("disk");
  const std::string image = path("image");
  const auto mount_image = [&] {
    return system(("mount -o loop,sync,errors=remount-ro " + image + " " +
                   disk + " 2>/dev/null")
                      .c_str()) == 0;
  };
  fs::create_directory(disk);
  write_file(image, "");
  fs::resize_file(image, 4 << 20);
  check("mkfs.ext4 -q -O ^has_journal " + image);
  if (!mount_image())
    GTEST_SKIP() << "no loop device to be had";
  struct Unmount {
    std::string disk;
    ~Unmount() { umount2(disk.c_str(), MNT_DETACH); }
  } unmount{disk};
  const std::string trigger = "device=$(findmnt -no SOURCE " + disk +
                              ") && echo test >/sys/fs/ext4/${device#/dev/}/"
                              "trigger_fs_error 2>/dev/null";
  file_ = disk + "/ping.log";
  Process daemon(counting({"-f", "-i", "0.15"}));
  ASSERT_TRUE(reaches_cycle(2));
  if (system(trigger.c_str()) != 0)
    GTEST_SKIP() << "this kernel has no trigger_fs_error for ext4";
  const int disturbed = cycles();
  ASSERT_TRUE(reaches_cycle(disturbed + 3));
  EXPECT_THAT(read_file(file_),
              Not(HasSubstr("fail " + std::to_string(disturbed + 2) + " ")));
  expect_start_error(quick(), file_ + ": " + strerror(EROFS));

  const size_t size = read_file(file_).size();
  ASSERT_EQ(umount2(disk.c_str(), MNT_DETACH), 0);
  ASSERT_TRUE(eventually([&] { return fs::exists(file_); }));
  ASSERT_TRUE(reaches_cycle(cycles() + 2));
  const std::string below = path("below"); // the file under the mount point
  ASSERT_EQ(link(file_.c_str(), below.c_str()), 0);
  ASSERT_TRUE(eventually(mount_image));
  EXPECT_TRUE(eventually([&] { return read_file(file_).size() > size; }));
  expect_refusal(daemon.pid());
  daemon.signal(SIGTERM);
  EXPECT_EQ(daemon.wait().status, 0);

  const std::string text = read_file(file_);
  write_file(path("all"),
             text.substr(0, size) + read_file(below) + text.substr(size));
  EXPECT_EQ(fault_in_log(path("all")), "");
  const Account account = check_lines(whole_cycles(read_lines(path("all"))), 1);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lost, 0);
}

TEST_F(LogTest, RelativeNameMeansTheCallersDirectoryForEver) {
  Launch launch = quick();
  launch.arguments[1] = "ping.log";
  const pid_t daemon = start_daemon(launch);
  ASSERT_TRUE(grows(file_));
  fs::rename(file_, path("old"));
  EXPECT_TRUE(eventually([&] { return fs::exists(file_); }));
  EXPECT_TRUE(grows(file_));
  stop(daemon);
}

// Nothing but the signal can be the reason within 1000 s.
TEST_F(LogTest, HangupOpensARenamedLogAtOnce) {
  const pid_t daemon =
      start_daemon(pinglog({"-i", "1000", "-e", answering_ping(), "host"}));
  ASSERT_TRUE(eventually([&] { return count(result_label) == 1; }));
  send_signal(daemon, SIGHUP); // nothing has changed
  fs::rename(file_, path("old"));
  send_signal(daemon, SIGHUP);
  EXPECT_TRUE(eventually([&] { return fs::exists(file_); }));
  expect_refusal(daemon);
  stop(daemon);
  EXPECT_EQ(read_lines(path("old")).size(), 2u);
  EXPECT_EQ(count(end_label), 1);
  EXPECT_EQ(log_lines().size(), 1u);
}

TEST_F(LogTest, LogThatIsBackWhenItEndsGetsTheLastLines) {
  fs::create_directory(path("directory"));
  file_ = path("directory/ping.log");
  Launch launch = quick();
  launch.arguments[3] = "1000"; // seconds
  const pid_t daemon = start_daemon(launch);
  ASSERT_TRUE(eventually([&] { return read_lines(file_).size() == 2; }));
  fs::rename(path("directory"), path("away"));
  send_signal(daemon, SIGHUP);
  ASSERT_TRUE(eventually([&] { return has_seen_signal(daemon); }));
  fs::rename(path("away"), path("directory"));
  stop(daemon);
  ASSERT_EQ(read_lines(file_).size(), 3u);
  EXPECT_THAT(read_lines(file_)[2], StartsWith(end_label));
}

TEST_F(LogTest, HangupWithoutAReasonKeepsTheFileAndTheLock) {
  const pid_t daemon = start_daemon(counting({"-i", "0.1"}));
  for (int i = 0; i < 20; ++i) {
    send_signal(daemon, SIGHUP);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(reaches_cycle(cycles() + 2));
  expect_refusal(daemon);
  stop(daemon);
  EXPECT_EQ(check_lines(whole_cycles(log_lines()), 1).fault, "");
}

// --- Rotation ----------------------------------------------------------------

struct Size {
  const char *name;
  std::vector<std::string> options;
  int64_t size;
  bool rotates;
};

class SizeTest : public LogTest, public ::testing::WithParamInterface<Size> {};

TEST_P(SizeTest, DecidesWhetherItIsRenamed) {
  write_file(file_, "\n");
  write_file(file_ + ".0", "older");
  fs::resize_file(file_, GetParam().size - 1); // sparse
  const int file = open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  EXPECT_EQ(write(file, "\n", 1), 1);
  close(file);
  std::vector<std::string> options = GetParam().options;
  options.insert(options.end(), {"-f", "-c", "1"});
  EXPECT_EQ(run(quick(options)).status, 0);
  const int64_t moved = fs::file_size(file_ + ".0");
  const int64_t left = fs::file_size(file_);
  EXPECT_EQ(moved, GetParam().rotates ? GetParam().size : 5);
  EXPECT_EQ(left < GetParam().size, GetParam().rotates);
}

INSTANTIATE_TEST_SUITE_P(
    Of, SizeTest,
    ::testing::Values(Size{"DefaultReached", {}, 10240 * 1024, true},
                      Size{"DefaultNotReached", {}, 10240 * 1024 - 1, false},
                      Size{"OptionReached", {"-s", "4"}, 4096, true},
                      Size{"OptionNotReached", {"-s", "4"}, 4095, false},
                      Size{"Never", {"-s", "0"}, 11000 * 1024, false}),
    [](const auto &info) { return std::string(info.param.name); });

TEST_F(LogTest, RotationComesBetweenCyclesAndLosesNothing) {
  Process daemon(counting({"-f", "-i", "0.1", "-s", "4", "-c", "7"}, 2, true));
  EXPECT_EQ(daemon.wait().status, 0);
  Lines lines = read_lines(file_ + ".0");
  ASSERT_FALSE(lines.empty());
  EXPECT_GE((lines + "\n").size(), 4096u);
  EXPECT_THAT(lines.back(), StartsWith(end_label));
  const Lines newer = log_lines();
  lines.insert(lines.end(), newer.begin(), newer.end());
  const Account account = check_lines(lines, 2);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 7 * 4);
}

// Lets it run where it cannot rotate, and then where it can.
class RotationTest : public LogTest {
protected:
  void expect_patience(const Launch &launch,
                       const std::function<void()> &mend) {
    const pid_t daemon = start_daemon(launch);
    ASSERT_TRUE(eventually([&] { return fs::file_size(file_) > 6000; }));
    const long clock = process_stat(daemon, 14) + process_stat(daemon, 15);
    ASSERT_TRUE(reaches_cycle(cycles() + 5));
    // It would have run all the time, 10 ticks for each cycle.
    EXPECT_LT(process_stat(daemon, 14) + process_stat(daemon, 15), clock + 25);
    expect_refusal(daemon);
    const std::string before = read_file(file_);
    mend();
    EXPECT_TRUE(eventually([&] {
      return fs::is_regular_file(file_ + ".0") && fs::exists(file_) &&
             fs::file_size(file_) < 6000;
    }));
    EXPECT_TRUE(grows(file_));
    expect_refusal(daemon);
    stop(daemon);
    Lines lines = read_lines(file_ + ".0");
    EXPECT_THAT(lines + "\n", StartsWith(before));
    const Lines newer = read_lines(file_);
    lines.insert(lines.end(), newer.begin(), newer.end());
    EXPECT_EQ(check_lines(whole_cycles(lines), 8).fault, "");
  }
};

TEST_F(RotationTest, WaitsForADirectoryInItsWay) {
  ASSERT_TRUE(fs::create_directory(file_ + ".0"));
  expect_patience(counting({"-i", "0.1", "-s", "4"}, 8),
                  [&] { ASSERT_TRUE(fs::remove(file_ + ".0")); });
}

TEST_F(RotationTest, WaitsForADirectoryThatIsReadOnly) {
  SKIP_UNLESS_ROOT(); // to be somebody else
  const std::string directory = path("d");
  ASSERT_TRUE(fs::create_directory(directory));
  ASSERT_EQ(chmod(path("").c_str(), 01777), 0); // for the ping's counters
  file_ = directory + "/ping.log";
  write_file(file_, "");
  ASSERT_EQ(chown(file_.c_str(), nobody, nobody), 0);
  Launch launch = counting({"-i", "0.1", "-s", "4"}, 8);
  launch.user = nobody;
  expect_patience(launch,
                  [&] { ASSERT_EQ(chmod(directory.c_str(), 0777), 0); });
}

// rename() does nothing where both names are of one file, and then the file is
// opened a second time and closed once: this drops a record lock.
TEST_F(LogTest, LockIsKeptWhereTheOldNameIsTheSameFile) {
  const std::string text = long_text();
  write_file(file_, text);
  ASSERT_EQ(link(file_.c_str(), (file_ + ".0").c_str()), 0);
  const pid_t daemon = start_daemon(
      pinglog({"-i", "1000", "-s", "4", "-e", answering_ping(), "host"}));
  ASSERT_TRUE(eventually([&] { return count(result_label) == 1; }));
  expect_refusal(daemon);
  stop(daemon);
  EXPECT_EQ(fault_in_log(file_), "");
}

// As above, and in that moment another one has the lock: fcntl() fails, once
// for each of its calls in turn.
TEST_F(LogTest, FileWhoseLockWasLostIsNotWrittenBeforeItIsLockedAgain) {
  SKIP_WITHOUT("strace");
  for (int call = 3; call <= 6; ++call) {
    SCOPED_TRACE(call);
    for (const char *name : {"", ".0"})
      fs::remove(file_ + name);
    fs::remove(path("pinged"));
    write_file(file_, long_text());
    ASSERT_EQ(link(file_.c_str(), (file_ + ".0").c_str()), 0);
    Launch launch = command(
        "strace", {"-qq", "-o", "/dev/null", "-e", "trace=fcntl", "-e",
                   "inject=fcntl:error=EAGAIN:when=" + std::to_string(call),
                   program(), "-f", "-i", "1000", "-s", "4", "-o", file_, "-e",
                   script("noting-ping", ">pinged"), "host"});
    launch.ignored = {SIGHUP}; // or else it ends the foreground
    Process strace(launch);
    ASSERT_TRUE(eventually([&] { return fs::exists(path("pinged")); }));
    const pid_t writer = children_of(strace.pid()).at(0);
    send_signal(writer, SIGHUP);
    ASSERT_TRUE(eventually([&] { return has_seen_signal(writer); }));
    expect_refusal(writer);
    send_signal(writer, SIGTERM);
    EXPECT_EQ(strace.wait().status, 0);
    EXPECT_EQ(count(result_label), 1);
    EXPECT_EQ(fault_in_log(file_), "");
  }
}

TEST_F(LogTest, RotationReplacesALinkOrAFifoAndLeavesTheTargetAlone) {
  write_file(path("victim"), "untouched");
  for (bool fifo : {false, true}) {
    const std::string old = file_ + ".0";
    fs::remove(old);
    ASSERT_EQ(fifo ? mkfifo(old.c_str(), 0644) : symlink("victim", old.c_str()),
              0);
    write_file(file_, long_text());
    EXPECT_EQ(run(quick({"-f", "-c", "1", "-s", "4"})).status, 0);
    ASSERT_TRUE(fs::is_regular_file(fs::symlink_status(old)));
    EXPECT_TRUE(read_file(old) == long_text());
  }
  EXPECT_EQ(read_file(path("victim")), "untouched");
}

// Whoever may read the log can lock it for reading: this makes nobody a writer
// whom -k would kill, and is no reason to wait for ever.
TEST_F(LogTest, LockOfAReaderIsNotTakenForAWriter) {
  write_file(file_, "");
  const int reader = open(file_.c_str(), O_RDONLY | O_CLOEXEC);
  struct flock lock = {};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  ASSERT_EQ(fcntl(reader, F_SETLK, &lock), 0);
  const Result stopped = run(pinglog({"-k"}));
  EXPECT_EQ(stopped.status, 1);
  EXPECT_EQ(stopped.err, "pinglog: " + file_ + ": no pinglog writes it here\n");
  expect_start_error(quick(), file_ + ": " + strerror(EAGAIN));
  close(reader);
}

// --- What is no log ----------------------------------------------------------

TEST_F(LogTest, WhatIsNoRegularFileIsRefusedAtOnce) {
  ASSERT_TRUE(fs::create_directory(path("directory")));
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0644), 0);
  ASSERT_EQ(symlink("elsewhere", path("dangling").c_str()), 0);
  write_file(path("target"), "untouched");
  ASSERT_EQ(symlink("target", path("link").c_str()), 0);
  const std::string irregular = "not a regular file";
  const std::map<std::string, std::string> reasons = {
      {"/dev/full", irregular},
      {path("fifo"), irregular},
      {path("dangling"), irregular},
      {path("link"), irregular},
      {path("directory"), strerror(EISDIR)},
      {path("missing/log"), strerror(ENOENT)},
      {path("target/log"), strerror(ENOTDIR)}};
  for (const auto &[name, reason] : reasons)
    for (bool foreground : {false, true}) {
      file_ = name;
      SCOPED_TRACE(name);
      expect_start_error(quick(foreground ? std::vector<std::string>{"-f"}
                                          : std::vector<std::string>{}),
                         "pinglog: " + name + ": " + reason + "\n");
    }
  EXPECT_FALSE(fs::exists(path("elsewhere")));
  EXPECT_FALSE(fs::exists(path("missing")));
  EXPECT_EQ(read_file(path("target")), "untouched");
}

// A session leader acquires a terminal by opening it. The name of the log may
// become one's only by a mount.
TEST_F(LogTest, TerminalIsRefusedAndNotAcquired) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_NE(master, -1);
  ASSERT_EQ(grantpt(master), 0);
  ASSERT_EQ(unlockpt(master), 0);
  const std::string terminal = ptsname(master);
  file_ = terminal;
  expect_start_error(quick({"-f"}), terminal + ": not a regular file");
  file_ = log();

  ENTER_MOUNT_NAMESPACE(inside);
  Launch launch = counting({"-f", "-i", "0.1"});
  launch.before_exec = [] { setsid(); };
  Process leader(launch);
  ASSERT_TRUE(reaches_cycle(2));
  ASSERT_EQ(mount(terminal.c_str(), file_.c_str(), "", MS_BIND, nullptr), 0);
  ASSERT_TRUE(reaches_cycle(cycles() + 3));
  EXPECT_EQ(process_stat(leader.pid(), 6), leader.pid()); // its session
  EXPECT_EQ(process_stat(leader.pid(), 7), 0);            // its terminal
  ASSERT_EQ(umount(file_.c_str()), 0);
  EXPECT_TRUE(grows(file_));
  expect_refusal(leader.pid());
  leader.signal(SIGTERM);
  EXPECT_EQ(leader.wait().status, 0);
  EXPECT_EQ(check_lines(whole_cycles(log_lines()), 1).fault, "");
  close(master);
}

TEST_F(LogTest, FullDeviceAsStandardOutputIsGoneOnWithAndSaid) {
  Launch launch = counting({"-f", "-i", "0.1", "-c", "3"});
  launch.arguments[1] = "-";
  // Not by stdout_to, which is read in the end: there is no end.
  launch.before_exec = [] {
    dup2(open("/dev/full", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
  };
  const Result result = run(launch);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: -: not all lines could be written\n");
  EXPECT_EQ(cycles(), 3);
}

// --- Modes and owners --------------------------------------------------------

// The log that rotation makes, and the one that the start makes.
TEST_F(LogTest, ModeIs0644WhateverTheUmask) {
  for (bool foreground : {false, true})
    for (bool rotated : {false, true}) {
      SCOPED_TRACE(std::string(foreground ? "-f " : "") +
                   (rotated ? "rotated" : "new"));
      Launch launch = quick({"-s", "4", "-c", "1"});
      launch.umask = 077;
      if (foreground)
        launch.arguments.insert(launch.arguments.begin(), "-f");
      if (rotated)
        write_file(file_, long_text());
      EXPECT_EQ(run(launch).status, 0);
      EXPECT_TRUE(eventually([&] {
        return count(end_label) == 1 && fs::exists(file_ + ".0") == rotated;
      }));
      struct stat status = {};
      EXPECT_EQ(stat(file_.c_str(), &status), 0);
      EXPECT_EQ(status.st_mode, S_IFREG | 0644u);
      fs::remove(file_);
      fs::remove(file_ + ".0");
    }
}

TEST_F(LogTest, LogOfSomebodyElseIsOpenedAsTheKernelAllows) {
  SKIP_UNLESS_ROOT();
  ASSERT_TRUE(fs::create_directory(path("d")));
  ASSERT_EQ(chmod(path("d").c_str(), 01777), 0);
  file_ = path("d/ping.log");
  write_file(file_, whole_line);
  Launch launch = quick({"-f", "-c", "1"});
  launch.user = nobody;
  expect_start_error(launch, file_ + ": " + strerror(EACCES));
  EXPECT_EQ(read_file(file_), whole_line);

  // Root may, unless fs.protected_regular says otherwise.
  ASSERT_EQ(chown(file_.c_str(), nobody, nobody), 0);
  const int allowed = open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  close(allowed);
  const Result result = run(quick({"-f", "-c", "1"}));
  EXPECT_EQ(result.status, allowed == -1 ? 1 : 0) << result.err;
  EXPECT_EQ(read_lines(file_).size(), allowed == -1 ? 1u : 4u);
  struct stat status = {};
  ASSERT_EQ(stat(file_.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, nobody);
  EXPECT_EQ(std::distance(fs::directory_iterator(path("d")), {}), 1);
}

// --- One writer --------------------------------------------------------------

TEST_F(LogTest, SecondStartIsRefusedAndNamesThePid) {
  const pid_t daemon = start_daemon(counting({"-i", "0.1"}));
  for (int i = 0; i < 3; ++i) // a refused one leaves the lock alone
    expect_refusal(daemon);
  const Result foreground = run(quick({"-f"}));
  EXPECT_EQ(foreground.status, 1);
  EXPECT_THAT(foreground.err, HasSubstr("PID " + std::to_string(daemon)));
  ASSERT_TRUE(reaches_cycle(cycles() + 2));
  stop(daemon);
  EXPECT_EQ(check_lines(whole_cycles(log_lines()), 1).fault, "");
}

TEST_F(LogTest, SecondStartIsRefusedToSomebodyWhoMayOnlyRead) {
  SKIP_UNLESS_ROOT();
  const pid_t daemon = start_daemon(quick());
  Launch launch = quick();
  launch.user = nobody;
  expect_start_error(launch, strerror(EACCES));
  Launch killer = command(program(), {"-k", "-o", file_});
  killer.user = nobody;
  expect_start_error(killer, strerror(EPERM));
  EXPECT_TRUE(is_alive(daemon));
  stop(daemon);
}

TEST_F(LogTest, FiftyStartedAtOnceAreOneDaemonAndRefusals) {
  std::vector<std::unique_ptr<Process>> starters;
  const Launch launch = counting({"-i", "0.2"});
  for (int i = 0; i < 50; ++i)
    starters.push_back(std::make_unique<Process>(launch));
  std::multiset<std::string> refusals;
  std::string greeting;
  for (const auto &starter : starters) {
    const Result result = starter->wait();
    if (result.status == 0)
      greeting += result.out;
    else
      refusals.insert(result.err);
  }
  long daemon = 0;
  ASSERT_EQ(sscanf(greeting.c_str(), "Daemon PID %ld", &daemon), 1);
  EXPECT_EQ(greeting, "Daemon PID " + std::to_string(daemon) + "\n");
  EXPECT_EQ(refusals.size(), 49u);
  EXPECT_EQ(refusals.count("pinglog: " + file_ + ": already written by PID " +
                           std::to_string(daemon) + "\n"),
            49u);
  ASSERT_TRUE(reaches_cycle(2));
  stop(static_cast<pid_t>(daemon));
  EXPECT_EQ(fault_in_log(file_), "");
  EXPECT_EQ(check_lines(whole_cycles(log_lines()), 1).fault, "");
}

// It may have renamed the log and not yet made the new one.
TEST_F(LogTest, StartIsRefusedWhileAnotherHoldsTheOldLog) {
  Launch launch = quick();
  launch.arguments[1] = file_ + ".0";
  const pid_t daemon = start_daemon(launch);
  expect_refusal(daemon);
  EXPECT_TRUE(grows(file_ + ".0"));
  stop(daemon);
  EXPECT_EQ(fs::file_size(file_), 0u);
  EXPECT_EQ(run(quick({"-f", "-c", "1"})).status, 0);
}

// Whoever is first to take the new log has it; the other one waits.
TEST_F(LogTest, LogTakenByAnotherIsLeftToItUntilItEnds) {
  const std::vector<std::string> slowly = {"-i", "1000", "-e", answering_ping(),
                                           "host"};
  const pid_t first = start_daemon(pinglog(slowly));
  ASSERT_TRUE(eventually([&] { return count(result_label) == 1; }));
  fs::rename(file_, path("old"));
  const pid_t second = start_daemon(pinglog(slowly));
  ASSERT_TRUE(eventually([&] { return count(result_label) == 1; }));
  send_signal(first, SIGHUP);
  // Having failed to open it, it does not write to the old one any more.
  expect_refusal(second);
  stop(second);
  EXPECT_EQ(log_lines().size(), 3u);
  send_signal(first, SIGHUP);
  EXPECT_TRUE(eventually([&] {
    const Result third = run(quick({"-c", "1"}));
    return third.status == 1 &&
           third.err.find("PID " + std::to_string(first)) != std::string::npos;
  }));
  stop(first);
  EXPECT_EQ(read_lines(path("old")).size(), 2u);
  EXPECT_EQ(count(end_label), 2);
}

TEST_F(LogTest, KillStopsTheOneThatHoldsTheLock) {
  const Launch killer = command(program(), {"-k", "-o", file_});
  const std::string nobody_there =
      "pinglog: " + file_ + ": no pinglog writes it here\n";
  expect_start_error(killer, nobody_there); // no log
  EXPECT_FALSE(fs::exists(file_));
  write_file(file_, whole_line);
  expect_start_error(killer, nobody_there); // nobody's log
  for (int stopped : {0, 1, 2}) {
    // To end so many takes time, and -k is to wait for it.
    Launch launch = pinglog({"-i", "1000", "-e", silent_ping()});
    launch.arguments.resize(launch.arguments.size() + (stopped == 0 ? 200 : 1),
                            "host");
    const pid_t daemon = start_daemon(launch);
    ASSERT_TRUE(eventually([&] { return count(start_label) == stopped + 1; }));
    if (stopped == 1) // it must be woken up first
      send_signal(daemon, SIGSTOP);
    if (stopped == 2) // and it is the file that counts, not its name
      fs::rename(file_, path("renamed"));
    const std::string name = stopped == 2 ? path("renamed") : file_;
    const Result result = run(command(program(), {"-k", "-o", name}));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out + result.err, "");
    EXPECT_FALSE(is_alive(daemon));
    EXPECT_EQ(fault_in_log(name), "");
    EXPECT_THAT(read_lines(name).back(), StartsWith(end_label));
  }
}

// It has renamed the full log, and the disk has no inode for a new one.
TEST_F(LogTest, KillFindsTheOneThatIsStuckInRotation) {
  ENTER_MOUNT_NAMESPACE(inside);
  const std::string disk = mount_disk();
  ASSERT_EQ(mount("tmpfs", disk.c_str(), "tmpfs", MS_REMOUNT, "nr_inodes=2"), 0)
      << strerror(errno);
  write_file(file_, long_text());
  const pid_t daemon = start_daemon(quick({"-s", "4"}));
  ASSERT_TRUE(eventually([&] { return !fs::exists(file_); }));
  EXPECT_EQ(run(command(program(), {"-k", "-o", file_})).status, 0);
  EXPECT_FALSE(is_alive(daemon));
}

TEST_F(LogTest, KillStopsTheWriterOfTheLogAndNotThatOfItsOldName) {
  const pid_t daemon = start_daemon(quick());
  Launch launch = quick();
  launch.arguments[1] = file_ + ".0";
  const pid_t other = start_daemon(launch);
  EXPECT_EQ(run(command(program(), {"-k", "-o", file_})).status, 0);
  EXPECT_FALSE(is_alive(daemon));
  // Now nothing writes the log, which is there.
  EXPECT_EQ(run(command(program(), {"-k", "-o", file_})).status, 1);
  EXPECT_TRUE(is_alive(other));
}

TEST_F(LogTest, KillDashNineLeavesNoLock) {
  const pid_t first = start_daemon(quick());
  stop(first, SIGKILL);
  const pid_t second = start_daemon(quick());
  expect_refusal(second);
  stop(second);
}

// --- Standard output ---------------------------------------------------------

class PipeTest : public LogTest {
protected:
  void SetUp() override {
    ASSERT_EQ(pipe2(ends_, O_CLOEXEC), 0);
    ASSERT_NE(fcntl(ends_[0], F_SETPIPE_SZ, 4096), -1);
  }
  void TearDown() override {
    close(ends_[0]);
    close_writer();
    LogTest::TearDown();
  }

  void close_writer() {
    if (ends_[1] != -1)
      close(ends_[1]);
    ends_[1] = -1;
  }

  Launch into_pipe(Launch launch) const {
    const int end = ends_[1];
    launch.arguments[1] = "-";
    launch.before_exec = [end] { dup2(end, STDOUT_FILENO); };
    return launch;
  }

  int ends_[2];
};

TEST_F(PipeTest, StalledReaderStallsNoPingAndGetsTheRestInOrder) {
  for (const auto &[hosts, stalled] : {std::pair(2, 10), {20, 11}}) {
    const int cycles_made = stalled + 6; // so many to notice and read on in
    for (int i = 0; i < hosts; ++i)
      fs::remove(path("counting-ping.h" + std::to_string(i)));
    Process pinglog(into_pipe(counting(
        {"-f", "-i", "0.4", "-c", std::to_string(cycles_made)}, hosts, true)));
    ASSERT_TRUE(reaches_cycle(stalled)); // 1 or 10 KB each
    close_writer();
    std::string text;
    char buffer[4096];
    for (ssize_t size; (size = read(ends_[0], buffer, sizeof buffer)) > 0;)
      text.append(buffer, size);
    EXPECT_EQ(pinglog.wait().status, 0);
    write_file(path("text"), text);
    EXPECT_EQ(fault_in_log(path("text")), "");
    const Account account = check_lines(read_lines(path("text")), hosts);
    EXPECT_EQ(account.fault, "");
    EXPECT_EQ(account.lines, cycles_made * (hosts + 2));
    if (hosts == 2)
      EXPECT_EQ(account.lost, 0);
    else {
      EXPECT_GT(account.lost, 0);
      EXPECT_GT(account.before_mark, 65536u - 600);
    }
    close(ends_[0]);
    SetUp();
  }
}

TEST_F(PipeTest, ItEndsWhenTheReaderHasGone) {
  Launch launch = into_pipe(
      pinglog({"-f", "-i", "0.3", "-e", silent_ping(), "host", "other"}));
  Process pinglog(launch);
  close_writer();
  char byte;
  ASSERT_EQ(read(ends_[0], &byte, 1), 1);
  ASSERT_TRUE(
      eventually([&] { return children_of(pinglog.pid()).size() == 2; }));
  const std::vector<pid_t> pings = children_of(pinglog.pid());
  close(ends_[0]);
  ends_[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const Result result = pinglog.wait();
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: -: not all lines could be written\n");
  for (pid_t ping : pings)
    EXPECT_FALSE(is_alive(ping));
  EXPECT_TRUE(processes_with_environment(mark()).empty());
}

} // namespace
