// pings_test.cpp - the ping processes: what each inherits, how pinglog ends
// them, and what happens if a ping cannot be started or ended.

#include "support.h"

#include <sys/ptrace.h>

namespace {

class PingsTest : public Sandbox {};

// ---- How pings are started --------------------------------------------------

TEST_F(PingsTest, PinglogAndItsPingHaveTheRightSurroundings) {
  const std::string ping = script("ping", "umask >$0.mask; exec sleep 1000");
  for (const bool foreground : {false, true}) {
    SCOPED_TRACE(foreground ? "-f" : "daemon");
    Launch launch =
        pinglog({foreground ? "-f" : "-i1", "-i", "1000", "-e", ping, "host"});
    launch.environment.insert({{"LC_ALL", "xx_YY.UTF-8"},
                               {"LANG", "xx_YY.UTF-8"},
                               {"LANGUAGES", "kept"}, // sets no language
                               {"KEPT", "yes"}});
    launch.before_exec = [] { umask(027); };
    Process process(launch);
    std::vector<pid_t> pings;
    ASSERT_TRUE(eventually([&] {
      pings = children_of(writer(log()));
      return pings.size() == 1 && process_status(pings[0], "Name") == "sleep" &&
             // For a moment of an exec, it has a name but no environment.
             !read_file("/proc/" + std::to_string(pings[0]) + "/environ")
                  .empty();
    }));
    const pid_t pid = writer(log());
    EXPECT_EQ(fs::read_symlink("/proc/" + std::to_string(pid) + "/cwd"),
              foreground ? launch.directory : "/");
    EXPECT_EQ(process_status(pid, "Umask"), foreground ? "0027" : "0000");
    constexpr int group = 5, session = 6; // in /proc/PID/stat
    EXPECT_EQ(process_stat(pid, group) == getpgrp(), foreground);
    EXPECT_EQ(process_stat(pid, session) == getsid(0), foreground);
    EXPECT_EQ(process_stat(pings[0], group), pings[0]);
    const std::string environment =
        '\0' + read_file("/proc/" + std::to_string(pings[0]) + "/environ");
    for (const std::string entry : {"LC_ALL=C", "KEPT=yes", "LANGUAGES=kept"})
      EXPECT_NE(environment.find('\0' + entry + '\0'), std::string::npos)
          << entry;
    EXPECT_EQ(environment.find("xx_YY"), std::string::npos);
    EXPECT_EQ(read_file(ping + ".mask"), foreground ? "0027\n" : "0022\n");
    stop(pid);
    EXPECT_EQ(process.wait().status, 0); // the launcher's, or pinglog's
  }
}

TEST_F(PingsTest, MissingOrUnusablePingIsReportedAndUsedAgainOnceItIsBack) {
  const std::string ping = answering_ping();
  const std::string failed = " host fail " + ping + ": ";
  Process process(pinglog({"-f", "-i", "0.7", "-e", ping, "host"}));
  await(" host ok 12.3 ms");
  fs::rename(ping, path("away"));
  await(failed + "No such file or directory", 2); // an outage
  ASSERT_EQ(chmod(path("away").c_str(), 0644), 0);
  fs::rename(path("away"), ping);
  await(failed + "Permission denied");
  write_file(path("data"), "no program\n", 0755);
  fs::rename(path("data"), ping);
  await(failed + "Exec format error");
  (void)answering_ping();
  await_more(" host ok 12.3 ms");
  expect_sound_end(process, 1);
}

// The exec of a leased file blocks until the lease is given up. An exec from a
// dying disk or an unreachable server hangs in the same way.
TEST_F(PingsTest, PingThatHangsInExecDelaysNoOther) {
  const std::string ping = answering_ping();
  const int file = open(ping.c_str(), O_RDONLY | O_CLOEXEC);
  // The kernel sends a signal to the lease holder. SIGURG kills nobody.
  if (fcntl(file, F_SETSIG, SIGURG) == -1 ||
      fcntl(file, F_SETLEASE, F_WRLCK) == -1)
    GTEST_SKIP() << "cannot make an exec hang: " << strerror(errno);
  Process process(pinglog({"-f", "-i", "1", "-e", ping, "host", "other"}));
  await_cycles(2);
  EXPECT_THAT(results(), Each(HasSubstr(" fail "))); // for whatever reason
  close(file);
  await(" host ok 12.3 ms");
  await(" other ok 12.3 ms");
  expect_sound_end(process, 2);
}

// ---- Lack of resources, and many hosts --------------------------------------

TEST_F(PingsTest, LackOfProcessesIsLoggedUntilItEnds) {
  // Root has no process limit, and another user cannot make the log's lock.
  Launch launch =
      command(program(), {"-f", "-i", "0.7", "-o", "-", "-e", "true", "host"});
  launch.before_exec = [log = log()] { open_as(STDOUT_FILENO, log); };
  if (geteuid() == 0) {
    SKIP_IF(why_not_as_nobody());
    launch.as_nobody = true;
  }
  write_file(log(), "", 0666);
  Process process(launch);
  const auto limit = [&](std::optional<rlim_t> most) {
    EXPECT_TRUE(in_a_child([&] { // only that user may set it
      return (!launch.as_nobody || become_nobody()) &&
             set_soft_limit(process.pid(), RLIMIT_NPROC, most);
    }));
  };
  await(" host ok");
  limit(0);
  await(std::string(" host fail true: ") + strerror(EAGAIN), 2);
  limit({});
  await_more(" host ok");
  expect_sound_end(process, 1);
}

TEST_F(PingsTest, LackOfDescriptorsIsLoggedUntilItEnds) {
  const std::string none = " fail cat: Too many open files";
  const std::string silence = " fail no answer in 0.7 s";
  // This ping waits forever: nobody opens the FIFO for writing. A shell would
  // need more descriptors.
  EXPECT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  const pid_t pid =
      start_daemon(pinglog({"-i", "0.7", "-e", "cat -- " + path("fifo"), "a",
                            "b", "c", "d", "e", "f"}));
  await(" f" + silence);
  // It has five descriptors, and one for each ping.
  EXPECT_TRUE(set_soft_limit(pid, RLIMIT_NOFILE, 8));
  await(" f" + none);
  await_more(" a" + silence);
  // Now the log cannot be reopened either: its lines wait.
  EXPECT_TRUE(set_soft_limit(pid, RLIMIT_NOFILE, 3));
  await(" a" + none);
  fs::rename(log(), path("renamed"));
  sleep_ms(1500); // a cycle or two
  EXPECT_TRUE(set_soft_limit(pid, RLIMIT_NOFILE, {}));
  ASSERT_TRUE(eventually([&] { return fs::exists(log()); }));
  await_more(" f" + silence);
  stop(pid);
  write_file(log(), read_file(path("renamed")) + read_file(log()));
  expect_sound_log(6);
}

// No ping ends, so nothing wakes pinglog up in this cycle.
TEST_F(PingsTest, ResultsOfPingsThatCannotBeStartedAreWrittenAtOnce) {
  Launch launch = pinglog(
      {"-f", "-i", "1000", "-e", "true", "one", "two", "three", "four"});
  launch.limits[RLIMIT_NOFILE] = 6; // too few for a pipe
  Process process(launch);
  for (const std::string host : {"one", "two", "three", "four"})
    await(" " + host + " fail true: Too many open files");
  expect_end(process);
}

TEST_F(PingsTest, ThousandHostsAreAnsweredWith1024Descriptors) {
  Launch launch =
      pinglog(Words{"-f", "-i", "1000", "-e", "true"} + Words(1000, "host"));
  launch.limits[RLIMIT_NOFILE] = 1024;
  Process process(launch);
  for (int some = 100; some <= 1000; some += 100)
    await(result_label, some); // each within the bound of a wait
  EXPECT_THAT(results(), Each("host ok"));
  expect_sound_end(process);
}

TEST_F(PingsTest, ResultsThatExceedTheMemoryAtOnceAreAllLogged) {
  constexpr size_t hosts = 180; // with lines of 507 bytes
  const std::string ping =
      script("ping", "until [ -e $0.go ]; do sleep 0.5; done\n"
                     "printf 'x%0199d\\n' 0; exit 1");
  Process process(
      pinglog(Words{"-f", "-i", "1000", "-e", ping} + long_hosts(hosts)));
  ASSERT_TRUE(
      eventually([&] { return children_of(process.pid()).size() == hosts; }));
  while_stopped(process.pid(), [&] {
    write_file(ping + ".go", "");
    EXPECT_TRUE(
        eventually([&] { return zombies_of(process.pid()).size() == hosts; }));
  });
  EXPECT_TRUE(eventually([&] { return children_of(process.pid()).empty(); }));
  expect_sound_end(process, hosts);
  EXPECT_EQ(count(result_label), static_cast<int>(hosts));
}

// ---- How pings are ended ----------------------------------------------------

TEST_F(PingsTest, PingThatDoesNotHeedSigintIsKilledAtTheDeadline) {
  const std::string no_answer = "fail no answer in 2 s";
  const struct {
    std::string host, script, verdict;
  } rows[] = {
      {"deaf", "trap '' INT TERM; sleep 1000", no_answer},
      {"stopped", "kill -STOP $$", no_answer},
      {"stopped-talker", "echo explained; kill -STOP $$", "fail explained"},
      {"closed", "exec >&- 2>&-; exec sleep 1000", no_answer},
      {"answered", "trap '' INT; echo time=7 ms; exec sleep 1000", "ok 7 ms"},
      {"endless", "trap '' INT; while :; do echo again; done", "fail again"},
      {"unbroken", "trap '' INT; while :; do printf xxxxxxxx; done",
       "fail " + std::string(200, 'x')},
      // SIGINT goes to the ping's whole process group.
      {"wrapped",
       "trap : INT; sh -c 'trap \"echo explained; exit\" INT; sleep 1000 & "
       "wait'; exit 1",
       "fail explained"},
  };
  std::string body = "case $3 in\n";
  for (const auto &row : rows)
    body += row.host + ") " + row.script + " ;;\n";
  Launch launch =
      pinglog({"-f", "-i", "2", "-e", script("ping", body + "esac")});
  std::set<std::string> wanted, possible; // on a busy machine
  for (const auto &row : rows) {
    launch.arguments.push_back(row.host);
    wanted.insert(row.host + " " + row.verdict);
    possible.insert({row.host + " " + row.verdict, row.host + " " + no_answer,
                     row.host + " fail the previous ping has not exited"});
  }
  Process process(launch);
  std::set<std::string> missing;
  EXPECT_TRUE(eventually([&] {
    missing = wanted;
    for (const std::string &result : results())
      missing.erase(result);
    return missing.empty();
  })) << PrintToString(missing);
  expect_sound_end(process, static_cast<int>(std::size(rows)));
  for (const std::string &result : results())
    EXPECT_EQ(possible.count(result), 1u) << result;
  EXPECT_TRUE(eventually([&] { return processes().empty(); }));
}

TEST_F(PingsTest, ChildrenOfAPingAreKilledWhenItEnds) {
  // The children of the ping ignore signals and hold its pipe open.
  const std::string ping =
      script("ping", "trap '' INT TERM\n"
                     "up=$0.$3.$$\n"
                     "sh -c 'sleep 1000 & sleep 1000 & : >\"$0\"; wait' $up &\n"
                     "until [ -e $up ]; do sleep 0.01; done\n"
                     "[ $3 = hung ] && wait\n"
                     "exit 3");
  Process process(pinglog({"-f", "-i", "2", "-e", ping, "ends", "hung"}));
  await(" ends fail exit status 3");
  await(" hung fail no answer in 2 s");
  expect_end(process);
  EXPECT_TRUE(eventually([&] { return processes().empty(); }));
  // The children are killed when the ping ends, not when its cycle ends.
  fs::remove(log());
  Process again(pinglog({"-f", "-i", "1000", "-e", ping, "ends"}));
  await(" ends fail exit status 3");
  EXPECT_TRUE(eventually(
      [&] { return processes() == std::vector<pid_t>{again.pid()}; }));
  expect_sound_end(again);
}

TEST_F(PingsTest, StrayProcessThatHoldsThePipeDelaysNothing) {
  const std::string ping =
      script("ping", "up=$0.$3; [ -s $up ] || "
                     "setsid sh -c 'echo $$ >>$0; exec sleep 1000' $up & "
                     "until [ -s $up ]; do sleep 0.01; done; "
                     "[ $3 = mute ] || echo time=1.5 ms");
  Process process(pinglog({"-f", "-i", "1", "-e", ping, "mute", "talker"}));
  await(" talker ok 1.5 ms", 2);
  await(" mute ok", 2);
  expect_sound_end(process, 2);
  for (const std::string host : {"mute", "talker"})
    for (const std::string &stray : read_lines(ping + "." + host)) {
      EXPECT_TRUE(is_alive(std::stoi(stray))) << "the stray was killed";
      send_signal(std::stoi(stray), SIGKILL);
    }
}

TEST_F(PingsTest, PingThatLeavesItsGroupIsKilledAtTheDeadline) {
  const std::string join = "setpgrp(0, getpgrp(getppid()))";
  if (system("perl -e 'setpgrp(0, 0)'") != 0)
    GTEST_SKIP() << "no perl here, to leave a process group";
  const std::string ping =
      script("ping", "exec perl -e '$SIG{INT} = \"IGNORE\"; " + join +
                         "; open(F, \">\", \"" + path("pid") +
                         "\"); print F \"$$\\n\"; close(F); sleep 1000'");
  Process process(pinglog({"-f", "-i", "1", "-e", ping, "host"}));
  ASSERT_TRUE(eventually([&] { return !read_file(path("pid")).empty(); }));
  const pid_t pid = atoi(read_file(path("pid")).c_str());
  ASSERT_GT(pid, 1);
  EXPECT_TRUE(eventually([&] { return !is_alive(pid); }));
  await(" host fail no answer in 1 s", 1);
  expect_end(process);
}

// ---- Pings that survive SIGKILL ---------------------------------------------

// Holds a process in its exit, as a hung driver does. The destructor frees it.
class Holder {
public:
  // Traces the only child of this process, or the next one if it just exits.
  explicit Holder(pid_t parent) {
    (void)eventually([&] {
      const std::vector<pid_t> children = children_of(parent);
      if (children.size() != 1)
        return false;
      pid_ = children[0];
      held_ = ptrace(PTRACE_SEIZE, pid_, nullptr, PTRACE_O_TRACEEXIT) == 0;
      why_ = held_ ? "" : std::string("may not trace: ") + strerror(errno);
      return held_ || errno != ESRCH;
    });
  }
  Holder(const Holder &) = delete;
  Holder &operator=(const Holder &) = delete;
  ~Holder() { let_go(); }

