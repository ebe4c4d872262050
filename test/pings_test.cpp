// pings_test.cpp - the processes that are the pings: what they are started
// with, how they are ended, and what becomes of those that cannot be started or
// do not end.

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

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class PingsTest : public Sandbox {
protected:
  // Waits for so many more lines with this result.
  void await_results(const std::string &result, int wanted = 2) const {
    const std::string line = result_label + result;
    await_lines(line, count(line) + wanted);
  }

  void expect_end(Process &process, int number = SIGTERM) const {
    process.signal(number);
    EXPECT_EQ(process.wait().status, 0);
    expect_sound_log();
  }

  // True when, but for these, no process of this test is left. Those that
  // were killed and are nobody's children here may take a moment to go.
  bool only_left(const std::vector<pid_t> &pids) const {
    return eventually(
        [&] { return processes_with_environment(mark()) == pids; });
  }

  // The words of a ping that waits for ever and is no shell, which would take
  // more descriptors. It cannot be opened for writing, so it never ends.
  std::string fifo_ping() const {
    EXPECT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    return "cat -- " + path("fifo");
  }
};

// ---- The start --------------------------------------------------------------

TEST_F(PingsTest, EachHasItsGroupAndLanguageAndNothingElseOfTheCallers) {
  for (const bool foreground : {false, true}) {
    SCOPED_TRACE(foreground ? "-f" : "daemon");
    Launch launch = pinglog({"-i", "1000", "-e", silent_ping(), "host"});
    if (foreground)
      launch.arguments.insert(launch.arguments.begin(), "-f");
    launch.environment["LC_ALL"] = "de_DE.UTF-8";
    launch.environment["KEPT"] = "yes";
    launch.before_exec = [in = path("in")] {
      (void)close(STDIN_FILENO);
      (void)!open(in.c_str(), O_RDONLY | O_CREAT, 0600);
      (void)dup2(STDIN_FILENO, 100);
    };
    std::optional<Process> process;
    if (foreground)
      process.emplace(launch);
    const pid_t pid = foreground ? process->pid() : start_daemon(launch);
    const pid_t ping = ping_of(pid);
    EXPECT_EQ(process_stat(ping, 5), ping); // its group
    const auto open = descriptors_of(ping);
    ASSERT_EQ(open.size(), 3u) << ::testing::PrintToString(open);
    EXPECT_EQ(open.at(0), "/dev/null");
    EXPECT_THAT(open.at(1), StartsWith("pipe:"));
    EXPECT_EQ(open.at(1), open.at(2));
    const std::string environment =
        '\0' + read_file("/proc/" + std::to_string(ping) + "/environ");
    for (const std::string entry : {"LC_ALL=C", "KEPT=yes"})
      EXPECT_NE(environment.find('\0' + entry + '\0'), std::string::npos)
          << entry;
    EXPECT_EQ(environment.find("de_DE"), std::string::npos);
    stop(pid);
  }
}

TEST_F(PingsTest, OneThatIsGoneOrUnusableIsNamedAndUsedAgainWhenItIsBack) {
  const std::string ping = answering_ping();
  const std::string failed = "host fail " + ping + ": ";
  Process process(pinglog({"-f", "-i", "0.2", "-e", ping, "host"}));
  await_results("host ok 12.3 ms");
  ASSERT_EQ(rename(ping.c_str(), path("away").c_str()), 0);
  await_results(failed + "No such file or directory");
  ASSERT_EQ(chmod(path("away").c_str(), 0644), 0);
  ASSERT_EQ(rename(path("away").c_str(), ping.c_str()), 0);
  await_results(failed + "Permission denied");
  write_file(path("data"), "no program\n", 0755);
  ASSERT_EQ(rename(path("data").c_str(), ping.c_str()), 0);
  await_results(failed + "Exec format error");
  (void)answering_ping();
  await_results("host ok 12.3 ms");
  expect_end(process);
}

// The kernel waits for the one who has leased the file before it executes it:
// so hangs an exec from a disk that is dying or a server that is away.
TEST_F(PingsTest, ExecThatHangsDelaysNobody) {
  const std::string ping = answering_ping();
  const int file = open(ping.c_str(), O_RDONLY | O_CLOEXEC);
  // The one who has leased it is told by a signal. This one kills nobody.
  if (fcntl(file, F_SETSIG, SIGURG) == -1 ||
      fcntl(file, F_SETLEASE, F_WRLCK) == -1)
    GTEST_SKIP() << "cannot make an exec hang: " << strerror(errno);
  Process process(pinglog({"-f", "-i", "0.5", "-e", ping, "host", "other"}));
  await_cycles(3);
  EXPECT_THAT(results(), Each(HasSubstr(" fail "))); // interrupted, say
  close(file);
  await_results("host ok 12.3 ms");
  await_results("other ok 12.3 ms");
  expect_end(process);
  expect_a_line_for_each_host(2);
}

// ---- What there is not enough of --------------------------------------------

