// log_test.cpp - the file of the log: what it may be, how it is opened, and
// what happens when it goes away, grows too large, or its writer is killed.

#include "support.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::StartsWith;

const std::string whole_line = "end of time--------:Sun Nov 22 07:45:00 2026\n";

// Whole lines, more than `-s 4` leaves in a log.
std::string long_text(size_t size = 5000) {
  std::string text;
  while (text.size() < size)
    text += whole_line;
  return text;
}

class LogTest : public Sandbox {
protected:
  // A log in a directory of its own, which may be taken away.
  std::string move_log() {
    fs::create_directory(path("d"));
    set_log(path("d/ping.log"));
    return path("d");
  }

  // One that root's rights do not help to write where it may not.
  Launch unprivileged(Launch launch) const {
    if (geteuid() == 0)
      launch.user = nobody;
    EXPECT_EQ(chmod(path("").c_str(), 01777), 0); // for the pings' counters
    EXPECT_EQ(chmod(fs::path(log()).parent_path().c_str(), 0777), 0);
    return launch;
  }

  // The log goes on, and whoever ends it then finds it sound.
  void end_with(pid_t daemon, const std::string &before) {
    const int then = cycles();
    ASSERT_TRUE(eventually([&] { return logs_cycles_after(then); }));
    expect_refusal(daemon);
    stop(daemon);
    EXPECT_EQ(fault_in_log(log()), "");
    write_file(path("all"), before + read_file(log()));
    const Account account = check_lines(read_lines(path("all")), 1);
    EXPECT_EQ(account.fault, "");
    EXPECT_EQ(account.lost, 0);
    EXPECT_GT(account.lines, then * 3);
  }

private:
  // The log has the result of a ping that was started after so many.
  bool logs_cycles_after(int cycle) const {
    const Words lines = log_lines();
    return std::any_of(lines.begin(), lines.end(), [&](const auto &line) {
      int number = 0;
      return sscanf(line.c_str(), "ping result--------:%*s fail %d ",
                    &number) == 1 &&
             number > cycle;
    });
  }
};

// --- The name and the file ---------------------------------------------------

// The ping is held until the log has another name.
TEST_F(LogTest, EachLineGoesToTheFileThatHasTheNameAtThatMoment) {
  const pid_t daemon =
      start_daemon(pinglog({"-i", "1000", "-e", held_ping(), "held"}));
  await_lines(start_label, 1);
  fs::rename(log(), path("first"));
  release("held");
  await_lines(result_label, 1);
  expect_refusal(daemon);
  fs::rename(log(), path("second"));
  stop(daemon);
  EXPECT_THAT(read_lines(path("first")), ElementsAre(StartsWith(start_label)));
  EXPECT_THAT(read_lines(path("second")),
              ElementsAre(StartsWith(result_label)));
  EXPECT_THAT(log_lines(), ElementsAre(StartsWith(end_label)));
}

struct Disturbance {
  const char *name;
  std::function<void(const std::string &log)> begin;
  std::function<void(const std::string &log)> end = [](auto &) {};
  bool by_rights = false; // it disturbs those alone who are not root
};

void PrintTo(const Disturbance &disturbance, std::ostream *out) {
  *out << disturbance.name;
}

class DisturbanceTest : public LogTest,
                        public ::testing::WithParamInterface<Disturbance> {};

fs::path directory_of(const std::string &log) {
  return fs::path(log).parent_path();
}

void rename_log(const std::string &log) { fs::rename(log, log + ".old"); }

void remove_log(const std::string &log) { EXPECT_TRUE(fs::remove(log)); }

void protect_directory(const std::string &log) {
  EXPECT_EQ(chmod(directory_of(log).c_str(), 0555), 0);
}

void unprotect_directory(const std::string &log) {
  EXPECT_EQ(chmod(directory_of(log).c_str(), 0777), 0);
}

// Something that is no log takes its place.
auto replaced_by(std::function<int(const char *)> make) {
  return [make](const std::string &log) {
    rename_log(log);
    EXPECT_EQ(make(log.c_str()), 0) << strerror(errno);
  };
}

