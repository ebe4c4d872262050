// pinglog.cpp - logs, every few seconds, whether hosts answer ping.
//
// A cycle: the start line, one ping for each host, a result line as each ping
// ends, the end line. The monotonic clock decides when a cycle starts.
//
// A ping writes to a pipe, which is read once the ping has ended: the kernel
// holds the little that a ping prints, and drops any excess. So pinglog wakes
// up only when a ping ends, a signal arrives or the next cycle is due.
//
// pinglog exits only on a signal, after -c cycles, when nobody reads its
// standard output any longer, or when another pinglog has replaced it. A ping's
// failure goes into its result line; a failed write is retried.

#include "daemon.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <new>
#include <optional>
#include <poll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <utility>
extern char **environ; // POSIX, environ: no header has to declare it

namespace {

constexpr int64_t second_ns = 1'000'000'000;
constexpr size_t longest_host = 255; // as in the DNS
constexpr size_t longest_reason = 200;
constexpr size_t longest_line = 1024; // an outage line has 560 bytes at most
constexpr char start_label[] = "start time---------:";
constexpr char result_label[] = "ping result--------:";
constexpr char outage_label[] = "ping outage--------:";
constexpr char end_label[] = "end of time--------:";
constexpr char lost_label[] = "lines lost---------:";
constexpr char rename_label[] = "log not renamed----:";
constexpr const char *labels[] = {start_label, result_label, outage_label,
                                  end_label,   lost_label,   rename_label};

volatile sig_atomic_t stop_requested = 0;

void on_stop(int) { stop_requested = 1; }
void on_child(int) {} // its arrival ends pselect()

[[noreturn]] void die(const char *object, const char *reason,
                      const char *hint = "") {
  (void)dprintf(STDERR_FILENO, "pinglog: %s: %s%s\n", object, reason, hint);
  exit(EXIT_FAILURE);
}

int64_t now() {
  timespec time;
  if (clock_gettime(CLOCK_MONOTONIC, &time) == -1)
    die("clock", strerror(errno));
  return time.tv_sec * second_ns + time.tv_nsec;
}

// As ctime(3) writes it: Sun Nov 22 07:44:57 2026. Valid until the next call.
const char *text_of(time_t time) {
  static char text[32]; // ctime_r() needs 26
  (void)ctime_r(&time, text);
  text[strcspn(text, "\n")] = '\0';
  return text;
}

bool is_visible(char byte) { return byte > ' ' && byte <= '~'; } // ASCII

// Called only at the start: nothing is ever freed.
template <typename Type> Type *allocate(size_t count) {
  void *memory = malloc(count * sizeof(Type));
  if (memory == nullptr)
    die("memory", strerror(errno));
  return static_cast<Type *>(memory);
}

char *join(const char *first, const char *second, const char *third = "") {
  const size_t size = strlen(first) + strlen(second) + strlen(third) + 1;
  char *whole = allocate<char>(size);
  (void)snprintf(whole, size, "%s%s%s", first, second, third);
  return whole;
}

// The daemon will be in another directory.
const char *absolute(const char *name) {
  if (name[0] == '/')
    return name;
  char directory[4096]; // not every system has PATH_MAX
  if (getcwd(directory, sizeof directory) == nullptr)
    die(name, strerror(errno));
  return join(directory, "/", name);
}

constexpr char help[] =
    R"(usage: pinglog [-f] [-c n] [-e ping] [-i s] [-o file] [-q n] [-s KiB] [host...]
       pinglog -k [-o file] | -h | -V
Logs, every few seconds and forever, whether hosts answer ping.

  host ...   the hosts to ping (default www.baidu.com)
  -c n       exit after n cycles (default: never)
  -e ping    the command to run; `-c 1 HOST` is appended (default ping -n)
  -f         stay in the foreground (default: become a daemon)
  -i s       interval and timeout in seconds, 0.01 to 86400 (default 3)
  -k         stop the pinglog that writes this log
  -o file    the log (default /home/ping.log); -f -o - is standard output
  -q n       log only changes, and every n-th cycle in full (default 1)
  -s KiB     size limit of file and file.0 together (default 20480; 0: none)
  -h, -V     print this help, or the version

Two failures of a host in a row begin an outage, which has lines of its own:
  grep -ahs 'was down' /home/ping.log.0 /home/ping.log
)";
constexpr char version[] = "pinglog 2.0\n";
constexpr char default_log[] = "/home/ping.log";
constexpr const char *default_host = "www.baidu.com";
constexpr int64_t largest_number = 1'000'000'000'000;

