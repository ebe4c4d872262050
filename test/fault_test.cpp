// fault_test.cpp - faults that come from outside: from the caller, from the
// terminal, from the clock, from signals and words of every kind.
//
// Each fault is made to happen for real. Some need many rounds to be seen: the
// suite makes a few, and variables of the environment ask for more, as named
// where rounds() is called.

#include "support.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <iostream>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <random>
#include <sched.h>
#include <set>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::EndsWith;
using ::testing::Eq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// A ping that is one exec of a small program and needs no shell.
constexpr char echo_ping[] = "echo time=12.3 ms";

int rounds(const char *variable, int usual) {
  const char *wanted = getenv(variable);
  return wanted != nullptr ? atoi(wanted) : usual;
}

double seconds_since(Clock::time_point begin) {
  return Seconds(Clock::now() - begin).count();
}

class FaultTest : public Sandbox {
protected:
  // Waits until the log has so many lines that begin with this.
  void await_lines(const std::string &beginning, int wanted) const {
    ASSERT_TRUE(eventually([&] { return count(beginning) >= wanted; }))
        << "only " << count(beginning) << " x " << beginning << "\n"
        << read_file(log());
  }

  // Waits until as many cycles as this have ended from now on.
  void await_cycles(int wanted) const {
    await_lines(end_label, count(end_label) + wanted);
  }

  void expect_sound_log() const {
    EXPECT_EQ(fault_in_log(log()), "");
    EXPECT_EQ(count(lost_label), 0);
  }

  // A cycle holds its start, a line for each host, and its end; nothing stands
  // between two cycles. The last one may have been ended before its time.
  void expect_a_line_for_each_host(size_t hosts) const {
    std::set<std::string> answered;
    bool within = false;
    int cycle = 0;
    const int last = count(start_label);
    for (const std::string &line : log_lines()) {
      if (line.rfind(start_label, 0) == 0) {
        ASSERT_FALSE(within) << cycle;
        within = true;
        ++cycle;
      } else if (line.rfind(end_label, 0) == 0) {
        ASSERT_TRUE(within) << cycle;
        ASSERT_TRUE(answered.size() == hosts || cycle == last)
            << answered.size() << " results in cycle " << cycle;
        within = false;
        answered.clear();
      } else {
        ASSERT_TRUE(within) << "after cycle " << cycle << ": " << line;
        const size_t blank = line.find(' ', strlen(result_label));
        ASSERT_TRUE(answered.insert(line.substr(0, blank)).second)
            << "again in cycle " << cycle << ": " << line;
      }
    }
    EXPECT_FALSE(within);
  }

  // The PID of the process that has locked the log, -1 if there is none.
  pid_t writer() const {
    const int file = open(log().c_str(), O_RDONLY | O_CLOEXEC);
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    const bool asked = file != -1 && fcntl(file, F_GETLK, &lock) == 0;
    close(file);
    return asked && lock.l_type != F_UNLCK ? lock.l_pid : -1;
  }

  // As start_daemon(), but where many come and go: the fixture would still
  // hold PIDs at the end that are long somebody else's.
  static pid_t detach(const Launch &launch) {
    const Result result = run(launch);
    EXPECT_EQ(result.status, 0) << result.err;
    long pid = -1;
    EXPECT_EQ(sscanf(result.out.c_str(), "Daemon PID %ld", &pid), 1);
    return static_cast<pid_t>(pid);
  }
};

std::vector<pid_t> zombies_of(pid_t pid) {
  std::vector<pid_t> found;
  for (pid_t child : children_of(pid))
    if (process_state(child) == 'Z')
      found.push_back(child);
  return found;
}

// ---------------------------------------------------------------- descriptors

class DescriptorTest : public FaultTest {
protected:
  // Between two pings it holds 0 to 2, /dev/null and the log, and nothing else.
  void expect_own_descriptors_alone(pid_t pid) const {
    std::map<int, std::string> found;
    const bool alone = eventually([&] {
      found = descriptors_of(pid);
      return found.size() == 5;
    });
    EXPECT_TRUE(alone) << ::testing::PrintToString(found);
    for (const auto &[fd, name] : found)
      EXPECT_TRUE(fd <= 2 || name == "/dev/null" || name == log())
          << fd << " " << name;
  }
};

// Has 0 to 2 on three files, without those of the combination (bit 0: 0, ...).
Launch with_closed(Launch launch, const std::string &input, int combination) {
  launch.before_exec = [input] {
    const int file = open(input.c_str(), O_RDONLY | O_CREAT, 0644);
    if (file == -1 || dup2(file, STDIN_FILENO) == -1)
      _exit(126);
    close(file);
  };
  for (int fd = 0; fd <= 2; ++fd)
    if ((combination >> fd & 1) != 0)
      launch.closed.push_back(fd);
  return launch;
}

TEST_F(DescriptorTest, DaemonHasNullOnZeroToTwoWhicheverTheCallerClosed) {
  for (int combination = 0; combination < 8; ++combination) {
    SCOPED_TRACE(combination);
    const Result result =
        run(with_closed(pinglog({"-i", "0.2", "-e", echo_ping, "host"}),
                        path("in"), combination));
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(result.out.rfind("Daemon PID ", 0) == 0, (combination & 2) == 0);
    await_lines(result_label, 1);
    const pid_t pid = writer();
    ASSERT_GT(pid, 1);
    expect_own_descriptors_alone(pid);
    for (int fd = 0; fd <= 2; ++fd)
      EXPECT_EQ(descriptors_of(pid)[fd], "/dev/null") << fd;
    stop(pid);
    EXPECT_THAT(results(), Each("host ok 12.3 ms"));
    expect_sound_log();
    unlink(log().c_str());
    if (HasFailure())
      break;
  }
}

TEST_F(DescriptorTest, ForegroundOpensNullOnThoseAloneThatAreClosed) {
  const std::string files[] = {path("in"), path("out"), path("err")};
  for (int combination = 0; combination < 8; ++combination) {
    SCOPED_TRACE(combination);
    Launch launch =
        with_closed(pinglog({"-f", "-i", "0.2", "-e", echo_ping, "host"}),
                    files[0], combination);
    launch.stdout_to = files[1];
    launch.stderr_to = files[2];
    Process process(launch);
    await_lines(result_label, 1);
    expect_own_descriptors_alone(process.pid());
    for (int fd = 0; fd <= 2; ++fd)
      EXPECT_EQ(descriptors_of(process.pid())[fd],
                (combination >> fd & 1) != 0 ? "/dev/null" : files[fd]);
    process.signal(SIGTERM);
    const Result result = process.wait();
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.out + result.err, "");
    EXPECT_THAT(results(), Each("host ok 12.3 ms"));
    expect_sound_log();
    unlink(log().c_str());
    if (HasFailure())
      break;
  }
}

