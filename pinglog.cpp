// pinglog.cpp - logs, every few seconds, whether hosts answer ping.
//
// A cycle: the start line, one ping for each host, a result line as each ping
// ends, the end line. A ping writes to a pipe, which is read once the ping has
// ended: the pipe holds the little that a ping prints, and refuses any excess.
// So pinglog wakes up only when a ping ends, a signal arrives or a cycle ends.
//
// It exits only on a signal, after -c cycles, when nobody reads its standard
// output any longer, or when another pinglog has replaced it. A ping's failure
// goes into its result line; a failed write is retried.

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
#include <initializer_list>
#include <poll.h>
#include <string_view>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
extern char **environ; // POSIX, environ: no header has to declare it

namespace {

constexpr int64_t second_ns = 1'000'000'000;
constexpr size_t longest_reason = 200;
constexpr size_t longest_line = 1024; // an outage line has 560 bytes at most
constexpr char started_label[] = "pinglog started----:";
constexpr char start_label[] = "start time---------:";
constexpr char result_label[] = "ping result--------:";
constexpr char outage_label[] = "ping outage--------:";
constexpr char end_label[] = "end of time--------:";
constexpr char lost_label[] = "lines lost---------:";
constexpr char rename_label[] = "log not renamed----:";
constexpr const char *labels[] = {started_label, start_label, result_label,
                                  outage_label,  end_label,   lost_label,
                                  rename_label};

volatile sig_atomic_t stop_requested = 0;
sigset_t mask_in_wait; // the signals that are blocked while pinglog waits

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

bool begins_with(const char *text, const char *beginning) {
  return strncmp(text, beginning, strlen(beginning)) == 0;
}

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }
bool is_visible(char byte) { return byte > ' ' && byte <= '~'; } // ASCII

// Called only at the start: nothing is ever freed.
template <typename Type> Type *allocate(size_t count) {
  void *const memory = calloc(count, sizeof(Type));
  if (memory == nullptr)
    die("memory", strerror(errno));
  return static_cast<Type *>(memory);
}

template <typename... Values> char *format(const char *form, Values... values) {
  const auto size = static_cast<size_t>(snprintf(nullptr, 0, form, values...));
  char *const text = allocate<char>(size + 1);
  (void)snprintf(text, size + 1, form, values...);
  return text;
}

// The daemon will be in another directory.
const char *absolute(const char *name) {
  if (name[0] == '/')
    return name;
  char directory[4096]; // not every system has PATH_MAX
  if (getcwd(directory, sizeof directory) == nullptr)
    die(name, strerror(errno));
  return format("%s/%s", directory, name);
}

constexpr char help[] =
    R"(usage: pinglog [-f] [-c n] [-e ping] [-i s] [-o file] [-q n] [-s KiB] [host...]
       pinglog -k [-o file] | -h | -V
Logs, every few seconds and forever, whether hosts answer ping.

  host ...   the hosts to ping (default www.baidu.com)
  -c n       exit after n cycles, 1 to 10^12 (default: never)
  -e ping    the command to run; `-c 1 HOST` is appended (default ping -n)
  -f         stay in the foreground (default: become a daemon)
  -i s       interval and timeout in seconds, 0.01 to 86400 (default 3)
  -k         stop the pinglog that writes this log
  -o file    the log (default /home/ping.log); -f -o - is standard output
  -q n       log only changes; each n-th cycle in full, 1 to 10^12 (default 1)
  -s KiB     size limit of file + file.0, 0 (none) to 10^12 (default 20480)
  -h, -V     print this help, or the version

Two failures of a host in a row begin an outage. Outages that ended, and starts:
  grep -ahs -e 'was down' -e '^pinglog started' /home/ping.log.0 /home/ping.log
)";
constexpr char version[] = "pinglog 2.0\n";
constexpr char default_log[] = "/home/ping.log";
constexpr int64_t largest_number = 1'000'000'000'000;