struct Options {
  const char *ping = "ping -n";
  int64_t count = INT64_MAX;
  const char *file = default_log;
  bool to_stdout = false; // and not to the file
  bool foreground = false;
  int64_t interval_ns = 3 * second_ns;
  bool kill = false;
  int64_t full_every = 1;
  int64_t limit = int64_t{20480} * 1024; // bytes, 0: none
  const char *const *hosts = &default_host;
  int host_count = 1;
};

// Prints only the first line of the advice.
[[noreturn]] void refuse(const char *what, const char *word,
                         const char *advice) {
  (void)dprintf(STDERR_FILENO, "pinglog: %s: '%s'\n%.*s\n", what, word,
                static_cast<int>(strcspn(advice, "\n")), advice);
  exit(2);
}

// The advice is the option's own line of the help.
[[noreturn]] void refuse_value(const char *option, const char *value) {
  const char *const line = strstr(help, join("\n  ", option, " "));
  refuse(join("bad ", option), value, line + strlen("\n  "));
}

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// The option's value times `one`. strtod() would add 6 KiB, and accept blanks,
// signs, exponents and names of numbers.
int64_t decimal(const char *option, int64_t one, int64_t low, int64_t high) {
  int64_t value = 0;
  const char *next = optarg;
  for (; is_digit(*next) && value <= high; ++next) // so it cannot overflow
    value = value * 10 + (*next - '0') * one;
  if (*next == '.' && one > 1)
    for (int64_t place = one / 10; is_digit(*++next); place /= 10)
      value += (*next - '0') * place;
  if (next == optarg || *next != '\0' || value < low || value > high)
    refuse_value(option, optarg);
  return value;
}

void check_host(const char *word) {
  const size_t length = strlen(word);
  if (word[0] == '-')
    refuse("bad host", word, "options come before hosts");
  if (length == 0 || length > longest_host ||
      !std::all_of(word, word + length, is_visible))
    refuse("bad host", word, "a host is 1 to 255 visible ASCII characters");
}

[[noreturn]] void print_and_exit(const char *text) {
  exit(dprintf(STDOUT_FILENO, "%s", text) < 0);
}

Options parse_options(int argc, char **argv) {
  Options options;
  opterr = 0;
  // Some getopt()s move the hosts to the end. None does if it is called only
  // for words that begin with '-'.
  while (optind < argc && argv[optind][0] == '-') {
    const char *const word = argv[optind];
    // Not every getopt() accepts these words.
    if (strcmp(word, "--help") == 0)
      print_and_exit(help);
    if (strcmp(word, "--version") == 0)
      print_and_exit(version);
    const int option = getopt(argc, argv, ":c:e:fhi:ko:q:s:V");
    if (option == -1)
      break;
    switch (option) {
    case 'c': options.count = decimal("-c", 1, 1, largest_number); break;
    case 'e': options.ping = optarg; break;
    case 'f': options.foreground = true; break;
    case 'h': print_and_exit(help);
    case 'i':
      options.interval_ns =
          decimal("-i", second_ns, second_ns / 100, 86400 * second_ns);
      break;
    case 'k': options.kill = true; break;
    case 'o': options.file = optarg; break;
    case 'q': options.full_every = decimal("-q", 1, 1, largest_number); break;
    case 's': options.limit = 1024 * decimal("-s", 1, 0, largest_number); break;
    case 'V': print_and_exit(version);
    case ':': refuse("bad option", word, "it needs a value");
    default: refuse("bad option", word, "pinglog -h lists the options");
    }
  }
  if (optind < argc) { // argc can be 0
    options.hosts = argv + optind;
    options.host_count = argc - optind;
  }
  if (options.kill && optind < argc)
    refuse("bad host", argv[optind], "-k takes no host");
  std::for_each(options.hosts, options.hosts + options.host_count, check_host);
  options.to_stdout = strcmp(options.file, "-") == 0;
  if (options.to_stdout && (options.kill || !options.foreground))
    refuse("bad -o", options.file, "-o - needs -f, and does not go with -k");
  options.file = options.to_stdout ? "standard output" : absolute(options.file);
  return options;
}

// What execv() needs to run a ping.
struct Command {
  const char *path; // the file of the first word
  char **words;     // COMMAND -c 1 HOST
  char **host_word; // the last of them, set in the child
};

