// full_disk_test.cpp - what becomes of the log while its disk is full.
//
// README promises:
//   - Lines that cannot be written, as on a full disk, wait in 64 KiB of
//     memory; `lines lost---------:N` counts the rest.
//
// Most tests imitate a full disk with a limit of the file size (RLIMIT_FSIZE).
// The limit needs no privileges, can cut a write at any byte, and can be raised
// by the test.

#include "support.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Gt;
using ::testing::Le;
using ::testing::SizeIs;

// How lines get into the log: with -o FILE, or with -o - and a redirection.
struct Way {
  const char *name;
  int flags; // of the shell's open(2); 0: pinglog opens the log
};

void PrintTo(const Way &way, std::ostream *out) { *out << way.name; }

// Sets the process's limit to this size, or lifts it. PID 0 is the caller.
void set_limit(pid_t pid, std::optional<rlim_t> size) {
  rlimit limit = {};
  ASSERT_EQ(prlimit(pid, RLIMIT_FSIZE, nullptr, &limit), 0);
  limit.rlim_cur = size.value_or(limit.rlim_max);
  ASSERT_EQ(prlimit(pid, RLIMIT_FSIZE, &limit, nullptr), 0);
}

// The launch, changed to write this file in this way and under this limit.
Launch writing(Launch launch, const Way &way, const std::string &file,
               std::optional<rlim_t> limit = {}) {
  if (way.flags != 0)
    launch.arguments[1] = "-";
  launch.before_exec = [before = launch.before_exec, way, file, limit] {
    if (before)
      before(); // enters the disk's namespace
    if (way.flags != 0)
      dup2(open(file.c_str(), O_WRONLY | O_CREAT | way.flags, 0644), 1);
    set_limit(0, limit);
  };
  return launch;
}

bool operator!=(const timespec &one, const timespec &other) {
  return one.tv_sec != other.tv_sec || one.tv_nsec != other.tv_nsec;
}

class LimitTest : public Sandbox, public ::testing::WithParamInterface<Way> {
protected:
  Launch limited(const Launch &launch, rlim_t limit) const {
    return writing(launch, GetParam(), log(), limit);
  }

  void expect_good_end(Process &process) const {
    process.signal(SIGTERM);
    const Result result = process.wait();
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(check_log(log()).fault, "");
  }
};

INSTANTIATE_TEST_SUITE_P(Each, LimitTest,
                         ::testing::Values(Way{"Name", 0},
                                           Way{"Redirection", O_TRUNC},
                                           Way{"Appending", O_APPEND}),
                         [](const auto &info) {
                           return std::string(info.param.name);
                         });

// The limit grows byte by byte, so each byte of a start, a result and an end
// line is once the first that does not fit. A change of the file's time shows
// that pinglog has tried to write and has cut the partial line off again.
TEST_P(LimitTest, LineCutAtAnyByteIsNeitherTornNorLost) {
  // A ping that never answers has the same result on a fast and a slow machine.
  const std::string result = "host fail no answer in 0.03 s";
  const rlim_t short_line = 20 + 24 + 1; // label, time and newline
  Process process(
      limited(pinglog({"-f", "-i", "0.03", "-e", silent_ping(), "host"}), 0));
  const std::string started =
      "PID " + std::to_string(process.pid()) + " pings host every 0.03 s";
  const rlim_t after_started = short_line + 1 + started.size();
  const rlim_t after_start = after_started + short_line;
  const rlim_t after_result = after_start + short_line + 1 + result.size();
  const rlim_t after_end = after_result + short_line;
  // Once a ping runs, the child has set its first limit and executed pinglog.
  ASSERT_TRUE(eventually([&] { return !children_of(process.pid()).empty(); }));
  const auto begin = std::chrono::steady_clock::now();
  struct stat status = {};
  ASSERT_EQ(stat(log().c_str(), &status), 0);
  for (rlim_t limit = after_started; limit <= after_end; ++limit) {
    SCOPED_TRACE(limit);
    off_t whole = after_started;
    for (rlim_t size : {after_start, after_result, after_end})
      if (size <= limit)
        whole = size;
    const timespec before = status.st_mtim;
    set_limit(process.pid(), limit);
    ASSERT_TRUE(eventually(
        [&] {
          return stat(log().c_str(), &status) == 0 &&
                 status.st_mtim != before && status.st_size == whole;
        },
        std::chrono::seconds(20)))
        << read_file(log());
  }
  EXPECT_EQ(results()[0], result);
  set_limit(process.pid(), {});
  expect_good_end(process);
  // The memory holds the lines of 12 s. A test that was stalled so long may
  // have caused a loss, which is counted.
  EXPECT_EQ(check_log(log(), 1).fault, "");
  if (std::chrono::steady_clock::now() - begin < std::chrono::seconds(10))
    expect_sound_log(1);
}