  pid_t pid() const { return pid_; }
  const std::string &why() const { return why_; } // "" if it is held

  // Passes signals on to the process until one is about to end it.
  [[nodiscard]] bool await_end() const {
    return eventually([this] {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG | __WALL) != pid_)
        return false;
      if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
        return true;
      ptrace(PTRACE_CONT, pid_, nullptr, WSTOPSIG(status));
      return false;
    });
  }
  void let_go() {
    if (held_)
      ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
    held_ = false;
  }

private:
  pid_t pid_ = -1;
  bool held_ = false;
  std::string why_ = "has no child";
};

TEST_F(PingsTest, PingThatCannotBeKilledFailsInEachCycleUntilItIsGone) {
  // The ping prints its answer and then hangs in its exit.
  const std::string ping = script(
      "ping", "echo >>$0.starts\nuntil [ -e $0.go ]; do sleep 0.05; done\n"
              "echo time=12.3 ms");
  Process process(pinglog({"-f", "-i", "1", "-e", ping, "host"}));
  Holder holder(process.pid());
  SKIP_IF(holder.why());
  const int before = count(result_label);
  write_file(ping + ".go", "");
  ASSERT_TRUE(holder.await_end());
  await_cycles(2);
  Words later = results();
  ASSERT_GE(later.size(), before + 2u);
  later.erase(later.begin(), later.begin() + before + 1);
  EXPECT_THAT(later, Each("host fail the previous ping has not exited"));
  EXPECT_TRUE(eventually([&] { // a child may call fsync() meanwhile
    return Matches(ElementsAre(holder.pid()))(children_of(process.pid()));
  }));
  EXPECT_LE(read_lines(ping + ".starts").size(), before + 1u);
  holder.let_go();
  await_more(" host ok 12.3 ms", 1); // of a second ping
  expect_sound_end(process, 1);
}