// A directory can be executable too. Returns false with errno.
bool is_command(const char *file) {
  struct stat status;
  if (stat(file, &status) == -1)
    return false;
  errno = EACCES; // as execv() says it
  return S_ISREG(status.st_mode) && access(file, X_OK) == 0;
}

// Searches PATH once, before the directory changes.
const char *find_command(const char *word) {
  const char *path = getenv("PATH");
  char *rest = join(path != nullptr ? path : "/usr/bin:/sbin:/bin", "");
  const char *file = strchr(word, '/') != nullptr ? word : "";
  while (!is_command(file)) {
    const char *directory = file == word ? nullptr : strtok(rest, ":");
    if (directory == nullptr)
      die(word, strerror(errno), " (use -e)");
    file = join(directory, "/", word);
    rest = nullptr;
  }
  return absolute(file);
}

Command prepare_command(const char *text) {
  char *rest = join(text, " -c 1");
  char **const words = allocate<char *>(strlen(rest)); // more than needed
  char **word = words;
  for (; (*word = strtok(rest, " \t")) != nullptr; ++word)
    rest = nullptr;
  if (word == words + 2) // -c 1 alone
    refuse_value("-e", text);
  word[1] = nullptr; // word[0] will be the host
  // Pings translate `time=`. setenv() would take 16 KiB of memory.
  static char language[] = "LC_ALL=C";
  for (char **entry = environ; *entry != nullptr; ++entry)
    if (strncmp(*entry, "LC_", 3) == 0 || strncmp(*entry, "LANG=", 5) == 0)
      *entry = language;
  return {find_command(words[0]), words, word};
}

struct Verdict {
  bool answered;
  char text[longest_reason + 1]; // `12.3 ms` or none; or why it failed
};

// True for lines that do not explain a failure: those that every ping prints,
// notices, and blank or unreadable ones.
bool is_usual(const char *line) {
  for (const char *part :
       {"PING ", "Ping ", "--- ", "rtt ", "round-trip ",
        "socktype:", "Warning:", "WARNING:", "Redirect", "preload"})
    if (strstr(line, part) != nullptr)
      return true;
  return line[strspn(line, " ?")] == '\0';
}

// The first line that is not usual, or else the statistics.
const char *find_reason(char *output) {
  const char *statistics = nullptr;
  for (char *line; (line = strtok(output, "\n")) != nullptr; output = nullptr)
    if (strstr(line, "packets transmitted") != nullptr)
      statistics = line;
    else if (!is_usual(line))
      return line;
  return statistics;
}

// Copies the number from `time=12.3 ms`. One above the interval is nonsense
// (the clock was set while ping waited). It is left out, and so is a number
// that does not fit into a reason.
bool find_time(const char *output, int64_t interval_ns, Verdict &verdict) {
  const char *time = strstr(output, "time=");
  if (time == nullptr)
    return false;
  time += strlen("time=");
  time += strspn(time, " ");
  const size_t length = strspn(time, ".0123456789");
  if (!is_digit(*time) || length + strlen(" ms") > longest_reason ||
      strncmp(time + length, " ms", 3) != 0 ||
      strtol(time, nullptr, 10) > interval_ns / 1'000'000)
    return false;
  (void)snprintf(verdict.text, sizeof verdict.text, "%.*s ms",
                 static_cast<int>(length), time);
  return true;
}

// A ping that has not ended has no status. A ping that pinglog had to end is
// overdue. The output is made printable: a remote host wrote part of it.
Verdict judge(char *output, size_t size, std::optional<int> status,
              bool overdue, int64_t interval_ns) {
  for (char *byte = output; byte < output + size; ++byte)
    if (!is_visible(*byte) && *byte != ' ' && *byte != '\n')
      *byte = '?';
  Verdict verdict = {};
  const bool exited = status.has_value() && WIFEXITED(*status);
  const bool timed = find_time(output, interval_ns, verdict);
  // oping exits with status 0 if it is interrupted before it could send. A ping
  // that was killed, but had printed a time, was answered.
  const bool unanswered = !timed && strstr(output, " 0 received") != nullptr;
  verdict.answered = exited ? WEXITSTATUS(*status) == 0 && !unanswered : timed;
  if (verdict.answered)
    return verdict;
  char *const text = verdict.text;
  constexpr size_t room = sizeof verdict.text;
  if (const char *reason = find_reason(output))
    (void)snprintf(text, room, "%s", reason);
  else if (overdue)
    (void)snprintf(text, room, "no answer in %g s",
                   static_cast<double>(interval_ns) / second_ns);
  else if (exited)
    (void)snprintf(text, room, "exit status %d", WEXITSTATUS(*status));
  else
    (void)snprintf(text, room, "killed by signal %d", WTERMSIG(*status));
  return verdict;
}