// The one cycle has more lines than disk and memory hold. Two pings are held
// back: the first ends when the disk has room for some of the waiting lines,
// the second when it has room for all. The first result is dropped
// nevertheless: after a lost line, all are dropped until the count has been
// written. The second result may be dropped or written.
TEST_P(LimitTest, DroppedLinesAreCountedWhereTheyAreMissing) {
  constexpr rlim_t room = 5000;
  constexpr int hosts = 170;
  const Words names = long_hosts(hosts - 2);
  Launch launch =
      pinglog({"-f", "-i", "1000", "-e", held_ping(), "held1", "held2"});
  launch.arguments.insert(launch.arguments.end(), names.begin(), names.end());
  const size_t line = strlen(result_label) + time_size + 1 +
                      (names[0] + " fail ").size() + 200 + 1;
  Process process(limited(launch, room));
  await_lines(start_label, 1);
  ASSERT_TRUE(is_left_with(2, hosts, process.pid()));
  const size_t on_disk = read_file(log()).size();
  EXPECT_THAT(on_disk, AllOf(Gt(room - line), Le(room)));
  set_limit(process.pid(), 6 * room);
  release("held1");
  ASSERT_TRUE(is_left_with(1, hosts, process.pid()));
  EXPECT_GT(read_file(log()).size(), 6 * room - line);
  set_limit(process.pid(), {});
  release("held2");
  ASSERT_TRUE(is_left_with(0, hosts, process.pid()));
  expect_good_end(process);

  const Words lines = log_lines();
  const Account account = check_log(log(), hosts);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 1 + hosts + 2);
  EXPECT_THAT(account.before_mark - on_disk,
              AllOf(Gt(65536 - line), Le(65536u)));
  const Words from_mark(std::find(lines.begin(), lines.end(),
                                  lost_label + std::to_string(account.lost)),
                        lines.end());
  EXPECT_THAT(from_mark, AnyOf(SizeIs(2), SizeIs(3)));
}

TEST_P(LimitTest, LinesThatCannotBeWrittenAreReportedAtTheExit) {
  const Launch launch = quick({"-f", "-c", "1"});
  EXPECT_EQ(run(launch).status, 0);
  const rlim_t within_the_end_line = fs::file_size(log()) - 20;
  fs::remove(log());
  const Result result = run(limited(launch, within_the_end_line));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err,
            "pinglog: " + (GetParam().flags == 0 ? log() : "standard output") +
                ": No space left on device\n");
  EXPECT_EQ(check_log(log()).fault, "");
  EXPECT_EQ(log_lines().size(), 3u);
}

