// pinglog.cpp - logs, every few seconds, whether hosts answer ping.
//
// A cycle: the start line, one ping for each host, the result lines as the
// pings end, the end line. Cycles start on a grid of the monotonic clock.
//
// A ping writes to a pipe that is read when it has ended: until then the kernel
// holds the little that it prints, and drops what is too much. So there is
// nothing to wake up for but an end, a signal or the grid.
//
// Only a signal, -c, or nobody who reads its standard output ends it. What a
// ping fails of is in its result line; what the log fails of is tried again.

#include "daemon.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <new>
#include <poll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <utility>

namespace {

constexpr int64_t second_ns = 1'000'000'000;
constexpr size_t longest_reason = 200;

constexpr char start_label[] = "start time---------:";
constexpr char result_label[] = "ping result--------:";
constexpr char end_label[] = "end of time--------:";
constexpr char lost_label[] = "lines lost---------:";

volatile sig_atomic_t stop_requested = 0;

void on_stop(int) { stop_requested = 1; }
void on_child(int) {} // it ends pselect()

[[noreturn]] void die(const char *object, const char *reason,
                      const char *hint = "") {
  (void)dprintf(STDERR_FILENO, "pinglog: %s: %s%s\n", object, reason, hint);
  exit(EXIT_FAILURE);
}

int64_t now() {
  timespec time = {};
  (void)clock_gettime(CLOCK_MONOTONIC, &time); // only unknown clocks fail
  return time.tv_sec * second_ns + time.tv_nsec;
}

bool is_visible(char byte) { return byte > ' ' && byte <= '~'; } // ASCII

// --- Options -----------------------------------------------------------------

constexpr char help[] =
    R"(usage: pinglog [-f] [-c n] [-e ping] [-i s] [-o file] [-s KiB] [host ...]
       pinglog -k [-o file] | -h | -V
Logs, every few seconds and for ever, whether hosts answer ping.

  host ...   the hosts to ping (default www.baidu.com)
  -c n       end after n cycles (default: never)
  -e ping    the command to run, `-c 1 HOST` behind it (default ping -n)
  -f         stay in the foreground (default: become a daemon)
  -i s       the interval in seconds, 0.01 to 86400 (default 3)
  -k         stop the pinglog that writes this log
  -o file    the log (default /home/ping.log); -f -o - is standard output
  -s KiB     rename a log of this size to FILE.0 (default 10240; 0: never)
  -h, -V     print this, the version

The log holds three lines a cycle, a result for each host, ok or fail:
  start time---------:Sun Nov 22 07:44:57 2026
  ping result--------:www.baidu.com ok 12.3 ms
  end of time--------:Sun Nov 22 07:45:00 2026
Stop it:        pinglog -k
Find failures:  grep ' fail ' /home/ping.log
)";
constexpr char default_log[] = "/home/ping.log";
constexpr const char *default_host = "www.baidu.com";
constexpr int64_t most_number = 1'000'000'000'000;

struct Options {
  const char *command = "ping -n";
  char **words;     // COMMAND -c 1 HOST
  char **host_word; // the last of them
  const char *path; // where the first of them was found
  int64_t count = INT64_MAX;
  const char *file = default_log; // nullptr: standard output
  bool foreground = false;
  int64_t interval_ns = 3 * second_ns;
  bool kill = false;
  int64_t limit = int64_t{10240} * 1024; // bytes, 0: none
  const char *const *hosts = &default_host;
  int host_count = 1;
};

[[noreturn]] void refuse(const char *what, const char *value) {
  const int usage = strstr(help, "Logs") - help; // its first two lines
  (void)dprintf(STDERR_FILENO, "pinglog: bad %s: '%s'\n%.*s-h explains\n", what,
                value, usage, help);
  exit(2);
}

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// A decimal number, in units of 1 / `one`. strtod() would add 6 KiB, and take
// blanks, signs, exponents and names of numbers.
int64_t decimal(const char *option, int64_t one, int64_t low, int64_t high) {
  int64_t value = 0;
  const char *next = optarg;
  for (; is_digit(*next) && value <= high; ++next) // so it cannot overflow
    value = value * 10 + (*next - '0') * one;
  if (*next == '.' && one > 1)
    for (int64_t place = one / 10; is_digit(*++next); place /= 10)
      value += (*next - '0') * place;
  if (next == optarg || *next != '\0' || value < low || value > high)
    refuse(option, optarg);
  return value;
}