// Those below are left to the loader of a dynamic program.
void inherit_a_thousand_descriptors() {
  for (int fd = 8; fd < 1008; ++fd)
    if (dup2(STDIN_FILENO, fd) == -1)
      _exit(126);
}

TEST_F(DescriptorTest, AThousandInheritedReachNeitherDaemonNorPing) {
  const std::string ping = script(
      "ping", "ls -l /proc/self/fd >'" + path("new") + "'\nmv '" + path("new") +
                  "' '" + path("fds") + "'\necho time=12.3 ms");
  // In the foreground too, where a supervisor's are as unwelcome.
  for (const bool foreground : {false, true}) {
    SCOPED_TRACE(foreground ? "-f" : "daemon");
    Launch launch = pinglog({"-i", "0.2", "-e", ping, "host"});
    if (foreground)
      launch.arguments.insert(launch.arguments.begin(), "-f");
    launch.before_exec = inherit_a_thousand_descriptors;
    Process process(launch);
    await_lines(result_label, 1);
    EXPECT_THAT(results(), Each("host ok 12.3 ms"));
    const pid_t pid = writer();
    expect_own_descriptors_alone(pid);
    stop(pid);
    EXPECT_EQ(process.wait().status, 0); // the launcher's, or that of -f
    // Standard input, the file, the pipe, and the directory that ls reads.
    const std::vector<std::string> listed = read_lines(path("fds"));
    ASSERT_THAT(listed, SizeIs(5)) << read_file(path("fds"));
    EXPECT_THAT(listed[1], EndsWith(" 0 -> /dev/null"));
    EXPECT_THAT(listed[2], EndsWith(" 1 -> " + path("new")));
    EXPECT_THAT(listed[3], HasSubstr(" 2 -> pipe:"));
    EXPECT_THAT(listed[4], HasSubstr(" 3 -> /proc/"));
    unlink(log().c_str());
    if (HasFailure())
      break;
  }
}

// As the kernels before 5.9 do.
void refuse_close_range() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {4, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == -1)
    _exit(126);
}

TEST_F(DescriptorTest, OldKernelClosesThoseAboveALimitLoweredSince) {
  for (const unsigned long limit : {8ul, 2000ul}) {
    SCOPED_TRACE(limit);
    Launch launch = pinglog({"-f", "-i", "0.2", "-e", echo_ping, "host"});
    launch.before_exec = [] {
      inherit_a_thousand_descriptors();
      refuse_close_range();
    };
    launch.limits[RLIMIT_NOFILE] = limit;
    Process process(launch);
    await_lines(result_label, 1);
    expect_own_descriptors_alone(process.pid());
    EXPECT_THAT(results(), Each("host ok 12.3 ms"));
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait().status, 0);
    unlink(log().c_str());
    if (HasFailure())
      break;
  }
}

TEST_F(DescriptorTest, MoreHostsThanDescriptorsIsAFailLineEachCycle) {
  // A program that waits and takes any words; a shell wants more descriptors.
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  Launch launch = pinglog({"-i", "0.3", "-e", "cat -- " + path("fifo"), "a",
                           "b", "c", "d", "e", "f"});
  launch.limits[RLIMIT_NOFILE] = 8;
  const pid_t pid = start_daemon(launch);
  await_lines(end_label, 3);
  stop(pid);
  expect_sound_log();
  int cycles = 0;
  std::multiset<std::string> out_of, unanswered;
  for (const std::string &line : log_lines()) {
    const std::string host = line.substr(strlen(result_label), 1);
    if (line.find(" fail cat: Too many open files") != std::string::npos)
      out_of.insert(host);
    else if (line.find(" fail no answer in 0.3 s") != std::string::npos)
      unanswered.insert(host);
    if (line.rfind(end_label, 0) != 0 || ++cycles > 3)
      continue;
    // Some of them were started, and each host has its line in each cycle.
    EXPECT_FALSE(out_of.empty());
    EXPECT_FALSE(unanswered.empty());
    std::multiset<std::string> all = out_of;
    all.insert(unanswered.begin(), unanswered.end());
    EXPECT_EQ(all, (std::multiset<std::string>{"a", "b", "c", "d", "e", "f"}));
    out_of.clear();
    unanswered.clear();
  }
}

TEST_F(DescriptorTest, DescriptorsRunOutWhileItRunsAndComeBack) {
  const pid_t pid =
      start_daemon(pinglog({"-i", "0.1", "-e", echo_ping, "host"}));
  await_lines(result_label, 1);
  rlimit usual;
  ASSERT_EQ(prlimit(pid, RLIMIT_NOFILE, nullptr, &usual), 0);
  const rlimit none = {3, usual.rlim_max};
  ASSERT_EQ(prlimit(pid, RLIMIT_NOFILE, &none, nullptr), 0);
  await_lines(std::string(result_label) + "host fail echo: Too many open files",
              2);
  // Now the log cannot be opened anew either: its lines wait.
  ASSERT_EQ(rename(log().c_str(), path("renamed").c_str()), 0);
  ASSERT_TRUE(eventually([&] { return writer() == -1; }));
  std::this_thread::sleep_for(Seconds(0.35)); // some cycles without a log
  ASSERT_EQ(prlimit(pid, RLIMIT_NOFILE, &usual, nullptr), 0);
  await_lines(std::string(result_label) + "host ok", 2);
  EXPECT_EQ(writer(), pid);
  EXPECT_THAT(results(), Contains("host fail echo: Too many open files"));
  stop(pid);
  expect_sound_log();
  EXPECT_EQ(fault_in_log(path("renamed")), "");
  EXPECT_EQ(count(start_label), count(end_label));
}

// ------------------------------------------------- pings that are hard to kill

// Holds a process in the last moment of its life, where not even SIGKILL ends
// it, as a hung driver does. In the destructor it is let go.
class Holder {
public:
  explicit Holder(pid_t pid) : pid_(pid) {
    held_ = ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACEEXIT) == 0;
  }
  Holder(const Holder &) = delete;
  Holder &operator=(const Holder &) = delete;
  ~Holder() { let_go(); }

  bool holds() const { return held_; }

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
  const pid_t pid_;
  bool held_;
};

