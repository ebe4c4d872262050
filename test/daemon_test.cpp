// daemon_test.cpp - daemon.cpp by itself: a daemon that knows no ping.
//
// The daemon is this very program, run with --daemon. It prepares itself,
// detaches and leaves signs of how far it came; the tests look at it from
// outside, through /proc.

#include "../daemon.h"
#include "support.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <utility>

// The same functions once more, as they are where the kernel has no
// close_range(). All that daemon.cpp includes has been included above.
namespace without_close_range {
#undef SYS_close_range
#include "../daemon.cpp"
} // namespace without_close_range

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
void leave_sign(const char *path) {
  char text[32];
  const int size =
      snprintf(text, sizeof text, "%ld\n", static_cast<long>(getpid()));
  char name[PATH_MAX];
  (void)snprintf(name, sizeof name, "%s.new", path);
  Descriptor file(open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (write(file.get(), text, size) != size)
    _exit(99);
  file.reset();
  if (rename(name, path) == -1)
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

std::string end_sign;

void on_sigterm(int) {
  leave_sign(end_sign.c_str());
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
  end_sign = signs + "ended";
  const std::vector<std::string> words(argv + 3, argv + argc);
  const auto told = [&words](const char *word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };

  // Not by the test, before exec: the loader needs descriptors too.
  for (rlim_t limit : {3, 5})
    if (told(("limit " + std::to_string(limit)).c_str()))
      set_soft_limit(limit);
  if (told("poll"))
    without_close_range::close_inherited_descriptors();
  else
    close_inherited_descriptors();
  Descriptor null = open_standard_descriptors();
  if (null.get() == -1) {
    printf("no null: errno %d\n", errno);
    return 1;
  }
  reset_signals();
  if (told("foreground")) {
    leave_sign((signs + "up").c_str());
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
    leave_sign((signs + "held").c_str());
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
  if (!ready(std::move(launcher), null))
    return 4;
  if (told("open terminal")) // with no O_NOCTTY
    (void)!open(words.back().c_str(), O_RDWR);
  leave_sign((signs + "up").c_str());
  wait_for_a_signal();
}

// ---- The tests ------------------------------------------------------------

using ::testing::ElementsAre;

struct Terminal {
  Terminal() : master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    if (grantpt(master.get()) == -1 || unlockpt(master.get()) == -1)
      abort();
    slave = ptsname(master.get());
  }
  // To be called in a new process: the terminal controls it then.
  std::function<void()> controls(bool standard_descriptors) const {
    return [slave = slave, standard_descriptors] {
      (void)setsid();
      const int fd = open(slave.c_str(), O_RDWR);
      for (int standard = 0; standard <= 2 && standard_descriptors; ++standard)
        (void)dup2(fd, standard);
    };
  }

  Descriptor master;
  std::string slave;
};

class DaemonTest : public Sandbox {
protected:
  Launch daemon(std::vector<std::string> words = {}) const {
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

  // All that the prepared process has open is 0 to 2 and one more /dev/null,
  // which is closed on exec.
  void expect_nothing_inherited(pid_t pid) {
    auto open = descriptors_of(pid);
    for (int fd = 0; fd <= 2; ++fd)
      EXPECT_EQ(open.erase(fd), 1u) << fd;
    ASSERT_EQ(open.size(), 1u) << ::testing::PrintToString(open);
    EXPECT_EQ(open.begin()->second, "/dev/null");
    const std::string info =
        read_file("/proc/" + std::to_string(pid) + "/fdinfo/" +
                  std::to_string(open.begin()->first));
    const long flags = strtol(
        info.c_str() + info.find("flags:") + strlen("flags:"), nullptr, 8);
    EXPECT_TRUE(flags & O_CLOEXEC) << info;
  }

  void expect_inherited_are_closed(const Launch &prepared,
                                   std::vector<int> numbers, rlim_t limit) {
    std::filesystem::remove(path("up"));
    Launch launch = prepared;
    launch.before_exec = [numbers, limit] {
      for (int number : numbers)
        if (dup2(1, number) == -1) // as dup2() does, open on exec
          _exit(97);
      set_soft_limit(limit);
    };
    const Process process(launch);
    expect_nothing_inherited(sign("up"));
  }
};

// Step 1.

TEST_F(DaemonTest, StandardDescriptorsAreOpenedWhereTheCallerClosedThem) {
  write_file(path("file0"), "");
  const std::string given[] = {path("file0"), path("file1"), path("file2")};
  for (int closed = 0; closed < 8; ++closed) {
    SCOPED_TRACE(closed);
    std::filesystem::remove(path("up"));
    Launch launch = daemon({"foreground"});
    launch.stdout_to = given[1];
    launch.stderr_to = given[2];
    launch.before_exec = [&] {
      (void)close(0);
      (void)!open(given[0].c_str(), O_RDONLY);
    };
    for (int fd = 0; fd <= 2; ++fd)
      if (closed & 1 << fd)
        launch.closed.push_back(fd);
    const Process process(launch);
    ASSERT_EQ(sign("up"), process.pid());
    auto open = descriptors_of(process.pid());
    for (int fd = 0; fd <= 2; ++fd)
      EXPECT_EQ(open[fd], closed & 1 << fd ? "/dev/null" : given[fd]) << fd;
    expect_nothing_inherited(process.pid());
  }
}

// Step 2.

TEST_F(DaemonTest, InheritedDescriptorsAreClosedAlsoAboveALoweredLimit) {
  rlimit limits;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limits), 0);
  const int high =
      static_cast<int>(std::min<rlim_t>(limits.rlim_cur - 1, 60000));
  for (const char *way : {"close_range", "poll"})
    for (rlim_t limit : {0, 8, 64, 300}) {
      SCOPED_TRACE(std::string(way) + " " + std::to_string(limit));
      expect_inherited_are_closed(
          daemon({"foreground", way}),
          {3, 4, 10, 63, 64, 255, 256, 257, 258, 259, 900, high}, limit);
    }
}

TEST_F(DaemonTest, InheritedDescriptorsAreClosedUpToAHighLimit) {
  constexpr rlim_t high = 200000;
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit raised = {high, std::max<rlim_t>(high, before.rlim_max)};
  if (setrlimit(RLIMIT_NOFILE, &raised) == -1)
    GTEST_SKIP() << "the descriptor limit cannot be raised: "
                 << strerror(errno);
  for (const char *way : {"close_range", "poll"}) {
    SCOPED_TRACE(way);
    expect_inherited_are_closed(daemon({"foreground", way}),
                                {3, 65535, 65536, 100000, high - 1}, 0);
  }
  EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
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
  expect_nothing_inherited(sign("up"));
}

// Step 3.

TEST_F(DaemonTest, SignalsAreAtTheirDefaultAndUnblocked) {
  Launch launch = daemon({"foreground"});
  for (int number = 1; number <= SIGRTMAX; ++number) {
    launch.ignored.push_back(number); // SIGKILL, say, refuses
    launch.blocked.push_back(number);
  }
  const Process process(launch);
  ASSERT_EQ(sign("up"), process.pid());
  EXPECT_EQ(process_status(process.pid(), "SigIgn"), "0000000000000000");
  EXPECT_EQ(process_status(process.pid(), "SigBlk"), "0000000000000000");
}

// Steps 4 and 6: the pipe, the launcher, the child between.

TEST_F(DaemonTest, LauncherReturnsThePidOfTheOneProcessThatIsLeft) {
  const pid_t pid = start_daemon(daemon());
  EXPECT_EQ(sign("up"), pid);
  EXPECT_THAT(processes_with_environment(mark()), ElementsAre(pid));
}

TEST_F(DaemonTest, LauncherAndStandardDescriptorsStayUntilReady) {
  Launch launch = daemon({"hold"});
  launch.stdout_to = path("out");
  launch.stderr_to = path("err");
  launch.before_exec = [in = path("in")] {
    (void)close(0);
    (void)!open(in.c_str(), O_RDONLY | O_CREAT, 0600);
  };
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
  // The end of the pipe is closed as well.
  open = descriptors_of(pid);
  EXPECT_EQ(open.size(), 4u) << ::testing::PrintToString(open);
  for (const auto &[fd, target] : open)
    EXPECT_EQ(target, "/dev/null") << fd;
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
  EXPECT_TRUE(eventually([&] {
    return process_status(launcher.pid(), "ShdPnd") == "0000000000000000";
  }));
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
  EXPECT_EQ(descriptors_of(left[0]).size(), 3u)
      << ::testing::PrintToString(descriptors_of(left[0]));
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
  SKIP_UNLESS_ROOT(); // to be an ordinary user, who may not fork
  Launch launch = daemon();
  launch.user = 65534;
  launch.limits[RLIMIT_NPROC] = 0;
  const Result result = run(launch);
  EXPECT_EQ(result.out, "no daemon: errno " + std::to_string(EAGAIN) + "\n");
  EXPECT_EQ(result.status, 1);
}

// Step 5, and what step 6 is for.

TEST_F(DaemonTest, DaemonHasLeftDirectoryMaskSessionAndTerminal) {
  const Terminal terminal;
  const Terminal other;
  Launch launch = daemon({"stay", "open terminal", other.slave});
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

  const std::string proc = "/proc/" + std::to_string(pid);
  EXPECT_EQ(std::filesystem::read_symlink(proc + "/cwd"), "/");
  EXPECT_EQ(process_status(pid, "Umask"), "0000");
  stop(pid);
}

// Steps 7 and 8, as a user meets them.

TEST_F(DaemonTest, CommandSubstitutionReturnsWhileTheDaemonLives) {
  Launch launch = daemon();
  launch.arguments.insert(launch.arguments.begin(),
                          {"-c", "v=$(\"$0\" \"$@\"); echo \"[$v]\"",
                           std::filesystem::read_symlink("/proc/self/exe")});
  launch.executable = "sh";
  Process shell(launch);
  const std::string out = shell.wait().out;
  const pid_t pid = sign("up");
  EXPECT_EQ(out, "[Daemon PID " + std::to_string(pid) + "]\n");
  EXPECT_TRUE(is_alive(pid));
  stop(pid);
}

TEST_F(DaemonTest, TerminalThatClosesAsTheLauncherExitsDoesNotKillTheDaemon) {
  for (int i = 0; i < 20; ++i) {
    SCOPED_TRACE(i);
    std::filesystem::remove(path("up"));
    std::filesystem::remove(path("ended"));
    Terminal terminal;
    Launch launch = daemon();
    launch.before_exec = terminal.controls(true);
    Process launcher(launch);
    EXPECT_EQ(launcher.wait().status, 0);
    terminal.master.reset();
    const pid_t pid = sign("up");
    ASSERT_GT(pid, 1);
    // A SIGHUP that is on its way comes before SIGTERM, which it answers.
    stop(pid);
    ASSERT_EQ(sign("ended"), pid);
  }
}

} // namespace

int main(int argc, char **argv) {
  if (argc > 2 && strcmp(argv[1], "--daemon") == 0)
    return be_daemon(argc, argv);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
