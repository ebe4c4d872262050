// full_disk_test.cpp - a disk that is full: lines wait, whole and in order, and
// those that memory has no room for are counted where they are missing.
//
// A limit to the size of files is such a disk for everybody: moved from
// outside, it cuts a write at any byte, and lets go when it is raised.

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

// How the lines get into the log: by -o FILE, or by -o - and the shell.
struct Way {
  const char *name;
  int flags; // of the shell's open(2); 0: pinglog itself opens it
};

void PrintTo(const Way &way, std::ostream *out) { *out << way.name; }

// The limit of this process, 0 for the caller. None, or as far as it goes.
void set_limit(pid_t pid, std::optional<rlim_t> size) {
  rlimit limit = {};
  ASSERT_EQ(prlimit(pid, RLIMIT_FSIZE, nullptr, &limit), 0);
  limit.rlim_cur = size.value_or(limit.rlim_max);
  ASSERT_EQ(prlimit(pid, RLIMIT_FSIZE, &limit, nullptr), 0);
}

// This launch of pinglog, by this way into this file, under this limit.
Launch writing(Launch launch, const Way &way, const std::string &file,
               std::optional<rlim_t> limit = {}) {
  if (way.flags != 0)
    launch.arguments[1] = "-";
  launch.before_exec = [before = launch.before_exec, way, file, limit] {
    if (before)
      before(); // goes to another disk
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
    EXPECT_EQ(fault_in_log(log()), "");
  }
};

INSTANTIATE_TEST_SUITE_P(By, LimitTest,
                         ::testing::Values(Way{"Name", 0},
                                           Way{"Redirection", O_TRUNC},
                                           Way{"Appending", O_APPEND}),
                         [](const auto &info) {
                           return std::string(info.param.name);
                         });

// There is room for a byte more at a time, and so each byte of a start, a
// result and an end line is the first that has none. That a write was taken
// back is seen by the time of the file.
TEST_P(LimitTest, CutsALineAtAnyByteAndNoneIsTornOrLost) {
  // Whether a ping answers in time depends on the machine. This one does not.
  const std::string result =
      result_label + std::string("host fail no answer in 0.03 s\n");
  const rlim_t start = 20 + 24 + 1; // label, time and newline
  const rlim_t end = start + result.size() + start;
  Process process(
      limited(pinglog({"-f", "-i", "0.03", "-e", silent_ping(), "host"}), 0));
  // It is pinglog by now, and has set itself no limit since.
  ASSERT_TRUE(eventually([&] { return !children_of(process.pid()).empty(); }));
  struct stat status = {};
  ASSERT_EQ(stat(log().c_str(), &status), 0);
  for (rlim_t limit = 1; limit <= end; ++limit) {
    SCOPED_TRACE(limit);
    off_t whole = 0;
    for (rlim_t line : {start, end - start, end})
      if (line <= limit)
        whole = line;
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
  EXPECT_EQ(log_lines()[1] + "\n", result);
  set_limit(process.pid(), {});
  expect_good_end(process);
  expect_sound_log();
  expect_a_line_for_each_host(1);
}

// The one cycle has more lines than disk and memory take. Two pings are held
// back: the first ends when there is room for some of what waits, the second
// when there is enough. The line of the first belongs to the gap all the same:
// nothing is put behind what is lost before its number is. That of the second
// may be either.
TEST_P(LimitTest, LinesThatMemoryHasNoRoomForAreCountedWhereTheyAreMissing) {
  constexpr rlim_t room = 5000;
  constexpr int hosts = 260;
  const std::string name(255, 'h');
  Launch launch =
      pinglog({"-f", "-i", "1000", "-e", held_ping(), "held1", "held2"});
  launch.arguments.insert(launch.arguments.end(), hosts - 2, name);
  const size_t line = (result_label + name + " fail exit status 1\n").size();
  Process process(limited(launch, room));
  await_lines(start_label, 1);
  ASSERT_TRUE(is_left_with(2, process.pid()));
  const size_t on_disk = read_file(log()).size();
  EXPECT_THAT(on_disk, AllOf(Gt(room - line), Le(room)));
  set_limit(process.pid(), 6 * room);
  release("held1");
  ASSERT_TRUE(is_left_with(1, process.pid()));
  EXPECT_GT(read_file(log()).size(), 6 * room - line);
  set_limit(process.pid(), {});
  release("held2");
  ASSERT_TRUE(is_left_with(0, process.pid()));
  expect_good_end(process);

  const Words lines = log_lines();
  const Account account = check_lines(lines, hosts);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, hosts + 2);
  EXPECT_THAT(account.before_mark - on_disk,
              AllOf(Gt(65536 - line), Le(65536u)));
  const Words from_mark(std::find(lines.begin(), lines.end(),
                                  lost_label + std::to_string(account.lost)),
                        lines.end());
  EXPECT_THAT(from_mark, AnyOf(SizeIs(2), SizeIs(3)));
}