TEST_P(DisturbanceTest, EndsAndNoLineIsMissing) {
  const Disturbance &disturbance = GetParam();
  if (disturbance.by_rights && geteuid() == 0)
    SKIP_UNLESS_NOBODY_CAN_RUN();
  const std::string directory = move_log();
  Launch launch = counting({"-i", "0.15"});
  if (disturbance.by_rights)
    launch = unprivileged(launch);
  const pid_t daemon = start_daemon(launch);
  ASSERT_TRUE(eventually([&] { return cycles() >= 2; }));
  const std::string kept = path("kept"); // whatever becomes of its name
  std::string before;
  while_stopped(daemon, [&] {
    fs::create_hard_link(log(), kept);
    before = read_file(log());
    disturbance.begin(log());
  });
  const int disturbed = cycles();
  ASSERT_TRUE(eventually([&] { return cycles() >= disturbed + 3; }));
  while_stopped(daemon, [&] { disturbance.end(log()); });
  ASSERT_TRUE(eventually([&] { return fs::is_regular_file(log()); }));
  if (!fs::equivalent(log(), kept))
    before = read_file(kept);
  end_with(daemon, before);
  EXPECT_FALSE(fs::exists(directory + "/elsewhere"));
  EXPECT_THAT(read_file(directory + "/victim"), AnyOf("", "untouched"));
}

INSTANTIATE_TEST_SUITE_P(
    Of, DisturbanceTest,
    ::testing::Values(
        Disturbance{"Removal", remove_log},
        Disturbance{"Replacement",
                    [](auto &log) {
                      rename_log(log);
                      write_file(log, whole_line.substr(0, 30), 0600);
                    }},
        Disturbance{"TruncationInPlace",
                    [](auto &log) { fs::resize_file(log, 0); }},
        Disturbance{
            "DirectoryRemoved",
            [](auto &log) { EXPECT_GT(fs::remove_all(directory_of(log)), 1u); },
            [](auto &log) { fs::create_directory(directory_of(log)); }},
        Disturbance{"DirectoryReadOnly",
                    [](auto &log) {
                      rename_log(log);
                      protect_directory(log);
                    },
                    unprotect_directory, true},
        Disturbance{"Directory",
                    replaced_by([](auto name) { return mkdir(name, 0755); }),
                    remove_log},
        Disturbance{"Fifo",
                    replaced_by([](auto name) { return mkfifo(name, 0644); }),
                    remove_log},
        Disturbance{"DanglingLink", replaced_by([](auto name) {
                      return symlink("elsewhere", name);
                    }),
                    remove_log},
        Disturbance{"Link", replaced_by([](auto name) {
                      write_file(directory_of(name) / "victim", "untouched");
                      return symlink("victim", name);
                    }),
                    remove_log}),
    [](const auto &info) { return std::string(info.param.name); });

TEST_F(LogTest, RelativeNameMeansTheCallersDirectoryForEver) {
  Launch launch = quick();
  launch.arguments[1] = "ping.log";
  const pid_t daemon = start_daemon(launch);
  await_cycles(1);
  fs::rename(log(), path("old"));
  await_cycles(1);
  stop(daemon);
}

TEST_F(LogTest, ThatIsBackOnlyAtTheEndGetsTheLinesThatWait) {
  const std::string directory = move_log();
  const pid_t daemon =
      start_daemon(pinglog({"-i", "1000", "-e", held_ping(), "held"}));
  await_lines(start_label, 1);
  fs::rename(directory, path("away"));
  release("held");
  ASSERT_TRUE(is_left_with(0, daemon));
  fs::rename(path("away"), directory);
  stop(daemon);
  EXPECT_THAT(log_lines(),
              ElementsAre(StartsWith(start_label), StartsWith(result_label),
                          StartsWith(end_label)));
}

// --- What the log ends in when it is opened ----------------------------------

