// pinglog.cpp - logs, every few seconds, whether hosts answer ping.
//
// A cycle: the start line, one ping for each host, the result lines as the
// pings end, the end line. Cycles start on a grid of the monotonic clock.
//
// A ping writes to a pipe that is read when it has ended: until then the kernel
// holds the little that it prints. So one buffer serves any number of hosts,
// and there is nothing to wake up for but an end, a signal or the grid. Neither
// end of the pipe blocks: the kernel drops what is too much for it, and a stray
// that keeps it open delays nobody.
//
// Once the daemon is up nothing but a signal stops it. What a ping fails of is
// in its result line; what the log fails of is put right in the next cycle.

#include "daemon.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio> // rename()
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <initializer_list>
#include <new>
#include <poll.h>
#include <string_view>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <utility>

namespace {

constexpr char version[] = "1.0";
constexpr char usage[] =
    "usage: pinglog [-f] [-c count] [-e command] [-i seconds] [-o file]\n"
    "               [-s KiB] [host ...]\n"
    "       pinglog -k [-o file]\n"
    "       pinglog -h | -V\n"
    "count from 1; seconds from 0.01 to 86400; KiB from 0; -o - wants -f\n";
constexpr const char *default_host = "www.baidu.com";
constexpr char default_path[] = "/usr/sbin:/usr/bin:/sbin:/bin";
constexpr char blanks[] = " \t";

constexpr char start_label[] = "start time---------:";
constexpr char result_label[] = "ping result--------:";
constexpr char end_label[] = "end of time--------:";
constexpr char lost_label[] = "lines lost---------:";
constexpr size_t longest_host = 255; // as in the DNS
constexpr size_t longest_reason = 200;

constexpr int64_t second_ns = 1'000'000'000;
constexpr int64_t most_grace_ns = second_ns / 10; // from SIGINT to SIGKILL
constexpr int64_t most_number = 1'000'000'000'000;

struct Options {
  const char *command = "ping -n";
  int64_t count = INT64_MAX;
  const char *file = "/home/ping.log";
  bool foreground = false;
  int64_t interval_ns = 3 * second_ns;
  const char *interval = "3"; // seconds, as typed
  bool kill = false;
  int64_t limit = 10240 * 1024; // bytes, 0: none
  const char *const *hosts = &default_host;
  int host_count = 1;
};

volatile sig_atomic_t stop_requested = 0;
volatile sig_atomic_t hangup_received = 0;

void on_stop(int) {
  stop_requested = 1;
}
void on_hangup(int) {
  hangup_received = 1;
}
// Not ignored: a ping would inherit that, whereas exec resets what is caught.
void on_other(int) {}

// Writes messages. There is nobody to tell where that fails.
void print(int fd, std::initializer_list<std::string_view> parts) {
  for (std::string_view part : parts)
    while (write(fd, part.data(), part.size()) == -1 && errno == EINTR) {
    }
}

[[noreturn]] void die(std::string_view object, std::string_view reason) {
  print(STDERR_FILENO, {"pinglog: ", object, ": ", reason, "\n"});
  exit(EXIT_FAILURE);
}

[[noreturn]] void refuse(std::string_view what, std::string_view value) {
  print(STDERR_FILENO, {"pinglog: bad ", what, ": '", value, "'\n", usage});
  exit(2);
}

// What was asked for, and nothing else.
[[noreturn]] void answer(std::initializer_list<std::string_view> text) {
  print(STDOUT_FILENO, text);
  exit(EXIT_SUCCESS);
}

int64_t now() {
  timespec time = {};
  (void)clock_gettime(CLOCK_MONOTONIC, &time); // only unknown clocks fail
  return time.tv_sec * second_ns + time.tv_nsec;
}

void nap() {
  const timespec hundredth = {0, second_ns / 100};
  (void)nanosleep(&hundredth, nullptr);
}

// Only for the start: what it returns is never freed.
void *allocate(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (memory == nullptr)
    die("memory", strerror(errno));
  return memory;
}

char *concatenate(std::initializer_list<std::string_view> parts) {
  size_t size = 1;
  for (std::string_view part : parts)
    size += part.size();
  char *whole = static_cast<char *>(allocate(size, 1));
  char *end = whole;
  for (std::string_view part : parts)
    end = std::copy(part.begin(), part.end(), end);
  return whole;
}

// The daemon will be in another directory.
const char *absolute(const char *name) {
  char directory[PATH_MAX];
  if (name[0] == '/')
    return name;
  if (getcwd(directory, sizeof directory) == nullptr)
    die(name, strerror(errno));
  return concatenate({directory, "/", name});
}

// A text of bounded length. What does not fit is left out.
class Text {
public:
  Text &operator<<(std::string_view part) {
    const size_t size = std::min(part.size(), sizeof bytes_ - size_);
    std::copy_n(part.begin(), size, bytes_ + size_);
    size_ += size;
    return *this;
  }
  Text &operator<<(int64_t number) {
    char digits[20] = {};
    const char *end = std::to_chars(digits, std::end(digits), number).ptr;
    return *this << std::string_view(digits, end - digits);
  }
  operator std::string_view() const { return {bytes_, size_}; }

private:
  size_t size_ = 0;
  char bytes_[640]; // a lost line, a label, a host and a reason
};

bool begins_with(std::string_view text, std::string_view prefix) {
  return text.rfind(prefix, 0) == 0;
}

struct flock whole_file(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET; // to the end, wherever that will be
  return lock;
}

// False where another process has the lock. On a file system that has no locks
// we go on without.
bool lock_file(int fd) {
  struct flock lock = whole_file(F_WRLCK);
  return fcntl(fd, F_SETLK, &lock) == 0 || (errno != EAGAIN && errno != EACCES);
}

// The PID of the process that has locked the file for writing, 0 where it has
// none here (a container), or -1 with errno of open(2), ESRCH if there is none.
// Locks for reading do not count: whoever may read the log can take one.
pid_t writer_of(const char *path) {
  const Descriptor file(
      open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK));
  if (file.get() == -1)
    return -1;
  struct flock lock = whole_file(F_RDLCK);
  const bool failed = fcntl(file.get(), F_GETLK, &lock) == -1;
  errno = ESRCH;
  return failed || lock.l_type == F_UNLCK ? -1 : std::max<pid_t>(lock.l_pid, 0);
}

