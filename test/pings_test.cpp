// pings_test.cpp - the ping processes: what each inherits, how pinglog ends
// them, and what happens if a ping cannot be started or ended.
//
// README promises:
//   - fail no answer in 3 s                           ping was silent: slow DNS
//   - fail ping: No such file or directory            ping could not be started
//   - A ping still running at the end of its cycle gets SIGINT, then SIGKILL.
//   - its pings with 022

#include "support.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <grp.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

class PingsTest : public Sandbox {
protected:
  // Waits for this many more results that begin with this text.
  void await_more_results(const std::string &beginning,
                          size_t wanted = 2) const {
    size_t before = 0;
    for (const std::string &result : results())
      before += result.rfind(beginning, 0) == 0;
    await_results(beginning, before + wanted);
  }

  void expect_end(Process &process, int number = SIGTERM) const {
    process.signal(number);
    EXPECT_EQ(process.wait().status, 0);
    expect_sound_log();
  }

  // Waits until only these processes of the test are left. A killed process
  // that is not a child of the test may take a moment to disappear.
  bool only_left(const std::vector<pid_t> &pids) const {
    return eventually(
        [&] { return processes_with_environment(mark()) == pids; });
  }

  // The command of a ping that waits forever: nobody opens the FIFO for
  // writing. A shell would need more descriptors.
  std::string fifo_ping() const {
    EXPECT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    return "cat -- " + path("fifo");
  }
};

// ---- How pings are started --------------------------------------------------

TEST_F(PingsTest, PingRunsInItsOwnGroupInTheCLanguage) {
  for (const bool foreground : {false, true}) {
    SCOPED_TRACE(foreground ? "-f" : "daemon");
    Launch launch = pinglog({"-i", "1000", "-e", silent_ping(), "host"});
    if (foreground)
      launch.arguments.insert(launch.arguments.begin(), "-f");
    launch.environment["LC_ALL"] = "xx_YY.UTF-8";
    launch.environment["LANG"] = "xx_YY.UTF-8";
    launch.environment["LANGUAGES"] = "kept"; // does not set the language
    launch.environment["KEPT"] = "yes";
    std::optional<Process> process;
    if (foreground)
      process.emplace(launch);
    const pid_t pid = foreground ? process->pid() : start_daemon(launch);
    const pid_t ping = ping_of(pid);
    EXPECT_EQ(process_stat(ping, 5), ping); // its process group
    const std::string environment =
        '\0' + read_file("/proc/" + std::to_string(ping) + "/environ");
    for (const std::string entry : {"LC_ALL=C", "KEPT=yes", "LANGUAGES=kept"})
      EXPECT_NE(environment.find('\0' + entry + '\0'), std::string::npos)
          << entry;
    EXPECT_EQ(environment.find("xx_YY"), std::string::npos);
    stop(pid);
  }
}

TEST_F(PingsTest, PingHasUmask022UnderTheDaemonAndTheCallersInTheForeground) {
  const std::string ping = script("ping", "umask >>$0.mask");
  for (const bool foreground : {false, true}) {
    std::filesystem::remove(ping + ".mask");
    Launch launch = pinglog({"-i", "1000", "-e", ping, "host"});
    if (foreground)
      launch.arguments.insert(launch.arguments.begin(), "-f");
    launch.umask = 027;
    Process process(launch);
    EXPECT_TRUE(
        eventually([&] { return !read_lines(ping + ".mask").empty(); }));
    EXPECT_THAT(read_lines(ping + ".mask"),
                ElementsAre(foreground ? "0027" : "0022"));
    stop(writer(log()));
    EXPECT_EQ(process.wait().status, 0); // the launcher's, or pinglog's
  }
}