bool is_host(const char *word) {
  const size_t length = strlen(word);
  return length > 0 && length <= 255 && // as in the DNS
         word[0] != '-' && std::all_of(word, word + length, is_visible);
}

// Zeroed, and only for the start: what it returns is never freed.
template <typename Type> Type *allocate(size_t count) {
  void *memory = calloc(count, sizeof(Type));
  if (memory == nullptr)
    die("memory", strerror(errno));
  return static_cast<Type *>(memory);
}

char *join(const char *first, const char *between, const char *second) {
  const size_t size = strlen(first) + strlen(between) + strlen(second) + 1;
  char *whole = allocate<char>(size);
  (void)snprintf(whole, size, "%s%s%s", first, between, second);
  return whole;
}

// The daemon will be in another directory.
const char *absolute(const char *name) {
  char directory[PATH_MAX];
  if (name[0] == '/')
    return name;
  if (getcwd(directory, sizeof directory) == nullptr)
    die(name, strerror(errno));
  return join(directory, "/", name);
}

// Searches PATH once, before the directory changes. An empty entry is not the
// current directory, as it is for execvp().
const char *find_command(const char *word) {
  const char *path = getenv("PATH");
  char *rest =
      join(path != nullptr ? path : "/usr/sbin:/usr/bin:/sbin:/bin", "", "");
  const char *file = strchr(word, '/') != nullptr ? word : "";
  while (access(file, X_OK) == -1) {
    const char *directory = file == word ? nullptr : strtok(rest, ":");
    if (directory == nullptr)
      die(word, strerror(errno));
    file = join(directory, "/", word);
    rest = nullptr;
  }
  return absolute(file);
}

void prepare_command(Options &options) {
  char *rest = join(options.command, " -c", " 1");
  char **word = allocate<char *>(strlen(rest)); // more than it has words
  options.words = word;
  for (; (*word = strtok(rest, " \t")) != nullptr; ++word)
    rest = nullptr;
  if (word == options.words + 2) // -c 1 alone
    refuse("-e", options.command);
  options.host_word = word;
  options.path = find_command(options.words[0]);
}