// The log file, or standard output, and three promises about it.
// One writer: it holds a record lock on the file itself, so nothing is left
// behind when it is killed. Closing any descriptor of the file drops the lock
// (POSIX, fcntl), so only attach() opens and closes it.
// Whole lines: what a short write has left is cut off before anything else is
// written, and so is what a writer that was killed has left.
// No silent loss: what cannot be written waits in the queue, and what does not
// fit in there is counted.
class Log {
public:
  Log(const char *path, int64_t limit)
      : path_(path), old_path_(concatenate({path, ".0"})),
        stdout_(strcmp(path, "-") == 0), limit_(stdout_ ? 0 : limit),
        file_(stdout_ ? STDOUT_FILENO : -1), current_(stdout_) {}

  // Opens and locks the file. False with errno of open(2), EAGAIN if another
  // process has locked or renamed it.
  [[nodiscard]] bool attach() {
    if (stdout_)
      return true;
    inode_ = 0; // no file's: what is closed here may have had our lock
    // 0644 in the foreground too, where the umask is the caller's.
    const mode_t mask = umask(0);
    Descriptor file(open(path_,
                         O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY |
                             O_NOFOLLOW | O_NONBLOCK,
                         0644));
    (void)umask(mask);
    struct stat opened;
    if (file.get() == -1 || fstat(file.get(), &opened) == -1)
      return false;
    if (!S_ISREG(opened.st_mode)) {
      errno = ENOTSUP; // others block, hang up or cannot be locked
      return false;
    }
    // A writer that is just rotating holds only the lock on the old file.
    if (lock_file(file.get()) && writer_of(old_path_) == -1) {
      file_ = std::move(file); // closes the old one
      device_ = opened.st_dev;
      torn_ = true;
      // If that was the same file, its lock is gone: it is taken again.
      if (lock_file(file_.get()))
        inode_ = opened.st_ino;
      struct stat named;
      current_ = names_file(named);
    }
    errno = EAGAIN;
    return current_;
  }