class HeldPingTest : public FaultTest {
protected:
  // The one ping in flight, as soon as it is what it will be.
  static pid_t ping_of(pid_t daemon) {
    pid_t ping = -1;
    EXPECT_TRUE(eventually([&] {
      const std::vector<pid_t> children = children_of(daemon);
      ping = children.size() == 1 ? children[0] : -1;
      return process_status(ping, "Name") == "sleep";
    }));
    return ping;
  }
};

TEST_F(HeldPingTest, OneThatSigkillDoesNotEndFailsOnceForEachCycle) {
  Process process(
      pinglog({"-f", "-c", "6", "-i", "0.6", "-e", silent_ping(), "host"}));
  const pid_t ping = ping_of(process.pid());
  Holder holder(ping);
  if (!holder.holds())
    GTEST_SKIP() << "may not trace here";
  ASSERT_TRUE(holder.await_end());
  // It is collected when its cycles have ended with a result for it.
  await_lines(end_label, 2);
  EXPECT_THAT(children_of(process.pid()), ::testing::ElementsAre(ping));
  holder.let_go();
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_EQ(count(start_label), 6);
  EXPECT_THAT(results(), SizeIs(6));
  expect_a_line_for_each_host(1);
  expect_sound_log();
}

// It has printed its answer in a cycle of which it could not be killed.
TEST_F(HeldPingTest, OneThatEndsInALaterCycleIsNoAnswerOfThatCycle) {
  const std::string ping =
      script("waiting-ping", "echo >>" + path("starts") + "\nuntil [ -e " +
                                 path("go") + " ]; do sleep 0.05; done\n" +
                                 "echo time=12.3 ms");
  Process process(pinglog({"-f", "-c", "4", "-i", "1", "-e", ping, "host"}));
  ASSERT_TRUE(
      eventually([&] { return read_lines(path("starts")).size() == 1; }));
  Holder holder(children_of(process.pid()).at(0));
  if (!holder.holds())
    GTEST_SKIP() << "may not trace here";
  write_file(path("go"), "");
  ASSERT_TRUE(holder.await_end());
  await_lines(end_label, 1);
  EXPECT_THAT(results(), Each(Eq("host fail no answer in 1 s")));
  holder.let_go();
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_THAT(results(), SizeIs(4));
  // All of the later ones have answered.
  EXPECT_EQ(count(std::string(result_label) + "host ok 12.3 ms"),
            read_lines(path("starts")).size() - 1);
}

TEST_F(HeldPingTest, OneThatDiesSlowlyDoesNotOutliveTheDaemon) {
  // Once it is to stop, and once it has done all of its cycles.
  for (const bool stopped : {true, false}) {
    SCOPED_TRACE(stopped ? "SIGTERM" : "-c 1");
    Process process(pinglog({"-f", "-c", "1", "-i", stopped ? "60" : "1", "-e",
                             silent_ping(), "host"}));
    const pid_t ping = ping_of(process.pid());
    Holder holder(ping);
    if (!holder.holds())
      GTEST_SKIP() << "may not trace here";
    if (stopped)
      process.signal(SIGTERM);
    ASSERT_TRUE(holder.await_end());
    std::this_thread::sleep_for(Seconds(0.2)); // as long as it takes to die
    EXPECT_FALSE(process.has_ended());
    holder.let_go();
    EXPECT_EQ(process.wait().status, 0);
    EXPECT_EQ(process_state(ping), '\0');
    expect_a_line_for_each_host(1);
    unlink(log().c_str());
    if (HasFailure())
      break;
  }
}

// The kernel asks before it loads this file, and gets no answer: so hangs an
// exec from a disk that is dying or a server behind the line that is down.
TEST_F(HeldPingTest, ExecThatHangsDelaysNobody) {
  const std::string ping = answering_ping();
  const int answers = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
  if (answers == -1 || fanotify_mark(answers, FAN_MARK_ADD, FAN_OPEN_EXEC_PERM,
                                     AT_FDCWD, ping.c_str()) == -1)
    GTEST_SKIP() << "cannot make an exec hang: " << strerror(errno);
  Process process(
      pinglog({"-f", "-i", "0.5", "-e", ping, "host", "other-host"}));
  await_lines(end_label, 3);
  EXPECT_THAT(results(), Each(EndsWith(" fail no answer in 0.5 s")));
  close(answers); // which lets all go on
  await_lines(std::string(result_label) + "host ok 12.3 ms", 2);
  await_lines(std::string(result_label) + "other-host ok 12.3 ms", 2);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  expect_sound_log();
}

// -------------------------------------------------------------------- signals

class SignalTest : public FaultTest {};

TEST_F(SignalTest, WhatTheCallerIgnoredAndBlockedHarmsNeitherDaemonNorPing) {
  // No shell: some clear the mask of signals themselves. sed copies the first
  // of its files and complains of those that are meant for a ping.
  const std::string ping =
      "sed -n -e w" + path("signals") + " -- /proc/self/status";
  for (const bool foreground : {false, true}) {
    SCOPED_TRACE(foreground ? "-f" : "daemon");
    Launch launch = pinglog({"-i", "0.2", "-e", ping, "host"});
    if (foreground)
      launch.arguments.insert(launch.arguments.begin(), "-f");
    launch.ignored = {SIGCHLD, SIGHUP,  SIGINT,   SIGPIPE,
                      SIGUSR1, SIGQUIT, SIGRTMIN, SIGRTMAX};
    launch.blocked = {SIGTERM, SIGCHLD, SIGINT,   SIGHUP,
                      SIGALRM, SIGQUIT, SIGRTMIN, SIGRTMAX};
    Process process(launch);
    await_lines(end_label, 2);
    const pid_t pid = writer();
    ASSERT_GT(pid, 1);
    EXPECT_TRUE(eventually([&] { return zombies_of(pid).empty(); }));
    EXPECT_EQ(process_status(pid, "SigIgn"), "0000000000000000");
    const std::string none = "0000000000000000";
    // The file is written anew in each cycle.
    EXPECT_TRUE(eventually([&] {
      const std::string text = read_file(path("signals"));
      return text.find("SigBlk:\t" + none) != std::string::npos &&
             text.find("SigIgn:\t" + none) != std::string::npos &&
             text.find("SigCgt:\t" + none) != std::string::npos;
    })) << read_file(path("signals"));
    // That of `nohup pinglog -f` too.
    send_signal(pid, SIGHUP);
    await_cycles(2);
    EXPECT_THAT(results(), Each(StartsWith("host fail sed: ")));
    stop(pid);
    EXPECT_EQ(process.wait().status, 0); // the launcher's, or that of -f
    expect_sound_log();
    EXPECT_EQ(count(start_label), count(end_label));
    unlink(log().c_str());
    if (HasFailure())
      break;
  }
}