TEST_P(LimitTest, ThatStaysToTheEndIsSaidThen) {
  const std::string host(255, 'h'); // the end line is the first that is cut
  const Result result = run(limited(
      pinglog({"-f", "-c", "1", "-i", "0.1", "-e", "true", host}), 350));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err,
            "pinglog: " + (GetParam().flags == 0 ? log() : "standard output") +
                ": No space left on device\n");
  EXPECT_EQ(fault_in_log(log()), "");
  EXPECT_EQ(log_lines().size(), 2u);
}

class FullDiskTest : public Sandbox {
protected:
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

// Two pinglogs write to the disk, by name and by redirection.
TEST_F(FullDiskTest, LinesWaitInOrderUntilItHasRoomAgain) {
  MOUNT_NAMESPACE_OR_SKIP(inside);
  const std::string disk = mount_disk(inside, "size=32k");
  Process named(counting({"-f", "-i", "0.2", "-c", "9"}, 2, true));
  Launch launch = pinglog({"-f", "-i", "0.2", "-c", "9", "-e", "true"});
  launch.arguments.insert(launch.arguments.end(), 4, std::string(255, 'h'));
  Process redirected(
      writing(launch, {"Redirection", O_TRUNC}, path("disk/redirected")));
  ASSERT_TRUE(eventually([&] { return cycles() >= 2; }));
  fill(disk + "/filler");
  // More than the last page of each file takes.
  ASSERT_TRUE(eventually([&] { return cycles() >= 7; }));
  EXPECT_TRUE(eventually([&] { return fault_in_log(log_file()).empty(); }));
  while_stopped(named.pid(), [&] {
    EXPECT_LT(log_lines().size(), 5u * 4);
    EXPECT_LE(fs::file_size(disk + "/redirected"), 4096u);
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
    EXPECT_EQ(fault_in_log(file), "");
    const Account account = check_lines(read_lines(file), hosts);
    EXPECT_EQ(account.fault, "");
    EXPECT_EQ(account.lines, 9 * (hosts + 2));
    EXPECT_EQ(account.lost, 0);
  }
}

// Its blocks are free when the daemon lets go of it, which is before the line
// that finds the name gone.
TEST_F(FullDiskTest, RemovingTheLogThatFillsItMakesRoomForWhatWaits) {
  MOUNT_NAMESPACE_OR_SKIP(inside);
  const std::string disk = mount_disk(inside);
  const pid_t daemon = start_daemon(counting({"-i", "0.2"}, 9, true));
  ASSERT_TRUE(eventually([&] { return cycles() >= 6; })); // 4 KB each
  std::string removed;
  while_stopped(daemon, [&] {
    removed = read_file(log_file());
    removed.resize(removed.rfind('\n') + 1); // it may be taking a line back
    EXPECT_TRUE(fs::remove(log_file()));
  });
  const int then = cycles();
  EXPECT_TRUE(eventually([&] { return count(start_label) > 3; }));
  stop(daemon);
  EXPECT_THAT(removed.size(), AllOf(Gt(16384u - 500), Le(16384u)));
  write_file(path("all"), removed + read_file(log_file()));
  EXPECT_EQ(fault_in_log(path("all")), "");
  const Account account = check_lines(read_lines(path("all")), 9);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lost, 0);
  EXPECT_GT(account.lines, then * 11 - 11);
}

} // namespace