  // Who writes it, as writer_of(). In the middle of a rotation there is only
  // the old file.
  [[nodiscard]] pid_t writer() const {
    const pid_t writer = writer_of(path_);
    return writer == -1 && errno == ENOENT ? writer_of(old_path_) : writer;
  }

  // Who kept attach() from it, as writer_of().
  [[nodiscard]] pid_t other_writer() const {
    return std::max(writer_of(path_), writer_of(old_path_));
  }

  // Opens the log again where path_ names another file now, as it does after a
  // rotation, which takes place between cycles. Until it can, lines wait.
  void follow(bool between_cycles) {
    struct stat named;
    current_ = stdout_ || names_file(named);
    if (between_cycles && current_ && limit_ > 0 && named.st_size >= limit_ &&
        (!torn_ || cut_torn_line()) && rename(path_, old_path_) == 0)
      current_ = false;
    if (!current_)
      (void)attach();
  }

  void add(std::string_view label, std::string_view text) {
    (void)flush(); // there may be room again
    Text lines;
    if (lost_ > 0)
      lines << lost_label << lost_ << "\n";
    lines << label << text << "\n";
    const std::string_view bytes = lines;
    if (bytes.size() > sizeof queue_ - queued_) {
      ++lost_;
      return;
    }
    queued_ = std::copy(bytes.begin(), bytes.end(), queue_ + queued_) - queue_;
    lost_ = 0;
    (void)flush();
  }

  // The time as ctime() has it, but by hand: strftime() brings printf() along.
  void add_time(std::string_view label) {
    timespec time = {};
    (void)clock_gettime(CLOCK_REALTIME, &time); // time() lags behind by a tick
    struct tm t = {};
    (void)localtime_r(&time.tv_sec, &t);
    Text text;
    text << std::string_view(&"SunMonTueWedThuFriSat"[t.tm_wday * 3], 3) << " "
         << std::string_view(
                &"JanFebMarAprMayJunJulAugSepOctNovDec"[t.tm_mon * 3], 3)
         << (t.tm_mday < 10 ? "  " : " ") << t.tm_mday
         << (t.tm_hour < 10 ? " 0" : " ") << t.tm_hour
         << (t.tm_min < 10 ? ":0" : ":") << t.tm_min
         << (t.tm_sec < 10 ? ":0" : ":") << t.tm_sec << " "
         << t.tm_year + int64_t{1900};
    add(label, text);
  }

  // Writes what waits, a line at a time. False if some of it must wait on.
  bool flush() {
    std::string_view rest(queue_, queued_);
    while (!rest.empty() && can_write()) {
      const ssize_t size = rest.find('\n') + 1;
      const ssize_t written = write(file_.get(), rest.data(), size);
      if (written == size || (written > 0 && stdout_)) {
        rest.remove_prefix(written); // what a pipe has taken cannot be cut off
        continue;
      }
      torn_ = written > 0;
      if (torn_)
        (void)cut_torn_line(); // or else before the next write
      else if (errno == EPIPE && stdout_)
        stop_requested = 1; // nobody will ever read on
      break;
    }
    queued_ = rest.size();
    (void)memmove(queue_, rest.data(), queued_);
    return queued_ == 0 && lost_ == 0;
  }

private:
  [[nodiscard]] bool names_file(struct stat &named) const {
    return lstat(path_, &named) == 0 && named.st_dev == device_ &&
           named.st_ino == inode_;
  }