struct Options {
  int64_t count = INT64_MAX;
  const char *file = default_log;
  const char *hint = "";      // on the file
  const char *lock = "";      // FILE.lock
  const char *old_file = "";  // FILE.0
  const char *directory = ""; // of these, with a slash
  bool to_stdout = false;     // and not to the file
  bool foreground = false;
  int64_t interval_ns = 3 * second_ns;
  bool kill = false;
  int64_t full_every = 1;
  int64_t limit = int64_t{20480} * 1024; // bytes, 0: none
} options;

const char *ping_file; // what execv() needs to run a ping
char **ping_words;     // COMMAND -c 1 HOST
char **host_word;      // the last of them, set in the child

// The result of a ping: `ok`, `ok 12.3 ms`, or `fail` and the reason.
struct Verdict {
  bool answered;
  char text[sizeof "fail " + longest_reason];
};

// A host, its ping, and its failures in a row: an outage, if there are two.
struct Host {
  const char *name;
  pid_t pid = 0;         // of its ping; 0: none, or it has been waited for
  int output = -1;       // open: the ping's result has not been logged
  bool is_due = false;   // this cycle's ping waits for the one before to exit
  int64_t failures = 0;  // in a row
  Verdict first = {};    // the first failure of the row
  time_t down_since = 0; // the start of that failure's cycle, for people
  int64_t down_ns = 0;   // the same on the monotonic clock, to measure
};

Host *hosts;
Host *hosts_end;

// Prints only the first line of the advice.
[[noreturn]] void refuse(const char *what, const char *word,
                         const char *advice) {
  (void)dprintf(STDERR_FILENO, "pinglog: %s: '%s'\n%.*s\n", what, word,
                static_cast<int>(strcspn(advice, "\n")), advice);
  exit(2);
}

// The advice is the option's own line of the help.
[[noreturn]] void refuse_value(const char *option, const char *value) {
  const char *const line = strstr(help, format("\n  %s ", option));
  refuse(format("bad %s", option), value, line + strlen("\n  "));
}

// The option's value times `one`. strtod() would add 8 KiB, and accept blanks,
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

// Searches PATH once, before the directory changes.
const char *find_command(const char *word) {
  const bool is_file = strchr(word, '/') != nullptr;
  const char *path = getenv("PATH");
  if (path == nullptr)
    path = "/usr/bin:/sbin:/bin";
  errno = ENOENT; // an empty list has no command
  for (char *directory, *rest = format("%s", is_file ? "." : path);
       (directory = strtok(rest, ":")) != nullptr; rest = nullptr) {
    const char *const file = is_file ? word : format("%s/%s", directory, word);
    if (access(file, X_OK) == 0)
      return absolute(file);
  }
  die(word, strerror(errno), " (use -e)");
}

void prepare_ping(const char *command) {
  char *rest = format("%s -c 1", command);
  ping_words = allocate<char *>(strlen(rest)); // more than needed
  for (host_word = ping_words; (*host_word = strtok(rest, " \t")) != nullptr;
       ++host_word)
    rest = nullptr;
  if (host_word == ping_words + 2) // -c 1 alone
    refuse_value("-e", command);
  host_word[1] = nullptr;
  ping_file = find_command(ping_words[0]);
  // Pings translate `time=`. setenv() would add 8 KiB to the program.
  static char language[] = "LC_ALL=C";
  for (char **entry = environ; *entry != nullptr; ++entry)
    if (begins_with(*entry, "LC_") || begins_with(*entry, "LANG="))
      *entry = language;
}

void add_host(const char *name) {
  const char *const end = strchr(name, '\0');
  if (name[0] == '-')
    refuse("bad host", name, "options come before hosts");
  if (name == end || end - name > 255 || !std::all_of(name, end, is_visible))
    refuse("bad host", name, "a host is 1 to 255 visible ASCII characters");
  *hosts_end++ = {name};
}

[[noreturn]] void print_and_exit(const char *text) {
  exit(dprintf(STDOUT_FILENO, "%s", text) < 0);
}