// Follows no link, acquires no terminal, waits for no FIFO.
constexpr int careful = O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK;

// True if this is the file that has the name now.
bool has_name(const Descriptor &file, const char *path) {
  struct stat open;
  struct stat named;
  return fstat(file.get(), &open) == 0 && lstat(path, &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

// The PID of the process that has locked the file for writing. 0 if there is
// none, or if it has no PID here, being in another container.
pid_t writer_of(const Descriptor &file) {
  struct flock lock = {}; // the whole file
  lock.l_type = F_RDLCK;
  const bool asked = fcntl(file.get(), F_GETLK, &lock) == 0;
  return asked && lock.l_type != F_UNLCK ? std::max<pid_t>(lock.l_pid, 0) : 0;
}

// The lock that makes pinglog the only writer of its log: a record lock, which
// a kill releases, on FILE.lock. The log itself does not serve: others may
// rename or lock it, and closing any descriptor of it, say standard error,
// would drop the lock (POSIX, fcntl).
class Lock {
public:
  explicit Lock(const char *path) : path_(path) {}

  // Returns false with errno.
  [[nodiscard]] bool open() {
    file_.reset(::open(path_, O_RDWR | O_CREAT | careful, 0600));
    return file_.get() != -1;
  }

  // Returns false if another process has the lock. On a file system without
  // locks, log all the same.
  [[nodiscard]] bool take() {
    struct flock lock = {}; // the whole file
    lock.l_type = F_WRLCK;
    return fcntl(file_.get(), F_SETLK, &lock) == 0 ||
           (errno != EAGAIN && errno != EACCES);
  }

  // Opens and takes it again if somebody has removed or replaced the file.
  [[nodiscard]] bool keep() {
    return has_name(file_, path_) || !open() || take();
  }

  pid_t writer() const { return writer_of(file_); }

private:
  const char *const path_;
  Descriptor file_;
};

// The file that has the log's name now, or standard output. It gets whole lines
// only. Most functions return the reason of a failure, or nullptr.
class LogFile {
public:
  LogFile(const char *path, bool is_stdout)
      : path_(path), old_path_(join(path, ".0")), is_stdout_(is_stdout),
        file_(is_stdout ? STDOUT_FILENO : -1) {}

  bool reader_is_gone() const { return reader_is_gone_; }

  [[nodiscard]] const char *open() {
    struct stat named;
    if (lstat(path_, &named) == 0 && !S_ISREG(named.st_mode))
      return "not a regular file (for standard output, -f -o -)";
    constexpr int flags = O_RDWR | O_CREAT | O_APPEND | careful;
    file_.reset(::open(path_, flags, 0644));
    rename_error_ = 0; // each file says why it is not renamed
    return file_.get() == -1 ? strerror(errno) : nullptr;
  }

  // After a kill or a power failure: cuts off an unfinished line of pinglog;
  // other text gets a newline.
  [[nodiscard]] const char *end_torn_line() {
    char tail[longest_line];
    const off_t size = lseek(file_.get(), 0, SEEK_END);
    const off_t from = std::max<off_t>(size - off_t{sizeof tail}, 0);
    const ssize_t length =
        size == -1 ? -1 : pread(file_.get(), tail, sizeof tail, from);
    ssize_t whole = length; // without the torn line
    while (whole > 0 && tail[whole - 1] != '\n')
      --whole;
    const size_t torn = static_cast<size_t>(length - whole);
    for (const char *label : labels)
      if (torn > 0 && torn < sizeof tail &&
          memcmp(tail + whole, label, std::min(torn, strlen(label))) == 0 &&
          ftruncate(file_.get(), from + whole) == 0)
        return nullptr;
    if (length != -1 && (torn == 0 || ::write(file_.get(), "\n", 1) == 1))
      return nullptr;
    const char *const reason = strerror(errno);
    file_.reset(); // or the next line would be appended to the torn one
    return reason;
  }

  // Makes sure that the open file is the one that has the name now, or waits
  // until standard output takes a line.
  [[nodiscard]] const char *get_ready(int patience_ms) {
    if (is_stdout_)
      return poll_stdout(patience_ms);
    if (has_name(file_, path_))
      return nullptr;
    const char *const reason = open();
    return reason == nullptr ? end_torn_line() : reason;
  }

  // Renames the file if it has reached this size, so that the next line makes a
  // new one. Returns each reason once. Until it succeeds, the file grows.
  [[nodiscard]] const char *rotate(int64_t size) {
    struct stat status;
    if (size == 0 || is_stdout_ || fstat(file_.get(), &status) == -1 ||
        status.st_size < size || !has_name(file_, path_))
      return nullptr;
    const int error = rename(path_, old_path_) == -1 ? errno : 0;
    const bool is_new = error != std::exchange(rename_error_, error);
    return error != 0 && is_new ? strerror(error) : nullptr;
  }

  // Writes a line and returns how much of it was written, or -1 with errno.
  ssize_t write(const char *line, size_t size) {
    const ssize_t written = ::write(file_.get(), line, size);
    if (written <= 0 || static_cast<size_t>(written) == size)
      return written;
    // Cut the partial line off. On a pipe, lseek() fails and ftruncate()
    // refuses the negative size: there the rest of the line follows.
    const off_t before = lseek(file_.get(), 0, SEEK_CUR) - written;
    if (ftruncate(file_.get(), before) == -1)
      return written;
    (void)lseek(file_.get(), before, SEEK_SET);
    errno = ENOSPC; // or a limit: only another write would tell
    return -1;
  }

private:
  // A pipe that is not read must not stall the pings.
  const char *poll_stdout(int patience_ms) {
    pollfd output = {STDOUT_FILENO, POLLOUT, 0};
    if (poll(&output, 1, patience_ms) != 1)
      return "its reader has stalled";
    if ((output.revents & (POLLERR | POLLHUP)) == 0)
      return nullptr;
    reader_is_gone_ = true;
    stop_requested = 1;
    return "its reader is gone";
  }

  const char *const path_;
  const char *const old_path_;
  const bool is_stdout_;
  Descriptor file_;
  int rename_error_ = 0; // of the last attempt
  bool reader_is_gone_ = false;
};

// The queue of lines to write. Those that cannot be written wait here. Those
// that do not fit are dropped, and a line in the log says how many.
class Log {
public:
  explicit Log(LogFile &file) : file_(file), queue_(allocate<char>(room)) {}

  void add(const char *label, time_t time, const char *text = "") {
    const size_t left = room - queued_;
    const int size = snprintf(queue_ + queued_, left, "%s%s%s%s\n", label,
                              text_of(time), text[0] != '\0' ? " " : "", text);
    // Once a line is lost, drop all until the count has been written.
    if (lost_ > 0 || static_cast<size_t>(size) >= left)
      ++lost_;
    else
      queued_ += static_cast<size_t>(size);
    (void)flush(0); // if that fails, the next cycle tries again
  }

  // Writes the queue. Returns the reason why lines are left, or nullptr.
  const char *flush(int patience_ms) {
    while (queued_ > 0 || lost_ > 0) {
      if (queued_ == 0)
        queued_ = static_cast<size_t>(snprintf(
            queue_, room, "%s%ld\n", lost_label, std::exchange(lost_, 0)));
      if (const char *reason = file_.get_ready(patience_ms))
        return reason;
      const size_t line_size = strcspn(queue_, "\n") + 1;
      const ssize_t written = file_.write(queue_, line_size);
      if (written <= 0)
        return strerror(errno);
      queued_ -= static_cast<size_t>(written);
      (void)memmove(queue_, queue_ + written, queued_);
    }
    return nullptr;
  }

private:
  static constexpr size_t room = size_t{64} * 1024;

  LogFile &file_;
  char *const queue_; // too large for the stack of a small system
  size_t queued_ = 0;
  long lost_ = 0; // lines, after those in the queue
};

// A host, its ping, and its failures in a row: an outage, if there are two.
struct Host {
  const char *name;
  pid_t pid = 0;         // of its ping; 0: none, or it has been waited for
  Descriptor output{};   // open: the ping's result has not been logged
  int failures = 0;      // in a row; 3: three or more
  Verdict first = {};    // the first failure of the row
  time_t down_since = 0; // the wall clock at that failure, for people
  int64_t down_ns = 0;   // the monotonic clock at that failure, to measure
};

bool is_in_flight(const Host &host) { return host.output.get() != -1; }

// The pings of a cycle, one for each host. A ping leads a process group of its
// own, which is killed when the ping has ended. A ping that survives SIGKILL (a
// hung driver) is a failure in each later cycle: a host never has two pings.
class Pings {
public:
  Pings(const Options &options, const Command &command, Log &log,
        const sigset_t &mask)
      : options_(options), command_(command), log_(log), mask_(mask),
        hosts_(allocate<Host>(static_cast<size_t>(options.host_count))) {
    for (int i = 0; i < options.host_count; ++i)
      new (&hosts_[i]) Host{options.hosts[i]};
  }

  // Begins a cycle, which is logged in full, or only if something changes.
  void start(bool full) {
    is_full_ = full;
    is_logged_ = full;
    start_time_ = time(nullptr);
    if (full)
      log_.add(start_label, start_time_);
    for (Host &host : *this) {
      if (stop_requested)
        return;
      if (host.pid == 0)
        start(host);
      else
        report(host, std::nullopt);
      // Let signals in, and reap the pings that have ended.
      if ((&host - hosts_) % 16 == 15)
        wait(0);
    }
  }

  // Logs the pings that end until then, or until a request to stop.
  void wait_until(int64_t time) {
    while (!stop_requested && time > now())
      wait(time);
  }

  // Ends the pings in flight and the cycle.
  void finish(bool is_last) {
    // SIGINT makes a ping print its statistics. Some ignore it.
    int64_t grace_ns = std::min(options_.interval_ns / 4, second_ns / 10);
    is_overdue_ = true;
    for (int number : {SIGINT, SIGKILL}) {
      for (const Host &host : *this)
        if (host.pid != 0) {
          (void)kill(-host.pid, number);
          (void)kill(host.pid, number); // not or no longer in that group
        }
      const int64_t deadline = now() + grace_ns;
      while (deadline > now() && std::any_of(begin(), end(), is_in_flight))
        wait(deadline);
      grace_ns = second_ns / 2;
    }
    for (Host &host : *this)
      if (is_in_flight(host))
        report(host, std::nullopt);
    is_overdue_ = false;
    if (is_logged_ || is_last || stop_requested) // so the log shows the exit
      log_.add(end_label, time(nullptr));
  }

private:
  Host *begin() const { return hosts_; }
  Host *end() const { return hosts_ + options_.host_count; }

  void start(Host &host) {
    Descriptor write_end;
    const bool made = open_pipe(host.output, write_end) &&
                      fcntl(host.output.get(), F_SETFL, O_NONBLOCK) != -1 &&
                      fcntl(write_end.get(), F_SETFL, O_NONBLOCK) != -1;
    const pid_t pid = made ? fork() : -1;
    if (pid == 0)
      exec_ping(host.name, write_end.get());
    if (pid > 0) {
      host.pid = pid;
      return;
    }
    Verdict verdict = {};
    (void)snprintf(verdict.text, sizeof verdict.text, "%s: %s",
                   command_.words[0], strerror(errno));
    host.output.reset();
    log_result(host, verdict);
  }

  [[noreturn]] void exec_ping(const char *host, int output) const {
    *command_.host_word = const_cast<char *>(host); // exec leaves it alone
    if (!options_.foreground)
      (void)umask(022); // with 0, anybody could write a script's files
    sigset_t none;
    sigemptyset(&none);
    (void)setpgid(0, 0);
    if (dup2(output, STDOUT_FILENO) != -1 &&
        dup2(output, STDERR_FILENO) != -1 &&
        sigprocmask(SIG_SETMASK, &none, nullptr) == 0)
      (void)execv(command_.path, command_.words);
    // This becomes the reason in the log.
    perror(command_.words[0]);
    _exit(127);
  }

  // Waits for a signal, at most until this time, and reaps ended pings.
  void wait(int64_t time) {
    const int64_t left = std::max(time - now(), int64_t{0});
    const timespec timeout = {static_cast<time_t>(left / second_ns),
                              static_cast<long>(left % second_ns)};
    if (pselect(0, nullptr, nullptr, nullptr, &timeout, &mask_) == -1 &&
        errno != EINTR) {
      // Some sandboxes forbid the call. Let the signals in, and do not spin.
      sigset_t blocked;
      (void)sigprocmask(SIG_SETMASK, &mask_, &blocked);
      (void)poll(nullptr, 0, 10);
      (void)sigprocmask(SIG_SETMASK, &blocked, nullptr);
    }
    int status; // whatever woke us: one SIGCHLD can stand for many pings
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
      Host *const host = std::find_if(
          begin(), end(), [pid](const Host &each) { return each.pid == pid; });
      if (host == end()) // process 1 inherits orphans
        continue;
      // No new process gets the PID while its group has members.
      (void)kill(-pid, SIGKILL);
      host->pid = 0;
      if (is_in_flight(*host))
        report(*host, status);
    }
  }

  void report(Host &host, std::optional<int> status) {
    char output[4096] = ""; // more than pings print for one packet
    const ssize_t size = read(host.output.get(), output, sizeof output - 1);
    host.output.reset();
    log_result(host,
               judge(output, size > 0 ? static_cast<size_t>(size) : 0, status,
                     is_overdue_ || !status, options_.interval_ns));
  }

  // Logs the result in a full cycle or if it is a change, and the outage that
  // it begins or ends. Pings that end because pinglog stops have no result.
  void log_result(Host &host, const Verdict &verdict) {
    if (stop_requested)
      return;
    const time_t wall = time(nullptr);
    const bool is_change = verdict.answered == (host.failures > 0);
    const bool was_down = verdict.answered && host.failures >= 2;
    host.failures = verdict.answered ? 0 : std::min(host.failures + 1, 3);
    if (host.failures == 1) {
      host.down_since = wall;
      host.down_ns = now();
      host.first = verdict;
    }
    if (!is_full_ && !is_change && host.failures != 2)
      return;
    if (!std::exchange(is_logged_, true))
      log_.add(start_label, start_time_);
    char text[longest_line];
    (void)snprintf(text, sizeof text, "%s %s%s%s", host.name,
                   verdict.answered ? "ok" : "fail",
                   verdict.text[0] != '\0' ? " " : "", verdict.text);
    log_.add(result_label, wall, text);
    if (host.failures == 2 || was_down)
      log_outage(host, wall, was_down);
  }

  void log_outage(const Host &host, time_t wall, bool is_over) {
    const int64_t rounded_ns = now() - host.down_ns + second_ns / 2;
    const long s = static_cast<long>(rounded_ns / second_ns);
    char state[32] = "is down";
    if (is_over)
      (void)snprintf(state, sizeof state, "was down %ld:%02ld:%02ld", s / 3600,
                     s / 60 % 60, s % 60);
    char text[longest_line];
    (void)snprintf(text, sizeof text, "%s %s since %s: %s", host.name, state,
                   text_of(host.down_since), host.first.text);
    log_.add(outage_label, wall, text);
  }

  const Options &options_;
  const Command &command_;
  Log &log_;
  const sigset_t &mask_; // while it waits
  Host *const hosts_;
  time_t start_time_ = 0;
  bool is_full_ = true;
  bool is_logged_ = false;  // the cycle has a start line
  bool is_overdue_ = false; // the pings in flight are being ended
};

// For messages. Valid until the next call.
const char *name_of(pid_t process) {
  static char name[32];
  (void)snprintf(name, sizeof name, "PID %ld", long{process});
  return name;
}

// If the log cannot be opened, no lock file is made.
void open_log(LogFile &file, Lock &lock, const char *path) {
  const char *const hint = path == default_log ? " (use -o)" : "";
  if (const char *reason = file.open())
    die(path, reason, hint);
  if (!lock.open())
    die(join(path, ".lock"), strerror(errno), hint);
  if (!lock.take()) {
    const pid_t writer = lock.writer();
    if (writer == 0)
      die(path, "locked by an unknown process, perhaps in another container");
    die(path, join("already written by ", name_of(writer)), " (-k stops it)");
  }
  if (const char *torn = file.end_torn_line())
    die(path, torn, hint);
}

int stop_writer(const char *path) {
  const char *const lock_path = join(path, ".lock");
  const Descriptor lock(open(lock_path, O_RDONLY | careful));
  if (lock.get() == -1 && errno != ENOENT)
    die(lock_path, strerror(errno));
  const pid_t writer = writer_of(lock);
  if (writer == 0)
    die(path, "no pinglog writes it here",
        path == default_log ? " (use -o)" : "");
  if (kill(writer, SIGTERM) == -1 && errno != ESRCH)
    die(name_of(writer), strerror(errno));
  (void)kill(writer, SIGCONT); // stopped, it would not see SIGTERM
  for (int tries = 0; writer_of(lock) == writer; ++tries) {
    if (tries == 1000)
      die(path, "its writer does not exit");
    (void)poll(nullptr, 0, 10);
  }
  return EXIT_SUCCESS;
}

// The mask that pselect() waits with: it lets in SIGCHLD, the terminal's
// SIGTSTP and the signals that stop pinglog. In the foreground, those that the
// caller ignores do not stop it: nohup ignores SIGHUP, and a script ignores
// SIGINT and SIGQUIT for a command that it starts with `&`.
sigset_t choose_mask(bool foreground) {
  sigset_t mask;
  sigfillset(&mask);
  for (int number : {SIGCHLD, SIGTSTP, SIGTERM})
    sigdelset(&mask, number);
  for (int number : {SIGINT, SIGQUIT, SIGHUP}) {
    struct sigaction caller = {};
    (void)sigaction(number, nullptr, &caller);
    if (foreground ? caller.sa_handler != SIG_IGN : number != SIGHUP)
      sigdelset(&mask, number);
  }
  return mask;
}

// From now on, signals arrive only while pselect() waits.
void catch_signals() {
  sigset_t all;
  sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, nullptr);
  struct sigaction action = {};
  for (int number : {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP}) {
    action.sa_handler = number == SIGCHLD ? on_child : on_stop;
    (void)sigaction(number, &action, nullptr);
  }
}