  // A pipe whose reader has stalled must not stall the pings.
  [[nodiscard]] bool can_write() {
    pollfd output = {STDOUT_FILENO, POLLOUT, 0};
    if (stdout_)
      return poll(&output, 1, 0) == 1;
    return current_ && (!torn_ || cut_torn_line());
  }

  [[nodiscard]] bool cut_torn_line() {
    char end[sizeof(Text)];
    constexpr off_t most = sizeof end;
    const off_t size = lseek(file_.get(), 0, SEEK_END);
    const off_t from = std::max<off_t>(size - most, 0);
    const ssize_t length = pread(file_.get(), end, sizeof end, from);
    if (size == -1 || length == -1)
      return false;
    ssize_t whole = length;
    while (whole > 0 && end[whole - 1] != '\n')
      --whole;
    const std::string_view torn(end + whole, length - whole);
    bool ours = false;
    for (std::string_view label :
         {start_label, result_label, end_label, lost_label})
      ours |= begins_with(torn, label) || begins_with(label, torn);
    if (torn.empty())
      torn_ = false;
    else if (ours)
      torn_ = ftruncate(file_.get(), from + whole) == -1;
    else // somebody else's text: it is ended instead
      torn_ = write(file_.get(), "\n", 1) != 1;
    return !torn_;
  }

  const char *const path_;
  const char *const old_path_;
  const bool stdout_;
  const int64_t limit_;
  Descriptor file_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  bool current_;      // path_ still names file_
  bool torn_ = false; // file_ may end in a part of a line
  int64_t lost_ = 0;
  size_t queued_ = 0;
  char queue_[64 * 1024];
};

// The number in `time=12.3 ms`, empty if there is none.
std::string_view round_trip_time(std::string_view output) {
  constexpr std::string_view label = "time=";
  for (size_t at; (at = output.find(label)) != std::string_view::npos;) {
    output.remove_prefix(at + label.size());
    const size_t size =
        std::min(output.find_first_not_of("0123456789."), output.size());
    const std::string_view number(output.data(), size);
    output.remove_prefix(size);
    if (size > 0 && size < 16 && number[0] != '.' && begins_with(output, " ms"))
      return number;
  }
  return {};
}

// True of the lines that every ping prints, answered or not.
bool is_usual(std::string_view line) {
  for (std::string_view beginning :
       {"PING", "Ping", "--- ", "rtt", "round-trip"})
    if (begins_with(line, beginning))
      return true;
  return line.find("socktype:") != std::string_view::npos ||
         line.find_first_not_of(" \t\r") == std::string_view::npos;
}

// The line that explains best: the first unusual one, or else the statistics.
std::string_view find_reason(std::string_view output) {
  std::string_view statistics;
  while (!output.empty()) {
    const size_t size = std::min(output.find('\n'), output.size());
    const std::string_view line(output.data(), size);
    output.remove_prefix(std::min(size + 1, output.size()));
    if (line.find("packets transmitted") != std::string_view::npos)
      statistics = line;
    else if (!is_usual(line))
      return line;
  }
  return statistics;
}

Text failure(std::string_view reason) {
  Text text;
  text << "fail ";
  for (char byte :
       std::string_view(reason.data(), std::min(reason.size(), longest_reason)))
    text << (byte >= ' ' && byte <= '~' ? std::string_view(&byte, 1) : "?");
  return text;
}

// What a ping's output and its end mean: "ok", "ok 12.3 ms" or "fail REASON".
// `patience` is the time that it was given, if it had to be ended.
Text judge(std::string_view output, int status, const char *patience) {
  const std::string_view time = round_trip_time(output);
  // oping, interrupted before it could send anything, exits 0.
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
      (!time.empty() || output.find(" 0 received") == output.npos))
    return time.empty() ? Text() << "ok" : Text() << "ok " << time << " ms";
  const std::string_view reason = find_reason(output);
  if (!reason.empty())
    return failure(reason);
  if (patience != nullptr)
    return failure(Text() << "no answer in " << patience << " s");
  if (WIFSIGNALED(status))
    return failure(Text() << "killed by signal " << WTERMSIG(status));
  return failure(Text() << "exit status " << WEXITSTATUS(status));
}