// PINGLOG_STOPS: how many daemons are stopped; 500 take a minute or two.
TEST_F(SignalTest, StopsAtAnyMomentOfACycleAndLeavesNothing) {
  // So that the daemons, and what they leave, become children of the test.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  const std::string ping =
      script("ping", "[ \"$3\" = quick ] && echo time=12.3 ms && exit\n"
                     "exec sleep 1000");
  std::mt19937 random(std::random_device{}());
  std::uniform_real_distribution<double> moment(0, 0.1);
  double longest = 0;
  for (int round = rounds("PINGLOG_STOPS", 12); round > 0; --round) {
    SCOPED_TRACE(round);
    const pid_t pid =
        detach(pinglog({"-i", "0.1", "-e", ping, "quick", "slow"}));
    ASSERT_GT(pid, 1);
    // A hangup alone, then one of those that end it: at random moments.
    for (const int number : {SIGHUP, round % 2 == 0 ? SIGTERM : SIGINT}) {
      std::this_thread::sleep_for(Seconds(moment(random)));
      ASSERT_TRUE(is_alive(pid));
      send_signal(pid, number);
    }
    const auto asked = Clock::now();
    int status = -1;
    ASSERT_TRUE(
        eventually([&] { return waitpid(pid, &status, WNOHANG) == pid; }));
    longest = std::max(longest, seconds_since(asked));
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    // Neither a ping nor a zombie: it would be a child of the test now.
    errno = 0;
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
    ASSERT_FALSE(log_lines().empty());
    EXPECT_THAT(log_lines().back(), StartsWith(end_label));
    EXPECT_EQ(count(start_label), count(end_label));
    EXPECT_EQ(count(std::string(result_label) + "slow fail killed"), 0);
    expect_sound_log();
    if (HasFailure())
      break;
    unlink(log().c_str());
  }
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  std::cout << "longest from the signal to the end: " << longest << " s\n";
}

// dd and nginx have taught people to send SIGUSR1.
TEST_F(SignalTest, OneThatMeansNothingIsIgnoredAndQuitEndsItInOrder) {
  const pid_t pid =
      start_daemon(pinglog({"-i", "0.1", "-e", echo_ping, "host"}));
  for (int number : {SIGUSR1, SIGUSR2, SIGALRM, SIGPIPE, SIGXFSZ})
    send_signal(pid, number);
  await_cycles(3);
  EXPECT_EQ(writer(), pid);
  stop(pid, SIGQUIT);
  expect_sound_log();
  EXPECT_EQ(count(start_label), count(end_label));
}

TEST_F(SignalTest, HangupNeverEndsTheDaemon) {
  const pid_t pid =
      start_daemon(pinglog({"-i", "0.1", "-e", echo_ping, "host"}));
  std::mt19937 random(std::random_device{}());
  std::uniform_real_distribution<double> moment(0, 0.02);
  for (int hangup = 0; hangup < 50; ++hangup) {
    send_signal(pid, SIGHUP);
    std::this_thread::sleep_for(Seconds(moment(random)));
  }
  await_cycles(2);
  EXPECT_EQ(writer(), pid);
  stop(pid);
  expect_sound_log();
  EXPECT_EQ(count(start_label), count(end_label));
}

// ------------------------------------------------------------------- terminal

class TerminalTest : public FaultTest {};

// The line that a terminal's other end shows next, "" at the end.
std::string line_from(int master) {
  std::string line;
  char byte;
  pollfd readable = {master, POLLIN, 0};
  while (poll(&readable, 1, 20000) == 1 && read(master, &byte, 1) == 1 &&
         byte != '\n')
    line += byte;
  return line;
}

// PINGLOG_HANGUPS: how many terminals are closed.
TEST_F(TerminalTest, ClosesAsTheLauncherExitsAndEveryDaemonLives) {
  const int wanted = rounds("PINGLOG_HANGUPS", 25);
  std::vector<pid_t> daemons;
  for (int round = 0; round < wanted; ++round) {
    const int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ASSERT_NE(master, -1);
    ASSERT_EQ(grantpt(master), 0);
    ASSERT_EQ(unlockpt(master), 0);
    const std::string slave = ptsname(master);
    Launch launch = command(program(), {"-o", path(std::to_string(round)), "-i",
                                        "1", "-e", echo_ping, "host"});
    launch.before_exec = [slave] {
      setsid();
      const int terminal = open(slave.c_str(), O_RDWR | O_NOCTTY);
      if (terminal == -1 || ioctl(terminal, TIOCSCTTY, 0) == -1)
        _exit(126);
      for (int fd = 0; fd <= 2; ++fd)
        dup2(terminal, fd);
      close(terminal);
    };
    Process launcher(launch);
    // The launcher leads the session: its exit hangs up. In every other round
    // the window is closed first, as soon as the launcher has said its word.
    if (round % 2 == 0) {
      EXPECT_EQ(launcher.wait().status, 0);
    }
    const std::string line = line_from(master);
    close(master);
    launcher.wait();
    long pid = -1;
    EXPECT_EQ(sscanf(line.c_str(), "Daemon PID %ld", &pid), 1) << line;
    if (pid > 1)
      daemons.push_back(static_cast<pid_t>(pid));
    if (HasFailure())
      break;
  }
  int alive = 0;
  for (pid_t pid : daemons) {
    alive += is_alive(pid);
    EXPECT_LE(process_stat(pid, 7), 0) << "has a terminal";
  }
  EXPECT_EQ(alive, wanted);
  for (size_t round = 0; round < daemons.size() && !HasFailure(); ++round)
    EXPECT_TRUE(eventually([&] {
      return read_file(path(std::to_string(round))).find(end_label) !=
             std::string::npos;
    })) << round;
  for (pid_t pid : daemons)
    if (is_alive(pid))
      stop(pid);
}

// ---------------------------------------------------------------------- clock

class ClockTest : public FaultTest {
protected:
  static constexpr double interval = 0.2;

