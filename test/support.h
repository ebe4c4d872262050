// support.h - what the tests share: a directory of their own, the real program
// in a process of its own, and waiting for a condition with a bound.

#ifndef SUPPORT_H
#define SUPPORT_H

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <sys/prctl.h>
#include <sys/types.h>
#include <thread>
#include <unistd.h>
#include <vector>

// The program under test: $PINGLOG, or pinglog beside the test's directory.
std::string program();

// Calls the condition every few milliseconds until it is true, and returns
// true; false when the bound is reached. The bound is generous: it is the
// limit of patience on a busy machine, not an expectation.
[[nodiscard]] bool
eventually(const std::function<bool()> &condition,
           std::chrono::seconds bound = std::chrono::seconds(60));

// How often a test tries what happens at a random moment: as said in this
// variable of the environment, or else as usual.
[[nodiscard]] int rounds(const char *variable, int usual);

// True if the process exists and is no zombie.
[[nodiscard]] bool is_alive(pid_t pid);
// The state letter of /proc/PID/stat, or 0 if there is no such process.
[[nodiscard]] char process_state(pid_t pid);
// A numeric field of /proc/PID/stat, counted as in proc(5), from 1.
[[nodiscard]] long process_stat(pid_t pid, int field);
// The value of a line of /proc/PID/status, "" if there is none.
[[nodiscard]] std::string process_status(pid_t pid, const std::string &key);
[[nodiscard]] std::vector<pid_t> children_of(pid_t pid);
[[nodiscard]] std::vector<pid_t> zombies_of(pid_t pid);
// Processes with this string in the environment (as it was at their exec).
[[nodiscard]] std::vector<pid_t>
processes_with_environment(const std::string &entry);
// Descriptor number -> what /proc/PID/fd/N points at.
[[nodiscard]] std::map<int, std::string> descriptors_of(pid_t pid);
// The process that has locked the file, -1 if there is none.
[[nodiscard]] pid_t writer(const std::string &path);

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