Options parse_options(int argc, char **argv) {
  Options options;
  opterr = 0;
  // getopt() takes `--word` for an option `-` with a value.
  for (int option; (option = getopt(argc, argv, ":c:e:fhi:ko:s:V-:")) != -1;) {
    const char name[] = {'-', static_cast<char>(optopt), '\0'};
    if (option == '-' && strcmp(optarg, "help") == 0)
      option = 'h';
    if (option == '-' && strcmp(optarg, "version") == 0)
      option = 'V';
    switch (option) {
    case 'c': options.count = decimal("-c", 1, 1, most_number); break;
    case 'e': options.command = optarg; break;
    case 'f': options.foreground = true; break;
    case 'h': exit(dprintf(STDOUT_FILENO, "%s", help) < 0);
    case 'i':
      options.interval_ns =
          decimal("-i", second_ns, second_ns / 100, 86400 * second_ns);
      break;
    case 'k': options.kill = true; break;
    case 'o': options.file = optarg; break;
    case 's': options.limit = 1024 * decimal("-s", 1, 0, most_number); break;
    case 'V': exit(dprintf(STDOUT_FILENO, "pinglog 1.0\n") < 0);
    case ':': refuse("option without a value", name);
    case '-': refuse("option", argv[optind - 1]);
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
  const bool to_stdout = strcmp(options.file, "-") == 0;
  if (options.file[0] == '\0' ||
      (to_stdout && (options.kill || !options.foreground)))
    refuse("-o", options.file);
  options.file = to_stdout ? nullptr : absolute(options.file);
  return options;
}

// --- What a ping said --------------------------------------------------------

// What stands behind the host: " ok", " ok 12.3 ms" or " fail REASON".
struct Verdict {
  char text[sizeof " fail " + longest_reason];
};

// True of lines that pings print in any case, and of those nobody can read.
bool is_usual(const char *line) {
  for (const char *beginning : {"PING", "Ping", "--- ", "rtt", "round-trip"})
    if (strncmp(line, beginning, strlen(beginning)) == 0)
      return true;
  return strstr(line, "socktype:") != nullptr ||
         line[strspn(line, " ?")] == '\0';
}

// The line that explains best: the first unusual one, or else the statistics.
const char *find_reason(char *output) {
  const char *statistics = nullptr;
  for (char *line; (line = strtok(output, "\n")) != nullptr; output = nullptr)
    if (strstr(line, "packets transmitted") != nullptr)
      statistics = line;
    else if (!is_usual(line))
      return line;
  return statistics;
}

// What a ping's output and its end mean. The output, with a NUL behind it, is
// made printable: whoever answers a ping has written a part of it.
// `patience_ns` is the time after which the ping had to be ended, 0 if it had
// not.
Verdict judge(char *output, ssize_t size, int status, int64_t patience_ns) {
  Verdict verdict = {" ok"};
  char *const text = verdict.text;
  constexpr size_t room = sizeof verdict.text;
  for (char *byte = output; byte < output + size; ++byte)
    if (!is_visible(*byte) && *byte != ' ' && *byte != '\n')
      *byte = '?';
  // `time=12.3 ms`, where there is one.
  const char *time = strstr(output, "time=");
  time = time != nullptr ? time + strlen("time=") : "";
  const int digits = strspn(time, "0123456789.");
  const bool timed = digits > 0 && digits < 16 && time[0] != '.' &&
                     strncmp(time + digits, " ms", 3) == 0;
  // oping, interrupted before it could send anything, exits 0.
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0 &&
      (timed || strstr(output, " 0 received") == nullptr)) {
    if (timed)
      (void)snprintf(text, room, " ok %.*s ms", digits, time);
    return verdict;
  }
  if (const char *reason = find_reason(output))
    (void)snprintf(text, room, " fail %s", reason);
  else if (patience_ns > 0)
    (void)snprintf(text, room, " fail no answer in %g s", patience_ns / 1e9);
  else if (WIFSIGNALED(status))
    (void)snprintf(text, room, " fail killed by signal %d", WTERMSIG(status));
  else
    (void)snprintf(text, room, " fail exit status %d", WEXITSTATUS(status));
  return verdict;
}

// --- The log -----------------------------------------------------------------

// No link is followed, no terminal acquired, no FIFO waited for.
constexpr int careful = O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK;

// The PID of the process that has locked the file for writing, 0 where it has
// none here (a container), or -1 with errno of open(2), ESRCH if there is none.
// Locks for reading do not count: whoever may read the log can take one.
pid_t writer_of(const char *path) {
  const Descriptor file(open(path, O_RDONLY | careful));
  if (file.get() == -1)
    return -1;
  struct flock lock = {}; // the whole file
  lock.l_type = F_RDLCK;
  const bool asked = fcntl(file.get(), F_GETLK, &lock) == 0;
  errno = ESRCH;
  return asked && lock.l_type != F_UNLCK ? std::max<pid_t>(lock.l_pid, 0) : -1;
}

// The log file, or standard output, and three promises about it.
// One writer: a file that is open is locked, by a record lock on itself, which
// goes with a kill. Closing any descriptor of a file drops its lock (POSIX,
// fcntl): an old file is closed before a new one, maybe the same, is opened.
// Whole lines: a part of a line is taken back, also one that another has left.
// No silent loss: what cannot be written waits in the queue, and what does not
// fit in there is counted. Only an end loses it, and with -f says so.
class Log {
public:
  explicit Log(const char *path)
      : path_(path), file_(path == nullptr ? STDOUT_FILENO : -1) {}

  // Makes sure that file_ is the one that has the name now, open and locked, or
  // that standard output takes a line. False with errno of open(2), ENOTSUP if
  // it is no regular file, EAGAIN if another has locked it or the reader
  // stalls.
  [[nodiscard]] bool get_ready(int patience_ms) {
    struct stat status;
    pollfd output = {STDOUT_FILENO, POLLOUT, 0};
    errno = EAGAIN;
    if (is_stdout()) // a pipe that is not read must not stall the pings
      return poll(&output, 1, patience_ms) == 1;
    if (is_named(file_, status))
      return true;
    file_.reset();
    // 0644 in the foreground too, where the umask is the caller's.
    const mode_t mask = umask(0);
    Descriptor file(open(path_, O_RDWR | O_CREAT | O_APPEND | careful, 0644));
    (void)umask(mask);
    if (file.get() == -1)
      return false;
    // A file system without locks is no reason to log nothing.
    struct flock lock = {}; // the whole file
    lock.l_type = F_WRLCK;
    const bool refused = fcntl(file.get(), F_SETLK, &lock) == -1 &&
                         (errno == EAGAIN || errno == EACCES);
    // Whoever had it locked may just have renamed it.
    const bool is_ours = !refused && is_named(file, status);
    errno = is_ours ? ENOTSUP : EAGAIN;
    if (!is_ours || !S_ISREG(status.st_mode) || !end_torn_line(file))
      return false;
    file_.take(file);
    return true;
  }

  // Renames a file of that size, if it is not 0, so that the next line makes a
  // new one. Where it may not be renamed, it grows on.
  void rotate(int64_t limit) const {
    char old_path[PATH_MAX + sizeof ".0"];
    struct stat status;
    if (limit == 0 || is_stdout() || fstat(file_.get(), &status) == -1 ||
        status.st_size < limit || !is_named(file_, status))
      return;
    (void)snprintf(old_path, sizeof old_path, "%s.0", path_);
    (void)rename(path_, old_path);
  }

  void add(const char *label, const char *text, const char *rest = "") {
    const size_t room = sizeof queue_ - queued_;
    const size_t size =
        snprintf(queue_ + queued_, room, "%s%s%s\n", label, text, rest);
    // Behind a line that is lost all are, until their number can be written.
    if (lost_ > 0 || size >= room)
      ++lost_;
    else
      queued_ += size;
    (void)flush(0); // or the next line tries again
  }

  void add_time(const char *label) {
    char text[32] = ""; // ctime_r() wants 26
    const time_t seconds = time(nullptr);
    (void)ctime_r(&seconds, text);
    text[strcspn(text, "\n")] = '\0';
    add(label, text);
  }

  // Writes what waits. False with errno of get_ready() or write(2) if it waits
  // on.
  bool flush(int patience_ms) {
    for (;;) {
      if (queued_ == 0 && lost_ > 0)
        queued_ = snprintf(queue_, sizeof queue_, "%s%ld\n", lost_label,
                           std::exchange(lost_, 0));
      if (queued_ == 0)
        return true;
      if (!get_ready(patience_ms))
        return false;
      const auto *end = static_cast<char *>(memchr(queue_, '\n', queued_));
      const ssize_t written = write_line(end + 1 - queue_);
      if (written <= 0)
        return false;
      queued_ -= written;
      (void)memmove(queue_, queue_ + written, queued_);
    }
  }

private:
  bool is_stdout() const { return path_ == nullptr; }

  // True if the file is the one that has the name now.
  bool is_named(const Descriptor &file, struct stat &status) const {
    struct stat named;
    return fstat(file.get(), &status) == 0 && lstat(path_, &named) == 0 &&
           status.st_dev == named.st_dev && status.st_ino == named.st_ino;
  }

  // Returns how much of the queue's first line was written, or -1 with errno.
  ssize_t write_line(ssize_t size) const {
    const ssize_t written = write(file_.get(), queue_, size);
    if (written == -1 && errno == EPIPE && is_stdout())
      stop_requested = 1; // nobody will ever read on
    if (written <= 0 || written == size)
      return written;
    // A part of it is taken back. A pipe has no position, so that the length is
    // negative and refused: there the rest follows.
    const off_t before = lseek(file_.get(), 0, SEEK_CUR) - written;
    if (ftruncate(file_.get(), before) == -1)
      return written;
    (void)lseek(file_.get(), before, SEEK_SET);
    errno = ENOSPC; // or a limit: only the next write would tell
    return -1;
  }

  // What a killed writer, or the end of power, has left: an unfinished line of
  // ours is cut off, text of others is ended. False with errno of the call.
  static bool end_torn_line(const Descriptor &file) {
    char tail[512]; // more than a label, a host and a reason
    const off_t size = lseek(file.get(), 0, SEEK_END);
    const off_t from = std::max<off_t>(size - off_t{sizeof tail}, 0);
    const ssize_t length = pread(file.get(), tail, sizeof tail, from);
    if (size == -1 || length == -1)
      return false;
    ssize_t whole = length; // without the torn line
    while (whole > 0 && tail[whole - 1] != '\n')
      --whole;
    const size_t torn = length - whole;
    if (torn == 0)
      return true;
    for (const char *label : {start_label, result_label, end_label, lost_label})
      if (torn < sizeof tail &&
          memcmp(tail + whole, label, std::min(torn, strlen(label))) == 0 &&
          ftruncate(file.get(), from + whole) == 0)
        return true;
    return write(file.get(), "\n", 1) == 1;
  }

  const char *const path_; // nullptr: standard output
  Descriptor file_;
  long lost_ = 0; // lines, behind those in the queue
  size_t queued_ = 0;
  char queue_[64 * 1024];
};

// --- The pings ---------------------------------------------------------------

struct Ping {
  const char *host;
  pid_t pid;         // 0: none that has not been waited for
  Descriptor output; // none: the ping has had its line, whatever it prints
};

bool is_in_flight(const Ping &ping) { return ping.output.get() != -1; }

// One ping for each host, leading a process group of its own. What is left of
// the group is killed when the ping has ended, before its PID can be another's.
// A ping that even SIGKILL does not end (a hung driver) stands for its host's
// in each cycle until it has gone: a host never has two.
class Pings {
public:
  Pings(Log &log, const Options &options, const Descriptor &null,
        const sigset_t &mask)
      : log_(log), options_(options), null_(null), mask_(mask),
        pings_(allocate<Ping>(options.host_count)) {
    for (int i = 0; i < options.host_count; ++i)
      new (&pings_[i]) Ping{options.hosts[i], 0, Descriptor()};
  }

  void start() {
    for (Ping &ping : *this)
      if (ping.pid == 0)
        start(ping);
      else
        report(ping, SIGKILL, options_.interval_ns);
  }

  // Waits until then and logs the pings that end, or until it is to stop. Where
  // they are being ended, after `patience_ns`, it waits as long as any is left.
  void wait_until(int64_t time, int64_t patience_ns = 0) {
    for (;;) {
      const int64_t left = time - now();
      const bool done = patience_ns == 0
                            ? stop_requested != 0
                            : std::none_of(begin(), end(), is_in_flight);
      if (left <= 0 || done)
        return;
      const timespec timeout = {static_cast<time_t>(left / second_ns),
                                static_cast<long>(left % second_ns)};
      // Whatever it returns: one SIGCHLD can stand for many pings.
      (void)pselect(0, nullptr, nullptr, nullptr, &timeout, &mask_);
      collect(patience_ns);
    }
  }

  // Ends the pings in flight. They have failed, unless it is we who stop.
  void finish() {
    // SIGINT makes a ping print its statistics. Not all of them heed it.
    int64_t grace_ns = std::min(options_.interval_ns / 4, second_ns / 10);
    for (int number : {SIGINT, SIGKILL}) {
      for (const Ping &ping : *this)
        if (ping.pid != 0)
          (void)kill(-ping.pid, number);
      wait_until(now() + grace_ns, options_.interval_ns);
      grace_ns = second_ns / 2;
    }
    for (Ping &ping : *this)
      if (is_in_flight(ping))
        report(ping, SIGKILL, options_.interval_ns);
  }

private:
  Ping *begin() const { return pings_; }
  Ping *end() const { return pings_ + options_.host_count; }

  void start(Ping &ping) {
    Descriptor output;
    Descriptor input;
    const bool made = open_pipe(output, input) &&
                      fcntl(output.get(), F_SETFL, O_NONBLOCK) != -1 &&
                      fcntl(input.get(), F_SETFL, O_NONBLOCK) != -1;
    const pid_t pid = made ? fork() : -1;
    if (pid == -1)
      return report(ping, 127 << 8, 0, errno);
    if (pid == 0)
      exec_ping(ping.host, input.get());
    (void)setpgid(pid, pid); // here and there: one of them is the first
    ping.pid = pid;
    ping.output.take(output);
  }

  [[noreturn]] void exec_ping(const char *host, int output) const {
    *options_.host_word = const_cast<char *>(host); // which exec leaves alone
    sigset_t none;
    sigemptyset(&none);
    (void)setpgid(0, 0);
    if (dup2(null_.get(), STDIN_FILENO) != -1 &&
        dup2(output, STDOUT_FILENO) != -1 &&
        dup2(output, STDERR_FILENO) != -1 &&
        sigprocmask(SIG_SETMASK, &none, nullptr) == 0)
      (void)execv(options_.path, options_.words);
    // It stands in the log as the line with which the ping explains itself.
    (void)dprintf(STDERR_FILENO, "%s: %s\n", options_.words[0],
                  strerror(errno));
    _exit(127);
  }

  void collect(int64_t patience_ns) {
    for (;;) {
      siginfo_t ended = {};
      if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == -1 ||
          ended.si_pid == 0)
        return;
      const pid_t pid = ended.si_pid;
      Ping *const ping = std::find_if(
          begin(), end(), [pid](const Ping &each) { return each.pid == pid; });
      if (ping != end())
        (void)kill(-pid, SIGKILL);
      int status = 0;
      if (waitpid(pid, &status, 0) == -1)
        return;
      if (ping == end()) // inherited, as orphans are by PID 1
        continue;
      if (is_in_flight(*ping))
        report(*ping, status, patience_ns);
      ping->pid = 0;
    }
  }

  // Logs its result, read from what it printed, or the error for which there is
  // no ping. Nothing is said of those that are in flight as we stop.
  void report(Ping &ping, int status, int64_t patience_ns, int error = 0) {
    char output[4096] = ""; // more than pings print for one packet
    constexpr ssize_t most = sizeof output - 1;
    const ssize_t size = error == 0
                             ? read(ping.output.get(), output, most)
                             : snprintf(output, most, "%s: %s",
                                        options_.words[0], strerror(error));
    const Verdict verdict =
        judge(output, std::min(size, most), status, patience_ns);
    if (!stop_requested)
      log_.add(result_label, ping.host, verdict.text);
    ping.output.reset();
  }

  Log &log_;
  const Options &options_;
  const Descriptor &null_;
  const sigset_t &mask_; // while it waits
  Ping *const pings_;
};