TEST_F(PingsTest, MissingOrUnusablePingIsReportedAndUsedAgainOnceItIsBack) {
  const std::string ping = answering_ping();
  const std::string failed = "host fail " + ping + ": ";
  Process process(pinglog({"-f", "-i", "0.2", "-e", ping, "host"}));
  await_more_results("host ok 12.3 ms");
  ASSERT_EQ(rename(ping.c_str(), path("away").c_str()), 0);
  await_more_results(failed + "No such file or directory");
  ASSERT_EQ(chmod(path("away").c_str(), 0644), 0);
  ASSERT_EQ(rename(path("away").c_str(), ping.c_str()), 0);
  await_more_results(failed + "Permission denied");
  write_file(path("data"), "no program\n", 0755);
  ASSERT_EQ(rename(path("data").c_str(), ping.c_str()), 0);
  await_more_results(failed + "Exec format error");
  (void)answering_ping();
  await_more_results("host ok 12.3 ms");
  expect_end(process);
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
  Process process(pinglog({"-f", "-i", "0.5", "-e", ping, "host", "other"}));
  await_cycles(3);
  EXPECT_THAT(results(), Each(HasSubstr(" fail "))); // for whatever reason
  close(file);
  await_more_results("host ok 12.3 ms");
  await_more_results("other ok 12.3 ms");
  expect_end(process);
  expect_sound_log(2);
}

// ---- Lack of resources, and many hosts --------------------------------------

TEST_F(PingsTest, LackOfProcessesIsLoggedUntilItEnds) {
  // Root has no process limit. Another user may not reach the log by name.
  Launch launch =
      command(program(), {"-f", "-i", "0.1", "-o", "-", "-e", "true", "host"});
  launch.stdout_to = log();
  if (geteuid() == 0) {
    SKIP_UNLESS_NOBODY_CAN_RUN();
    launch.user = nobody;
  }
  Process process(launch);
  const auto limit = [&](rlim_t most) { // only that user may set it
    const pid_t child = fork();
    if (child == 0) {
      const auto failed = [](int result) { return result == -1; };
      rlimit limit;
      if (launch.user && (failed(setgroups(0, nullptr)) ||
                          failed(setgid(nobody)) || failed(setuid(nobody))))
        _exit(1);
      if (failed(prlimit(process.pid(), RLIMIT_NPROC, nullptr, &limit)))
        _exit(2);
      limit.rlim_cur = std::min(most, limit.rlim_max);
      _exit(failed(prlimit(process.pid(), RLIMIT_NPROC, &limit, nullptr)));
    }
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  };
  await_more_results("host ok");
  limit(0);
  await_more_results(std::string("host fail true: ") + strerror(EAGAIN));
  limit(RLIM_INFINITY);
  await_more_results("host ok");
  expect_end(process);
  expect_sound_log(1);
}

TEST_F(PingsTest, LackOfDescriptorsIsLoggedUntilItEnds) {
  const std::string none = " fail cat: Too many open files";
  const std::string silence = " fail no answer in 0.3 s";
  const pid_t pid = start_daemon(
      pinglog({"-i", "0.3", "-e", fifo_ping(), "a", "b", "c", "d", "e", "f"}));
  rlimit usual;
  ASSERT_EQ(prlimit(pid, RLIMIT_NOFILE, nullptr, &usual), 0);
  const auto limit = [&](rlim_t most) {
    const rlimit wanted = {most, usual.rlim_max};
    ASSERT_EQ(prlimit(pid, RLIMIT_NOFILE, &wanted, nullptr), 0);
  };
  await_more_results("f" + silence, 1);
  size_t all = 0, pings = 0;
  ASSERT_TRUE(eventually([&] {
    while_stopped(pid, [&] {
      all = descriptors_of(pid).size();
      pings = children_of(pid).size();
    });
    return pings == 6;
  }));
  limit(all - 3); // enough for some of the pings
  await_more_results("f" + none);
  await_more_results("a" + silence);
  limit(3); // now the log cannot be reopened either: its lines wait
  await_more_results("a" + none);
  ASSERT_EQ(rename(log().c_str(), path("renamed").c_str()), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(700)); // some cycles
  limit(usual.rlim_cur);
  ASSERT_TRUE(eventually([&] { return access(log().c_str(), F_OK) == 0; }));
  await_more_results("f" + silence);
  stop(pid);
  write_file(log(), read_file(path("renamed")) + read_file(log()));
  expect_sound_log(6);
}