  // A ping that notes when it was started, by a clock that nobody sets.
  std::string noting_ping() const {
    return script("ping", "read up rest </proc/uptime\necho \"$up\" >>'" +
                              path("starts") + "'\necho time=12.3 ms");
  }
  std::vector<double> starts() const {
    std::vector<double> found;
    for (const std::string &line : read_lines(path("starts")))
      found.push_back(std::stod(line));
    return found;
  }

  // Waits for more pings, and expects no more of them than the time allows, and
  // most of them on the grid on which the first one was.
  void expect_grid(size_t more) const {
    const size_t known = starts().size();
    const auto begin = Clock::now();
    ASSERT_TRUE(eventually([&] { return starts().size() >= known + more; }))
        << "stalls";
    const std::vector<double> found = starts();
    EXPECT_LE(found.size() - known, seconds_since(begin) / interval + 2)
        << "a burst";
    std::vector<double> off;
    for (size_t i = known; i < found.size(); ++i)
      off.push_back(
          std::abs(std::remainder(found[i] - found.front(), interval)));
    std::sort(off.begin(), off.end());
    EXPECT_LT(off[off.size() / 2], interval / 4) << "off the grid";
  }
};

TEST_F(ClockTest, StoppedForTenIntervalsMakesUpForNoneAndKeepsTheGrid) {
  const pid_t pid =
      start_daemon(pinglog({"-i", "0.2", "-e", noting_ping(), "host"}));
  ASSERT_TRUE(eventually([&] { return starts().size() >= 3; }));
  send_signal(pid, SIGSTOP);
  ASSERT_TRUE(eventually([&] { return process_state(pid) == 'T'; }));
  // Half an interval more, or a grid begun anew would look like the old one.
  std::this_thread::sleep_for(Seconds(10.5 * interval));
  send_signal(pid, SIGCONT);
  expect_grid(7);
  stop(pid);
  expect_sound_log();
  EXPECT_EQ(count(start_label), count(end_label));
}

// "" if there is none. The package puts it below the architecture's directory.
std::string libfaketime() {
  std::error_code error;
  for (const auto &entry : fs::directory_iterator("/usr/lib", error)) {
    const fs::path library = entry.path() / "faketime/libfaketime.so.1";
    if (fs::exists(library, error))
      return library;
  }
  return "";
}

TEST_F(ClockTest, WallClockSetByADayNeitherHurriesNorStalls) {
  const std::string library = libfaketime();
  if (library.empty())
    GTEST_SKIP() << "no libfaketime on this machine (package faketime)";
  // A static program preloads nothing.
  const fs::path source = fs::path(program()).parent_path();
  fs::create_directory(path("build"));
  for (const char *name :
       {"Makefile", "daemon.cpp", "daemon.h", "pinglog.cpp"}) {
    if (!fs::exists(source / name))
      GTEST_SKIP() << "no sources beside " << program();
    fs::copy(source / name, path("build"));
  }
  Launch build = command("make", {"LDFLAGS=", "CXXFLAGS=-O0"});
  build.directory = path("build");
  build.environment["MAKEFLAGS"] = "";
  const Result built = run(build);
  ASSERT_EQ(built.status, 0) << built.err;

  Launch launch = pinglog(
      {"-f", "-i", "0.2", "-e", "env -u LD_PRELOAD " + noting_ping(), "host"});
  launch.executable = path("build/pinglog");
  launch.environment["LD_PRELOAD"] = library;
  launch.environment["FAKETIME_TIMESTAMP_FILE"] = path("offset");
  launch.environment["FAKETIME_NO_CACHE"] = "1";
  launch.environment["DONT_FAKE_MONOTONIC"] = "1";
  write_file(path("offset"), "+0d\n");
  Process process(launch);
  ASSERT_TRUE(eventually([&] { return starts().size() >= 2; }));
  for (const int days : {1, -1, 0}) {
    SCOPED_TRACE(days);
    write_file(path("next"),
               (days < 0 ? "" : "+") + std::to_string(days) + "d\n");
    ASSERT_EQ(rename(path("next").c_str(), path("offset").c_str()), 0);
    expect_grid(5);
    // The clock was set indeed: the log says so.
    const time_t wanted = time(nullptr) + days * 86400;
    const std::vector<std::string> lines = log_lines();
    const auto last =
        std::find_if(lines.rbegin(), lines.rend(), [](const std::string &line) {
          return line.rfind(start_label, 0) == 0;
        });
    ASSERT_NE(last, lines.rend());
    struct tm logged = {};
    ASSERT_NE(strptime(last->c_str() + strlen(start_label),
                       "%a %b %d %H:%M:%S %Y", &logged),
              nullptr);
    logged.tm_isdst = -1;
    EXPECT_LT(std::abs(difftime(mktime(&logged), wanted)), 3600) << *last;
  }
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_THAT(results(),
              Each(::testing::AnyOf("host ok 12.3 ms",
                                    "host fail no answer in 0.2 s")));
  expect_sound_log();
}

// ------------------------------------------------------------------ long runs

struct Sample {
  long rss_kib = 0;
  long own_kib = 0; // of that, what no file backs: the rest may be reclaimed
  size_t descriptors = 0;
  size_t children = 0;
};

std::ostream &operator<<(std::ostream &stream, const Sample &sample) {
  return stream << sample.rss_kib << " KiB resident, " << sample.own_kib
                << " of it its own, " << sample.descriptors << " descriptors, "
                << sample.children << " children";
}

// What it holds, while it is stopped. The figure in `status` is kept for each
// CPU and lags; this one is counted.
Sample sample_of(const Process &process) {
  const std::string directory = "/proc/" + std::to_string(process.pid());
  process.signal(SIGSTOP);
  EXPECT_TRUE(eventually([&] { return process_state(process.pid()) == 'T'; }));
  Sample sample;
  for (const std::string &line : read_lines(directory + "/smaps_rollup"))
    if (line.rfind("Rss:", 0) == 0)
      sample.rss_kib = std::stol(line.substr(4));
    else if (line.rfind("Anonymous:", 0) == 0)
      sample.own_kib = std::stol(line.substr(10));
  sample.descriptors = descriptors_of(process.pid()).size();
  sample.children = children_of(process.pid()).size();
  process.signal(SIGCONT);
  return sample;
}