class FullDiskTest : public Sandbox {
protected:
  void SetUp() override {
    Sandbox::SetUp();
    if (!IsSkipped() && sysconf(_SC_PAGESIZE) != 4096)
      GTEST_SKIP() << "the disks of these tests have pages of 4 KiB";
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

// Two pinglogs write to the disk, one by name and one by redirection.
TEST_F(FullDiskTest, LinesWaitInOrderUntilTheFullDiskHasRoom) {
  MOUNT_NAMESPACE_OR_SKIP(inside);
  const std::string disk = mount_disk(inside, "size=64k");
  constexpr int all = 15;
  const Words often = {"-f", "-i", "1", "-c", std::to_string(all)};
  Process named(counting(often, 2, true));
  Launch launch = pinglog(often);
  launch.arguments.insert(launch.arguments.end(), {"-e", "false"});
  const Words names = long_hosts(4);
  launch.arguments.insert(launch.arguments.end(), names.begin(), names.end());
  Process redirected(
      writing(launch, {"Redirection", O_TRUNC}, path("disk/redirected")));
  ASSERT_TRUE(eventually(
      [&] { return cycles() >= 2 && fs::exists(disk + "/redirected"); }));
  uintmax_t named_pages = 0, redirected_pages = 0;
  const auto pages = [](const std::string &file) {
    return (fs::file_size(file) + 4095) / 4096;
  };
  while_stopped(named.pid(), [&] {
    while_stopped(redirected.pid(), [&] {
      fill(disk + "/filler");
      named_pages = pages(log_file());
      redirected_pages = pages(disk + "/redirected");
    });
  });
  // Wait for more lines than the last page of each file can take.
  ASSERT_TRUE(eventually([&] { return cycles() >= 7; }));
  EXPECT_TRUE(eventually([&] { return check_log(log_file()).fault.empty(); }));
  while_stopped(named.pid(), [&] {
    EXPECT_EQ(pages(log_file()), named_pages);
    EXPECT_EQ(pages(disk + "/redirected"), redirected_pages);
    expect_refusal(named.pid());
    while_stopped(redirected.pid(), [&] { fs::remove(disk + "/filler"); });
  });
  for (const auto &[process, file, hosts] :
       {std::tuple(&named, log_file(), 2),
        {&redirected, disk + "/redirected", 4}}) {
    SCOPED_TRACE(file);
    const Result result = process->wait();
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.err, "");
    const Account account = check_log(file, hosts);
    EXPECT_EQ(account.fault, "");
    EXPECT_EQ(account.lines, 1 + all * (hosts + 2) + hosts); // the outages
    EXPECT_EQ(account.lost, 0);
  }
}

// The kernel frees the blocks of a removed file when the daemon closes it. The
// daemon does so before it writes its next line.
TEST_F(FullDiskTest, RemovingTheLogThatFillsTheDiskMakesRoomForWaitingLines) {
  MOUNT_NAMESPACE_OR_SKIP(inside);
  const std::string disk = mount_disk(inside, "size=64k");
  write_file(disk + "/filler", std::string(48 * 1024, '#'));
  const pid_t daemon = start_daemon(counting({"-i", "0.5"}, 9, true));
  // It has 16 KiB, and a line at most 500 bytes. The next cycle's lines wait.
  ASSERT_TRUE(eventually([&] { return fs::file_size(log_file()) > 15884; }));
  const int full = cycles();
  ASSERT_TRUE(eventually([&] { return cycles() >= full + 2; }));
  std::string removed;
  while_stopped(daemon, [&] {
    removed = read_file(log_file());
    removed.resize(removed.rfind('\n') + 1); // a partial line may follow
    EXPECT_TRUE(fs::remove(log_file()));
  });
  const int then = cycles();
  EXPECT_TRUE(eventually([&] { return count(start_label) > 0; }));
  fs::remove(disk + "/filler"); // the waiting lines may fill the disk again
  EXPECT_TRUE(eventually([&] { return count(start_label) > 3; }));
  stop(daemon);
  EXPECT_THAT(removed.size(), AllOf(Gt(16384u - 500), Le(16384u)));
  write_file(path("all"), removed + read_file(log_file()));
  const Account account = check_log(path("all"), 9);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lost, 0);
  EXPECT_GT(account.lines, then * 11 - 11);
}

// Each file takes half of the limit and at most one cycle more, so both exceed
// the limit by two cycles at most.
TEST_F(FullDiskTest, LogWithALimitThatFitsASmallDiskNeverStops) {
  MOUNT_NAMESPACE_OR_SKIP(inside);
  mount_disk(inside, "size=64k");
  Process process(counting({"-f", "-i", "0.2", "-s", "48"}, 6, true));
  ASSERT_TRUE(eventually([&] { return cycles() >= 24; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  for (const std::string &file : {log_file(), log_file() + ".0"}) {
    EXPECT_EQ(check_log(file).fault, "");
    EXPECT_EQ(read_file(file).find(lost_label), std::string::npos);
    EXPECT_LE(fs::file_size(file), 24u * 1024 + 6 * 600);
  }
  EXPECT_GE(fs::file_size(log_file() + ".0"), 24u * 1024);
  const Words last = log_lines();
  EXPECT_THAT(last.back(), ::testing::StartsWith(end_label));
}

} // namespace
