// support.h - what the tests are written with: a directory and a log for each
// test (Sandbox), how to start a program (Launch), the started program
// (Process), its files and its state in /proc, and its surroundings (mounts,
// terminals). A test is a function in a class that derives from Sandbox.

#ifndef SUPPORT_H
#define SUPPORT_H

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <optional>
#include <poll.h>
#include <random>
#include <set>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace fs = std::filesystem;
using namespace ::testing; // the matchers
using Words = std::vector<std::string>;

Words operator+(Words words, const Words &more);

// ---- Waiting ----------------------------------------------------------------

// Calls the condition every few milliseconds until it is true, and returns
// true. Returns false after two minutes: the bound is long enough for a busy
// machine, and says nothing about how long the condition should take.
[[nodiscard]] bool eventually(const std::function<bool()> &condition);
void sleep_ms(int milliseconds);
// How many rounds a randomized test runs: the value of this environment
// variable, or else the usual number.
[[nodiscard]] int rounds(const char *variable, int usual);

// ---- Files ------------------------------------------------------------------

[[nodiscard]] std::string read_file(const std::string &path);
void write_file(const std::string &path, const std::string &text,
                mode_t mode = 0644);
// The lines of a file without newlines. An unfinished last line counts too.
[[nodiscard]] Words read_lines(const std::string &path);

// ---- Processes, as /proc shows them -----------------------------------------

// True if the process exists and is not a zombie. A zombie with other threads,
// as under qemu, is alive: its files stay locked until the last thread ends.
[[nodiscard]] bool is_alive(pid_t pid);
// The state's letter, or 0 if there is no such process.
[[nodiscard]] char process_state(pid_t pid);
// A number in /proc/PID/stat, whose fields count from 1 as in proc(5).
[[nodiscard]] long process_stat(pid_t pid, int field);
// The value of this key in /proc/PID/status, "" if the key is missing.
[[nodiscard]] std::string process_status(pid_t pid, const std::string &key);
[[nodiscard]] std::vector<pid_t> children_of(pid_t pid);
[[nodiscard]] std::vector<pid_t> zombies_of(pid_t pid);
// Maps each open descriptor to the target of its link in /proc/PID/fd.
[[nodiscard]] std::map<int, std::string> descriptors_of(pid_t pid);
constexpr uid_t nobody = 65534;
// The PID that holds the lock on this log's FILE.lock; -1 if there is none.
[[nodiscard]] pid_t writer(const std::string &path);

// kill(2), but fails the test for a PID of -1, which means every process.
void send_signal(pid_t pid, int number);
// Sends the signal and waits until the process is gone.
void stop(pid_t pid, int signal = SIGTERM);
// Calls act() while the process is stopped, so that the two cannot race.
void while_stopped(pid_t pid, const std::function<void()> &act);
// Sets the soft limit of a process, or lifts it. PID 0 is the caller.
[[nodiscard]] bool set_soft_limit(pid_t pid, decltype(RLIMIT_CPU) resource,
                                  std::optional<rlim_t> limit);