// COMMAND -c 1 HOST, and where its first word was found.
struct Command {
  const char *path = nullptr;
  char **words = nullptr;
  char **host = nullptr; // the last of the words
};

struct Ping {
  const char *host;
  pid_t pid;         // 0: none that has not been waited for
  Descriptor output; // none: the ping has had its line, whatever it prints
};

// The pings of all hosts. Each leads a process group of its own. What is left
// of the group is killed when the ping has ended, and before its PID can be
// another's. One that even SIGKILL does not end (a hung driver) stands for its
// host's ping in each cycle, until it has gone: a host never has two.
class Pings {
public:
  Pings(Log &log, const Options &options, const Command &command,
        const Descriptor &null)
      : log_(log), options_(options), command_(command), null_(null) {
    const int count = options.host_count;
    pings_ = static_cast<Ping *>(allocate(count, sizeof *pings_));
    for (int i = 0; i < count; ++i)
      new (&pings_[i]) Ping{options.hosts[i], 0, Descriptor()};
    // Each ping in flight takes a descriptor, and then some for the rest.
    if (getrlimit(RLIMIT_NOFILE, &callers_limit_) == 0 &&
        callers_limit_.rlim_cur < rlim_t(count) + 16) {
      rlimit raised = callers_limit_;
      raised.rlim_cur = raised.rlim_max;
      limit_raised_ = setrlimit(RLIMIT_NOFILE, &raised) == 0;
    }
  }

  void start() {
    for (Ping &ping : *this)
      if (ping.pid == 0)
        start(ping);
      else
        give_up(ping);
  }

  // Waits until then, or until it is to stop, and collects pings that end.
  void wait_until(int64_t time) { collect_until(time, false); }

  // Ends the pings in flight. They have failed, unless it is we who stop.
  void finish() {
    if (stop_requested)
      for (Ping &ping : *this)
        ping.output.reset();
    // SIGINT makes a ping print its statistics. Not all of them heed it.
    for (int number : {stop_requested ? SIGKILL : SIGINT, SIGKILL}) {
      for (const Ping &ping : *this)
        if (ping.pid != 0)
          (void)kill(-ping.pid, number);
      collect_until(now() + std::min(options_.interval_ns / 4, most_grace_ns),
                    true);
    }
    for (Ping &ping : *this)
      if (ping.output.get() != -1)
        give_up(ping);
  }

  // Waits for those that were killed and have not gone yet.
  void drain() { collect_until(now() + second_ns / 2, true); }

  // For `for (Ping &ping : pings)`.
  Ping *begin() const { return pings_; }
  Ping *end() const { return pings_ + options_.host_count; }

private:
  void start(Ping &ping) {
    int ends[2] = {-1, -1};
    const bool made = pipe(ends) == 0;
    Descriptor output(ends[0]);
    const Descriptor input(ends[1]);
    pid_t pid = -1;
    if (!made || fcntl(ends[0], F_SETFD, FD_CLOEXEC) == -1 ||
        fcntl(ends[0], F_SETFL, O_NONBLOCK) == -1 ||
        fcntl(ends[1], F_SETFL, O_NONBLOCK) == -1 || (pid = fork()) == -1) {
      const char *const reason = strerror(errno);
      add_result(ping, failure(Text() << command_.words[0] << ": " << reason));
      return;
    }
    if (pid == 0)
      exec_ping(ping.host, ends[1]);
    (void)setpgid(pid, pid); // here and there: one of them is the first
    ping.pid = pid;
    ping.output = std::move(output);
    ++in_flight_;
  }