void parse_options(int argc, char **argv) {
  const char *ping = "ping -n";
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
    case 'e': ping = optarg; break;
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
  const int count = std::max(argc - optind, 0); // argc can be 0
  if (options.kill && count > 0)
    refuse("bad host", argv[optind], "-k takes no host");
  hosts = hosts_end = allocate<Host>(static_cast<size_t>(count) + 1);
  for (int i = 0; i < count; ++i)
    add_host(argv[optind + i]);
  if (count == 0)
    add_host("www.baidu.com");
  options.to_stdout = strcmp(options.file, "-") == 0;
  if (options.to_stdout && (options.kill || !options.foreground))
    refuse("bad -o", options.file, "-o - needs -f, and does not go with -k");
  options.hint = options.file == default_log ? " (use -o)" : "";
  options.file = options.to_stdout ? "standard output" : absolute(options.file);
  options.lock = format("%s.lock", options.file);
  options.old_file = format("%s.0", options.file);
  const size_t name = std::string_view(options.file).rfind('/') + 1;
  options.directory = format("%.*s", static_cast<int>(name), options.file);
  if (!options.kill)
    prepare_ping(ping);
}

// How well a line explains a failure; 0: not at all. Only a ping that has sent
// prints statistics. What it said at its start is then not the reason.
int rank(const char *line) {
  const auto has = [line](std::initializer_list<const char *> words) {
    return std::any_of(words.begin(), words.end(), [line](const char *word) {
      return strstr(line, word) != nullptr;
    });
  };
  if (begins_with(line, "PING") || begins_with(line, "Ping ") ||
      begins_with(line, "--- ") || line[strspn(line, " ?")] == '\0')
    return 0;
  if (has({"ERROR: ld.so:", " warning:", "Warning:", "WARNING:", "socktype:",
           "Address family not supported", " Redirect "}))
    return 1; // a notice
  if (has({"from ", "From ", ": sendto:", ": sendmsg:", ": sending ", ": recv",
           "local error"}))
    return 4; // about the answer or about sending
  return has({"packets transmitted"}) && !begins_with(line, "0 ") ? 3 : 2;
}

// The first of the lines that explain best, or nullptr.
const char *find_reason(char *output, bool is_overdue) {
  const char *reason = nullptr;
  int best = is_overdue ? 1 : 0; // pinglog ended it, whatever the notice says
  for (char *line; (line = strtok(output, "\n")) != nullptr; output = nullptr)
    if (const int own = rank(line); own > best) {
      best = own;
      reason = line;
    }
  return reason;
}

// The number in `time=12.3 ms`, or else nothing. A time above the interval is
// nonsense: the clock was set while the ping waited.
std::string_view find_time(const char *output) {
  const char *time = strstr(output, "time=");
  if (time == nullptr)
    return {};
  time += strlen("time=");
  time += strspn(time, " ");
  const size_t length = strspn(time, ".0123456789");
  if (!is_digit(*time) || length > 20 || !begins_with(time + length, " ms") ||
      strtol(time, nullptr, 10) > options.interval_ns / 1'000'000)
    return {};
  return {time, length};
}

template <typename... Values>
Verdict verdict(bool answered, const char *form, Values... values) {
  Verdict verdict = {answered, ""};
  (void)snprintf(verdict.text, sizeof verdict.text, form, values...);
  return verdict;
}

// An overdue ping is one that pinglog had to end. The output is made printable:
// a remote host wrote part of it.
Verdict judge(char *output, ssize_t size, int status, bool is_overdue) {
  for (ssize_t i = 0; i < size; ++i)
    if (!is_visible(output[i]) && output[i] != ' ' && output[i] != '\n')
      output[i] = '?';
  const std::string_view time = find_time(output);
  // A script that ends in `| tail` exits with status 0, and so does oping.
  const bool is_lost = strstr(output, " 0 received") != nullptr ||
                       strstr(output, " 0 packets received") != nullptr;
  // A ping that was killed, but had printed a time, was answered.
  if (!time.empty() && (status == 0 || WIFSIGNALED(status)))
    return verdict(true, "ok %.*s ms", static_cast<int>(time.size()),
                   time.data());
  if (status == 0 && !is_lost)
    return {true, "ok"};
  if (const char *reason = find_reason(output, is_overdue))
    return verdict(false, "fail %s", reason);
  if (is_overdue)
    return verdict(false, "fail no answer in %g s",
                   static_cast<double>(options.interval_ns) / second_ns);
  if (WIFEXITED(status))
    return verdict(false, "fail exit status %d", WEXITSTATUS(status));
  return verdict(false, "fail killed by signal %d", WTERMSIG(status));
}