TEST_F(LogTest, UnfinishedLineIsCutOffIfOursAndElseKeptAndEnded) {
  const std::string longest =
      result_label + std::string(255, 'h') + " fail " + std::string(200, 'r');
  const std::string labels[] = {start_label, result_label, end_label,
                                lost_label};
  std::vector<std::pair<std::string, std::string>> rows = {
      {"", ""},
      {whole_line, whole_line},
      {longest, ""},
      {whole_line + longest, whole_line},
      {whole_line + "mine, and unfinished",
       whole_line + "mine, and unfinished\n"},
      {whole_line + "ping: unknown", whole_line + "ping: unknown\n"},
      {"mine", "mine\n"},
      {std::string(2000, 'm'), std::string(2000, 'm') + "\n"}};
  for (const std::string &label : labels)
    for (const std::string &torn :
         {label.substr(0, 1), label.substr(0, 7), label, label + "1"})
      rows.emplace_back(whole_line + torn, whole_line);
  for (const auto &[before, kept] : rows) {
    SCOPED_TRACE(before);
    write_file(log(), before);
    Launch launch = quick({"-f", "-c", "1"});
    launch.arguments[3] = "0.01";
    EXPECT_EQ(run(launch).status, 0);
    const std::string text = read_file(log());
    EXPECT_EQ(text.substr(0, kept.size()), kept);
    write_file(path("rest"), text.substr(std::min(kept.size(), text.size())));
    EXPECT_EQ(fault_in_log(path("rest")), "");
    EXPECT_EQ(read_lines(path("rest")).size(), 3u);
  }
}

TEST_F(LogTest, UnfinishedLineIsCutOffBeforeTheLogIsRotatedAtTheStart) {
  write_file(log(), long_text() + "start time---------:Sun No");
  EXPECT_EQ(run(quick({"-f", "-c", "1", "-s", "4"})).status, 0);
  EXPECT_TRUE(read_file(log() + ".0") == long_text()); // or it prints 10 KB
  EXPECT_EQ(fault_in_log(log()), "");
}

// It rotates often, and sometimes the disk is full, so that a line that does
// not fit has to be taken back.
TEST_F(LogTest, KilledAtRandomMomentsItLeavesWholeLines) {
  const int kills = rounds("PINGLOG_TEST_KILLS", 30);
  std::mt19937 random(std::random_device{}());
  const std::string old = log() + ".0";
  int rotations = 0;
  ino_t inode = 0;
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    Launch launch = pinglog({"-s", "4", "-i", "0.01", "-e", "true"});
    for (char host = 'a'; host <= 'h'; ++host)
      launch.arguments.push_back(std::string(40, host));
    if (i % 3 == 0)
      launch.limits[RLIMIT_FSIZE] = 4096 + random() % 1000;
    const pid_t daemon = start_daemon(launch); // a stale lock would refuse
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 120000));
    stop(daemon, SIGKILL);
    // The last line may be torn until the next start, no other one may.
    const std::string text = read_file(log());
    write_file(path("copy"), text.substr(0, text.rfind('\n') + 1));
    EXPECT_EQ(fault_in_log(path("copy")), "") << "after " << i << " kills";
    EXPECT_EQ(fault_in_log(old), "") << "after " << i << " kills";
    struct stat status = {};
    if (stat(old.c_str(), &status) == 0 && status.st_ino != inode) {
      ++rotations;
      inode = status.st_ino;
    }
  }
  EXPECT_EQ(run(quick({"-f", "-c", "1"})).status, 0);
  EXPECT_EQ(fault_in_log(log()), "");
  EXPECT_GT(rotations, 0);
}

// --- Rotation ----------------------------------------------------------------