// As on a slow device. The next ping starts once the old one has been reaped,
// if half of the interval is left by then.
TEST_F(PingsTest, PingThatOutlivesItsCycleDelaysTheNextOne) {
  for (const bool is_late : {false, true}) {
    SCOPED_TRACE(is_late);
    const std::string ping =
        script("ping", "echo >>$0.starts\n"
                       "[ $(wc -l <$0.starts) = 1 ] && exec sleep 1000\n"
                       "echo time=12.3 ms");
    const std::string interval = is_late ? "4" : "10";
    Process process(pinglog({"-f", "-i", interval, "-e", ping, "host"}));
    Holder holder(process.pid());
    SKIP_IF(holder.why());
    ASSERT_TRUE(holder.await_end());
    await(start_label, 2);
    if (is_late) // half an interval, unless the cycle began too late
      sleep_ms(2000);
    holder.let_go();
    await(" host ok 12.3 ms");
    EXPECT_THAT(results().at(0), "host fail no answer in " + interval + " s");
    const int late = count(" fail the previous ping has not exited");
    const Words lines = log_lines();
    const bool is_long = time_of(lines[4]) - time_of(lines[1]) >= 6; // seconds
    EXPECT_TRUE(is_late ? late > 0 || is_long : late == 0) << late;
    expect_end(process);
    fs::remove(ping + ".starts");
    fs::remove(log());
  }
}