TEST_F(PingsTest, EachOfTenThousandHostsLogsTheLackOfDescriptors) {
  // The interval may be short, because no cycle has a ping to wait for.
  Launch launch = pinglog({"-f", "-i", "0.01", "-s", "1", "-e", "true"});
  std::vector<std::string> expected;
  for (int host = 0; host < 10000; ++host) {
    launch.arguments.push_back("host" + std::to_string(host));
    expected.push_back(launch.arguments.back() +
                       " fail true: Too many open files");
  }
  Launch one_host = quick({"-f", "-c", "1"});
  auto &fewest = launch.limits[RLIMIT_NOFILE]; // with which pinglog starts
  do
    one_host.limits[RLIMIT_NOFILE] = ++fewest;
  while (run(one_host).status != 0);
  std::filesystem::remove(log());
  Process process(launch);
  const std::string old = log() + ".0"; // holds one whole cycle
  ASSERT_TRUE(eventually([&] { return access(old.c_str(), F_OK) == 0; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  write_file(log(), read_file(old));
  EXPECT_EQ(results(), expected);
}

TEST_F(PingsTest, ThousandHostsAreAnsweredWith1024Descriptors) {
  constexpr int hosts = 1000;
  Launch launch = pinglog({"-f", "-i", "1000", "-e", "true"});
  for (int host = 0; host < hosts; ++host)
    launch.arguments.push_back("host" + std::to_string(host));
  launch.limits[RLIMIT_NOFILE] = 1024;
  // Some pings are reaped while others start, unless pinglog has been stalled.
  size_t most_zombies = hosts;
  for (int attempt = 0; attempt < 5 && most_zombies > hosts / 3; ++attempt) {
    (void)unlink(log().c_str());
    most_zombies = 0;
    Process process(launch);
    EXPECT_TRUE(eventually([&] {
      most_zombies = std::max(most_zombies, zombies_of(process.pid()).size());
      return count(result_label) == hosts;
    }));
    EXPECT_THAT(results(), Each(EndsWith(" ok")));
    expect_end(process);
  }
  EXPECT_LE(most_zombies, hosts / 3);
}

// ---- How pings are ended ----------------------------------------------------

TEST_F(PingsTest, PingThatDoesNotHeedSigintIsKilledAtTheDeadline) {
  const std::string no_answer = "fail no answer in 0.4 s";
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
      pinglog({"-f", "-i", "0.4", "-e", script("ping", body + "esac")});
  std::set<std::string> wanted, possible; // on a busy machine
  for (const auto &row : rows) {
    launch.arguments.push_back(row.host);
    wanted.insert(row.host + " " + row.verdict);
    possible.insert({row.host + " " + row.verdict, row.host + " " + no_answer});
  }
  Process process(launch);
  std::set<std::string> missing;
  EXPECT_TRUE(eventually([&] {
    missing = wanted;
    for (const std::string &result : results())
      missing.erase(result);
    return missing.empty();
  })) << ::testing::PrintToString(missing);
  expect_end(process);
  expect_sound_log(static_cast<int>(std::size(rows)));
  for (const std::string &result : results())
    EXPECT_EQ(possible.count(result), 1u) << result;
  EXPECT_TRUE(only_left({}));
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
  Process process(pinglog({"-f", "-i", "1", "-e", ping, "ends", "hung"}));
  await_more_results("ends fail exit status 3", 1);
  await_more_results("hung fail no answer in 1 s", 1);
  expect_end(process);
  EXPECT_TRUE(only_left({}));
  // The children are killed when the ping ends, not when its cycle ends.
  (void)unlink(log().c_str());
  Process again(pinglog({"-f", "-i", "1000", "-e", ping, "ends"}));
  await_results("ends fail exit status 3", 1);
  EXPECT_TRUE(only_left({again.pid()}));
  expect_end(again);
}

TEST_F(PingsTest, StrayProcessThatHoldsThePipeDelaysNothing) {
  const std::string ping =
      script("ping", "up=$0.$3; [ -s $up ] || "
                     "setsid sh -c 'echo $$ >>$0; exec sleep 1000' $up & "
                     "until [ -s $up ]; do sleep 0.01; done; "
                     "[ $3 = mute ] || echo time=1.5 ms");
  Process process(pinglog({"-f", "-i", "0.5", "-e", ping, "mute", "talker"}));
  await_more_results("talker ok 1.5 ms", 3);
  await_more_results("mute ok", 3);
  expect_end(process);
  expect_sound_log(2);
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
  await_results("host fail no answer in 1 s", 1);
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
  explicit operator bool() const { return held_; }
  const std::string &why() const { return why_; } // no process is held

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
  if (!holder)
    GTEST_SKIP() << holder.why();
  const int before = count(result_label);
  write_file(ping + ".go", "");
  ASSERT_TRUE(holder.await_end());
  await_cycles(2);
  Words later = results();
  ASSERT_GE(later.size(), before + 2u);
  later.erase(later.begin(), later.begin() + before + 1);
  EXPECT_THAT(later, Each("host fail the ping before has not exited in time"));
  EXPECT_THAT(children_of(process.pid()), ElementsAre(holder.pid()));
  EXPECT_LE(read_lines(ping + ".starts").size(), before + 1u);
  holder.let_go();
  await_more_results("host ok 12.3 ms", 1); // of a second ping
  expect_end(process);
  expect_sound_log(1);
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
    const std::string interval = is_late ? "3" : "6";
    Words wanted = {"host fail no answer in " + interval + " s",
                    "host ok 12.3 ms"};
    if (is_late)
      wanted.insert(wanted.begin() + 1,
                    "host fail the ping before has not exited in time");
    Process process(pinglog({"-f", "-i", interval, "-e", ping, "host"}));
    Holder holder(process.pid());
    if (!holder)
      GTEST_SKIP() << holder.why();
    ASSERT_TRUE(holder.await_end());
    await_lines(start_label, 2);
    if (is_late) // later than half an interval in any case
      std::this_thread::sleep_for(std::chrono::milliseconds(1500));
    holder.let_go();
    await_results("host ", wanted.size());
    Words first = results();
    first.resize(wanted.size());
    EXPECT_EQ(first, wanted);
    expect_end(process);
    (void)unlink((ping + ".starts").c_str());
    (void)unlink(log().c_str());
  }
}

TEST_F(PingsTest, PingThatDiesSlowlyDoesNotOutliveTheDaemon) {
  using std::chrono::milliseconds, std::chrono::steady_clock;
  const Subreaper parent;
  Process process(pinglog({"-f", "-i", "1000", "-e", silent_ping(), "host"}));
  Holder holder(process.pid());
  if (!holder)
    GTEST_SKIP() << holder.why();
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
    if (first != 0)
      _exit(first == -1 ? 125 : wait_for(first));
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
  Launch launch = pinglog({"-f", "-i", "0.3", "-e", silent_ping(), "host"});
  const std::string pinglog = launch.executable;
  launch.arguments.insert(
      launch.arguments.begin(),
      {"-c",
       "sleep 1000 & echo $! >foreign\n"
       "(until [ -e go ]; do sleep 0.02; done; echo >gone; exit 7) &\n"
       "exec \"$0\" \"$@\"",
       pinglog});
  launch.executable = "/bin/sh";
  Process process(launch);
  await_lines(end_label, 1);
  write_file(path("go"), "");
  EXPECT_TRUE(eventually([&] {
    return !read_file(path("gone")).empty() &&
           zombies_of(process.pid()).empty();
  }));
  await_cycles(2);
  EXPECT_TRUE(eventually([&] { return zombies_of(process.pid()).empty(); }));
  expect_end(process);
  expect_sound_log(1);
  EXPECT_THAT(results(), Each("host fail no answer in 0.3 s"));
  const pid_t foreign = std::stoi(read_file(path("foreign")));
  EXPECT_TRUE(
      eventually([&] { return process_status(foreign, "Name") == "sleep"; }));
  EXPECT_TRUE(is_alive(foreign));
  send_signal(foreign, SIGKILL);
}

} // namespace
