// full_disk_test.cpp - what becomes of the log while its disk is full: lines
// wait in 64 KiB of memory; `lines lost---------:N` counts the rest.
//
// Most tests imitate a full disk with a limit of the file size (RLIMIT_FSIZE).
// The limit needs no privileges, can cut a write at any byte, and can be raised
// by the test.

#include "support.h"

namespace {

// Sets the limit of the file size, or lifts it. PID 0 is the caller.
void set_limit(pid_t pid, std::optional<rlim_t> size) {
  ASSERT_TRUE(set_soft_limit(pid, RLIMIT_FSIZE, size));
}

// How lines get into the log: with -o FILE (0), or with -o - and a redirection,
// for which the shell has opened the log with these flags.
class LimitTest : public Sandbox, public WithParamInterface<int> {
protected:
  // The launch, changed to write the log in this way and under this limit.
  Launch limited(Launch launch, rlim_t limit) const {
    const int flags = GetParam();
    if (flags != 0)
      launch.arguments[1] = "-";
    launch.before_exec = [flags, file = log(), limit] {
      if (flags != 0)
        dup2(open(file.c_str(), O_WRONLY | O_CREAT | flags, 0644), 1);
      set_limit(0, limit);
    };
    return launch;
  }
};

INSTANTIATE_TEST_SUITE_P(Each, LimitTest, Values(0, O_TRUNC, O_APPEND),
                         [](const auto &info) -> std::string {
                           return info.param == 0         ? "Name"
                                  : info.param == O_TRUNC ? "Redirection"
                                                          : "Appending";
                         });

// The limit grows byte by byte, so each byte of a start, a result and an end
// line is once the first that does not fit. A change of the file's time shows
// that pinglog has tried to write and has cut the partial line off again.
TEST_P(LimitTest, LineCutAtAnyByteIsNeitherTornNorLost) {
  // A ping that never answers has the same result on a fast and a slow machine.
  const std::string result = "host fail no answer in 0.03 s";
  const rlim_t short_line = label_size + time_size + 1;
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
    const long before = status.st_mtim.tv_nsec;
    set_limit(process.pid(), limit);
    ASSERT_TRUE(eventually([&] {
      return stat(log().c_str(), &status) == 0 &&
             status.st_mtim.tv_nsec != before && status.st_size == whole;
    })) << read_file(log());
  }
  EXPECT_EQ(results()[0], result);
  set_limit(process.pid(), {});
  expect_end(process);
  // The memory holds the lines of 12 s. A test that was stalled so long may
  // have caused a loss, which is counted.
  EXPECT_EQ(check_log(log(), 1).fault, "");
  if (std::chrono::steady_clock::now() - begin < std::chrono::seconds(10))
    expect_sound_log(1);
}

// The one cycle has more lines than disk and memory hold. Two pings are held
// back until the disk has room again. Their results are dropped nevertheless:
// after a failed write, pinglog tries again in the next cycle or at its exit,
// and after a lost line, all are dropped until the count has been written.
TEST_P(LimitTest, DroppedLinesAreCountedWhereTheyAreMissing) {
  constexpr rlim_t room = 5000;
  constexpr int hosts = 170;
  const Words names = long_hosts(hosts - 2);
  const size_t line =
      label_size + time_size + 1 + (names[0] + " fail ").size() + 200 + 1;
  Process process(limited(
      pinglog(Words{"-f", "-i", "1000", "-e", held_ping(), "held1", "held2"} +
              names),
      room));
  await(start_label);
  ASSERT_TRUE(is_left_with(2, hosts, process.pid()));
  const size_t on_disk = read_file(log()).size();
  EXPECT_THAT(on_disk, AllOf(Gt(room - line), Le(room)));
  set_limit(process.pid(), {});
  release("held1");
  release("held2");
  ASSERT_TRUE(is_left_with(0, hosts, process.pid()));
  EXPECT_EQ(read_file(log()).size(), on_disk);
  expect_end(process);
  const Account account = check_log(log(), hosts);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 1 + hosts + 2);
  const std::string text = read_file(log());
  const size_t mark = text.find(lost_label);
  EXPECT_THAT(mark - on_disk, AllOf(Gt(65536 - line), Le(65536u)));
  EXPECT_EQ(std::count(text.begin() + mark, text.end(), '\n'), 1);
}

TEST_P(LimitTest, LinesThatCannotBeWrittenAreReportedAtTheExit) {
  // Wherever these lines end by the length of the PID, this is within the last.
  constexpr rlim_t within_the_end_line = 215;
  const Launch launch = quick({"-f", "-c", "1", "-e", silent_ping()});
  expect_failure(limited(launch, within_the_end_line),
                 (GetParam() == 0 ? log() : "standard output") +
                     ": No space left on device");
  EXPECT_EQ(check_log(log()).fault, "");
  EXPECT_THAT(log_lines(), SizeIs(3));
}

class FullDiskTest : public Sandbox {};

TEST_F(FullDiskTest, LinesWaitInOrderUntilTheFullDiskHasRoom) {
  fs::create_directory(path("disk"));
  const Mount disk(path("disk"), "size=64k");
  SKIP_IF(disk.why());
  set_log(path("disk/ping.log"));
  Process process(counting({"-f", "-i", "1.5"}, 8, true)); // 4 KB a cycle
  ASSERT_TRUE(eventually([&] { return cycles() >= 2; }));
  uintmax_t size = 0;
  while_stopped(process.pid(), [&] {
    std::ofstream(path("disk/filler")) << std::string(65536, '#');
    size = fs::file_size(log());
  });
  // The log's last page takes some lines; those of the last cycles must wait.
  const int full = cycles();
  ASSERT_TRUE(eventually([&] { return cycles() >= full + 3; }));
  EXPECT_EQ((fs::file_size(log()) - 1) / 4096, (size - 1) / 4096);
  EXPECT_EQ(check_log(log()).fault, "");
  fs::remove(path("disk/filler"));
  expect_sound_end(process, 8);
}

// Otherwise, the next line would be appended to the unfinished one.
TEST_F(FullDiskTest, UnfinishedLineGetsItsNewlineOnceThereIsRoom) {
  Process process(counting({"-f", "-i", "0.2"}));
  ASSERT_TRUE(eventually([&] { return cycles() >= 2; }));
  const std::string foreign(4096, 'm');
  while_stopped(process.pid(), [&] {
    fs::remove(log());
    write_file(log(), foreign);
    set_limit(process.pid(), foreign.size());
  });
  const int full = cycles();
  ASSERT_TRUE(eventually([&] { return cycles() >= full + 3; }));
  EXPECT_EQ(read_file(log()), foreign);
  set_limit(process.pid(), {});
  await(end_label);
  expect_end(process);
  EXPECT_EQ(log_lines()[0], foreign);
}

} // namespace