// --- The cycles --------------------------------------------------------------

void run(const Options &options, Log &log, Pings &pings) {
  const int64_t begin = now();
  const int64_t interval = options.interval_ns;
  int64_t cycle = 0;
  for (int64_t left = options.count; left > 0 && !stop_requested; --left) {
    log.rotate(options.limit);
    log.add_time(start_label);
    pings.start();
    pings.wait_until(begin + (cycle + 1) * interval);
    pings.finish();
    log.add_time(end_label);
    // Usually this is the next one, which begins now. When we were stopped for
    // a while, it is the nearest: a ping has half its time at least.
    cycle = std::max(cycle + 1, (now() - begin + interval / 2) / interval);
    pings.wait_until(begin + cycle * interval);
  }
}

// --- Start and stop ----------------------------------------------------------

// Opens the log, or says who has it.
void open_log(Log &log, const char *path) {
  if (path == nullptr || log.get_ready(0))
    return;
  if (errno == ELOOP || errno == ENOTSUP)
    die(path, "not a regular file");
  if (errno != EAGAIN)
    die(path, strerror(errno), path == default_log ? " (use -o)" : "");
  const long writer = writer_of(path);
  if (writer <= 0)
    die(path, "locked, but by no pinglog that is seen from here");
  char reason[64];
  (void)snprintf(reason, sizeof reason, "already written by PID %ld", writer);
  die(path, reason, " (-k stops it)");
}