  [[noreturn]] void exec_ping(const char *host, int output) const {
    *command_.host = const_cast<char *>(host); // which exec leaves alone
    sigset_t none;
    sigemptyset(&none);
    (void)setpgid(0, 0);
    if (dup2(null_.get(), STDIN_FILENO) != -1 &&
        dup2(output, STDOUT_FILENO) != -1 &&
        dup2(output, STDERR_FILENO) != -1 && close(output) == 0 &&
        (!limit_raised_ || setrlimit(RLIMIT_NOFILE, &callers_limit_) == 0) &&
        sigprocmask(SIG_SETMASK, &none, nullptr) == 0)
      (void)execv(command_.path, command_.words);
    // It stands in the log as the line with which the ping explains itself.
    print(STDERR_FILENO, {command_.words[0], ": ", strerror(errno), "\n"});
    _exit(127);
  }

  // Waits until then and collects pings that end. Returns before when it is to
  // stop, or, where the pings are being ended, when the last of them has.
  void collect_until(int64_t until, bool ending) {
    for (;;) {
      const int64_t left = until - now();
      if (left <= 0 || (ending ? in_flight_ == 0 : stop_requested != 0))
        return;
      const timespec timeout = {static_cast<time_t>(left / second_ns),
                                static_cast<long>(left % second_ns)};
      sigset_t none;
      sigemptyset(&none);
      if (pselect(0, nullptr, nullptr, nullptr, &timeout, &none) == -1 ||
          in_flight_ > 0)
        collect(ending ? options_.interval : nullptr);
      if (hangup_received)
        log_.follow(false);
      hangup_received = 0;
    }
  }

  void collect(const char *patience) {
    for (;;) {
      siginfo_t ended = {};
      if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == -1 ||
          ended.si_pid == 0)
        return;
      Ping *ping = find(ended.si_pid); // or an orphan, where we are PID 1
      if (ping != nullptr)
        (void)kill(-ping->pid, SIGKILL);
      int status = 0;
      if (waitpid(ended.si_pid, &status, 0) == -1)
        return;
      if (ping == nullptr)
        continue;
      if (ping->output.get() != -1) {
        const ssize_t size = read(ping->output.get(), output_, sizeof output_);
        const std::string_view output(output_, std::max<ssize_t>(size, 0));
        add_result(*ping, judge(output, status, patience));
      }
      ping->pid = 0;
      ping->output.reset();
      --in_flight_;
    }
  }

  void give_up(Ping &ping) {
    add_result(ping, judge({}, SIGKILL, options_.interval));
    ping.output.reset();
  }

  void add_result(const Ping &ping, const Text &verdict) {
    log_.add(result_label, Text() << ping.host << " " << verdict);
  }

  // Pings mostly end in the order in which they started: the search goes on
  // where the last one ended.
  Ping *find(pid_t pid) {
    for (int tries = 0; tries < options_.host_count; ++tries) {
      Ping &ping = pings_[next_];
      next_ = (next_ + 1) % options_.host_count;
      if (ping.pid == pid)
        return &ping;
    }
    return nullptr;
  }

  Log &log_;
  const Options &options_;
  const Command &command_;
  const Descriptor &null_;
  rlimit callers_limit_;
  bool limit_raised_ = false;
  Ping *pings_;
  int next_ = 0; // where the next one to end is likely to be
  int in_flight_ = 0;
  char output_[4096]; // more than pings print for one packet
};

// The cycles. Returns when there were enough of them or it is to stop.
void run(const Options &options, Log &log, Pings &pings) {
  const int64_t begin = now();
  const int64_t interval = options.interval_ns;
  int64_t cycle = 0;
  for (int64_t left = options.count; left > 0 && !stop_requested; --left) {
    log.follow(true);
    log.add_time(start_label);
    pings.start();
    pings.wait_until(begin + (cycle + 1) * interval);
    pings.finish();
    log.add_time(end_label);
    // Usually this is the next one, which begins now. When we were stopped for
    // a while, it is the nearest: a ping has half its time at least.
    cycle = std::max(cycle + 1, (now() - begin + interval / 2) / interval);
    if (left > 1)
      pings.wait_until(begin + cycle * interval);
  }
  pings.drain();
}