// PINGLOG_CYCLES: how many; 20,000 take four minutes.
TEST_F(FaultTest, ManyCyclesHoldNoMoreThanTheFirst) {
  const int cycles = rounds("PINGLOG_CYCLES", 400);
  Process process(pinglog({"-f", "-c", std::to_string(cycles), "-i", "0.01",
                           "-e", echo_ping, "a", "b", "c"}));
  const auto begin = Clock::now();
  // The log is read as a number of bytes: it would be read very often.
  const auto await_cycle = [&](int cycle) {
    const size_t bytes = 2 * (strlen(start_label) + 25) +
                         3 * (strlen(result_label) + strlen("a ok 12.3 ms\n"));
    return eventually(
        [&] {
          std::error_code error;
          const auto size = fs::file_size(log(), error);
          return (!error && size >= bytes * cycle) || process.has_ended();
        },
        std::chrono::seconds(20 + cycle / 10));
  };
  // Some moment between two cycles, where nothing is in flight.
  const auto idle_sample = [&] {
    Sample sample;
    EXPECT_TRUE(eventually([&] {
      sample = sample_of(process);
      return (sample.children == 0 && sample.descriptors == 5) ||
             process.has_ended();
    })) << "never idle: "
        << sample;
    return sample;
  };
  ASSERT_TRUE(await_cycle(100));
  const Sample early = idle_sample();
  ASSERT_TRUE(await_cycle(cycles - 150));
  ASSERT_FALSE(process.has_ended());
  const Sample late = idle_sample();
  EXPECT_LE(late.own_kib, early.own_kib);
  EXPECT_EQ(process.wait(std::chrono::seconds(60)).status, 0);
  std::cout << "after cycle 100: " << early << "\nat the end: " << late << "\n"
            << seconds_since(begin) << " s\n";
  EXPECT_EQ(count(start_label), cycles);
  EXPECT_EQ(count(end_label), cycles);
  EXPECT_EQ(count(result_label), 3 * cycles);
  expect_a_line_for_each_host(3);
  const std::vector<std::string> all = results();
  const auto good =
      std::count_if(all.begin(), all.end(), [](const std::string &line) {
        return line.find(" ok 12.3 ms") != std::string::npos;
      });
  std::cout << count(start_label) << " starts, " << good << " ok, "
            << all.size() - good << " fail, " << count(end_label) << " ends\n";
  expect_sound_log();
}

// ---------------------------------------------------------------------- words

class WordTest : public FaultTest {
protected:
  static constexpr size_t many = 100 * 1024;

  // Expects the documented error, and no log, process or output besides.
  void expect_refused(const std::vector<std::string> &arguments, int status,
                      const std::string &message) {
    const Result result = run(pinglog(arguments));
    EXPECT_EQ(result.status, status);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err.substr(0, message.size()), message);
    const std::string rest =
        result.err.substr(std::min(message.size(), result.err.size()));
    if (status == 2)
      EXPECT_THAT(rest, StartsWith("usage: pinglog "));
    else
      EXPECT_EQ(rest, "");
    EXPECT_FALSE(fs::exists(log()));
  }
};

TEST_F(WordTest, BrokenNumbersAreRefusedAndNamed) {
  const std::vector<std::string> always = {"",
                                           " ",
                                           "-1",
                                           "+1",
                                           "-0",
                                           "x",
                                           "1x",
                                           "x1",
                                           "1 ",
                                           " 1",
                                           "nan",
                                           "inf",
                                           "1e3",
                                           "0x10",
                                           "1,5",
                                           ".",
                                           "..",
                                           "1..2",
                                           "1.2.3",
                                           "1-2",
                                           "1\n",
                                           "\xff",
                                           "\x1b[m",
                                           "1\x80",
                                           "--",
                                           "-c",
                                           "%s%n",
                                           "99999999999999999999",
                                           "9223372036854775808",
                                           "18446744073709551617",
                                           "9223372036854775807.5",
                                           "1e-400",
                                           "\xd9\xa3",
                                           "1/",
                                           "1:",
                                           std::string(many, '9'),
                                           std::string(many, '-'),
                                           std::string(many, '.'),
                                           std::string(many, '0') + "x"};
  const std::map<std::string, std::vector<std::string>> also = {
      {"-c", {"0", "00", "1.0", "1.5", ".5", "1000000000001"}},
      {"-i",
       {"0", "0.0", "0.", ".0", "0.009", "0.00999999999999999", "86400.01",
        "86401", "86400.000000001"}},
      {"-s", {"1.0", "0.5", "1000000000001"}}};
  for (const auto &[option, values] : also)
    for (const auto *list : {&always, &values})
      for (const std::string &value : *list) {
        SCOPED_TRACE(option + " '" + value.substr(0, 40) + "'");
        expect_refused({"-e", "/nonexistent", option, value}, 2,
                       "pinglog: bad " + option + ": '" + value + "'\n");
      }
}

TEST_F(WordTest, NumbersAtTheEdgeAndOfAnyLengthAreTaken) {
  const std::string zeros(many / 2, '0');
  for (const std::vector<std::string> &options :
       std::vector<std::vector<std::string>>{
           {"-c", "1", "-i", "0.01"},
           {"-c", zeros + "1", "-i", zeros + "0.1" + zeros, "-s", zeros},
           {"-c", "1", "-i", ".2", "-s", "1000000000000"},
           {"-c", "1", "-i", "0.019999999999999999999999"}}) {
    std::vector<std::string> arguments = {"-f", "-e", silent_ping(), "host"};
    arguments.insert(arguments.begin(), options.begin(), options.end());
    const Result result = run(pinglog(arguments));
    EXPECT_EQ(result.status, 0) << result.err.substr(0, 200);
    ASSERT_THAT(results(), SizeIs(1));
    EXPECT_THAT(results()[0], StartsWith("host fail no answer in "));
    EXPECT_LE(results()[0].size(), 300u);
    expect_sound_log();
    unlink(log().c_str());
  }
  // Those that are too long to wait for end by a signal.
  for (const std::vector<std::string> &options :
       std::vector<std::vector<std::string>>{
           {"-i", "86400"}, {"-i", "86400.000"}, {"-c", "1000000000000"}}) {
    std::vector<std::string> arguments = {"-f", "-e", echo_ping, "host"};
    arguments.insert(arguments.begin(), options.begin(), options.end());
    Process process(pinglog(arguments));
    await_lines(result_label, 1);
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait().status, 0);
    expect_sound_log();
    unlink(log().c_str());
    if (HasFailure())
      break;
  }
}