const char *describe_duty(const Options &options) {
  char more[32] = "";
  if (options.host_count > 1)
    (void)snprintf(more, sizeof more, " and %d more", options.host_count - 1);
  return join(join("logs ", options.hosts[0], more), " to ", options.file);
}

void run(const Options &options, Lock &lock, LogFile &file, Log &log,
         Pings &pings) {
  const int64_t begin = now();
  const int64_t interval = options.interval_ns;
  int64_t cycle = 0;
  for (int64_t done = 0; done < options.count && !stop_requested; ++done) {
    if (!options.to_stdout && !lock.keep())
      die(options.file, "another pinglog has replaced this one");
    if (const char *reason = file.rotate(options.limit / 2))
      log.add(rename_label, time(nullptr), reason);
    (void)log.flush(0); // lines may wait, and a quiet cycle adds none
    pings.wait_until(begin + cycle * interval);
    pings.start(done % options.full_every == 0);
    // A slow disk or many hosts can use up the cycle before all pings run.
    pings.wait_until(
        std::max(begin + (cycle + 1) * interval, now() + interval / 2));
    pings.finish(done + 1 == options.count);
    // The next cycle is due now. If pinglog was stopped for a while, skip to
    // the nearest one: its pings have at least half of their time.
    cycle = std::max(cycle + 1, (now() - begin + interval / 2) / interval);
  }
}

} // namespace