bool is_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

// The value of an option: a decimal number, in units of 1 / `one`.
int64_t parse_number(const char *option, const char *word, int64_t one,
                     int64_t low, int64_t high) {
  int64_t value = 0;
  const char *next = word;
  for (; is_digit(*next) && value <= high; ++next) // so it cannot overflow
    value = value * 10 + (*next - '0') * one;
  if (*next == '.' && one > 1)
    for (int64_t place = one / 10; is_digit(*++next); place /= 10)
      value += (*next - '0') * place;
  if (next == word || *next != '\0' || value < low || value > high)
    refuse(option, word);
  return value;
}

bool is_host(std::string_view word) {
  return !word.empty() && word.size() <= longest_host && word.front() != '-' &&
         std::all_of(word.begin(), word.end(),
                     [](char byte) { return byte > ' ' && byte <= '~'; });
}

Options parse_options(int argc, char **argv) {
  Options options;
  opterr = 0;
  for (int option; (option = getopt(argc, argv, ":c:e:fhi:ko:s:V")) != -1;) {
    const char name[] = {'-', static_cast<char>(optopt), '\0'};
    switch (option) {
    case 'c':
      options.count = parse_number("-c", optarg, 1, 1, most_number);
      break;
    case 'e': options.command = optarg; break;
    case 'f': options.foreground = true; break;
    case 'h': answer({usage});
    case 'i':
      options.interval = optarg;
      options.interval_ns = parse_number("-i", optarg, second_ns,
                                         second_ns / 100, 86400 * second_ns);
      break;
    case 'k': options.kill = true; break;
    case 'o': options.file = optarg; break;
    case 's':
      options.limit = 1024 * parse_number("-s", optarg, 1, 0, most_number);
      break;
    case 'V': answer({"pinglog ", version, "\n"});
    case ':': refuse("option without a value", name);
    default: refuse("option", name);
    }
  }
  if (optind < argc) { // argc can be 0
    options.hosts = argv + optind;
    options.host_count = argc - optind;
  }
  for (int i = optind; i < argc; ++i)
    if (options.kill || !is_host(argv[i]))
      refuse(options.kill ? "-k with host" : "host", argv[i]);
  if (options.command[strspn(options.command, blanks)] == '\0')
    refuse("-e", options.command);
  const bool to_stdout = strcmp(options.file, "-") == 0;
  if (options.file[0] == '\0' ||
      (to_stdout && (options.kill || !options.foreground)))
    refuse("-o", options.file);
  if (!to_stdout)
    options.file = absolute(options.file);
  return options;
}

bool is_program(const char *file) {
  struct stat status;
  if (access(file, X_OK) == -1 || stat(file, &status) == -1)
    return false;
  errno = EACCES; // as exec has it of a directory
  return S_ISREG(status.st_mode);
}

// Searches PATH once, before the directory changes. An empty entry is not the
// current directory, as it is for execvp().
const char *find_command(const char *word) {
  if (strchr(word, '/') != nullptr) {
    if (!is_program(word))
      die(word, strerror(errno));
    return absolute(word);
  }
  const char *path = getenv("PATH");
  char *rest = concatenate({path != nullptr ? path : default_path});
  while (const char *directory = strtok(rest, ":")) {
    const char *file = concatenate({directory, "/", word});
    if (is_program(file))
      return absolute(file);
    rest = nullptr;
  }
  die(word, strerror(ENOENT));
}

Command make_command(const char *text) {
  static char option[] = "-c";
  static char count[] = "1";
  Command command;
  command.words = static_cast<char **>(
      allocate(strlen(text) / 2 + 5, sizeof *command.words));
  char **word = command.words;
  for (char *rest = concatenate({text}); (*word = strtok(rest, blanks));
       rest = nullptr)
    ++word;
  *word++ = option;
  *word++ = count;
  command.host = word;
  command.path = find_command(command.words[0]);
  return command;
}