TEST_F(LogTest, IsRenamedFromTheSizeThatWasAskedFor) {
  const struct {
    Words options;
    uintmax_t size;
    bool renamed;
  } rows[] = {{{}, 10240 * 1024, true},
              {{}, 10240 * 1024 - 1, false},
              {{"-s", "4"}, 4096, true},
              {{"-s", "4"}, 4095, false},
              {{"-s", "0"}, 11000 * 1024, false}};
  const std::string old = log() + ".0";
  for (const auto &row : rows) {
    SCOPED_TRACE(row.size);
    write_file(old, "older");
    write_file(log(), "");
    fs::resize_file(log(), row.size - 1); // no disk is needed
    const int file = open(log().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT_EQ(write(file, "\n", 1), 1);
    close(file);
    Words options = row.options;
    options.insert(options.end(), {"-f", "-c", "1"});
    EXPECT_EQ(run(quick(options)).status, 0);
    EXPECT_EQ(fs::file_size(old), row.renamed ? row.size : 5);
    EXPECT_EQ(fs::file_size(log()) < row.size, row.renamed);
  }
}

TEST_F(LogTest, RotationComesBetweenCyclesAndLosesNothing) {
  Process process(counting({"-f", "-i", "0.2", "-s", "4", "-c", "6"}, 4, true));
  EXPECT_EQ(process.wait().status, 0);
  const std::string old = read_file(log() + ".0");
  EXPECT_GE(old.size(), 4096u);
  EXPECT_THAT(read_file(log()), StartsWith(start_label));
  write_file(path("all"), old + read_file(log()));
  EXPECT_EQ(fault_in_log(path("all")), "");
  const Account account = check_lines(read_lines(path("all")), 4);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lines, 6 * 6);
}

struct Obstacle {
  const char *name;
  bool by_rights; // it hinders those alone who are not root
  std::function<void(const std::string &log)> set;
  std::function<void(const std::string &log)> remove;
};

void PrintTo(const Obstacle &obstacle, std::ostream *out) {
  *out << obstacle.name;
}

class ObstacleTest : public LogTest,
                     public ::testing::WithParamInterface<Obstacle> {};

INSTANTIATE_TEST_SUITE_P(
    Of, ObstacleTest,
    ::testing::Values(
        Obstacle{"Directory", false,
                 [](auto &log) { fs::create_directory(log + ".0"); },
                 [](auto &log) { EXPECT_TRUE(fs::remove(log + ".0")); }},
        Obstacle{"Rights", true, protect_directory, unprotect_directory}),
    [](const auto &info) { return std::string(info.param.name); });

TEST_P(ObstacleTest, MakesRotationWaitAndTheLogGrowOn) {
  const Obstacle &obstacle = GetParam();
  if (obstacle.by_rights && geteuid() == 0)
    SKIP_UNLESS_NOBODY_CAN_RUN();
  (void)move_log();
  const std::string before = long_text(100 * 1024);
  write_file(log(), before, 0666);
  Launch launch = counting({"-i", "0.1", "-s", "100"});
  if (obstacle.by_rights)
    launch = unprivileged(launch);
  obstacle.set(log());
  const pid_t daemon = start_daemon(launch);
  ASSERT_TRUE(eventually([&] { return cycles() >= 2; }));
  // Something that tries on and on takes 10 ticks of each cycle.
  const long ticks = process_stat(daemon, 14) + process_stat(daemon, 15);
  ASSERT_TRUE(eventually([&] { return cycles() >= 7; }));
  EXPECT_LT(process_stat(daemon, 14) + process_stat(daemon, 15), ticks + 25);
  EXPECT_GT(log_lines().size(), before.size() / whole_line.size() + 4 * 3);
  expect_refusal(daemon);
  while_stopped(daemon, [&] { obstacle.remove(log()); });
  const std::string old = log() + ".0";
  ASSERT_TRUE(eventually(
      [&] { return fs::is_regular_file(old) && fs::exists(log()); }));
  ASSERT_TRUE(read_file(old).rfind(before, 0) == 0); // or it prints all
  end_with(daemon, read_file(old).substr(before.size()));
}

// rename() does nothing where both names are of one file, and a file that is
// opened twice and closed once is not locked any more.
TEST_F(LogTest, LockIsKeptWhereTheOldNameIsTheSameFile) {
  write_file(log(), long_text());
  fs::create_hard_link(log(), log() + ".0");
  const pid_t daemon = start_daemon(quick({"-s", "4"}));
  await_cycles(2);
  expect_refusal(daemon);
  stop(daemon);
  EXPECT_EQ(fault_in_log(log()), "");
}

