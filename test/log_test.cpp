// log_test.cpp - the log file: its name, its rotation and its whole lines.

#include "support.h"

namespace {

const std::string whole_line = "end of time--------:Sun Nov 22 07:45:00 2026\n";

// Whole lines, enough for a rotation with `-s 4`.
std::string long_text(size_t size = 5000) {
  std::string text;
  while (text.size() < size)
    text += whole_line;
  return text;
}

class LogTest : public Sandbox {
protected:
  // The launch without root's privileges, so that file modes bind it.
  Launch unprivileged(Launch launch) const {
    EXPECT_EQ(chmod(path("").c_str(), 01777), 0); // for the pings' counters
    const std::string directory = fs::path(log()).parent_path();
    if (geteuid() == 0) {
      launch.as_nobody = true;
      EXPECT_EQ(chown(directory.c_str(), nobody, nobody), 0);
    }
    return launch;
  }

  // Expects that the log continues, and that no line is missing at the end.
  void end_with(pid_t daemon, const std::string &before) {
    const int then = cycles();
    await_cycles(1);
    ASSERT_TRUE(eventually([&] { return writer(log()) == daemon; }));
    expect_refusal(daemon);
    stop(daemon);
    write_file(path("all"), before + read_file(log()));
    const Account account = check_log(path("all"), 1);
    EXPECT_EQ(account.fault, "");
    EXPECT_EQ(account.lost, 0);
    EXPECT_GT(account.lines, then * 3);
  }
};

// --- A log that is moved, removed or replaced --------------------------------

// The ping is held until the log has been renamed.
TEST_F(LogTest, EachLineGoesToTheFileThatHasTheLogsNameAtThatMoment) {
  const pid_t daemon =
      start_daemon(pinglog({"-i", "1000", "-e", held_ping(), "held"}));
  await(start_label);
  fs::rename(log(), path("first"));
  expect_refusal(daemon);
  EXPECT_FALSE(
      fs::exists(log())); // the writer might not be allowed to write it
  release("held");
  await(result_label);
  EXPECT_THAT(descriptors_of(daemon), SizeIs(5)); // the first log is closed
  fs::rename(log(), path("second"));
  stop(daemon);
  EXPECT_THAT(read_lines(path("first")),
              ElementsAre(StartsWith(started_label), StartsWith(start_label)));
  EXPECT_THAT(read_lines(path("second")),
              ElementsAre(StartsWith(result_label)));
  EXPECT_THAT(log_lines(), ElementsAre(StartsWith(end_label)));
}

struct Disturbance {
  const char *name;
  std::function<void(const std::string &log)> begin;
  std::function<void(const std::string &log)> end = [](auto &) {};
  bool by_rights = false; // has no effect on root
};

void PrintTo(const Disturbance &disturbance, std::ostream *out) {
  *out << disturbance.name;
}

class DisturbanceTest : public LogTest,
                        public WithParamInterface<Disturbance> {};

fs::path directory_of(const std::string &log) {
  return fs::path(log).parent_path();
}

void rename_log(const std::string &log) { fs::rename(log, log + ".old"); }

void remove_log(const std::string &log) { EXPECT_TRUE(fs::remove(log)); }

void set_mode_of_directory(const std::string &log, mode_t mode) {
  EXPECT_EQ(chmod(directory_of(log).c_str(), mode), 0);
}

// Replaces the log with something that is not a regular file.
auto replaced_by(std::function<int(const char *)> make) {
  return [make](const std::string &log) {
    rename_log(log);
    EXPECT_EQ(make(log.c_str()), 0) << strerror(errno);
  };
}

TEST_P(DisturbanceTest, NoLineIsMissingAfterTheLogWasDisturbed) {
  const Disturbance &disturbance = GetParam();
  if (disturbance.by_rights && geteuid() == 0)
    SKIP_IF(why_not_as_nobody());
  const std::string directory = move_log();
  Launch launch = counting({"-i", "0.5"});
  if (disturbance.by_rights)
    launch = unprivileged(launch);
  const pid_t daemon = start_daemon(launch);
  ASSERT_TRUE(eventually([&] { return cycles() >= 2; }));
  const std::string kept = path("kept"); // outlives the log's own name
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
    Each, DisturbanceTest,
    Values(
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
                      set_mode_of_directory(log, 0555);
                    },
                    [](auto &log) { set_mode_of_directory(log, 0777); }, true},
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

TEST_F(LogTest, WaitingLinesAreWrittenAtTheExitIfTheLogIsBackByThen) {
  const std::string directory = move_log();
  const pid_t daemon =
      start_daemon(pinglog({"-i", "1000", "-e", held_ping(), "held"}));
  await(start_label, 1);
  fs::rename(directory, path("away"));
  release("held");
  ASSERT_TRUE(is_left_with(0, 1, daemon));
  fs::rename(path("away"), directory);
  stop(daemon);
  EXPECT_THAT(log_lines(),
              ElementsAre(StartsWith(started_label), StartsWith(start_label),
                          StartsWith(result_label), StartsWith(end_label)));
}

// --- A log that ends in an unfinished line -----------------------------------

TEST_F(LogTest, UnfinishedLineOfPinglogIsCutOffAndAnyOtherGetsANewline) {
  const std::string longest =
      outage_label + std::string(time_size, 't') + " " + std::string(255, 'h') +
      " was down 100:00:00 since " + std::string(time_size, 't') + ": " +
      std::string(200, 'r');
  const std::string labels[] = {started_label, start_label, result_label,
                                outage_label,  end_label,   lost_label,
                                rename_label};
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
  // A power cut can leave NULs, with or without a part of a line before them.
  for (const size_t size : {1, 600, 1024, 1025, 5304}) {
    const std::string nuls(size, '\0');
    rows.insert(rows.end(), {{nuls, ""},
                             {whole_line + nuls, whole_line},
                             {whole_line + longest + nuls, whole_line},
                             {"mine" + nuls, "mine\n"},
                             {nuls + whole_line, nuls + whole_line}});
  }
  for (const std::string &label : labels)
    for (const std::string &torn :
         {label.substr(0, 1), label.substr(0, 7), label, label + "1"})
      rows.emplace_back(whole_line + torn, whole_line);
  for (const auto &[before, kept] : rows) {
    SCOPED_TRACE(before);
    write_file(log(), before);
    EXPECT_EQ(run(quick({"-f", "-i", "0.01", "-c", "1"})).status, 0);
    const std::string text = read_file(log());
    EXPECT_EQ(text.substr(0, kept.size()), kept);
    write_file(path("rest"), text.substr(std::min(kept.size(), text.size())));
    EXPECT_EQ(check_log(path("rest")).fault, "");
    EXPECT_EQ(read_lines(path("rest")).size(), 4u);
  }
}

TEST_F(LogTest, UnfinishedLineIsCutOffBeforeRotationAtTheStart) {
  write_file(log(), long_text() + "start time---------:Sun No");
  EXPECT_EQ(run(quick({"-f", "-c", "1", "-s", "4"})).status, 0);
  EXPECT_TRUE(read_file(log() + ".0") == long_text()); // EXPECT_EQ prints 10 KB
  EXPECT_EQ(check_log(log()).fault, "");
}

// The log rotates often. In every third round a size limit cuts a line, which
// pinglog has to cut off again. PINGLOG_KILLS sets how many rounds.
TEST_F(LogTest, KillDashNineAtRandomMomentsLeavesWholeLines) {
  const int kills = rounds("PINGLOG_KILLS", 30);
  std::mt19937 random(std::random_device{}());
  const std::string old = log() + ".0";
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    Launch launch = pinglog({"-s", "4", "-i", "0.01", "-e", "true"});
    for (char host = 'a'; host <= 'h'; ++host)
      launch.arguments.push_back(std::string(40, host));
    if (i % 3 == 0)
      launch.limits[RLIMIT_FSIZE] = 4096 + random() % 1000;
    else
      fs::remove(old); // so that the wait below is for a rotation
    const pid_t daemon = start_daemon(launch);
    EXPECT_TRUE(eventually([&] { return i % 3 == 0 || fs::exists(old); }));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 120000));
    stop(daemon, SIGKILL);
    EXPECT_TRUE(eventually([&] { return writer(log()) == -1; }));
    // Until the next start the last line may be torn, but no other line.
    const std::string text = read_file(log());
    write_file(path("copy"), text.substr(0, text.rfind('\n') + 1));
    EXPECT_EQ(check_log(path("copy")).fault, "") << "after " << i << " kills";
    EXPECT_EQ(check_log(old).fault, "") << "after " << i << " kills";
  }
  EXPECT_EQ(run(quick({"-f", "-c", "1"})).status, 0);
  EXPECT_EQ(check_log(log()).fault, "");
}