TEST_F(PingsTest, PingThatDiesSlowlyDoesNotOutliveTheDaemon) {
  using std::chrono::milliseconds, std::chrono::steady_clock;
  const Subreaper parent;
  Process process(pinglog({"-f", "-i", "1000", "-e", silent_ping(), "host"}));
  Holder holder(process.pid());
  SKIP_IF(holder.why());
  const auto asked = steady_clock::now();
  process.signal(SIGTERM);
  ASSERT_TRUE(holder.await_end());
  std::this_thread::sleep_for(milliseconds(100)); // the ping dies this slowly
  holder.let_go();
  EXPECT_TRUE(eventually([&] { return !is_alive(holder.pid()); }));
  // On a busy machine the ping may have taken longer to die, and pinglog does
  // not wait forever.
  const bool soon = steady_clock::now() - asked < milliseconds(400);
  EXPECT_EQ(process.wait().status, 0);
  const bool left_to_us = waitpid(holder.pid(), nullptr, 0) == holder.pid();
  EXPECT_FALSE(left_to_us && soon);
  expect_sound_log();
}

// ---- Process 1, and children that are not pings -----------------------------

TEST_F(PingsTest, DetachingAsProcessOneOfAContainerIsRefused) {
  Launch launch = quick();
  launch.before_exec = [] {
    const pid_t first = unshare_anyhow(CLONE_NEWPID) ? fork() : -1;
    int status = 0;
    if (first == -1)
      _exit(125);
    if (waitpid(first, &status, 0) == first) // fails in process 1 itself
      _exit(WEXITSTATUS(status));
  };
  const Result result = run(launch);
  if (result.status == 125)
    GTEST_SKIP() << "no PID namespace here";
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: detach: the container would end with process "
                        "1 (use -f)\n");
}

