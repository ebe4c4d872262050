// daemon_test.cpp - how a process becomes a daemon: first daemon.cpp alone,
// then pinglog, also in the foreground (-f).
//
// In the first part, the daemon is this program itself, run with --daemon. It
// creates a file, a sign, at each step that it reaches; the tests inspect the
// process through /proc.

#include "../daemon.h"
#include "support.h"

#include <climits>

namespace {

// ---- The daemon under test ------------------------------------------------

std::string signs; // the directory of the signs, with a slash

// Creates a file that holds the PID and is complete when it appears. A signal
// handler calls this function too.
void leave_sign(const char *name) {
  char path[PATH_MAX], unfinished[PATH_MAX];
  (void)snprintf(path, sizeof path, "%s%s", signs.c_str(), name);
  (void)snprintf(unfinished, sizeof unfinished, "%s%s.new", signs.c_str(),
                 name);
  const int file = open(unfinished, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (dprintf(file, "%ld\n", static_cast<long>(getpid())) < 0 ||
      close(file) == -1 || rename(unfinished, path) == -1)
    _exit(99);
}

void on_sigterm(int) {
  leave_sign("ended");
  _exit(0);
}

// --daemon SIGNS [WORD...]: each word changes one thing that the daemon does.
int be_daemon(int argc, char **argv) {
  signs = argv[2];
  const Words words(argv + 3, argv + argc);
  const auto has_word = [&words](const char *word) {
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  if (!reset_process(true))
    return 1;
  (void)signal(SIGTERM, on_sigterm);
  (void)signal(SIGPIPE, SIG_IGN);
  if (!detach("does nothing"))
    return 1;
  if (has_word("hold")) {
    leave_sign("held");
    while (access((signs + "go").c_str(), F_OK) == -1)
      (void)poll(nullptr, 0, 5);
  }
  if (has_word("fail")) {
    fprintf(stderr, "no luck\n");
    return 3;
  }
  if (has_word("lose null"))
    (void)close(STDIN_FILENO);
  if (has_word("lose launcher"))
    for (int fd = STDERR_FILENO + 1; fd < 16; ++fd)
      (void)close(fd);
  if (!ready())
    return 4;
  if (has_word("open terminal")) // without O_NOCTTY
    (void)!open(words.back().c_str(), O_RDWR);
  leave_sign("up");
  for (;;)
    pause();
}

// ---- daemon.cpp alone -------------------------------------------------------

class DaemonTest : public Sandbox {
protected:
  Launch daemon(Words words = {}) const {
    words.insert(words.begin(), {"--daemon", path("")});
    return command("/proc/self/exe", words);
  }

  // Waits for the sign and returns the PID in it; -1 if the sign never appears.
  pid_t sign(const std::string &name) const {
    const bool found =
        eventually([&] { return access(path(name).c_str(), F_OK) == 0; });
    EXPECT_TRUE(found) << "the daemon leaves no sign '" << name << "'";
    return found ? static_cast<pid_t>(std::stol(read_file(path(name)))) : -1;
  }

  // Expects that above 2 the process soon has exactly these files open. A
  // program that starts has others open for a moment.
  static void expect_open(pid_t pid, const Words &files = {}) {
    Words found;
    (void)eventually([&] {
      found.clear();
      for (const auto &[fd, target] : descriptors_of(pid))
        if (fd > STDERR_FILENO)
          found.push_back(target);
      return Matches(UnorderedElementsAreArray(files))(found);
    });
    EXPECT_THAT(found, UnorderedElementsAreArray(files));
  }
};

TEST_F(DaemonTest, FullDescriptorTableLeavesRoomForStandardDescriptors) {
  Launch launch = daemon();
  launch.before_exec = [] {
    const rlimit few = {8, 8};
    setrlimit(RLIMIT_NOFILE, &few);
    while (dup(1) != -1) {
    }
    for (int fd = 0; fd <= 2; ++fd)
      close(fd);
  };
  const Process launcher(launch);
  const pid_t pid = sign("up");
  expect_open(pid);
  stop(pid);
}

// Process 1 of a container may not reap orphans: they stay zombies.
TEST_F(DaemonTest, LauncherReturnsThePidOfTheOnlyProcessLeft) {
  const Subreaper inherits_orphans;
  const pid_t pid = start_daemon(daemon());
  EXPECT_EQ(sign("up"), pid);
  EXPECT_THAT(processes(), ElementsAre(pid));
  EXPECT_THAT(children_of(getpid()), ElementsAre(pid)); // and no zombie
  stop(pid);
  EXPECT_EQ(waitpid(pid, nullptr, 0), pid);
}

TEST_F(DaemonTest, LauncherWaitsAndStandardDescriptorsStayUntilReady) {
  Launch launch = daemon({"hold"});
  const std::string files[] = {path("in"), path("out"), path("err")};
  launch.before_exec = [&files] {
    for (int fd = 0; fd <= 2; ++fd)
      open_as(fd, files[fd]);
  };
  Process launcher(launch);
  const pid_t pid = sign("held");
  ASSERT_GT(pid, 1);
  EXPECT_FALSE(launcher.has_ended());
  EXPECT_EQ(read_file(files[1]), "");
  auto open = descriptors_of(pid);
  EXPECT_EQ(open[0], "/dev/null"); // the input is left to the caller
  EXPECT_EQ(open[1], files[1]);
  EXPECT_EQ(open[2], files[2]);

  write_file(path("go"), "");
  EXPECT_EQ(launcher.wait().status, 0);
  EXPECT_EQ(read_file(files[1]),
            "Daemon PID " + std::to_string(pid) + " does nothing\n");
  EXPECT_EQ(sign("up"), pid);
  expect_open(pid); // the report pipe is closed as well
  open = descriptors_of(pid);
  for (int fd = 0; fd <= 2; ++fd)
    EXPECT_EQ(open[fd], "/dev/null") << fd;
  stop(pid);
}

TEST_F(DaemonTest, LauncherExitsWithOneIfTheDaemonDiesBeforeItIsReady) {
  for (const auto &[word, message] :
       {std::pair<const char *, const char *>{"fail", "no luck\n"},
        {"lose null", ""},
        {"lose launcher", ""}}) {
    SCOPED_TRACE(word);
    const Result result = run(daemon({word}));
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, message); // standard error was still open
    EXPECT_EQ(result.status, 1);
  }
}

TEST_F(DaemonTest, DaemonStartsEvenIfItsLauncherIsKilled) {
  Process launcher(daemon({"hold"}));
  const pid_t pid = sign("held");
  launcher.signal(SIGKILL);
  EXPECT_EQ(launcher.wait().status, 128 + SIGKILL);
  write_file(path("go"), "");
  EXPECT_EQ(sign("up"), pid);
  stop(pid);
  EXPECT_EQ(sign("ended"), pid);
}

TEST_F(DaemonTest, DaemonLeavesTheSessionAndNeverAcquiresATerminal) {
  const Terminal terminal, other;
  SKIP_IF(other.why());
  Launch launch = daemon({"hold", "open terminal", other.name()});
  launch.before_exec = terminal.controls();
  const Process launcher(launch);
  const pid_t pid = sign("held");
  ASSERT_GT(pid, 1);

  constexpr int session = 6, controlling_terminal = 7;
  ASSERT_EQ(process_stat(launcher.pid(), session), launcher.pid());
  ASSERT_NE(process_stat(launcher.pid(), controlling_terminal), 0);
  EXPECT_NE(process_stat(pid, session), launcher.pid());
  EXPECT_NE(process_stat(pid, session), pid);
  write_file(path("go"), "");
  ASSERT_EQ(sign("up"), pid);
  // The daemon did open a terminal, which a session leader would have acquired.
  EXPECT_EQ(descriptors_of(pid)[3], other.name());
  EXPECT_EQ(process_stat(pid, controlling_terminal), 0);
  stop(pid);
}

// PINGLOG_HANGUPS sets how many terminals are closed.
TEST_F(DaemonTest, ClosingTheTerminalAsTheLauncherExitsDoesNotKillTheDaemon) {
  for (int round = rounds("PINGLOG_HANGUPS", 20); round > 0; --round) {
    SCOPED_TRACE(round);
    fs::remove(path("up"));
    fs::remove(path("ended"));
    Terminal terminal;
    SKIP_IF(terminal.why());
    Launch launch = daemon();
    launch.before_exec = terminal.controls();
    Process launcher(launch);
    // The launcher leads the session, so its exit sends SIGHUP. In every other
    // round the terminal is closed first, as soon as the launcher has printed.
    if (round % 2 == 0) {
      EXPECT_EQ(launcher.wait().status, 0);
    } else {
      pollfd output = {terminal.master(), POLLIN, 0};
      EXPECT_EQ(poll(&output, 1, 60000), 1);
    }
    terminal.close();
    (void)launcher.wait();
    const pid_t pid = sign("up");
    ASSERT_GT(pid, 1);
    // A pending SIGHUP is delivered before SIGTERM, and would leave no sign.
    stop(pid);
    ASSERT_EQ(sign("ended"), pid);
  }
}

// ---- pinglog as a daemon and in the foreground ------------------------------

class DetachTest : public DaemonTest {};

// Each bit of `closed` is one of descriptors 0 to 2; others are open above 2,
// also above the limit.
TEST_F(DetachTest,
       CallersDescriptorsStayOpenOnlyInTheForegroundAndReachNoPing) {
  const std::string ping =
      script("ping", "ls -l /proc/self/fd >'" + path("new") + "'\nmv '" +
                         path("new") + "' '" + path("fds") + "'");
  const std::string files[] = {path("in"), path("out"), path("err")};
  for (const bool foreground : {false, true})
    for (int closed = 0; closed < 8 && !HasFailure(); ++closed) {
      SCOPED_TRACE((foreground ? "-f " : "daemon ") + std::to_string(closed));
      Launch launch =
          pinglog({foreground ? "-f" : "-i1", "-i", "60", "-e", ping, "host"});
      launch.before_exec = [&files, closed] {
        for (int fd = 0; fd <= 2; ++fd)
          open_as(fd, files[fd]);
        for (int number : {3, 9, 100, 1000})
          if (dup2(STDIN_FILENO, number) == -1)
            _exit(97);
        const rlim_t most = closed % 2 == 0 ? 64 : 1024;
        const rlimit limit = {most, most};
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        for (int fd = 0; fd <= 2; ++fd)
          if (closed >> fd & 1)
            close(fd);
      };
      Process process(launch);
      if (!foreground) {
        EXPECT_EQ(process.wait().status, 0);
      }
      await(result_label);
      const pid_t pid = writer(log());
      ASSERT_GT(pid, 1);
      EXPECT_EQ(pid == process.pid(), foreground);
      // The caller may hold a lock through one of its files.
      expect_open(pid, Words{log(), log() + ".lock"} +
                           Words(foreground ? 4 : 0, files[0]));
      EXPECT_EQ(descriptors_of(pid)[0], "/dev/null");
      for (int fd = 1; fd <= 2; ++fd)
        EXPECT_EQ(descriptors_of(pid)[fd],
                  closed >> fd & 1 || !foreground ? "/dev/null" : files[fd]);
      stop(pid);
      EXPECT_EQ(process.wait().status, 0);
      EXPECT_EQ(read_file(files[2]), "");
      const std::string out = read_file(files[1]);
      const bool printed = !foreground && (closed & 2) == 0;
      EXPECT_THAT(out, StartsWith(printed ? "Daemon PID " : ""));
      EXPECT_EQ(out.empty(), !printed);
      EXPECT_THAT(results(), ElementsAre("host ok"));
      // ls has its input, its output file, the ping's pipe and the directory.
      EXPECT_THAT(read_lines(path("fds")),
                  ElementsAre(StartsWith("total"), EndsWith(" 0 -> /dev/null"),
                              EndsWith(" 1 -> " + path("new")),
                              HasSubstr(" 2 -> pipe:"),
                              AnyOf(HasSubstr(" 3 -> /proc/"),
                                    EndsWith(" 3")))); // BusyBox
      for (const std::string &file : {log(), files[1], files[2]})
        fs::remove(file);
    }
}

// Only the launcher prints the PID: if that fails, the daemon is still up.
TEST_F(DetachTest, DaemonStartsEvenIfItsPidCannotBePrinted) {
  for (const bool is_full : {true, false}) {
    SCOPED_TRACE(is_full);
    Launch launch = quick();
    launch.before_exec = [is_full] { // a full device, or a pipe without reader
      int ends[2] = {-1, open("/dev/full", O_WRONLY | O_CLOEXEC)};
      if (!is_full && pipe2(ends, O_CLOEXEC) == -1)
        _exit(97);
      (void)dup2(ends[1], STDOUT_FILENO);
    };
    EXPECT_EQ(run(launch).status, 0);
    await_cycles(1);
    EXPECT_EQ(run(killer()).status, 0);
  }
}

TEST_F(DetachTest, FailedForkIsReported) {
  Launch launch = quick();
  launch.limits[RLIMIT_NPROC] = 0;
  if (geteuid() == 0) { // root may always fork
    SKIP_IF(why_not_as_nobody());
    launch.as_nobody = true;
  }
  expect_failure(launch, std::string("detach: ") + strerror(EAGAIN));
}

TEST_F(DetachTest, StartWithoutDevNullIsRefused) {
  const Mount dev("/dev");
  SKIP_IF(dev.why());
  for (const char *mode : {"-f", "-i3"})
    expect_failure(quick({mode}), "/dev/null: No such file or directory");
  EXPECT_FALSE(fs::exists(log()));
}

TEST_F(DetachTest, RemovingDevNullAfterTheStartDisturbsNothing) {
  fs::create_directory(path("mount"));
  const Mount first(path("mount")); // so that the daemon sees the next one
  SKIP_IF(first.why());
  const std::string ping =
      script("ping", "[ -c /proc/self/fd/0 ] && echo time=12.3 ms");
  const pid_t pid = start_daemon(pinglog({"-i", "1", "-e", ping, "host"}));
  const Mount dev("/dev");
  ASSERT_FALSE(fs::exists("/proc/" + std::to_string(pid) + "/root/dev/null"));
  await_more(" host ok", 2); // at least the second ping starts after that
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