// What -k does.
int stop_writer(const char *path) {
  const pid_t writer = writer_of(path);
  if (writer <= 0)
    die(path, errno == EACCES ? strerror(EACCES) : "no pinglog writes it here");
  if (kill(writer, SIGTERM) == -1 && errno != ESRCH)
    die(path, strerror(errno));
  (void)kill(writer, SIGCONT); // stopped, it would not see SIGTERM
  for (int tries = 0; writer_of(path) == writer; ++tries) {
    if (tries == 1000)
      die(path, "its writer does not end");
    (void)poll(nullptr, 0, 10);
  }
  return EXIT_SUCCESS;
}

// These come in while pselect() waits with the mask that is returned, and at no
// other time; SIGTSTP too, for a terminal's user. All else stays blocked.
sigset_t catch_signals(bool hangup_stops) {
  sigset_t mask;
  sigfillset(&mask);
  (void)sigprocmask(SIG_SETMASK, &mask, nullptr);
  sigdelset(&mask, SIGTSTP);
  struct sigaction action = {};
  const int hangup = hangup_stops ? SIGHUP : SIGTERM;
  for (int number : {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, hangup}) {
    action.sa_handler = number == SIGCHLD ? on_child : on_stop;
    (void)sigaction(number, &action, nullptr);
    sigdelset(&mask, number);
  }
  return mask;
}

} // namespace