TEST_F(PingsTest, ChildrenInheritedFromAShellAreLeftAlone) {
  // One child lives on. The other exits with a status that is no ping's.
  Launch launch = pinglog({"-f", "-i", "1", "-e", silent_ping(), "host"});
  launch.arguments =
      Words{"-c",
            "sleep 1000 & echo $! >foreign\n"
            "(until [ -e go ]; do sleep 0.02; done; echo >gone; exit 7) &\n"
            "exec \"$0\" \"$@\"",
            program()} +
      launch.arguments;
  launch.executable = "/bin/sh";
  Process process(launch);
  await(end_label, 1);
  write_file(path("go"), "");
  EXPECT_TRUE(eventually([&] {
    return !read_file(path("gone")).empty() &&
           zombies_of(process.pid()).empty();
  }));
  await_cycles(1);
  expect_sound_end(process, 1);
  EXPECT_THAT(results(), Each(AnyOf("host fail no answer in 1 s",
                                    "host fail the previous ping has not "
                                    "exited"))); // on a busy machine
  const pid_t foreign = std::stoi(read_file(path("foreign")));
  EXPECT_TRUE(
      eventually([&] { return process_status(foreign, "Name") == "sleep"; }));
  EXPECT_TRUE(is_alive(foreign));
  send_signal(foreign, SIGKILL);
}

} // namespace