int main(int argc, char **argv) {
  const Options options = parse_options(argc, argv);
  if (options.to_stdout && write(STDOUT_FILENO, "", 0) == -1)
    die(options.file, strerror(errno)); // closed, or open for reading
  const sigset_t mask = choose_mask(options.foreground);
  if (!reset_process(options.foreground ? Inherited::close_on_exec
                                        : Inherited::close))
    die("/dev/null", strerror(errno));
  if (options.kill)
    return stop_writer(options.file);
  const Command command = prepare_command(options.ping);
  tzset();     // ctime_r() need not do it
  (void)now(); // old container runtimes forbid it to 32-bit programs
  Descriptor launcher;
  if (!options.foreground) {
    if (getpid() == 1)
      die("detach", "the container would end with process 1", " (use -f)");
    if (!detach(launcher, describe_duty(options)))
      die("detach", strerror(errno));
  }
  catch_signals();
  LogFile file(options.file, options.to_stdout);
  Lock lock(join(options.file, ".lock"));
  if (!options.to_stdout)
    open_log(file, lock, options.file);
  Log log(file);
  Pings pings(options, command, log, mask);
  if (!options.foreground && !ready(launcher))
    die("/dev/null", strerror(errno));
  run(options, lock, file, log, pings);
  const char *const reason = log.flush(250); // ms, for a slow reader
  // Whoever runs `pinglog -f -o - | head -1` knows the reason.
  if (reason != nullptr && !file.reader_is_gone())
    die(options.file, reason);
  return reason == nullptr ? EXIT_SUCCESS : EXIT_FAILURE;
}