// Calls the function in a child process and returns its result, 0 to 255.
int in_a_child(const std::function<int()> &function);
// While it exists, orphaned descendants of the test become the test's children.
struct Subreaper {
  Subreaper() { (void)prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~Subreaper() { (void)prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

// ---- Starting a program -----------------------------------------------------

// The program under test: $PINGLOG, or else pinglog in the parent directory.
std::string program();

// How to start a process. What is not set is inherited from the test, except
// signal settings and descriptors: standard input is /dev/null, standard output
// and error are captured.
struct Launch {
  Words arguments; // without argv[0]
  std::string executable = program();
  std::string directory;                          // "": the test's own
  std::map<std::string, std::string> environment; // overrides the test's own
  bool as_nobody = false;                         // without root's privileges
  std::map<int, unsigned long> limits;            // RLIMIT_..., soft and hard
  std::function<void()> before_exec; // in the child, before the limits are set
};

// For before_exec: opens the file, to append, as this descriptor.
void open_as(int descriptor, const std::string &file);
// For before_exec: ignores and blocks each signal for which that is possible.
void ignore_and_block_signals();
// Gives up root's privileges in a child. Returns false with errno.
[[nodiscard]] bool become_nobody();

struct Result {
  int status = -1; // exit status, or 128 + the signal's number
  std::string out;
  std::string err; // as glibc words errors
};

// Starts a process. If it still runs, the destructor kills it with SIGKILL.
class Process {
public:
  explicit Process(const Launch &launch);
  Process(const Process &) = delete;
  Process &operator=(const Process &) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  // What the process has written so far.
  std::string out() const { return captured(0); }
  std::string err() const { return captured(1); }
  // Waits until the process has exited; fails the test at the bound. Returns
  // the output so far: a daemon that the process has started may write more.
  Result wait();
  [[nodiscard]] bool has_ended();

private:
  std::string captured(int i) const;

  pid_t pid_ = -1;
  bool reaped_ = false;
  int status_ = -1;
  int files_[2]; // standard output and error
};

[[nodiscard]] Result run(const Launch &launch);

// ---- Surroundings -----------------------------------------------------------

// unshare(2), if need be in a new user namespace that maps only this user.
// Returns false with errno.
[[nodiscard]] bool unshare_anyhow(int flags);

// A tmpfs on this directory, which only the test and its processes see. The
// first one moves the test to a mount namespace.
class Mount {
public:
  explicit Mount(const std::string &directory, const char *options = "");
  Mount(const Mount &) = delete;
  Mount &operator=(const Mount &) = delete;
  ~Mount();
  const std::string &why() const { return why_; } // "" unless it has failed

private:
  std::string directory_;
  std::string why_;
};

// A pseudoterminal, of which the test holds the master side.
class Terminal {
public:
  Terminal();
  Terminal(const Terminal &) = delete;
  Terminal &operator=(const Terminal &) = delete;
  ~Terminal() { close(); }

  const std::string &why() const { return why_; } // "" unless it has failed
  int master() const { return master_; }
  const std::string &name() const { return name_; } // /dev/pts/3
  int open_slave() const;
  void close(); // as when a terminal window is closed
  // For Launch::before_exec: makes the process a session leader, and this
  // terminal its controlling terminal and its descriptors 0 to 2.
  std::function<void()> controls() const;

private:
  int master_;
  std::string name_;
  std::string why_;
};

// Skips the test for this reason, unless it is "".
#define SKIP_IF(reason)                                                        \
  if (const std::string why = (reason); !why.empty())                          \
  GTEST_SKIP() << why

// ---- The log ----------------------------------------------------------------

constexpr char started_label[] = "pinglog started----:";
constexpr char start_label[] = "start time---------:";
constexpr char result_label[] = "ping result--------:";
constexpr char end_label[] = "end of time--------:";
constexpr char clock_label[] = "clock jumped-------:";
constexpr char lost_label[] = "lines lost---------:";
constexpr char outage_label[] = "ping outage--------:";
constexpr char rename_label[] = "log not renamed----:";
constexpr size_t label_size = sizeof start_label - 1;
constexpr size_t time_size = 24; // Sun Nov 22 07:45:00 2026

// The time in a line of the log, as if the log's clock showed UTC.
[[nodiscard]] time_t time_of(const std::string &line);

struct Account {
  std::string fault; // "" if there is none
  int lines = 0;     // those counted as lost included
  int lost = 0;      // lines that are counted as lost
};

// Checks a log. Every line must have one of the labels, a newline and only
// printable bytes. With 0 hosts, nothing more is checked. Otherwise, each cycle
// must have a start line, one result line for each host, and an end line; only
// the last cycle may be shorter. An outage line must follow the second failure
// in a row, and the next answer. The counting ping's numbers must match the
// cycles. Lost lines may be any; after them, only the lines' order is checked.
[[nodiscard]] Account check_log(const std::string &path, int hosts = 0);

// ---- The sandbox ------------------------------------------------------------

// Every test has a directory of its own. The processes that it starts carry a
// mark in their environment. At the end, the fixture kills each process that
// still carries the mark, and fails the test.
class Sandbox : public Test {
protected:
  Sandbox();
  ~Sandbox() override;
  // Skips the test if /proc is missing or no script can be executed. An
  // override calls this function first, and returns if IsSkipped().
  void SetUp() override;
  void TearDown() override;

  // The path of a file in the directory.
  std::string path(const std::string &name) const {
    return directory_ + "/" + name;
  }
  const std::string &log() const { return log_; }
  void set_log(const std::string &name) { log_ = name; }
  // Moves the log to a directory that a test may remove. Returns the directory.
  std::string move_log();
  // The processes of this test.
  std::vector<pid_t> processes() const;

  // Pings. pinglog runs them with the arguments -c 1 HOST, so the host is $3.
  // Writes an executable shell script and returns its path.
  std::string script(const std::string &name, const std::string &body) const;
  // Prints an answer at once, in iputils' words: time=12.3 ms.
  std::string answering_ping() const;
  // Prints nothing and executes `sleep`, which runs until killed.
  std::string silent_ping() const {
    return script("silent", "exec sleep 1000");
  }
  // Prints a line of some 200 bytes and fails. The line begins with the number
  // of times that this host has been pinged.
  std::string counting_ping() const;
  // How many cycles started the counting ping: the largest count of any host.
  int cycles() const;
  // Prints a line of 200 bytes and fails. For a host whose name begins with
  // `held`, the ping first waits until release() is called for that host.
  std::string held_ping() const;
  void release(const std::string &host) const;
  // Waits until this number of held pings have started (all), this number of
  // them still run (left), and pinglog sleeps.
  [[nodiscard]] bool is_left_with(size_t left, size_t all, pid_t pinglog) const;
  // Names of 255 bytes, the longest that there may be.
  static Words long_hosts(int count);

  // The launch of any program in the sandbox, of `pinglog -o log() ARGUMENTS`,
  // of that with -i 0.1, one host, and `true` as the ping: results are `ok`;
  // of that with the counting ping and this many hosts: with long names, each
  // result line has some 480 bytes.
  Launch command(const std::string &executable, const Words &arguments) const;
  Launch pinglog(const Words &arguments) const;
  Launch quick(const Words &arguments = {}) const;
  Launch counting(const Words &arguments, int hosts = 1,
                  bool long_names = false) const;
  Launch killer() const { return command(program(), {"-k", "-o", log()}); }
  // Starts the daemon, expects "Daemon PID n" and exit status 0, and returns n.
  // TearDown() stops the daemon if it still runs. Throws if there is no daemon:
  // a test must not go on without a valid PID.
  pid_t start_daemon(const Launch &launch);

  // Expects exit status 1 and only this message, after `pinglog: `.
  static void expect_failure(const Launch &launch, const std::string &message);
  // Expects that a second start fails and names the process that has the lock.
  void expect_refusal(pid_t holder) const;
  std::string refusal(pid_t holder) const;
  // Stops the process; expects exit status 0 and no message.
  static void expect_end(Process &process);

  // The log's lines, as glibc words errors.
  Words log_lines() const;
  // How many lines of the log have this text.
  int count(const std::string &text) const;
  // Waits until so many lines have this text, or so many more than now.
  void await(const std::string &text, int wanted = 1) const;
  void await_more(const std::string &text, int wanted = 1) const;
  void await_cycles(int wanted) const { await_more(end_label, wanted); }
  // The lines with this label, without label and time: "HOST ok 12.3 ms".
  Words texts(const char *label) const;
  Words results() const { return texts(result_label); }
  Words outages() const { return texts(outage_label); }
  // check_log() finds no fault, no line is lost, and no cycle lacks its end.
  void expect_sound_log(int hosts = 0) const;
  void expect_sound_end(Process &process, int hosts = 0) const; // and that

  // Why Launch::as_nobody is not possible here, or "" if it is.
  std::string why_not_as_nobody() const;

private:
  std::string directory_;
  std::string log_;
  std::vector<pid_t> daemons_;
};

#endif