TEST_F(WordTest, HostsThatAreNoneAreRefused) {
  std::vector<std::string> hosts = {"",
                                    "-",
                                    "--",
                                    "a b",
                                    "a\tb",
                                    "a\n",
                                    std::string(many, 'h'),
                                    std::string(256, 'h')};
  for (const int byte : {1, 27, 31, 32, 127, 128, 200, 255})
    hosts.push_back(std::string("h") + static_cast<char>(byte));
  for (const std::string &host : hosts) {
    SCOPED_TRACE(host.substr(0, 40));
    expect_refused({"-f", "-c", "1", "--", "good", host}, 2,
                   "pinglog: bad host: '" + host + "'\n");
  }
}

TEST_F(WordTest, LongestHostHasItsWholeLine) {
  const std::string host(255, 'h');
  // With the longest reason there is: the line must hold both.
  const std::string ping = script("ping", "printf '%0300d\\n' 7\nexit 1");
  const Result result =
      run(pinglog({"-f", "-c", "1", "-i", "0.3", "-e", ping, host}));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(results(),
              ::testing::ElementsAre(host + " fail " + std::string(200, '0')));
  expect_sound_log();
}

TEST_F(WordTest, OptionsOfAHundredKilobytes) {
  const std::string word(many, 'a');
  const std::string no_name = "File name too long\n";
  expect_refused({"-f", "-e", word}, 1,
                 "pinglog: " + word + ": No such file or directory\n");
  expect_refused({"-f", "-e", "/" + word}, 1,
                 "pinglog: /" + word + ": " + no_name);
  expect_refused({"-e", std::string(many, ' ')}, 2,
                 "pinglog: bad -e: '" + std::string(many, ' ') + "'\n");
  for (const std::string &name : {word, "/" + word, word + "/x"}) {
    const Result result = run(command(
        program(), {"-f", "-c", "1", "-e", echo_ping, "-o", name, "host"}));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.err, "pinglog: " + (name[0] == '/' ? name : path(name)) +
                              ": " + no_name);
    const Result stopped = run(command(program(), {"-k", "-o", name}));
    EXPECT_EQ(stopped.status, 1);
    EXPECT_THAT(stopped.err, EndsWith(": File name too long\n"));
  }
  const Result unknown =
      run(command(program(), {"-" + std::string(many, 'z')}));
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.err, StartsWith("pinglog: bad option: '-z'\nusage: "));
}

TEST_F(WordTest, CommandOfAThousandWordsGetsThemAll) {
  const std::string ping = script("ping", "echo \"$#\" >'" + path("words") +
                                              "'\nshift 1000\n"
                                              "echo \"$*\" >>'" +
                                              path("words") + "'");
  std::string text = " \t" + ping;
  for (int word = 1; word <= 1000; ++word)
    text += (word % 3 == 0 ? "\t " : " ") + std::to_string(word);
  const Result result =
      run(pinglog({"-f", "-c", "1", "-i", "0.5", "-e", text + "\t", "host"}));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(read_file(path("words")), "1003\n-c 1 host\n");
  // As many as fit into one option: every second byte is a word.
  text = "true";
  while (text.size() < many)
    text += " 7";
  EXPECT_EQ(
      run(pinglog({"-f", "-c", "1", "-i", "0.5", "-e", text, "host"})).status,
      0);
  EXPECT_THAT(results(), Each("host ok"));
}

TEST_F(WordTest, TenThousandHostsHaveALineEach) {
  std::vector<std::string> arguments = {"-f", "-c", "1",      "-i",
                                        "1",  "-e", echo_ping};
  std::set<std::string> wanted;
  for (int host = 0; host < 10000; ++host) {
    arguments.push_back("host" + std::to_string(host));
    wanted.insert(arguments.back());
  }
  // Not all have a descriptor, most of which is the machine's to allow.
  Launch launch = pinglog(arguments);
  launch.limits[RLIMIT_NOFILE] = 1024;
  const Result result = Process(launch).wait(std::chrono::seconds(60));
  EXPECT_EQ(result.status, 0) << result.err;
  ASSERT_EQ(results().size(), wanted.size());
  int good = 0;
  for (const std::string &line : results()) {
    wanted.erase(line.substr(0, line.find(' ')));
    good += line.find(" ok 12.3 ms") != std::string::npos;
  }
  EXPECT_THAT(wanted, IsEmpty());
  EXPECT_GT(good, 0);
  expect_sound_log();
}

TEST_F(WordTest, TooManyHostsForTheIntervalCanStillBeStopped) {
  // Each cycle is late before it has begun, and starts no ping to wait for.
  std::vector<std::string> arguments = {"-f", "-i", "0.01",   "-s",
                                        "64", "-e", echo_ping};
  for (int host = 0; host < 10000; ++host)
    arguments.push_back("host" + std::to_string(host));
  Launch launch = pinglog(arguments);
  launch.limits[RLIMIT_NOFILE] = 6;
  Process process(launch);
  await_lines(result_label, 1);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

TEST_F(WordTest, NoArgumentsAtAllNotEvenAName) {
  // The log would be the default one: without a ping it is never reached.
  const Launch launch = command(program(), {});
  Launch nameless = launch;
  nameless.environment["PATH"] = "/nonexistent";
  nameless.before_exec = [executable = program()] {
    char *none[] = {nullptr};
    execve(executable.c_str(), none, environ);
    _exit(126);
  };
  const Result result = run(nameless);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "pinglog: ping: No such file or directory\n");
}

TEST_F(WordTest, EmptyEnvironmentFindsThePingAndSetsItsLanguage) {
  const std::string ping =
      script("ping", "env >'" + path("environment") + "'\necho time=12.3 ms");
  // The first finds the command without PATH, the second looks into it.
  for (const std::string &command : {std::string(echo_ping), ping}) {
    Launch launch =
        pinglog({"-f", "-c", "1", "-i", "0.5", "-e", command, "host"});
    launch.environment.clear();
    launch.clear_environment = true;
    // What a build with sanitizers needs is no part of the fault.
    if (const char *sanitizer = getenv("ASAN_OPTIONS"))
      launch.environment["ASAN_OPTIONS"] = sanitizer;
    const Result result = run(launch);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(results(), Each("host ok 12.3 ms"));
  }
  EXPECT_THAT(results(), SizeIs(2));
  EXPECT_THAT(read_lines(path("environment")), Contains("LC_ALL=C"));
  expect_sound_log();
}

// --------------------------------------------------------------- surroundings