// --- Rotation ----------------------------------------------------------------

TEST_F(LogTest, LogIsRenamedAtHalfOfTheGivenSize) {
  const struct {
    Words options;
    uintmax_t size;
    bool renamed;
  } rows[] = {{{}, 102400 * 1024, true}, // half of the default
              {{}, 102400 * 1024 - 1, false},
              {{"-s", "8"}, 4096, true},
              {{"-s", "8"}, 4095, false},
              {{"-s", "0"}, 110000 * 1024, false}};
  const std::string old = log() + ".0";
  for (const auto &row : rows) {
    SCOPED_TRACE(row.size);
    write_file(old, "older");
    write_file(log(), "");
    fs::resize_file(log(), row.size - 1); // sparse: takes no disk space
    const int file = open(log().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT_EQ(write(file, "\n", 1), 1);
    close(file);
    EXPECT_EQ(run(quick(row.options + Words{"-f", "-c", "1"})).status, 0);
    EXPECT_EQ(fs::file_size(old), row.renamed ? row.size : 5);
    EXPECT_EQ(fs::file_size(log()) < row.size, row.renamed);
  }
}

TEST_F(LogTest, RotationBeforeQuietCyclesHappensOnce) {
  // Two cycles are logged, in which two hosts fail and go down.
  const std::string ping = script("ping", "echo >>$0.$3; exit 1");
  const pid_t daemon = start_daemon(
      pinglog(Words{"-i", "0.3", "-s", "1", "-q", "1000", "-e", ping} +
              Words(2, std::string(250, 'h'))));
  const std::string counter = ping + "." + std::string(250, 'h');
  ASSERT_TRUE(eventually([&] { return read_lines(counter).size() >= 8; }));
  stop(daemon);
  EXPECT_EQ(read_lines(log() + ".0").size(), 6u);
  EXPECT_THAT(log_lines(),
              ElementsAre(HasSubstr(" was down "), HasSubstr(" was down "),
                          StartsWith(end_label)));
}

// The new log exists even before there is anything to log.
TEST_F(LogTest, LogThatWasMovedInAQuietCycleIsMadeAnewAndNotRenamed) {
  write_file(log(), std::string(1024, '\n'));
  fs::create_directory(log() + ".0");
  const pid_t daemon = start_daemon(quick({"-s", "1", "-q", "1000000"}));
  await(end_label);
  fs::rename(log(), path("moved"));
  EXPECT_TRUE(eventually([&] { return fs::exists(log()); }));
  stop(daemon);
  EXPECT_EQ(count(rename_label), 0);
  EXPECT_THAT(log_lines().back(), StartsWith(end_label));
}

// Without the lock, no new log could be opened.
TEST_F(LogTest, LogIsNotRenamedWhileItsLockCannotBeTaken) {
  const std::string lock = log() + ".lock";
  const pid_t daemon = start_daemon(quick({"-s", "1"}));
  while_stopped(daemon, [&] {
    fs::remove(lock);
    fs::create_directory(lock);
  });
  EXPECT_TRUE(eventually([&] { // more than a cycle beyond half of the limit
    return fs::exists(log()) && fs::file_size(log()) > 1024;
  }));
  fs::remove(lock);
  EXPECT_TRUE(eventually([&] { return writer(log()) == daemon; }));
  stop(daemon);
}

// rename() does nothing then, and nobody may remove a name in the directory.
TEST_F(LogTest, RotationOntoAHardLinkThatFailsIsLoggedOnce) {
  SKIP_IF(why_not_as_nobody());
  (void)move_log();
  for (const std::string &file : {log(), log() + ".lock"}) {
    write_file(file, std::string(1024, '\n'));
    ASSERT_EQ(chown(file.c_str(), nobody, nobody), 0);
  }
  fs::create_hard_link(log(), log() + ".0");
  Launch launch = quick({"-s", "1"});
  launch.as_nobody = true;
  const pid_t daemon = start_daemon(launch);
  await_cycles(3);
  stop(daemon);
  EXPECT_EQ(count(rename_label), 1);
  EXPECT_EQ(count("Permission denied"), 1);
}

TEST_F(LogTest, RotationIsDelayedByAnObstacleAndLosesNoLine) {
  const std::string old = log() + ".0";
  const std::string before = long_text(100 * 1024);
  write_file(log(), before);
  fs::create_directory(old);
  const pid_t daemon = start_daemon(counting({"-i", "0.5", "-s", "200"}));
  ASSERT_TRUE(eventually([&] { return cycles() >= 4; }));
  EXPECT_EQ(count(rename_label), 1); // in all those cycles
  expect_refusal(daemon);
  while_stopped(daemon, [&] { fs::remove(old); });
  ASSERT_TRUE(eventually(
      [&] { return fs::is_regular_file(old) && count(start_label) > 0; }));
  EXPECT_THAT(log_lines()[0], StartsWith(start_label)); // and no `started`
  ASSERT_TRUE(read_file(old).rfind(before, 0) == 0);    // StartsWith prints all
  end_with(daemon, read_file(old).substr(before.size()));
}

TEST_F(LogTest, FailedRenameIsLoggedOnceForEachReasonAndLog) {
  if (geteuid() == 0)
    SKIP_IF(why_not_as_nobody());
  (void)move_log();
  write_file(log(), long_text(), 0666);
  write_file(log() + ".lock", "", 0666); // or no start is possible
  fs::create_directory(log() + ".0");
  Launch launch = unprivileged(quick({"-s", "4"}));
  set_mode_of_directory(log(), 0555);
  const pid_t daemon = start_daemon(launch);
  await(rename_label);
  await_cycles(2);
  while_stopped(daemon, [&] { set_mode_of_directory(log(), 0777); });
  await(rename_label, 2);
  await_cycles(2);
  Words reasons = texts(rename_label);
  fs::rename(log(), log() + ".moved");
  await(rename_label); // in the new log
  stop(daemon);
  EXPECT_EQ(check_log(log()).fault, "");
  EXPECT_THAT(
      reasons + texts(rename_label),
      ElementsAre(strerror(EACCES), strerror(EISDIR), strerror(EISDIR)));
}

TEST_F(LogTest, RotationReplacesWhateverHasTheOldName) {
  const std::string old = log() + ".0";
  write_file(path("victim"), "untouched");
  const std::function<int()> rows[] = {
      [&] { return symlink("victim", old.c_str()); },
      [&] { return mkfifo(old.c_str(), 0644); },
      // rename() does nothing if both names belong to one file.
      [&] { return link(log().c_str(), old.c_str()); }};
  for (const auto &make : rows) {
    write_file(log(), long_text());
    fs::remove(old);
    ASSERT_EQ(make(), 0);
    EXPECT_EQ(run(quick({"-f", "-c", "1", "-s", "4"})).status, 0);
    ASSERT_TRUE(fs::is_regular_file(fs::symlink_status(old)));
    EXPECT_TRUE(read_file(old) == long_text()); // EXPECT_EQ prints 5 KB
    EXPECT_THAT(log_lines(), SizeIs(4));
  }
  EXPECT_EQ(read_file(path("victim")), "untouched");
}

// --- The log's mode
// -----------------------------------------------------------

// The start has made FILE.0, and a rotation FILE.
TEST_F(LogTest, LogHasMode0644AndInTheForegroundObeysTheCallersUmask) {
  for (mode_t mask : {0000, 0077})
    for (bool foreground : {false, true}) {
      SCOPED_TRACE(Message() << mask << (foreground ? " -f" : ""));
      Launch launch = quick({foreground ? "-f" : "-q1", "-s", "1", "-c", "5"});
      launch.before_exec = [mask] { umask(mask); };
      EXPECT_EQ(run(launch).status, 0);
      EXPECT_TRUE(eventually([&] { return writer(log()) == -1; }));
      for (const std::string &file : {log() + ".0", log()}) {
        struct stat status = {};
        EXPECT_EQ(stat(file.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode,
                  S_IFREG | (foreground ? 0644u & ~mask : 0644u));
        fs::remove(file);
      }
    }
}

// --- The tests' own check ----------------------------------------------------

TEST_F(LogTest, CheckOfLogsFindsEachFault) {
  const std::string time = whole_line.substr(label_size, time_size);
  // s, e: start and end of a cycle; a, b: this host has answered; f: host a has
  // failed; d: an outage of host a begins or ends; w: the same with a wrong
  // reason; S: a start of pinglog; 3: three lines lost; x: no line of a log.
  const auto fault = [&](const std::string &letters) {
    std::string text;
    for (const char letter : letters) {
      const std::string name(1, letter);
      text += letter == 's'   ? start_label + time
              : letter == 'e' ? end_label + time
              : letter == 'S' ? started_label + time
              : letter == '3' ? lost_label + name
              : letter == 'x' ? name
              : letter == 'd' ? outage_label + time + " a is: why"
              : letter == 'w' ? outage_label + time + " a is: wrong"
              : letter == 'f' ? result_label + time + " a fail why"
                              : result_label + time + " " + name + " ok";
      text += "\n";
    }
    write_file(log(), text);
    return check_log(log(), 2).fault;
  };
  for (const char *sound :
       {"", "Ssabe", "sabesbae", "sae", "sabe3besabe", "sabesa3esab",
        "sfbesabe", "sfbesbfde", "sfbesfdbesfbesadbesfbe", "SsfbeSsfbe"})
    EXPECT_EQ(fault(sound), "") << sound;
  for (const char *unsound :
       {"x", "abe", "sabee", "sabs", "sSabe", "saesabe", "saabe", "saae",
        "sabesab3sabe", "sab33e", "sabeabe", "sdabe", "sfdbe", "sabde",
        "sfbesfbe", "sfbesfwbe", "sfbesfbde", "sfbesfdbesabe",
        "sfbesfdbesfdbe"})
    EXPECT_NE(fault(unsound), "") << unsound;
  write_file(log(), start_label + time);
  EXPECT_NE(check_log(log()).fault, "") << "no newline";
  write_file(log(), start_label + time + "\t\n");
  EXPECT_NE(check_log(log()).fault, "") << "unprintable";
}

} // namespace