int main(int argc, char **argv) {
  Options options = parse_options(argc, argv);
  const bool nohup = signal(SIGHUP, SIG_DFL) == SIG_IGN;
  const Descriptor null = reset_process();
  if (null.get() == -1)
    die("/dev/null", strerror(errno));
  if (options.kill)
    return stop_writer(options.file);
  prepare_command(options);
  if (setenv("LC_ALL", "C", 1) == -1) // or else a ping translates `time=`
    die("LC_ALL", strerror(errno));
  tzset(); // which ctime_r() need not do

  Descriptor launcher;
  if (!options.foreground) {
    const long daemon = detach(launcher);
    if (daemon == -1 && errno != 0)
      die("detach", strerror(errno));
    if (daemon > 0)
      (void)dprintf(STDOUT_FILENO, "Daemon PID %ld\n", daemon);
    if (daemon != 0)
      return daemon == -1; // the daemon has said why
  }

  const sigset_t mask = catch_signals(options.foreground && !nohup);
  Log log(options.file);
  open_log(log, options.file);
  Pings pings(log, options, null, mask);
  if (!options.foreground && !ready(launcher, null))
    die("/dev/null", strerror(errno));
  run(options, log, pings);
  if (log.flush(250)) // ms, for a reader of standard output that is slow
    return EXIT_SUCCESS;
  if (errno != EPIPE) // who ends `pinglog -f -o - | head -1` knows the reason
    die(options.file != nullptr ? options.file : "standard output",
        strerror(errno));
  return EXIT_FAILURE;
}
