// sandbox.h - gives each test a directory, a log and fake pings, and kills
// every process that the test leaves behind.

#ifndef SANDBOX_H
#define SANDBOX_H

#include "log_checker.h"
#include "process.h"
#include "surroundings.h"

// Every test has a directory of its own. The processes that it starts carry a
// mark in their environment. At the end, the fixture kills each process that
// still carries the mark, and fails the test.
class Sandbox : public ::testing::Test {
protected:
  using Words = std::vector<std::string>;

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
  // The log's path: log() as pinglog sees it, log_file() as the test sees it.
  // The paths differ if the log is in a mount namespace.
  const std::string &log() const { return log_; }
  std::string log_file() const { return outside_ + log_; }
  void set_log(const std::string &name) { log_ = name; }
  // Mounts a disk for the log at path("disk"); from now on pinglog() enters the
  // namespace. Returns the disk's path as the test sees it.
  std::string mount_disk(const MountNamespace &inside,
                         const std::string &options = "size=16k");
  // Writes an executable shell script and returns its path. pinglog runs it
  // with the arguments -c 1 HOST, so the host is $3.
  std::string script(const std::string &name, const std::string &body) const;
  // A ping that prints an answer at once, in iputils' words: time=12.3 ms.
  std::string answering_ping() const;
  // A ping that prints nothing and executes `sleep`, which runs until killed.
  std::string silent_ping() const;
  // A ping that prints a line of some 200 bytes and fails. The line begins with
  // the number of times that this host has been pinged.
  std::string counting_ping() const;
  // How many cycles started the counting ping: the largest count of any host.
  int cycles() const;
  // Names of 255 bytes, the longest that there may be.
  static Words long_hosts(int count);
  // A ping that prints a line of 200 bytes and fails. For a host whose name
  // begins with `held`, the ping first waits until release() is called for that
  // host.
  std::string held_ping() const;
  void release(const std::string &host) const;
  // Waits until the only ping has executed `sleep`, and returns the ping's PID.
  static pid_t ping_of(pid_t pinglog);
  // Waits until this number of held pings have started (all), this number of
  // them still run (left), and pinglog sleeps.
  [[nodiscard]] bool is_left_with(size_t left, size_t all, pid_t pinglog) const;

  // The launch of `pinglog -o log() ARGUMENTS`, in the sandbox.
  Launch pinglog(const Words &arguments) const;
  // pinglog() with -i 0.1, one host, and `true` as the ping: results are `ok`.
  Launch quick(const Words &arguments = {}) const;
  // pinglog() with the counting ping and this many hosts. With long names, each
  // result line has some 480 bytes.
  Launch counting(const Words &arguments, int hosts = 1,
                  bool long_names = false) const;
  // The launch of any other program, in the sandbox.
  Launch command(const std::string &executable, const Words &arguments) const;
  // Starts the daemon, expects "Daemon PID n" and exit status 0, and returns n.
  // TearDown() stops the daemon if it still runs. Throws if there is no daemon:
  // a test must not go on without a valid PID.
  pid_t start_daemon(const Launch &launch);
  // Sends the signal and waits until the process is gone.
  static void stop(pid_t pid, int signal = 15);

  // Expects exit status 1, only this message printed, after `pinglog: `, and no
  // process left behind.
  void expect_failure(const Launch &launch, const std::string &message);
  // Expects that a second start fails and names the process that has the lock.
  void expect_refusal(pid_t holder);

  Words log_lines() const;
  // How many lines of the log begin with this text.
  int count(const std::string &beginning) const;
  // The result lines of the log without label and time: "HOST ok 12.3 ms".
  Words results() const;
  // The outage lines of the log without label and time.
  Words outages() const;
  // Waits until the log has this many results that begin with this text.
  void await_results(const std::string &beginning, size_t wanted) const;
  // Waits until the log has this many lines that begin with this text.
  void await_lines(const std::string &beginning, int wanted) const;
  // Waits until this many more cycles have ended.
  void await_cycles(int wanted) const;
  // check_log() finds no fault, no line is lost, and no cycle lacks its end.
  void expect_sound_log(int hosts = 0) const;

  // Why pinglog cannot run here as this user, or "" if it can.
  std::string why_not_as(uid_t user) const;
  std::string mark() const; // "PINGLOG_TEST=/tmp/..."

private:
  std::string directory_;
  std::string log_;
  std::string outside_;
  const MountNamespace *inside_ = nullptr;
  std::vector<pid_t> daemons_;
};

constexpr uid_t nobody = 65534;

// Call this before you set Launch::user to nobody.
#define SKIP_UNLESS_NOBODY_CAN_RUN()                                           \
  do {                                                                         \
    if (const std::string why = why_not_as(nobody); !why.empty())              \
      GTEST_SKIP() << why;                                                     \
  } while (false)

#endif
