// process.h - runs the real program as a child process: starts it, reads its
// state from /proc, collects its output and waits for its exit status.

#ifndef PROCESS_H
#define PROCESS_H

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <string>
#include <sys/prctl.h>
#include <sys/types.h>
#include <thread>
#include <unistd.h>
#include <vector>

// A path in the directory that tests write to: $TMPDIR, or else /tmp.
[[nodiscard]] std::string scratch(const std::string &name);
// Waits for a child. Returns its exit status, or 128 + the signal's number.
int wait_for(pid_t pid);
// Calls the function in a child process and returns its result, 0 to 255.
int in_a_child(const std::function<int()> &function);

// The program under test: $PINGLOG, or else pinglog in the parent directory.
std::string program();

// Calls the condition every few milliseconds until it is true, and returns
// true. Returns false at the bound, which is long enough for a busy machine
// and says nothing about how long the condition should take.
[[nodiscard]] bool
eventually(const std::function<bool()> &condition,
           std::chrono::seconds bound = std::chrono::seconds(60));

// How many rounds a randomized test runs: the value of this environment
// variable, or else the usual number.
[[nodiscard]] int rounds(const char *variable, int usual);

// True if the process exists and is not a zombie. A zombie with other threads,
// as under qemu, is alive: its files stay locked until the last thread ends.
[[nodiscard]] bool is_alive(pid_t pid);
// The state letter of /proc/PID/stat, or 0 if there is no such process.
[[nodiscard]] char process_state(pid_t pid);
// A numeric field of /proc/PID/stat, numbered from 1 as in proc(5).
[[nodiscard]] long process_stat(pid_t pid, int field);
// The value of this key in /proc/PID/status, "" if the key is missing.
[[nodiscard]] std::string process_status(pid_t pid, const std::string &key);
[[nodiscard]] std::vector<pid_t> children_of(pid_t pid);
[[nodiscard]] std::vector<pid_t> zombies_of(pid_t pid);
// The other live processes that had this entry in their environment at exec.
[[nodiscard]] std::vector<pid_t>
processes_with_environment(const std::string &entry);
// Maps each open descriptor to the target of its link in /proc/PID/fd.
[[nodiscard]] std::map<int, std::string> descriptors_of(pid_t pid);
// The PID that holds the lock on this log's FILE.lock; -1 if there is none.
[[nodiscard]] pid_t writer(const std::string &path);

[[nodiscard]] std::string read_file(const std::string &path);
void write_file(const std::string &path, const std::string &text,
                mode_t mode = 0644);
// The lines of a file without newlines. An unfinished last line counts too.
[[nodiscard]] std::vector<std::string> read_lines(const std::string &path);
// Replaces musl's wording of errors with glibc's: the tests expect strerror()
// as glibc words it, and pinglog may have been built with musl.
[[nodiscard]] std::string in_words_of_glibc(std::string text);

// How to start a process. What is not set is inherited from the test, except
// signal settings and descriptors; standard input is /dev/null.
struct Launch {
  std::vector<std::string> arguments; // without argv[0]
  std::string executable = program();
  std::string directory;                          // "": the test's own
  std::map<std::string, std::string> environment; // overrides the test's own
  bool clear_environment = false;
  std::vector<int> closed;  // descriptors
  std::vector<int> ignored; // signals
  std::vector<int> blocked; // signals
  std::optional<mode_t> umask;
  std::optional<uid_t> user;           // also the group
  std::map<int, unsigned long> limits; // RLIMIT_..., soft and hard
  std::string stdout_to;               // a file; "": captured
  std::string stderr_to;               // a file; "": captured
  std::function<void()> before_exec;   // in the child, before closed and limits
};

struct Result {
  int status = -1; // exit status, or 128 + the signal's number
  std::string out;
  std::string err;
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
  // What the process has written so far; err() words errors as glibc does.
  std::string out() const;
  std::string err() const;
  // Waits until the process has exited; fails the test at the bound. Returns
  // the output so far: a daemon that the process has started may write more.
  Result wait(std::chrono::seconds bound = std::chrono::seconds(60));
  [[nodiscard]] bool has_ended();

private:
  pid_t pid_ = -1;
  bool reaped_ = false;
  int status_ = -1;
  std::string out_path_;
  std::string err_path_;
  std::vector<std::string> own_files_;
};

[[nodiscard]] Result run(const Launch &launch);

// While it exists, orphaned descendants of the test become the test's children.
struct Subreaper {
  Subreaper() { (void)prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~Subreaper() { (void)prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

// kill(2), but fails the test for a PID of -1, which means every process.
void send_signal(pid_t pid, int number);
// Calls act() while the process is stopped, so that the two cannot race.
void while_stopped(pid_t pid, const std::function<void()> &act);

#endif