// Opens the log, or says who has it.
void open_log(Log &log, const char *path) {
  for (int tries = 0; !log.attach(); ++tries) {
    if (errno == ELOOP || errno == ENOTSUP)
      die(path, "not a regular file");
    if (errno != EAGAIN || tries == 100)
      die(path, strerror(errno));
    const pid_t writer = log.other_writer();
    if (writer != -1)
      die(path, Text() << "already written by PID " << writer);
    nap(); // it has gone meanwhile, or somebody else has locked the file
  }
}

// What -k does.
void stop_writer(const Log &log, const char *path) {
  pid_t writer = log.writer();
  if (writer == -1) { // it may have made a new file and not locked it yet
    nap();
    writer = log.writer();
  }
  if (writer == -1 && errno != ENOENT && errno != ESRCH)
    die(path, strerror(errno));
  if (writer <= 0)
    die(path, "no pinglog writes it here");
  if (kill(writer, SIGTERM) == -1 && errno != ESRCH)
    die(path, strerror(errno));
  (void)kill(writer, SIGCONT); // stopped, it would not see SIGTERM
  const int64_t asked = now();
  // First the lock goes, then the process, if its parent waits for it.
  while (log.writer() == writer ||
         (kill(writer, 0) == 0 && now() - asked < second_ns)) {
    if (now() - asked > 10 * second_ns)
      die(path, "its writer does not end");
    nap();
  }
}

// They come in while pselect() waits, and at no other time.
void catch_signals(std::initializer_list<int> numbers, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_NOCLDSTOP;
  sigset_t caught;
  sigemptyset(&caught);
  for (int number : numbers) {
    (void)sigaction(number, &action, nullptr); // only unknown ones fail
    sigaddset(&caught, number);
  }
  (void)sigprocmask(SIG_BLOCK, &caught, nullptr);
}

} // namespace

int main(int argc, char **argv) {
  const Options options = parse_options(argc, argv);
  struct sigaction hangup = {};
  (void)sigaction(SIGHUP, nullptr, &hangup);
  const bool nohup = hangup.sa_handler == SIG_IGN;
  const bool hangup_stops = options.foreground && !nohup;

  close_inherited_descriptors();
  const Descriptor null = open_standard_descriptors();
  if (null.get() == -1)
    die("/dev/null", strerror(errno));
  reset_signals();
  Log log(options.file, options.limit);
  if (options.kill) {
    stop_writer(log, options.file);
    return EXIT_SUCCESS;
  }
  const Command command = make_command(options.command);
  if (setenv("LC_ALL", "C", 1) == -1) // or else a ping translates `time=`
    die("LC_ALL", strerror(errno));
  tzset(); // which localtime_r() need not do

  Descriptor launcher;
  if (!options.foreground) {
    const pid_t daemon = detach(launcher);
    if (daemon > 0) {
      print(STDOUT_FILENO, {Text() << "Daemon PID " << daemon << "\n"});
      return EXIT_SUCCESS;
    }
    if (daemon == -1 && errno != 0)
      die("detach", strerror(errno));
    if (daemon == -1)
      return EXIT_FAILURE; // the daemon has said why
  }

  catch_signals({SIGTERM, SIGINT, SIGQUIT}, on_stop);
  catch_signals({SIGHUP}, hangup_stops ? on_stop : on_hangup);
  catch_signals({SIGCHLD, SIGPIPE, SIGXFSZ, SIGALRM, SIGUSR1, SIGUSR2},
                on_other);
  open_log(log, options.file);
  Pings pings(log, options, command, null);
  if (!options.foreground && !ready(std::move(launcher), null))
    die("/dev/null", strerror(errno));
  run(options, log, pings);
  const int64_t end = now();
  while (!log.flush()) { // it may be that the reader of a pipe is slow
    if (now() - end > second_ns / 4)
      die(options.file, "not all lines could be written");
    log.follow(false); // or it can be opened now
    nap();
  }
  return EXIT_SUCCESS;
}