TEST_F(PingsTest, ProcessesRunOutAndComeBack) {
  // Nobody counts those of root. Another user may not get to the log by name.
  Launch launch =
      command(program(), {"-f", "-i", "0.1", "-o", "-", "-e", "true", "host"});
  launch.stdout_to = log();
  if (geteuid() == 0) {
    SKIP_UNLESS_NOBODY_CAN_RUN();
    launch.user = nobody;
  }
  Process process(launch);
  const auto limit = [&](rlim_t most) { // as that user, who alone may
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
  await_results("host ok");
  limit(0);
  await_results(std::string("host fail true: ") + strerror(EAGAIN));
  limit(RLIM_INFINITY);
  await_results("host ok");
  expect_end(process);
  expect_a_line_for_each_host(1);
}

TEST_F(PingsTest, DescriptorsRunOutWhileItRunsAndComeBack) {
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
  await_results("f" + silence, 1);
  limit(8); // enough for some of them
  await_results("f" + none);
  await_results("a" + silence);
  limit(3); // and now the log cannot be opened anew either: its lines wait
  await_results("a" + none);
  ASSERT_EQ(rename(log().c_str(), path("renamed").c_str()), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(700)); // some cycles
  limit(usual.rlim_cur);
  ASSERT_TRUE(eventually([&] { return writer(log()) == pid; }));
  await_results("f" + silence);
  stop(pid);
  write_file(log(), read_file(path("renamed")) + read_file(log()));
  expect_sound_log();
  expect_a_line_for_each_host(6);
}

TEST_F(PingsTest, TenThousandHostsWithoutADescriptorHaveALineEachAndAStop) {
  // Each cycle is late before it has begun, and starts no ping to wait for.
  Launch launch = pinglog({"-f", "-i", "0.01", "-s", "1", "-e", "true"});
  std::vector<std::string> expected;
  for (int host = 0; host < 10000; ++host) {
    launch.arguments.push_back("host" + std::to_string(host));
    expected.push_back(launch.arguments.back() +
                       " fail true: Too many open files");
  }
  launch.limits[RLIMIT_NOFILE] = 6;
  Process process(launch);
  const std::string old = log() + ".0"; // that of a whole cycle
  ASSERT_TRUE(eventually([&] { return access(old.c_str(), F_OK) == 0; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  write_file(log(), read_file(old));
  EXPECT_EQ(results(), expected);
}

// ---- The end ----------------------------------------------------------------

TEST_F(PingsTest, OneThatCannotBeAskedToEndIsKilledAtTheDeadline) {
  const std::string no_answer = "fail no answer in 0.4 s";
  const struct {
    std::string host, script, verdict;
  } rows[] = {
      {"deaf", "trap '' INT TERM; sleep 1000", no_answer},
      {"stopped", "kill -STOP $$", no_answer},
      {"stopped-talker", "echo explained; kill -STOP $$", "fail explained"},
      {"closed", "exec >&- 2>&-; exec sleep 1000", no_answer},
      {"endless", "trap '' INT; while :; do echo again; done", "fail again"},
      {"unbroken", "trap '' INT; while :; do printf xxxxxxxx; done",
       "fail " + std::string(200, 'x')},
      // SIGINT is for the whole of its group.
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
  std::set<std::string> wanted, possible; // where the machine is too busy
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
  expect_a_line_for_each_host(std::size(rows));
  for (const std::string &result : results())
    EXPECT_EQ(possible.count(result), 1u) << result;
  EXPECT_TRUE(only_left({}));
}

TEST_F(PingsTest, ChildrenOfOneThatEndsOrIsEndedAreKilled) {
  // They ignore signals and hold the pipe.
  const std::string ping =
      script("ping", "trap '' INT TERM\n"
                     "up=$0.$3.$$\n"
                     "sh -c 'sleep 1000 & sleep 1000 & : >\"$0\"; wait' $up &\n"
                     "until [ -e $up ]; do sleep 0.01; done\n"
                     "[ $3 = hung ] && wait\n"
                     "exit 3");
  Process process(pinglog({"-f", "-i", "1", "-e", ping, "ends", "hung"}));
  await_results("ends fail exit status 3", 1);
  await_results("hung fail no answer in 1 s", 1);
  expect_end(process);
  EXPECT_TRUE(only_left({}));
  // And not only when its cycle ends.
  Process again(pinglog({"-f", "-i", "1000", "-e", ping, "ends"}));
  await_results("ends fail exit status 3", 1);
  EXPECT_TRUE(only_left({again.pid()}));
  expect_end(again);
}

TEST_F(PingsTest, StrayThatKeepsThePipeOpenDelaysNothing) {
  const std::string ping =
      script("ping", "up=$0.$3; [ -e $up ] || setsid sh -c 'echo $$ >$0.new; "
                     "mv $0.new $0; exec sleep 1000' $up & "
                     "until [ -e $up ]; do sleep 0.01; done; "
                     "[ $3 = mute ] || echo time=1.5 ms");
  Process process(pinglog({"-f", "-i", "0.5", "-e", ping, "mute", "talker"}));
  await_results("talker ok 1.5 ms", 3);
  await_results("mute ok", 3);
  expect_end(process);
  expect_a_line_for_each_host(2);
  for (const std::string host : {"mute", "talker"}) {
    const pid_t stray = std::stoi(read_file(ping + "." + host));
    EXPECT_TRUE(is_alive(stray)) << "it held nothing open";
    send_signal(stray, SIGKILL);
  }
}

// ---- Those that not even SIGKILL ends ---------------------------------------

// Holds a process in the last moment of its life, as a hung driver does. In the
// destructor it is let go.
class Holder {
public:
  // The child of this process, in whichever cycle it can be had.
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
  const std::string &why() const { return why_; } // there is none

  // Hands on the signals that come, until one of them is about to end it.
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

TEST_F(PingsTest, OneThatDoesNotDieFailsInEachCycleAloneAndIsNoLaterAnswer) {
  // It has printed its answer in a cycle of which it could not be killed.
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
  EXPECT_THAT(results(), Each(StartsWith("host fail ")));
  EXPECT_THAT(children_of(process.pid()), ElementsAre(holder.pid()));
  EXPECT_LE(read_lines(ping + ".starts").size(), before + 1u);
  holder.let_go();
  await_results("host ok 12.3 ms", 1);
  EXPECT_GE(read_lines(ping + ".starts").size(), 2u) << "it was the first's";
  expect_end(process);
  expect_a_line_for_each_host(1);
}

TEST_F(PingsTest, OneThatDiesSlowlyDoesNotOutliveTheDaemon) {
  using std::chrono::milliseconds, std::chrono::steady_clock;
  const Subreaper parent;
  Process process(pinglog({"-f", "-i", "1000", "-e", silent_ping(), "host"}));
  Holder holder(process.pid());
  if (!holder)
    GTEST_SKIP() << holder.why();
  const auto asked = steady_clock::now();
  process.signal(SIGTERM);
  ASSERT_TRUE(holder.await_end());
  std::this_thread::sleep_for(milliseconds(100)); // as long as it takes to die
  holder.let_go();
  // On a machine that is too busy it may have been longer: there is an end to
  // the patience.
  const bool soon = steady_clock::now() - asked < milliseconds(400);
  EXPECT_EQ(process.wait().status, 0);
  const bool left_to_us = waitpid(holder.pid(), nullptr, 0) == holder.pid();
  EXPECT_FALSE(left_to_us && soon);
  expect_sound_log();
}

// ---- Children that are no pings ---------------------------------------------

// What is executed next is the first process of a PID namespace, as in a
// container. Its parent here waits for it; exit status 125: it cannot be had.
void become_first_process() {
  if (!unshare_anyhow(CLONE_NEWPID))
    _exit(125);
  const pid_t first = fork();
  if (first == -1)
    _exit(125);
  if (first == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return;
  }
  int status = -1;
  waitpid(first, &status, 0);
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

TEST_F(PingsTest, FirstProcessOfAContainerReapsOrphans) {
  // Each ping leaves a process that has a session of its own, and ends later.
  const std::string ping =
      script("ping", "(setsid sh -c 'sleep 0.1; echo >>\"$0\"' $0.orphans "
                     ">/dev/null 2>&1 &)\necho time=12.3 ms");
  Launch launch = pinglog({"-f", "-i", "0.2", "-e", ping, "host"});
  launch.before_exec = become_first_process;
  Process process(launch);
  ASSERT_TRUE(eventually(
      [&] { return count(start_label) > 0 || process.has_ended(); }));
  if (process.has_ended()) {
    ASSERT_EQ(process.wait().status, 125);
    GTEST_SKIP() << "no PID namespace here";
  }
  const pid_t pid = writer(log());
  ASSERT_THAT(process_status(pid, "NSpid"), EndsWith("\t1"));
  ASSERT_TRUE(
      eventually([&] { return read_lines(ping + ".orphans").size() >= 5; }));
  EXPECT_TRUE(eventually([&] { return zombies_of(pid).empty(); },
                         std::chrono::seconds(10)));
  EXPECT_THAT(results(), Contains("host ok 12.3 ms"));
  // A first process has no default actions: without a handler this is lost.
  send_signal(pid, SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  expect_sound_log();
}

TEST_F(PingsTest, ChildrenOfTheShellBeforeItAreLeftAlone) {
  // One lives on, one ends while pinglog runs, and its status is nobody's ping.
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
  EXPECT_THAT(zombies_of(process.pid()), IsEmpty());
  expect_end(process);
  expect_a_line_for_each_host(1);
  EXPECT_THAT(results(), Each("host fail no answer in 0.3 s"));
  const pid_t foreign = std::stoi(read_file(path("foreign")));
  EXPECT_EQ(process_status(foreign, "Name"), "sleep");
  EXPECT_TRUE(is_alive(foreign));
  send_signal(foreign, SIGKILL);
}

} // namespace
