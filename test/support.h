// support.h - what the tests share: a directory of their own, the real program
// in a process of its own, and waiting for a condition with a bound.

#ifndef SUPPORT_H
#define SUPPORT_H

#include <chrono>
#include <cstdio>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

// The program under test: $PINGLOG, or pinglog beside the test's directory.
std::string program();

// Calls the condition every few milliseconds until it is true, and returns
// true; false when the bound is reached. The bound is generous: it is the
// limit of patience on a busy machine, not an expectation.
[[nodiscard]] bool
eventually(const std::function<bool()> &condition,
           std::chrono::seconds bound = std::chrono::seconds(20));

// True if the process exists and is no zombie.
[[nodiscard]] bool is_alive(pid_t pid);
// The state letter of /proc/PID/stat, or 0 if there is no such process.
[[nodiscard]] char process_state(pid_t pid);
// A numeric field of /proc/PID/stat, counted as in proc(5), from 1.
[[nodiscard]] long process_stat(pid_t pid, int field);
// The value of a line of /proc/PID/status, "" if there is none.
[[nodiscard]] std::string process_status(pid_t pid, const std::string &key);
[[nodiscard]] std::vector<pid_t> children_of(pid_t pid);
// Processes with this string in the environment (as it was at their exec).
[[nodiscard]] std::vector<pid_t>
processes_with_environment(const std::string &entry);
// Descriptor number -> what /proc/PID/fd/N points at.
[[nodiscard]] std::map<int, std::string> descriptors_of(pid_t pid);

[[nodiscard]] std::string read_file(const std::string &path);
void write_file(const std::string &path, const std::string &text,
                mode_t mode = 0644);
// The lines of a file without their newlines; a last one that has none counts.
[[nodiscard]] std::vector<std::string> read_lines(const std::string &path);

// A process that the test starts and ends. All that is not set is inherited.
struct Launch {
  std::vector<std::string> arguments; // without argv[0]
  std::string executable = program();
  std::string directory;                          // "": the test's own
  std::map<std::string, std::string> environment; // put over the test's own
  bool clear_environment = false;
  std::vector<int> closed;  // descriptors
  std::vector<int> ignored; // signals
  std::vector<int> blocked; // signals
  std::optional<mode_t> umask;
  std::optional<uid_t> user;           // also the group
  std::map<int, unsigned long> limits; // RLIMIT_..., soft and hard
  std::string stdout_to;               // a file; "": captured
  std::string stderr_to;               // a file; "": captured
  std::function<void()> before_exec;   // runs in the child, last
};

struct Result {
  int status = -1; // exit status, or 128 + the signal's number
  std::string out;
  std::string err;
};

// Starts the process, and in the destructor ends it (SIGKILL, by PID).
class Process {
public:
  explicit Process(const Launch &launch);
  Process(const Process &) = delete;
  Process &operator=(const Process &) = delete;
  ~Process();

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  // What it has written so far.
  std::string out() const;
  std::string err() const;
  // Waits for its end; fails the test and kills it when the bound is reached.
  // Output is what it wrote to its files until then, not until end of file: a
  // daemon may hold them.
  Result wait(std::chrono::seconds bound = std::chrono::seconds(20));
  [[nodiscard]] bool has_ended();

private:
  pid_t pid_ = -1;
  bool reaped_ = false;
  int status_ = -1;
  std::string out_path_;
  std::string err_path_;
};

[[nodiscard]] Result run(const Launch &launch);

// kill(), but never of -1, which is everybody, where a PID could not be found.
void send_signal(pid_t pid, int number);

// Every test has a directory of its own, and processes started in it carry a
// mark in their environment by which the fixture finds those that are left:
// they are killed, and the test has failed.
class Sandbox : public ::testing::Test {
protected:
  Sandbox();
  ~Sandbox() override;
  void TearDown() override;

  // A name in the directory.
  std::string path(const std::string &name) const {
    return directory_ + "/" + name;
  }
  std::string log() const { return path("ping.log"); }
  // Writes an executable shell script and returns its path; $1... are as
  // pinglog gives them: -c 1 HOST.
  std::string script(const std::string &name, const std::string &body) const;
  // A ping that answers at once, as iputils prints it: time=12.3 ms.
  std::string answering_ping() const;
  // A ping that waits for ever, and says nothing.
  std::string silent_ping() const;

  // The launch of `pinglog -o log() ARGUMENTS`, in the sandbox.
  Launch pinglog(std::vector<std::string> arguments) const;
  // Any other program in the sandbox.
  Launch command(const std::string &executable,
                 std::vector<std::string> arguments) const;
  // Starts the daemon, expects "Daemon PID n" and exit status 0, and returns n.
  // It is killed at the test's end if it is alive then. Throws where there is
  // no daemon: a test must not go on with a PID that is none.
  pid_t start_daemon(const Launch &launch);
  // `kill`, and waits until it has gone.
  static void stop(pid_t pid, int signal = 15);

  std::vector<std::string> log_lines() const { return read_lines(log()); }
  // How many lines of the log begin with this.
  int count(const std::string &beginning) const;
  // The results that the log holds: "HOST ok 12.3 ms".
  std::vector<std::string> results() const;
  std::string mark() const; // "PINGLOG_TEST=/tmp/..."

private:
  std::string directory_;
  std::vector<pid_t> daemons_;
};

constexpr char start_label[] = "start time---------:";
constexpr char result_label[] = "ping result--------:";
constexpr char end_label[] = "end of time--------:";
constexpr char lost_label[] = "lines lost---------:";

// Every line has one of the labels and no byte that is not printable, and the
// file ends with a newline. Returns what is wrong, "" if nothing is.
[[nodiscard]] std::string fault_in_log(const std::string &path);

#define SKIP_UNLESS_ROOT()                                                     \
  do {                                                                         \
    if (geteuid() != 0)                                                        \
      GTEST_SKIP() << "needs root";                                            \
  } while (false)

// "" if it is in PATH, else why not: SKIP_WITHOUT("busybox").
#define SKIP_WITHOUT(name)                                                     \
  do {                                                                         \
    if (system("command -v " name " >/dev/null 2>&1") != 0)                    \
      GTEST_SKIP() << "no " name " on this machine";                           \
  } while (false)

#endif