// As long as it lives, what loses its parent becomes a child of the test.
struct Subreaper {
  Subreaper() { (void)prctl(PR_SET_CHILD_SUBREAPER, 1); }
  ~Subreaper() { (void)prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

// kill(), but never of -1, which is everybody, where a PID could not be found.
void send_signal(pid_t pid, int number);
// Does this while the process is stopped: to it, it takes no time.
void while_stopped(pid_t pid, const std::function<void()> &act);

// unshare(2), and where the user may not, in a user namespace besides that
// knows this user alone. False with errno.
[[nodiscard]] bool unshare_anyhow(int flags);

// Mounts that nobody else sees, also without root, in a user namespace that
// knows one's own user alone. The test stays outside; a process that waits
// holds the namespace, and what is mounted there goes with it.
class MountNamespace {
public:
  MountNamespace();
  MountNamespace(const MountNamespace &) = delete;
  MountNamespace &operator=(const MountNamespace &) = delete;
  ~MountNamespace();

  explicit operator bool() const { return why_.empty(); }
  const std::string &why() const { return why_; } // there is none
  // Takes the calling process there, and keeps its directory, by name: to be
  // called in Launch::before_exec. Exit status 125 where it fails.
  void enter() const;
  // What is there under this absolute name, for those outside.
  std::string path(const std::string &name) const;
  void mount_tmpfs(const std::string &directory,
                   const std::string &options = "") const;

private:
  pid_t holder_ = -1;
  std::string why_;
};

#define MOUNT_NAMESPACE_OR_SKIP(name)                                          \
  const MountNamespace name;                                                   \
  if (!name)                                                                   \
  GTEST_SKIP() << name.why()

// The other end of a terminal.
class Terminal {
public:
  Terminal();
  Terminal(const Terminal &) = delete;
  Terminal &operator=(const Terminal &) = delete;
  ~Terminal() { close(); }

  explicit operator bool() const { return why_.empty(); }
  const std::string &why() const { return why_; } // there is none
  int master() const { return master_; }
  const std::string &name() const { return name_; } // /dev/pts/3
  void close(); // as a window that is closed
  // For before_exec: it leads a session that this terminal controls, and has
  // it on 0 to 2 if so wanted.
  std::function<void()> controls(bool standard_descriptors = true) const;

private:
  int master_;
  std::string name_;
  std::string why_;
};

// What check_lines() finds.
struct Account {
  std::string fault;      // "" if there is none
  int lines = 0;          // those counted as lost included
  int lost = 0;           // lines that are counted as lost
  size_t before_mark = 0; // bytes before the first `lines lost`
};

// Whether these are all lines of cycles of so many hosts with counting_ping(),
// in order, from the first one on: finds each that is lost, doubled, out of
// order or wrongly counted in a `lines lost` line.
[[nodiscard]] Account check_lines(const std::vector<std::string> &lines,
                                  int hosts);

// Every test has a directory of its own, and processes started in it carry a
// mark in their environment by which the fixture finds those that are left:
// they are killed, and the test has failed.
class Sandbox : public ::testing::Test {
protected:
  using Words = std::vector<std::string>;

  Sandbox();
  ~Sandbox() override;
  // Skips where nothing can be seen of processes, or no script be executed. One
  // that overrides it calls it, and returns if IsSkipped().
  void SetUp() override;
  void TearDown() override;

  // A name in the directory.
  std::string path(const std::string &name) const {
    return directory_ + "/" + name;
  }
  // The log as pinglog is told it, and as the test reads it: the same, but for
  // a log in a mount namespace.
  const std::string &log() const { return log_; }
  std::string log_file() const { return outside_ + log_; }
  void set_log(const std::string &name) { log_ = name; }
  // From now on the log is on a disk of this size, path("disk"), and pinglog()
  // runs in there. Returns the disk as the test sees it.
  std::string mount_disk(const MountNamespace &inside,
                         const std::string &options = "size=16k");
  // Writes an executable shell script and returns its path; $1... are as
  // pinglog gives them: -c 1 HOST.
  std::string script(const std::string &name, const std::string &body) const;
  // A ping that answers at once, as iputils prints it: time=12.3 ms.
  std::string answering_ping() const;
  // A ping that waits for ever, and says nothing: it becomes `sleep`.
  std::string silent_ping() const;
  // A ping that fails with a line of 200 bytes: it begins with the number of
  // times that this host has been pinged.
  std::string counting_ping() const;
  // How often the counting ping was started for the host that had it most.
  int cycles() const;
  // A ping that fails without a word; for a host that begins with `held` it
  // waits until that is released.
  std::string held_ping() const;
  void release(const std::string &host) const;
  // The one ping that this pinglog has started, once it is `sleep`.
  static pid_t ping_of(pid_t pinglog);
  // Waits until this pinglog has no more pings than so many, and sleeps.
  [[nodiscard]] static bool is_left_with(size_t pings, pid_t pinglog);

  // The launch of `pinglog -o log() ARGUMENTS`, in the sandbox.
  Launch pinglog(const Words &arguments) const;
  // The same with -i 0.1 and a ping that is one exec and answers `ok`.
  Launch quick(const Words &arguments = {}) const;
  // The same with the counting ping and so many hosts. The long names make 480
  // bytes of each result line.
  Launch counting(const Words &arguments, int hosts = 1,
                  bool long_names = false) const;
  // Any other program in the sandbox.
  Launch command(const std::string &executable, const Words &arguments) const;
  // Starts the daemon, expects "Daemon PID n" and exit status 0, and returns n.
  // It is killed at the test's end if it is alive then. Throws where there is
  // no daemon: a test must not go on with a PID that is none.
  pid_t start_daemon(const Launch &launch);
  // `kill`, and waits until it has gone.
  static void stop(pid_t pid, int signal = 15);

  // Exit status 1, this message behind `pinglog: `, nothing else printed, and
  // no process left of it.
  void expect_failure(const Launch &launch, const std::string &message);
  // A second start fails: the lock holds, and says who has it.
  void expect_refusal(pid_t holder);

  Words log_lines() const { return read_lines(log_file()); }
  // How many lines of the log begin with this.
  int count(const std::string &beginning) const;
  // The results that the log holds: "HOST ok 12.3 ms".
  Words results() const;
  // Waits until the log has so many lines that begin with this.
  void await_lines(const std::string &beginning, int wanted) const;
  // Waits until as many cycles as this have ended from now on.
  void await_cycles(int wanted) const;
  // Nothing but whole lines, none lost, and each cycle that was started ended.
  void expect_sound_log() const;
  // A cycle holds its start, a line for each host, and its end; nothing stands
  // between two cycles. The last one may have been ended before its time.
  void expect_a_line_for_each_host(size_t hosts) const;

  // Why nothing can be run here as this user, "" if it can.
  std::string why_not_as(uid_t user) const;
  std::string mark() const; // "PINGLOG_TEST=/tmp/..."

private:
  std::string directory_;
  std::string log_;
  std::string outside_;
  const MountNamespace *inside_ = nullptr;
  std::vector<pid_t> daemons_;
};

constexpr char start_label[] = "start time---------:";
constexpr char result_label[] = "ping result--------:";
constexpr char end_label[] = "end of time--------:";
constexpr char lost_label[] = "lines lost---------:";

// Every line has one of the labels and no byte that is not printable, and the
// file ends with a newline. Returns what is wrong, "" if nothing is.
[[nodiscard]] std::string fault_in_log(const std::string &path);

constexpr uid_t nobody = 65534;

// Before Launch::user is set to nobody.
#define SKIP_UNLESS_NOBODY_CAN_RUN()                                           \
  do {                                                                         \
    if (const std::string why = why_not_as(nobody); !why.empty())              \
      GTEST_SKIP() << why;                                                     \
  } while (false)

#endif