// Follows no link, acquires no terminal, waits for no FIFO.
constexpr int careful = O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK;
constexpr char reader_is_gone[] = "its reader is gone";

// True if this is the file that has the name now.
bool has_name(int file, const char *path) {
  struct stat open, named;
  return fstat(file, &open) == 0 && lstat(path, &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

// The log: a queue of lines, and the file that has the log's name now, or
// standard output. The file gets whole lines only. Lines that cannot be written
// wait. Those that do not fit are dropped, and a line says how many.
int log_file = -1;
int rename_error = 0; // of the last attempt
char queue[64 * 1024];
size_t queued = 0;
long lost = 0; // lines, after those in the queue

// A record lock on FILE.lock makes pinglog the only writer. The kernel releases
// it when pinglog dies. The log itself does not serve: others may rename or
// lock it, and closing any of its descriptors would drop the lock (POSIX).
int lock_file = -1;

// The owner of the lock's file if that is a stranger, or else 0: the owner of
// the directory is none, who owns each file on some file systems.
uid_t stranger() {
  struct stat file, directory = {}; // root is no stranger
  (void)stat(options.directory, &directory);
  const bool is_ours = fstat(lock_file, &file) == -1 ||
                       file.st_uid == geteuid() ||
                       file.st_uid == directory.st_uid;
  return is_ours ? 0 : file.st_uid;
}

// The process that has the lock, or 0. One that only reads is no pinglog; one
// in another container has no PID here. Dies if a stranger chose the process.
pid_t writer() {
  struct flock lock = {}; // the whole file
  lock.l_type = F_WRLCK;
  if (fcntl(lock_file, F_GETLK, &lock) == -1 || lock.l_type == F_UNLCK)
    return 0;
  if (const uid_t owner = stranger())
    die(options.lock, format("user %ld owns it, and PID %ld has locked it",
                             static_cast<long>(owner), long{lock.l_pid}));
  return lock.l_type == F_WRLCK ? std::max<pid_t>(lock.l_pid, 0) : 0;
}

// Takes the lock, again if its file was removed or replaced. If another process
// has it, dies. But a stranger, who can make the file in /tmp, must not end a
// running pinglog. Without locks in the file system, log anyway.
void keep_lock(bool is_start) {
  if (has_name(lock_file, options.lock))
    return;
  // With O_CREAT, Linux may refuse another user's file in /tmp.
  int lock = open(options.lock, O_RDWR | careful);
  if (lock == -1 && errno == ENOENT)
    lock = open(options.lock, O_RDWR | O_CREAT | careful, 0600);
  if (lock == -1 && is_start)
    die(options.lock, strerror(errno), options.hint);
  if (lock == -1)
    return;
  replace(lock_file, lock);
  struct flock whole = {}; // the whole file
  whole.l_type = F_WRLCK;
  if (fcntl(lock_file, F_SETLK, &whole) == 0 ||
      (errno != EAGAIN && errno != EACCES))
    return;
  if (!is_start && stranger() != 0)
    return replace(lock_file); // the next cycle tries again
  const long pid = writer();
  die(options.file,
      pid != 0 ? format("already written by PID %ld (-k stops it)", pid)
               : "locked by an unknown process, perhaps in another container "
                 "or on another machine");
}

// Stops the pinglog that has the lock, and waits until it has released it.
int stop_writer() {
  constexpr char hint[] = " (only its owner or root can stop it)";
  lock_file = open(options.lock, O_RDONLY | careful);
  if (lock_file == -1 && errno != ENOENT)
    die(options.lock, strerror(errno), errno == EACCES ? hint : "");
  const pid_t pid = writer();
  if (pid == 0)
    die(options.file, "no pinglog writes it here", options.hint);
  if (kill(pid, SIGTERM) == -1 && errno != ESRCH)
    die(format("PID %ld", long{pid}), strerror(errno), hint);
  (void)kill(pid, SIGCONT); // stopped, it would not see SIGTERM
  for (int tries = 0; writer() == pid; ++tries) {
    if (tries == 1000)
      die(options.file, "its writer does not exit");
    (void)poll(nullptr, 0, 10);
  }
  return EXIT_SUCCESS;
}

// Fails on a pipe, for which lseek() has made the size negative, too.
[[nodiscard]] bool cut_off(off_t size) {
  const bool is_cut = ftruncate(log_file, size) == 0;
  if (is_cut)
    (void)lseek(log_file, size, SEEK_SET);
  return is_cut;
}

// After a kill or a power cut: cuts off NULs and then an unfinished line of
// pinglog; other text gets a newline. Returns false with errno.
[[nodiscard]] bool repair() {
  const off_t end = lseek(log_file, 0, SEEK_END);
  off_t size = end;
  char tail[longest_line];
  while (size > 0 && pread(log_file, tail, 1, size - 1) == 1 && tail[0] == '\0')
    --size;
  const off_t from = std::max<off_t>(size - off_t{sizeof tail}, 0);
  const auto length = static_cast<size_t>(size - from);
  if (end == -1 || pread(log_file, tail, length, from) != size - from)
    return false;
  const size_t line = std::string_view(tail, length).rfind('\n') + 1;
  const size_t torn = length - line;
  const bool is_ours =
      torn < sizeof tail && // no line of pinglog is as long
      std::any_of(std::begin(labels), std::end(labels), [&](const char *l) {
        return memcmp(tail + line, l, std::min(torn, strlen(l))) == 0;
      });
  if (is_ours)
    size -= static_cast<off_t>(torn);
  const bool is_cut = size == end || cut_off(size);
  return (is_cut && is_ours) || write(log_file, "\n", 1) == 1;
}

// Returns the reason why the log's name cannot be used, or nullptr.
const char *obstacle() {
  struct stat named;
  return lstat(options.file, &named) == -1 || S_ISREG(named.st_mode)
             ? nullptr
             : "not a regular file (for standard output, -f -o -)";
}

// Makes sure that the open file is the one that has the name now, or waits
// until standard output takes a line: a pipe that is not read must not stall
// the pings. Returns the reason of a failure, or nullptr.
const char *check_output(int patience_ms = 0) {
  if (options.to_stdout) {
    pollfd output = {log_file, POLLOUT, 0};
    if (poll(&output, 1, patience_ms) != 1)
      return "its reader has stalled";
    if ((output.revents & (POLLERR | POLLHUP)) == 0)
      return nullptr;
    stop_requested = 1;
    return reader_is_gone;
  }
  if (has_name(log_file, options.file))
    return nullptr;
  if (const char *reason = obstacle())
    return reason;
  replace(log_file,
          open(options.file, O_RDWR | O_CREAT | O_APPEND | careful, 0644));
  rename_error = 0; // each file says why it is not renamed
  if (log_file != -1 && repair())
    return nullptr;
  const char *const reason = strerror(errno);
  replace(log_file); // or the next line would be appended to a torn one
  return reason;
}

// Writes the queue. Returns the reason why lines are left, or nullptr.
const char *flush_log(int patience_ms = 0) {
  const char *reason = nullptr;
  bool has_outage = false;
  while (reason == nullptr && (queued > 0 || lost > 0)) {
    if (queued == 0)
      queued = static_cast<size_t>(snprintf(
          queue, sizeof queue, "%s%ld\n", lost_label, std::exchange(lost, 0)));
    if ((reason = check_output(patience_ms)) != nullptr)
      break;
    const size_t line_size = strcspn(queue, "\n") + 1;
    const ssize_t size = write(log_file, queue, line_size);
    const auto written = static_cast<size_t>(std::max<ssize_t>(size, 0));
    if (written == 0)
      reason = strerror(errno);
    else if (written < line_size &&
             cut_off(lseek(log_file, 0, SEEK_CUR) - size))
      reason = strerror(ENOSPC); // or a limit: only another write would tell
    else {
      has_outage = has_outage || begins_with(queue, outage_label);
      queued -= written;
      (void)memmove(queue, queue + written, queued);
    }
  }
  // Somebody may pull the plug because the line is down.
  if (has_outage && !options.to_stdout)
    (void)fsync(log_file);
  return reason;
}

void add_line(const char *label, time_t time, const char *text = "") {
  if (sizeof queue - queued < longest_line)
    (void)flush_log();
  const size_t left = sizeof queue - queued;
  char stamp[32]; // ctime_r() needs 26, of which the newline is left out
  const int size =
      snprintf(queue + queued, left, "%s%.24s%s%s\n", label,
               ctime_r(&time, stamp), text[0] != '\0' ? " " : "", text);
  // Once a line is lost, drop all until the count has been written.
  if (lost > 0 || static_cast<size_t>(size) >= left)
    ++lost;
  else
    queued += static_cast<size_t>(size);
}

// Renames the file if it has reached half of the limit. Logs each reason of a
// failure once; until then, the file grows.
void rotate() {
  struct stat status;
  if (options.limit == 0 || fstat(log_file, &status) == -1 ||
      status.st_size < options.limit / 2 || !has_name(log_file, options.file))
    return;
  const int error = rename(options.file, options.old_file) == -1 ? errno : 0;
  // If both names are links to one file, rename() does nothing.
  if (error == 0 && has_name(log_file, options.file))
    (void)unlink(options.file); // the next cycle tries again
  if (error != std::exchange(rename_error, error) && error != 0)
    add_line(rename_label, time(nullptr), strerror(error));
}

// Takes the lock and opens the log, or dies: in this order, because a refused
// start must not make a log that the running pinglog may not write.
void open_log() {
  if (!options.to_stdout) {
    if (const char *reason = obstacle())
      die(options.file, reason);
    keep_lock(true);
    if (const char *reason = check_output())
      die(options.file, reason, options.hint);
    return;
  }
  // A terminal with less room than a line blocks, although poll() reports
  // room. O_NONBLOCK would also change what the shell has: open it anew.
  if (const char *terminal = ttyname(STDOUT_FILENO))
    log_file = open(terminal, O_WRONLY | careful);
  if (log_file == -1)
    log_file = STDOUT_FILENO;
}

// The cycle.
time_t start_time; // for people
int64_t start_ns;  // the same on the monotonic clock
int64_t end_ns;
bool is_full;    // log all results, not only changes
bool is_logged;  // the start line has been logged
bool is_overdue; // pinglog is ending the pings that have not ended

bool is_in_flight(const Host &host) { return host.output != -1; }

// Logs the result in a full cycle or if it is a change, and the outage that it
// begins or ends. Pings that end because pinglog stops have no result.
void log_result(Host &host, const Verdict &verdict) {
  if (stop_requested)
    return;
  const time_t wall = time(nullptr);
  const bool is_change = verdict.answered == (host.failures > 0);
  const bool was_down = verdict.answered && host.failures >= 2;
  host.failures = verdict.answered ? 0 : host.failures + 1;
  if (host.failures == 1) {
    host.first = verdict;
    host.down_since = start_time;
    host.down_ns = start_ns;
  }
  if (!is_full && !is_change && host.failures != 2)
    return;
  if (!std::exchange(is_logged, true))
    add_line(start_label, start_time);
  char text[longest_line];
  (void)snprintf(text, sizeof text, "%s %s", host.name, verdict.text);
  add_line(result_label, wall, text);
  if (host.failures != 2 && !was_down)
    return;
  char state[32] = "is down";
  const int64_t rounded_ns = now() - host.down_ns + second_ns / 2;
  const long s = static_cast<long>(rounded_ns / second_ns);
  if (was_down)
    (void)snprintf(state, sizeof state, "was down %ld:%02ld:%02ld", s / 3600,
                   s / 60 % 60, s % 60);
  char since[32];
  (void)snprintf(text, sizeof text, "%s %s since %.24s: %s", host.name, state,
                 ctime_r(&host.down_since, since),
                 host.first.text + strlen("fail "));
  add_line(outage_label, wall, text);
}

void report(Host &host, int status) {
  char output[4096] = ""; // more than pings print for one packet
  const ssize_t size = read(host.output, output, sizeof output - 1);
  replace(host.output);
  log_result(host, judge(output, size, status, is_overdue));
}

[[noreturn]] void exec_ping(const char *host, int output) {
  *host_word = const_cast<char *>(host); // exec leaves it alone
  if (!options.foreground)
    (void)umask(022); // with 0, anybody could write a script's files
  sigset_t none;
  sigemptyset(&none);
  (void)setpgid(0, 0);
  if (dup2(output, STDOUT_FILENO) != -1 && dup2(output, STDERR_FILENO) != -1 &&
      sigprocmask(SIG_SETMASK, &none, nullptr) == 0)
    (void)execv(ping_file, ping_words);
  perror(ping_words[0]); // this becomes the reason in the log
  _exit(127);
}

// A ping leads a process group of its own, which is killed when the ping ends.
void start_ping(Host &host) {
  host.is_due = false;
  int ends[2] = {-1, -1};
  const bool made = open_pipe(ends) &&
                    fcntl(ends[0], F_SETFL, O_NONBLOCK) != -1 &&
                    fcntl(ends[1], F_SETFL, O_NONBLOCK) != -1;
  const pid_t pid = made ? fork() : -1;
  if (pid == 0)
    exec_ping(host.name, ends[1]);
  const char *const reason = strerror(errno);
  replace(ends[1]);
  host.pid = std::max<pid_t>(pid, 0);
  host.output = ends[0];
  if (pid != -1)
    return;
  replace(host.output);
  log_result(host, verdict(false, "fail %s: %s", ping_words[0], reason));
}

// Waits for a signal, at most until this time, reaps ended pings and logs them.
void wait_and_reap(int64_t time) {
  const int64_t left = std::max(time - now(), int64_t{0});
  const timespec timeout = {static_cast<time_t>(left / second_ns),
                            static_cast<long>(left % second_ns)};
  if (pselect(0, nullptr, nullptr, nullptr, &timeout, &mask_in_wait) == -1 &&
      errno != EINTR)
    die("pselect", strerror(errno));
  int status; // whatever woke us: one SIGCHLD can stand for many pings
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    Host *const host = std::find_if(
        hosts, hosts_end, [pid](const Host &each) { return each.pid == pid; });
    if (host == hosts_end) // process 1 inherits orphans
      continue;
    // No new process gets the PID while its group has members.
    (void)kill(-pid, SIGKILL);
    host->pid = 0;
    if (is_in_flight(*host))
      report(*host, status);
    else if (host->is_due && !stop_requested &&
             end_ns - now() >= options.interval_ns / 2)
      start_ping(*host);
  }
  (void)flush_log(); // if that fails, the next call tries again
}

// A host never has two pings. If one has survived SIGKILL, the next one waits.
void start_cycle(bool full) {
  const int64_t interval = options.interval_ns;
  start_time = time(nullptr);
  start_ns = now();
  // Cycles end on a grid, and last at least half an interval.
  end_ns += (start_ns - end_ns + interval * 3 / 2) / interval * interval;
  is_full = is_logged = full;
  is_overdue = false;
  if (full)
    add_line(start_label, start_time);
  for (Host *host = hosts; host < hosts_end && !stop_requested; ++host) {
    host->is_due = host->pid != 0;
    if (!host->is_due)
      start_ping(*host);
    if ((host - hosts) % 16 == 0)
      wait_and_reap(0); // lets signals in, and reaps the pings that have ended
  }
}

void finish_cycle() {
  is_overdue = true;
  // SIGINT makes a ping print its statistics. Some ignore it.
  int64_t grace_ns = std::min(options.interval_ns / 4, second_ns / 10);
  for (int number : {SIGINT, SIGKILL}) {
    for (const Host *host = hosts; host < hosts_end; ++host)
      if (host->pid != 0) {
        (void)kill(-host->pid, number);
        (void)kill(host->pid, number); // not or no longer in that group
      }
    const int64_t deadline = now() + grace_ns;
    while (deadline > now() && std::any_of(hosts, hosts_end, is_in_flight))
      wait_and_reap(deadline);
    grace_ns = second_ns / 2;
  }
  for (Host *host = hosts; host < hosts_end; ++host)
    if (is_in_flight(*host)) // judge it as if SIGKILL had ended it
      report(*host, SIGKILL);
    else if (std::exchange(host->is_due, false))
      log_result(*host, {false, "fail the ping before has not exited in time"});
  if (is_logged)
    add_line(end_label, time(nullptr));
}

// While it waits, pinglog lets in SIGCHLD, the terminal's SIGTSTP and the
// signals that stop it; in the foreground, not those that the caller ignores:
// nohup ignores SIGHUP, a script SIGINT and SIGQUIT for a command before `&`.
void choose_signals() {
  sigfillset(&mask_in_wait);
  for (int number : {SIGCHLD, SIGTSTP, SIGTERM})
    sigdelset(&mask_in_wait, number);
  for (int number : {SIGINT, SIGQUIT, SIGHUP}) {
    struct sigaction caller = {};
    (void)sigaction(number, nullptr, &caller);
    if (options.foreground ? caller.sa_handler != SIG_IGN : number != SIGHUP)
      sigdelset(&mask_in_wait, number);
  }
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

void run(const char *duty) {
  add_line(started_label, time(nullptr),
           format("PID %ld %s every %g s", long{getpid()}, duty,
                  static_cast<double>(options.interval_ns) / second_ns));
  end_ns = now();
  for (int64_t done = 0; done < options.count && !stop_requested; ++done) {
    if (!options.to_stdout) {
      keep_lock(false);
      rotate();
    }
    (void)check_output(); // a new file, or the reader's end, in any cycle
    start_cycle(done % options.full_every == 0);
    // A slow disk or many hosts can use up the cycle before all pings run.
    const int64_t end = std::max(end_ns, now() + options.interval_ns / 2);
    while (!stop_requested && end > now())
      wait_and_reap(end);
    finish_cycle();
    (void)flush_log();
  }
  if (!is_logged) // so the log shows the exit
    add_line(end_label, time(nullptr));
}

} // namespace

int main(int argc, char **argv) {
  parse_options(argc, argv);
  if (options.to_stdout && write(STDOUT_FILENO, "", 0) == -1)
    die(options.file, strerror(errno)); // closed, or open for reading
  choose_signals();
  if (!reset_process(options.foreground ? Inherited::close_on_exec
                                        : Inherited::close))
    die("/dev/null", strerror(errno));
  if (options.kill)
    return stop_writer();
  tzset();          // ctime_r() need not do it
  wait_and_reap(0); // if a sandbox forbids the clock or pselect(), say so now
  const long others = hosts_end - hosts - 1;
  const char *const more = others > 0 ? format(" and %ld more", others) : "";
  const char *const duty = format("pings %s%s", hosts[0].name, more);
  if (!options.foreground) {
    if (getpid() == 1)
      die("detach", "the container would end with process 1", " (use -f)");
    if (!detach(format("%s, logs to %s", duty, options.file)))
      die("detach", strerror(errno));
  }
  catch_signals();
  open_log();
  if (!options.foreground && !ready())
    die("/dev/null", strerror(errno));
  run(duty);
  const char *const reason = flush_log(250); // ms, for a slow reader
  // `| head -1` knows the reason, and a stalled terminal would stall a message.
  if (reason != nullptr && reason != reader_is_gone &&
      !(options.to_stdout && isatty(STDOUT_FILENO)))
    die(options.file, reason);
  return reason == nullptr ? EXIT_SUCCESS : EXIT_FAILURE;
}