TEST_F(LogTest, RotationReplacesALinkOrAFifoAndLeavesTheTargetAlone) {
  write_file(path("victim"), "untouched");
  const std::string old = log() + ".0";
  for (bool fifo : {false, true}) {
    fs::remove(old);
    ASSERT_EQ(fifo ? mkfifo(old.c_str(), 0644) : symlink("victim", old.c_str()),
              0);
    write_file(log(), long_text());
    EXPECT_EQ(run(quick({"-f", "-c", "1", "-s", "4"})).status, 0);
    ASSERT_TRUE(fs::is_regular_file(fs::symlink_status(old)));
    EXPECT_TRUE(read_file(old) == long_text());
  }
  EXPECT_EQ(read_file(path("victim")), "untouched");
}

// --- What is no log, and modes -----------------------------------------------

TEST_F(LogTest, WhatIsNoRegularFileIsRefusedAtOnce) {
  fs::create_directory(path("directory"));
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0644), 0);
  fs::create_symlink("elsewhere", path("dangling"));
  write_file(path("target"), "untouched");
  fs::create_symlink("target", path("link"));
  const std::string irregular = "not a regular file";
  for (const auto &[name, reason] :
       {std::pair<std::string, std::string>{"/dev/null", irregular},
        {path("fifo"), irregular},
        {path("dangling"), irregular},
        {path("link"), irregular},
        {path("directory"), strerror(EISDIR)},
        {path("missing/log"), strerror(ENOENT)},
        {path("target/log"), strerror(ENOTDIR)}})
    for (bool foreground : {false, true}) {
      SCOPED_TRACE(name);
      set_log(name);
      expect_failure(quick(foreground ? Words{"-f"} : Words{}),
                     name + ": " + reason);
    }
  EXPECT_FALSE(fs::exists(path("elsewhere")));
  EXPECT_FALSE(fs::exists(path("missing")));
  EXPECT_EQ(read_file(path("target")), "untouched");
}

// A session leader that opens a terminal may acquire it. Then there is a hangup
// for its process group when it ends.
TEST_F(LogTest, TerminalIsRefusedAndNotAcquired) {
  const Terminal terminal;
  if (!terminal)
    GTEST_SKIP() << terminal.why();
  script("member", "trap '>hangup' HUP; trap exit TERM\n"
                   "echo $$ >new; mv new pid\n"
                   "while :; do sleep 0.05; done");
  set_log(terminal.name());
  Launch launch = quick({"-f"});
  launch.before_exec = [] {
    (void)setsid();
    if (fork() == 0)
      execl("member", "member", nullptr);
    while (access("pid", F_OK) == -1)
      usleep(5000);
  };
  const Result result = run(launch);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: " + log() + ": not a regular file\n");
  stop(atoi(read_file(path("pid")).c_str())); // the lower number comes first
  EXPECT_FALSE(fs::exists(path("hangup")));
}

// The log that rotation makes, and the one that the start makes.
TEST_F(LogTest, ModeIs0644WhateverTheMask) {
  const std::string old = log() + ".0";
  for (mode_t mask : {0000, 0077, 0777})
    for (bool foreground : {false, true})
      for (bool rotated : {false, true}) {
        SCOPED_TRACE(::testing::Message() << mask << (foreground ? " -f" : "")
                                          << (rotated ? " rotated" : ""));
        fs::remove(log());
        fs::remove(old);
        if (rotated)
          write_file(log(), long_text());
        Launch launch = quick({"-s", "4", "-c", "1"});
        if (foreground)
          launch.arguments.push_back("-f");
        launch.umask = mask;
        EXPECT_EQ(run(launch).status, 0);
        EXPECT_TRUE(eventually([&] {
          return count(end_label) == 1 && fs::exists(old) == rotated;
        }));
        struct stat status = {};
        EXPECT_EQ(stat(log().c_str(), &status), 0);
        EXPECT_EQ(status.st_mode, S_IFREG | 0644u);
      }
}

} // namespace