class SurroundingsTest : public FaultTest {};

TEST_F(SurroundingsTest, DirectoryOfTheForegroundIsRemoved) {
  const std::string directory = path("directory");
  ASSERT_EQ(mkdir(directory.c_str(), 0755), 0);
  answering_ping();
  Launch launch = pinglog({"-f", "-i", "0.2", "-e", "../answering-ping", "h"});
  launch.arguments[1] = "../ping.log";
  launch.directory = directory;
  Process process(launch);
  await_lines(result_label, 1);
  // Its directory is removed; the names that it made absolute lead on through
  // a new one of the same name.
  ASSERT_EQ(rename(directory.c_str(), path("moved").c_str()), 0);
  ASSERT_EQ(mkdir(directory.c_str(), 0755), 0);
  ASSERT_EQ(rmdir(path("moved").c_str()), 0);
  await_cycles(3);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_THAT(results(), Each("h ok 12.3 ms"));
  expect_sound_log();
}

TEST_F(SurroundingsTest, RelativeLogInADirectoryThatIsGoneIsRefused) {
  const std::string directory = path("directory");
  ASSERT_EQ(mkdir(directory.c_str(), 0755), 0);
  Launch launch = command(program(), {"-f", "-c", "1", "-o", "ping.log", "h"});
  launch.directory = directory;
  launch.before_exec = [directory] { (void)rmdir(directory.c_str()); };
  const Result result = run(launch);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err, "pinglog: ping.log: No such file or directory\n");
}

// A /dev of its own that holds null alone, or nothing.
void own_dev(bool with_null) {
  if (unshare(CLONE_NEWNS) == -1 ||
      mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == -1 ||
      mount("none", "/dev", "tmpfs", 0, nullptr) == -1)
    _exit(125);
  (void)umask(0);
  if (with_null && mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)) == -1)
    _exit(125);
}

TEST_F(SurroundingsTest, NullIsRemovedAfterTheStart) {
  SKIP_UNLESS_ROOT();
  Launch launch = pinglog(
      {"-i", "0.2", "-e",
       script("ping", "[ -c /proc/self/fd/0 ] && echo time=12.3 ms"), "host"});
  launch.before_exec = [] { own_dev(true); };
  const Result result = run(launch);
  if (result.status == 125)
    GTEST_SKIP() << "may not mount here";
  ASSERT_EQ(result.status, 0) << result.err;
  await_lines(result_label, 1);
  const pid_t pid = writer();
  const std::string null = "/proc/" + std::to_string(pid) + "/root/dev/null";
  ASSERT_FALSE(fs::exists("/proc/" + std::to_string(pid) + "/root/dev/zero"));
  ASSERT_EQ(unlink(null.c_str()), 0);
  await_cycles(3);
  stop(pid);
  EXPECT_THAT(results(), Each("host ok 12.3 ms"));
  expect_sound_log();
}

TEST_F(SurroundingsTest, NoNullAtTheStartIsAClearError) {
  SKIP_UNLESS_ROOT();
  for (const std::string mode : {"-f", "-i3"}) {
    Launch launch = pinglog({mode, "-e", echo_ping, "host"});
    launch.before_exec = [] { own_dev(false); };
    const Result result = run(launch);
    if (result.status == 125)
      GTEST_SKIP() << "may not mount here";
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.err, "pinglog: /dev/null: No such file or directory\n");
    EXPECT_FALSE(fs::exists(log()));
  }
}

TEST_F(SurroundingsTest, FirstProcessOfAContainerReapsOrphans) {
  SKIP_UNLESS_ROOT();
  SKIP_WITHOUT("unshare");
  // Each ping leaves a process that has a session of its own, and ends later.
  const std::string ping =
      script("ping", "(setsid sh -c 'sleep 0.1; echo >>\"" + path("orphans") +
                         "\"' >/dev/null 2>&1 &)\necho time=12.3 ms");
  const Launch inner = pinglog({"-f", "-i", "0.2", "-e", ping, "host"});
  Launch launch = command("unshare", {"-p", "-f", "--kill-child", program()});
  launch.arguments.insert(launch.arguments.end(), inner.arguments.begin(),
                          inner.arguments.end());
  Process process(launch);
  if (!eventually(
          [&] { return count(start_label) > 0 || process.has_ended(); }) ||
      process.has_ended())
    GTEST_SKIP() << "no PID namespace here: " << process.err();
  const pid_t pid = writer();
  ASSERT_GT(pid, 1);
  EXPECT_THAT(process_status(pid, "NSpid"), EndsWith("\t1"));
  ASSERT_TRUE(
      eventually([&] { return read_lines(path("orphans")).size() >= 5; }));
  std::vector<pid_t> zombies;
  EXPECT_TRUE(eventually(
      [&] {
        zombies = zombies_of(pid);
        return zombies.empty();
      },
      std::chrono::seconds(5)))
      << zombies.size() << " zombies";
  EXPECT_THAT(results(), Each("host ok 12.3 ms"));
  // A first process has no default actions: without a handler this is lost.
  send_signal(pid, SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  expect_sound_log();
  EXPECT_EQ(count(start_label), count(end_label));
}

TEST_F(SurroundingsTest, ChildrenOfTheShellBeforeItAreLeftAlone) {
  // One lives on, one ends while pinglog runs, and its status is nobody's ping.
  Launch launch = command(
      "/bin/sh", {"-c",
                  "sleep 1000 & echo $! >foreign; (sleep 0.3; exit 7) & "
                  "exec \"$@\"",
                  "sh"});
  const Launch inner =
      pinglog({"-f", "-c", "4", "-i", "0.2", "-e", silent_ping(), "host"});
  launch.arguments.push_back(program());
  launch.arguments.insert(launch.arguments.end(), inner.arguments.begin(),
                          inner.arguments.end());
  Process process(launch);
  await_lines(end_label, 3);
  EXPECT_THAT(zombies_of(process.pid()), IsEmpty());
  const Result result = process.wait();
  EXPECT_EQ(result.status, 0) << result.err;
  const pid_t foreign = std::stoi(read_file(path("foreign")));
  EXPECT_TRUE(is_alive(foreign));
  EXPECT_EQ(process_status(foreign, "Name"), "sleep");
  send_signal(foreign, SIGKILL);
  EXPECT_THAT(results(), SizeIs(4));
  EXPECT_THAT(results(), Each("host fail no answer in 0.2 s"));
  expect_sound_log();
}

} // namespace
