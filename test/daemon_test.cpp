// daemon_test.cpp - becoming a daemon: daemon.cpp by itself, in a daemon that
// knows no ping, and then pinglog as its callers meet it.
//
// The daemon is this very program, run with --daemon. It prepares itself,
// detaches and leaves signs of how far it came; the tests look at it from
// outside, through /proc.

#include "../daemon.h"
#include "support.h"

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#ifdef __SANITIZE_ADDRESS__
#define SKIP_WITH_SANITIZER(why) GTEST_SKIP() << "AddressSanitizer: " << (why)
#else
#define SKIP_WITH_SANITIZER(why)
#endif

namespace {

// ---- The daemon under test ------------------------------------------------

std::string signs; // what the names of the signs begin with

// A file that holds the PID, and is whole and closed when it appears. Called
// from a signal handler as well.
void leave_sign(const char *name) {
  char path[PATH_MAX], unfinished[PATH_MAX];
  (void)snprintf(path, sizeof path, "%s%s", signs.c_str(), name);
  (void)snprintf(unfinished, sizeof unfinished, "%s%s.new", signs.c_str(),
                 name);
  const Descriptor file(open(unfinished, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (dprintf(file.get(), "%ld\n", static_cast<long>(getpid())) < 0 ||
      rename(unfinished, path) == -1)
    _exit(99);
}

// 0 changes nothing.
void set_soft_limit(rlim_t limit) {
  rlimit limits;
  if (getrlimit(RLIMIT_NOFILE, &limits) == -1)
    _exit(98);
  limits.rlim_cur = limit;
  if (limit != 0 && setrlimit(RLIMIT_NOFILE, &limits) == -1)
    _exit(98);
}

void on_sigterm(int) {
  leave_sign("ended");
  _exit(0);
}

void on_other_signal(int) {}

[[noreturn]] void wait_for_a_signal() {
  for (;;)
    pause();
}

// --daemon SIGNS [WORD...]: each word is a thing to do otherwise.
int be_daemon(int argc, char **argv) {
  signs = argv[2];
  const std::vector<std::string> words(argv + 3, argv + argc);
  const auto told = [&words](const char *word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };

  // Not by the test, before exec: the loader needs descriptors too.
  for (rlim_t limit : {3, 5})
    if (told(("limit " + std::to_string(limit)).c_str()))
      set_soft_limit(limit);
  Descriptor null = reset_process();
  if (null.get() == -1) {
    printf("no null: errno %d\n", errno);
    return 1;
  }
  if (told("foreground")) {
    leave_sign("up");
    wait_for_a_signal();
  }

  (void)signal(SIGTERM, on_sigterm);
  struct sigaction caught = {}; // not SA_RESTART, as signal() would have it
  caught.sa_handler = on_other_signal;
  (void)sigaction(SIGPIPE, &caught, nullptr);
  (void)sigaction(SIGUSR1, &caught, nullptr);
  Descriptor launcher;
  const pid_t daemon = detach(launcher);
  if (daemon != 0) {
    if (daemon == -1)
      printf("no daemon: errno %d\n", errno);
    else
      printf("Daemon PID %ld\n", static_cast<long>(daemon));
    fflush(stdout);
    if (told("stay"))
      wait_for_a_signal();
    return daemon == -1;
  }
  if (told("hold")) {
    leave_sign("held");
    while (access((signs + "go").c_str(), F_OK) == -1)
      (void)poll(nullptr, 0, 5);
  }
  if (told("fail")) {
    fprintf(stderr, "no luck\n");
    return 3;
  }
  if (told("exec")) {
    if (fork() == 0) {
      execlp("sleep", "sleep", "1000", nullptr);
      _exit(127);
    }
    return 3;
  }
  if (told("lose null"))
    null.reset();
  if (!ready(launcher, null))
    return 4;
  if (told("open terminal")) // with no O_NOCTTY
    (void)!open(words.back().c_str(), O_RDWR);
  leave_sign("up");
  wait_for_a_signal();
}

// ---- daemon.cpp by itself ---------------------------------------------------

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAreArray;

constexpr char no_signals[] = "0000000000000000"; // in /proc/PID/status

// As the kernels before 5.9 do. Returns false where there is no seccomp.
bool refuse_close_range() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {4, code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Opens this file as standard input.
void read_from(const std::string &name) {
  (void)close(STDIN_FILENO);
  if (open(name.c_str(), O_RDONLY | O_CREAT, 0600) != STDIN_FILENO)
    _exit(96);
}

class DaemonTest : public Sandbox {
protected:
  Launch daemon(Words words = {}) const {
    words.insert(words.begin(), {"--daemon", path("")});
    return command("/proc/self/exe", words);
  }

  // The PID in the sign, once it is there; -1 if it never comes.
  pid_t sign(const std::string &name) const {
    const bool found =
        eventually([&] { return access(path(name).c_str(), F_OK) == 0; });
    EXPECT_TRUE(found) << "it never comes to '" << name << "'";
    return found ? static_cast<pid_t>(std::stol(read_file(path(name)))) : -1;
  }

  // Above 2 it has these files open and nothing else, and each of them is
  // closed on exec.
  static void expect_open(pid_t pid, const Words &files = {"/dev/null"}) {
    Words found;
    (void)eventually([&] { // a ping may just be ending
      found.clear();
      for (const auto &[fd, target] : descriptors_of(pid))
        if (fd > STDERR_FILENO)
          found.push_back(target);
      return found.size() == files.size();
    });
    EXPECT_THAT(found, UnorderedElementsAreArray(files));
    for (const auto &[fd, target] : descriptors_of(pid)) {
      const std::string info = read_file("/proc/" + std::to_string(pid) +
                                         "/fdinfo/" + std::to_string(fd));
      const size_t flags = info.find("flags:") + strlen("flags:");
      EXPECT_TRUE(fd <= STDERR_FILENO ||
                  strtol(info.c_str() + flags, nullptr, 8) & O_CLOEXEC)
          << target << " " << info;
    }
  }
};

TEST_F(DaemonTest, InheritedDescriptorsAreClosedAlsoAboveALoweredLimit) {
  rlimit limits;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limits), 0);
  // Above it a close() for each number finds nothing.
  const int highest = static_cast<int>(
      std::min<rlim_t>({limits.rlim_cur, limits.rlim_max, 60000}) - 1);
  for (const bool old_kernel : {false, true})
    for (const rlim_t limit : {0, 8, 64, 300}) {
      SCOPED_TRACE((old_kernel ? "no close_range, " : "close_range, ") +
                   std::to_string(limit));
      fs::remove(path("up"));
      Launch launch = daemon({"foreground"});
      launch.before_exec = [&] {
        for (int number : {3, 4, 10, 63, 64, 255, 256, 900, highest})
          if (dup2(1, number) == -1) // as dup2() does, open on exec
            _exit(97);
        set_soft_limit(limit);
        if (old_kernel && !refuse_close_range())
          _exit(95);
      };
      Process process(launch);
      if (eventually(
              [&] { return fs::exists(path("up")) || process.has_ended(); }) &&
          process.has_ended() && process.wait().status == 95)
        GTEST_SKIP() << "no seccomp, so no old kernel";
      expect_open(sign("up"));
      if (HasFailure())
        return;
    }
}

TEST_F(DaemonTest, FullTableStillLeavesRoomForTheStandardDescriptors) {
  SKIP_WITH_SANITIZER("it opens descriptors of its own");
  Launch launch = daemon({"foreground"});
  launch.before_exec = [] {
    set_soft_limit(8);
    while (dup(1) != -1) {
    }
  };
  launch.closed = {0, 1, 2};
  const Process process(launch);
  expect_open(sign("up"));
}

TEST_F(DaemonTest, SignalsAreAtTheirDefaultAndUnblocked) {
  Launch launch = daemon({"foreground"});
  for (int number = 1; number <= SIGRTMAX; ++number) {
    launch.ignored.push_back(number); // SIGKILL, say, refuses
    launch.blocked.push_back(number);
  }
  const Process process(launch);
  ASSERT_EQ(sign("up"), process.pid());
  EXPECT_EQ(process_status(process.pid(), "SigIgn"), no_signals);
  EXPECT_EQ(process_status(process.pid(), "SigBlk"), no_signals);
}

TEST_F(DaemonTest, LauncherReturnsThePidOfTheOneProcessThatIsLeft) {
  const pid_t pid = start_daemon(daemon());
  EXPECT_EQ(sign("up"), pid);
  EXPECT_THAT(processes_with_environment(mark()), ElementsAre(pid));
}

TEST_F(DaemonTest, LauncherAndStandardDescriptorsStayUntilReady) {
  Launch launch = daemon({"hold"});
  launch.stdout_to = path("out");
  launch.stderr_to = path("err");
  launch.before_exec = [this] { read_from(path("in")); };
  Process launcher(launch);
  const pid_t pid = sign("held");
  ASSERT_GT(pid, 1);
  EXPECT_FALSE(launcher.has_ended());
  EXPECT_EQ(launcher.out(), "");
  auto open = descriptors_of(pid);
  EXPECT_EQ(open[0], path("in"));
  EXPECT_EQ(open[1], path("out"));
  EXPECT_EQ(open[2], path("err"));

  write_file(path("go"), "");
  EXPECT_EQ(launcher.wait().out, "Daemon PID " + std::to_string(pid) + "\n");
  EXPECT_EQ(sign("up"), pid);
  expect_open(pid); // the end of the pipe is closed as well
  open = descriptors_of(pid);
  for (int fd = 0; fd <= 2; ++fd)
    EXPECT_EQ(open[fd], "/dev/null") << fd;
  stop(pid);
}

TEST_F(DaemonTest, DaemonThatEndsBeforeItIsReadyIsMinusOneWithErrnoZero) {
  for (const auto &[word, message] :
       {std::pair<const char *, const char *>{"fail", "no luck\n"},
        {"lose null", ""}}) {
    SCOPED_TRACE(word);
    const Result result = run(daemon({word}));
    EXPECT_EQ(result.out, "no daemon: errno 0\n");
    EXPECT_EQ(result.err, message); // the terminal was still there
    EXPECT_EQ(result.status, 1);
  }
}

TEST_F(DaemonTest, LauncherKeepsNoChildAndNoZombie) {
  for (const char *word : {"succeed", "fail"}) {
    SCOPED_TRACE(word);
    const Process launcher(daemon({"stay", word}));
    ASSERT_TRUE(eventually([&] { return launcher.out() != ""; }));
    EXPECT_THAT(children_of(launcher.pid()), ElementsAre());
  }
  stop(sign("up"));
}

TEST_F(DaemonTest, LauncherThatWasKilledIsNotMissed) {
  Process launcher(daemon({"hold"}));
  const pid_t pid = sign("held");
  launcher.signal(SIGKILL);
  EXPECT_EQ(launcher.wait().status, 128 + SIGKILL);
  write_file(path("go"), "");
  EXPECT_EQ(sign("up"), pid);
  stop(pid);
  EXPECT_EQ(sign("ended"), pid);
}

TEST_F(DaemonTest, LauncherThatIsInterruptedWaitsOn) {
  Process launcher(daemon({"hold"}));
  const pid_t pid = sign("held");
  ASSERT_TRUE(eventually([&] { return process_state(launcher.pid()) == 'S'; }));
  launcher.signal(SIGUSR1);
  EXPECT_TRUE(eventually(
      [&] { return process_status(launcher.pid(), "ShdPnd") == no_signals; }));
  write_file(path("go"), "");
  EXPECT_EQ(launcher.wait().out, "Daemon PID " + std::to_string(pid) + "\n");
  stop(sign("up"));
}

TEST_F(DaemonTest, ReportPipeIsNotInheritedByWhatTheDaemonExecutes) {
  EXPECT_EQ(run(daemon({"exec"})).out, "no daemon: errno 0\n");
  const auto left = processes_with_environment(mark());
  ASSERT_EQ(left.size(), 1u);
  ASSERT_TRUE(
      eventually([&] { return process_status(left[0], "Name") == "sleep"; }));
  expect_open(left[0], {});
  stop(left[0]);
}

TEST_F(DaemonTest, FailedStepIsMinusOneWithItsErrno) {
  SKIP_WITH_SANITIZER("it opens descriptors of its own");
  const std::string none_left = std::to_string(EMFILE) + "\n";
  // open() and pipe() find the table full.
  EXPECT_EQ(run(daemon({"limit 3"})).out, "no null: errno " + none_left);
  const Result result = run(daemon({"limit 5"}));
  EXPECT_EQ(result.out, "no daemon: errno " + none_left);
  EXPECT_EQ(result.status, 1);
}

TEST_F(DaemonTest, ForkThatFailsIsMinusOneWithItsErrno) {
  Launch launch = daemon();
  launch.limits[RLIMIT_NPROC] = 0;
  if (geteuid() == 0) { // who may always fork
    SKIP_UNLESS_NOBODY_CAN_RUN();
    launch.user = nobody;
  }
  const Result result = run(launch);
  EXPECT_EQ(result.out, "no daemon: errno " + std::to_string(EAGAIN) + "\n");
  EXPECT_EQ(result.status, 1);
}

TEST_F(DaemonTest, DaemonHasLeftDirectoryMaskSessionAndTerminal) {
  const Terminal terminal, other;
  if (!other)
    GTEST_SKIP() << other.why();
  Launch launch = daemon({"stay", "open terminal", other.name()});
  launch.before_exec = terminal.controls(false);
  launch.umask = 077;
  const Process launcher(launch);
  const pid_t pid = sign("up");
  ASSERT_GT(pid, 1);

  constexpr int parent = 4, group = 5, session = 6, controlling_terminal = 7;
  ASSERT_EQ(process_stat(launcher.pid(), session), launcher.pid());
  ASSERT_NE(process_stat(launcher.pid(), controlling_terminal), 0);
  EXPECT_NE(process_stat(pid, parent), launcher.pid());
  EXPECT_NE(process_stat(pid, group), launcher.pid());
  EXPECT_NE(process_stat(pid, session), launcher.pid());
  EXPECT_NE(process_stat(pid, session), pid);
  // It did open one, which a session leader would have acquired.
  EXPECT_EQ(descriptors_of(pid).size(), 5u);
  EXPECT_EQ(process_stat(pid, controlling_terminal), 0);

  EXPECT_EQ(fs::read_symlink("/proc/" + std::to_string(pid) + "/cwd"), "/");
  EXPECT_EQ(process_status(pid, "Umask"), "0000");
  stop(pid);
}

TEST_F(DaemonTest, CommandSubstitutionReturnsWhileTheDaemonLives) {
  Launch launch = daemon();
  launch.arguments.insert(launch.arguments.begin(),
                          {"-c", "v=$(\"$0\" \"$@\"); echo \"[$v]\"",
                           fs::read_symlink("/proc/self/exe")});
  launch.executable = "sh";
  Process shell(launch);
  const std::string out = shell.wait().out;
  const pid_t pid = sign("up");
  EXPECT_EQ(out, "[Daemon PID " + std::to_string(pid) + "]\n");
  EXPECT_TRUE(is_alive(pid));
  stop(pid);
}

// PINGLOG_HANGUPS: how many terminals are closed.
TEST_F(DaemonTest, TerminalThatClosesAsTheLauncherExitsDoesNotKillTheDaemon) {
  for (int round = rounds("PINGLOG_HANGUPS", 20); round > 0; --round) {
    SCOPED_TRACE(round);
    fs::remove(path("up"));
    fs::remove(path("ended"));
    Terminal terminal;
    if (!terminal)
      GTEST_SKIP() << terminal.why();
    Launch launch = daemon();
    launch.before_exec = terminal.controls();
    Process launcher(launch);
    // The launcher leads the session: its exit hangs up. In every other round
    // the window is closed first, as soon as the launcher has said its word.
    if (round % 2 == 0) {
      EXPECT_EQ(launcher.wait().status, 0);
    } else {
      pollfd word = {terminal.master(), POLLIN, 0};
      EXPECT_EQ(poll(&word, 1, 60000), 1);
    }
    terminal.close();
    (void)launcher.wait();
    const pid_t pid = sign("up");
    ASSERT_GT(pid, 1);
    // A SIGHUP that is on its way comes before SIGTERM, which it answers.
    stop(pid);
    ASSERT_EQ(sign("ended"), pid);
  }
}

// ---- pinglog ----------------------------------------------------------------

class DetachTest : public DaemonTest {};

// Closed in each combination (bit 0: standard input, ...), and others open.
TEST_F(DetachTest, DescriptorsOfTheCallerReachNeitherItNorItsPing) {
  const std::string ping =
      script("ping", "ls -l /proc/self/fd >'" + path("new") + "'\nmv '" +
                         path("new") + "' '" + path("fds") + "'");
  const std::string files[] = {path("in"), path("out"), path("err")};
  for (const bool foreground : {false, true})
    for (int closed = 0; closed < 8 && !HasFailure(); ++closed) {
      SCOPED_TRACE((foreground ? "-f " : "daemon ") + std::to_string(closed));
      Words arguments = {"-i", "60", "-e", ping, "host"};
      if (foreground)
        arguments.insert(arguments.begin(), "-f");
      Launch launch = pinglog(arguments);
      launch.stdout_to = files[1];
      launch.stderr_to = files[2];
      launch.before_exec = [&files] {
        read_from(files[0]);
        for (int number : {3, 9, 100, 1000})
          if (dup2(STDIN_FILENO, number) == -1)
            _exit(97);
      };
      for (int fd = 0; fd <= 2; ++fd)
        if (closed >> fd & 1)
          launch.closed.push_back(fd);
      Process process(launch);
      if (!foreground) {
        EXPECT_EQ(process.wait().status, 0);
      }
      await_lines(result_label, 1);
      const pid_t pid = writer(log());
      ASSERT_GT(pid, 1);
      EXPECT_EQ(pid == process.pid(), foreground);
      expect_open(pid, {"/dev/null", log()});
      for (int fd = 0; fd <= 2; ++fd)
        EXPECT_EQ(descriptors_of(pid)[fd],
                  closed >> fd & 1 || !foreground ? "/dev/null" : files[fd]);
      stop(pid);
      const Result result = process.wait();
      EXPECT_EQ(result.status, 0);
      EXPECT_EQ(result.err, "");
      const bool printed = !foreground && (closed & 2) == 0;
      EXPECT_THAT(result.out, StartsWith(printed ? "Daemon PID " : ""));
      EXPECT_EQ(result.out.empty(), !printed);
      EXPECT_THAT(results(), ElementsAre("host ok"));
      // Standard input, the file, the pipe, and the directory that ls reads.
      EXPECT_THAT(read_lines(path("fds")),
                  ElementsAre(StartsWith("total"), EndsWith(" 0 -> /dev/null"),
                              EndsWith(" 1 -> " + path("new")),
                              HasSubstr(" 2 -> pipe:"),
                              HasSubstr(" 3 -> /proc/")));
      for (const std::string &file : {log(), files[1], files[2]})
        fs::remove(file);
    }
}

TEST_F(DetachTest, ForegroundLeavesDirectoryMaskAndSessionAsTheyWere) {
  Launch launch = pinglog({"-f", "-i", "60", "-e", silent_ping(), "host"});
  launch.umask = 027;
  Process process(launch);
  const pid_t pid = process.pid();
  (void)ping_of(pid);
  EXPECT_EQ(fs::read_symlink("/proc/" + std::to_string(pid) + "/cwd"),
            path("").substr(0, path("").size() - 1));
  EXPECT_EQ(process_status(pid, "Umask"), "0027");
  EXPECT_EQ(process_stat(pid, 5), getpgrp());
  EXPECT_EQ(process_stat(pid, 6), getsid(0));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

// Whether its PID can be printed is not the daemon's concern.
TEST_F(DetachTest, DaemonIsUpAlsoWhereItsPidCannotBePrinted) {
  if (access("/dev/full", W_OK) == -1)
    GTEST_SKIP() << "no /dev/full: " << strerror(errno);
  Launch launch = quick();
  launch.stdout_to = "/dev/full";
  EXPECT_EQ(run(launch).status, 0);
  await_lines(result_label, 1);
  EXPECT_EQ(run(pinglog({"-k"})).status, 0);
}

TEST_F(DetachTest, NullThatIsNotThereAtTheStartIsSaid) {
  MOUNT_NAMESPACE_OR_SKIP(inside);
  inside.mount_tmpfs("/dev");
  for (const char *mode : {"-f", "-i3"}) {
    Launch launch = quick({mode});
    launch.before_exec = [&inside] { inside.enter(); };
    expect_failure(launch, "/dev/null: No such file or directory");
    EXPECT_FALSE(fs::exists(log()));
  }
}

TEST_F(DetachTest, NullThatIsRemovedAfterTheStartIsNotMissed) {
  MOUNT_NAMESPACE_OR_SKIP(inside);
  const std::string ping =
      script("ping", "[ -c /proc/self/fd/0 ] && echo time=12.3 ms");
  Launch launch = pinglog({"-i", "0.3", "-e", ping, "host"});
  launch.before_exec = [&inside] { inside.enter(); };
  const pid_t pid = start_daemon(launch);
  inside.mount_tmpfs("/dev");
  ASSERT_FALSE(fs::exists("/proc/" + std::to_string(pid) + "/root/dev/null"));
  // More of them than all there are by now.
  await_lines(std::string(result_label) + "host ok", count(result_label) + 2);
  stop(pid);
  expect_sound_log();
}

} // namespace

int main(int argc, char **argv) {
  if (argc > 2 && strcmp(argv[1], "--daemon") == 0)
    return be_daemon(argc, argv);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
