// pinglog.cpp - logs, every few seconds, whether hosts answer ping.
//
// A cycle: the start line, one ping for each host, a result line as each ping
// ends, the end line. A ping writes to a pipe, which is read once the ping has
// ended: the pipe holds the little that a ping prints, and refuses any excess.
// So pinglog wakes up only when a ping ends, a signal arrives or a cycle ends.
// It exits only on a signal, after -c cycles, when nobody reads its standard
// output any longer, when another pinglog has replaced it, or where a sandbox
// forbids the clock or pselect(). A ping's failure goes into its result line; a
// failed write is retried. The chapters: start, verdict, log, cycle.

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
#include <libgen.h>
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
constexpr char clock_label[] = "clock jumped-------:";
constexpr char lost_label[] = "lines lost---------:";
constexpr char rename_label[] = "log not renamed----:";
constexpr const char *labels[] = {started_label, start_label, result_label,
                                  outage_label,  end_label,   clock_label,
                                  lost_label,    rename_label};

volatile sig_atomic_t stop_requested = 0;

[[noreturn]] void die(const char *object, const char *reason,
                      const char *hint = "") {
  (void)dprintf(STDERR_FILENO, "pinglog: %s: %s%s\n", object, reason, hint);
  exit(EXIT_FAILURE);
}

int64_t now(clockid_t clock = CLOCK_MONOTONIC) {
  timespec time;
  if (clock_gettime(clock, &time) == -1)
    die("clock", strerror(errno), " (a sandbox forbids it)");
  return time.tv_sec * second_ns + time.tv_nsec;
}

bool begins_with(const char *text, const char *beginning) {
  return strncmp(text, beginning, strlen(beginning)) == 0;
}
bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }
bool is_visible(char byte) { return byte > ' ' && byte <= '~'; } // ASCII

// Nothing is ever freed: pinglog allocates only while it starts or dies.
template <typename Type> Type *allocate(size_t count) {
  void *const memory = calloc(count, sizeof(Type));
  if (memory == nullptr)
    die("memory", strerror(errno));
  return static_cast<Type *>(memory);
}

template <typename... Values> char *format(const char *form, Values... values) {
  const size_t size = snprintf(nullptr, 0, form, values...);
  char *const text = allocate<char>(size + 1);
  (void)snprintf(text, size + 1, form, values...);
  return text;
}

// ---- The start: options, command, hosts -------------------------------------
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
  -s KiB     size limit of file + file.0, 0 (none) to 10^12 (default 204800)
  -h, -V     print this help, or the version

Two failures in a row begin an outage. Outages, starts, and jumps of the clock:
  grep -ahs -e '^ping outage' -e '^pinglog started' -e '^clock jumped' \
    /home/ping.log.0 /home/ping.log
)";
constexpr char version[] = "pinglog 2.0\n";
constexpr char default_log[] = "/home/ping.log";
constexpr char default_ping[] = "ping -n";
constexpr int64_t largest_number = 1'000'000'000'000;

struct Options {
  int64_t count = INT64_MAX;
  const char *ping = default_ping;
  const char *file = default_log;
  const char *hint = "";      // on the file
  const char *lock = "";      // FILE.lock
  const char *old_file = "";  // FILE.0
  const char *directory = ""; // of these
  bool to_stdout = false;     // and not to the file
  bool foreground = false;
  int64_t interval_ns = 3 * second_ns;
  bool kill = false;
  int64_t full_every = 1;
  int64_t limit = int64_t{204800} * 1024; // bytes, 0: none
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

[[noreturn]] void refuse(const char *what, const char *word, const char *hint) {
  (void)dprintf(STDERR_FILENO, "pinglog: %s: '%s'\n%.*s\n", what, word,
                int(strcspn(hint, "\n")), hint);
  exit(2);
}

// The hint is the option's own line of the help, of which one line is printed.
[[noreturn]] void refuse_value(const char *option, const char *value) {
  const char *const line = strstr(help, format("\n  %s ", option));
  refuse(format("bad %s", option), value, line + strlen("\n  "));
}

// Reads a number, times `one`. Stops once it exceeds `high`, so it cannot
// overflow. strtod() would add 8 KiB, and accept blanks, signs and names.
const char *parse(const char *text, int64_t one, int64_t high, int64_t &value) {
  for (value = 0; is_digit(*text) && value <= high; ++text)
    value = value * 10 + (*text - '0') * one;
  if (*text == '.' && one > 1)
    for (int64_t place = one / 10; is_digit(*++text); place /= 10)
      value += (*text - '0') * place;
  return text;
}

int64_t decimal(const char *option, int64_t one, int64_t low, int64_t high) {
  int64_t value;
  const char *const end = parse(optarg, one, high, value);
  if (end == optarg || *end != '\0' || value < low || value > high)
    refuse_value(option, optarg);
  return value;
}

// Searches PATH once, before the directory changes.
const char *find_command(const char *word) {
  errno = ENOENT; // PATH can be empty
  const bool has_slash = strchr(word, '/') != nullptr;
  if (has_slash && access(word, X_OK) == 0)
    return absolute(word);
  const char *const path = getenv("PATH");
  char *rest = format("%s", path != nullptr ? path : "/usr/bin:/sbin:/bin");
  while (const char *directory = has_slash ? nullptr : strtok(rest, ":")) {
    const char *const file = format("%s/%s", directory, word);
    if (access(file, X_OK) == 0)
      return absolute(file);
    rest = nullptr;
  }
  die(word, strerror(errno),
      options.ping == default_ping ? " (install a ping, or use -e)" : "");
}

void prepare_ping() {
  char *rest = format("%s -c 1", options.ping);
  ping_words = allocate<char *>(strlen(rest)); // more than needed
  for (host_word = ping_words; (*host_word = strtok(rest, " \t")) != nullptr;
       ++host_word)
    rest = nullptr;
  if (host_word == ping_words + 2) // -c 1 alone
    refuse_value("-e", options.ping);
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

void parse_options(int argc, char **argv) {
  opterr = 0;
  // Some getopt()s move the hosts to the end, but not if they are called only
  // for words that begin with '-'. Some do not accept the long words.
  while (optind < argc && argv[optind][0] == '-') {
    const char *const word = argv[optind];
    if (strcmp(word, "--help") == 0)
      exit(dprintf(STDOUT_FILENO, "%s", help) < 0);
    if (strcmp(word, "--version") == 0)
      exit(dprintf(STDOUT_FILENO, "%s", version) < 0);
    const int option = getopt(argc, argv, ":c:e:fhi:ko:q:s:V");
    if (option == -1)
      break;
    switch (option) {
    case 'c': options.count = decimal("-c", 1, 1, largest_number); break;
    case 'e': options.ping = optarg; break;
    case 'f': options.foreground = true; break;
    case 'h': exit(dprintf(STDOUT_FILENO, "%s", help) < 0);
    case 'i':
      options.interval_ns =
          decimal("-i", second_ns, second_ns / 100, 86400 * second_ns);
      break;
    case 'k': options.kill = true; break;
    case 'o': options.file = optarg; break;
    case 'q': options.full_every = decimal("-q", 1, 1, largest_number); break;
    case 's': options.limit = 1024 * decimal("-s", 1, 0, largest_number); break;
    case 'V': exit(dprintf(STDOUT_FILENO, "%s", version) < 0);
    case ':': refuse("bad option", word, "it needs a value");
    default: refuse("bad option", word, "pinglog -h lists the options");
    }
  }
  if (options.kill && optind < argc)
    refuse("bad host", argv[optind], "-k takes no host");
  hosts = hosts_end = allocate<Host>(argc + 1); // more than needed
  while (optind < argc)
    add_host(argv[optind++]);
  if (hosts_end == hosts)
    add_host("www.baidu.com");
  options.to_stdout = strcmp(options.file, "-") == 0;
  if (options.to_stdout && (options.kill || !options.foreground))
    refuse("bad -o", options.file, "-o - needs -f, and does not go with -k");
  options.hint = options.file == default_log ? " (use -o)" : "";
  options.file = options.to_stdout ? "standard output" : absolute(options.file);
  options.lock = format("%s.lock", options.file);
  options.old_file = format("%s.0", options.file);
  options.directory = dirname(format("%s", options.file));
  if (!options.kill)
    prepare_ping();
}

// ---- The verdict: what a ping's output means --------------------------------
// How well a line explains a failure, in rising order. A ping that prints
// statistics has sent a packet: what it complained of before did not stop it.
enum class Rank { header, notice, other, own_words, statistics, packet };

Rank rank(const char *line) {
  const auto has = [line](const char *word) { return strstr(line, word); };
  const char *const title = strstr(line, "PING"); // also ARPING, HPING, 2PING
  if ((title != nullptr && title - line <= 2) || begins_with(line, "Ping ") ||
      begins_with(line, "--- ") || line[strspn(line, " ?")] == '\0')
    return Rank::header;
  if (has(" ttl=") || has("time=") || has("ERROR: ld.so:") ||
      has(" warning:") || has("Warning:") || has("WARNING:") ||
      has("socktype:") || has("PATTERN:") || has(" Redirect ") ||
      has("Address family not supported"))
    return Rank::notice; // or the answer to another packet
  if (has("from ") || has("From ") || has(": sendto:") || has(": sendmsg:") ||
      has(": sending ") || has(": recv") || has("local error"))
    return Rank::packet;
  if (has("packets transmitted") && !begins_with(line, "0 "))
    return Rank::statistics;
  return has("ping: ") || has("ping6: ") ? Rank::own_words : Rank::other;
}

// The first of the lines that explain best, or nullptr. No notice explains why
// pinglog had to end a ping.
const char *find_reason(char *output, bool is_overdue) {
  const char *reason = nullptr;
  Rank best = is_overdue ? Rank::notice : Rank::header;
  for (char *line; (line = strtok(output, "\r\n")) != nullptr; output = nullptr)
    if (const Rank own = rank(line); own > best) {
      best = own;
      reason = line;
    }
  return reason;
}

// The number in `time=12.3 ms`, unless a set clock has made it nonsense.
std::string_view find_time(const char *output) {
  const char *time = strstr(output, "time=");
  if (time == nullptr)
    return {};
  time += strlen("time=");
  time += strspn(time, " ");
  int64_t ns;
  const char *const end = parse(time, 1'000'000, options.interval_ns, ns);
  if (!is_digit(*time) || end - time > 20 || ns > options.interval_ns ||
      !begins_with(end + strspn(end, " "), "ms"))
    return {};
  return {time, static_cast<size_t>(end - time)};
}

template <typename... Values>
Verdict verdict(bool answered, const char *form, Values... values) {
  Verdict verdict = {answered, ""};
  (void)snprintf(verdict.text, sizeof verdict.text, form, values...);
  return verdict;
}

// An overdue ping is one that pinglog had to end; its status is 0 if it still
// runs. A remote host wrote part of the output, which is made printable.
Verdict judge(char *output, ssize_t size, int status, bool is_overdue) {
  for (ssize_t i = 0; i < size; ++i)
    if (!is_visible(output[i]) && output[i] != ' ' && output[i] != '\n' &&
        !begins_with(output + i, "\r\n")) // as from a terminal: ssh -t
      output[i] = '?';
  const std::string_view time = find_time(output);
  // A ping that was killed, but had printed a time, was answered.
  if (!time.empty() && (status == 0 || WIFSIGNALED(status)))
    return verdict(true, "ok %.*s ms", int(time.size()), time.data());
  // A script can exit with status 0 after `| tail`, or because of our SIGINT.
  const bool is_lost = strstr(output, " 0 received") != nullptr ||
                       strstr(output, " 0 packets received") != nullptr;
  if (status == 0 && !is_lost && !is_overdue)
    return {true, "ok"};
  if (const char *reason = find_reason(output, is_overdue))
    return verdict(false, "fail %s", reason);
  if (is_overdue)
    return verdict(false, "fail no answer in %g s", options.interval_ns / 1e9);
  if (WIFEXITED(status))
    return verdict(false, "fail exit status %d", WEXITSTATUS(status));
  return verdict(false, "fail killed by signal %d", WTERMSIG(status));
}

// ---- The log: its lock, its file, its queue ---------------------------------
// One pinglog writes the file, and only whole lines. Lines wait in the queue
// until they are written. If it is full, new lines are dropped and counted.
int lock_file = -1;
int log_file = -1; // the file that has the log's name now, or standard output
int rename_error = 0;              // of the last attempt
const char *write_error = nullptr; // in this cycle: the next one tries again
bool needs_sync = false;           // an outage line is not safe on the disk yet
pid_t sync_pid = 0;                // of the child that calls fsync(); 0: none
char queue[64 * 1024];
size_t queued = 0;
long lost = 0; // lines, after those in the queue

// Follows no link, acquires no terminal, waits for no FIFO.
constexpr int careful = O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK;
constexpr char reader_is_gone[] = "its reader is gone";

bool has_name(int file, const char *path) {
  struct stat open, named;
  return fstat(file, &open) == 0 && lstat(path, &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

// A record lock on FILE.lock makes pinglog the only writer. The kernel releases
// it when pinglog dies. The log itself does not serve: others may rename or
// lock it, and closing any of its descriptors would drop the lock (POSIX).
//
// A lock file is trusted if no other user can have put it there: then a pinglog
// holds its lock. On some file systems the directory's owner owns every file.
bool is_trusted(const struct stat &file) {
  struct stat directory;
  return file.st_nlink <= 1 && (file.st_uid == geteuid() || file.st_uid == 0 ||
                                (stat(options.directory, &directory) == 0 &&
                                 file.st_uid == directory.st_uid));
}

// The process that has a write lock on the file, as every pinglog has. 0: none.
// -1: it runs in another container or on another machine.
pid_t holder(int file) {
  struct flock lock = {}; // the whole file
  lock.l_type = F_RDLCK;  // in whose way only writers are
  if (fcntl(file, F_GETLK, &lock) == -1 || lock.l_type == F_UNLCK)
    return 0;
  return lock.l_pid > 0 ? lock.l_pid : -1;
}

// Opens the lock file, made anew unless it is trusted. But a start leaves alone
// what somebody has locked, who may be a pinglog. Returns -1 with errno.
int open_lock() {
  for (;;) {
    int file = open(options.lock, O_RDWR | careful);
    if (file == -1 && errno == ENOENT)
      file = open(options.lock, O_RDWR | O_CREAT | O_EXCL | careful, 0600);
    if (file == -1 && errno == EEXIST)
      continue; // another pinglog has just made it
    struct stat status;
    if (file == -1 || fstat(file, &status) == -1 || is_trusted(status))
      return file;
    const long pid = holder(file);
    if (lock_file == -1 && pid != 0)
      die(options.lock, format("user %ld owns it, and PID %ld has locked it",
                               long(status.st_uid), pid));
    replace(file);
    if (unlink(options.lock) == -1 && errno != ENOENT)
      return -1;
  }
}

// Takes the lock, again if its file was removed or replaced, or if the file
// system refused. Goes on without locks. Dies if another process has the lock.
// Returns the reason why the lock file cannot be opened, or nullptr.
const char *keep_lock() {
  if (!has_name(lock_file, options.lock)) {
    const int file = open_lock();
    if (file == -1)
      return strerror(errno);
    replace(lock_file, file);
  }
  long writer = 0; // 0 again: it has exited between the two calls
  for (int tries = 0; tries < 2 && writer == 0; ++tries) {
    struct flock whole = {};
    whole.l_type = F_WRLCK;
    if (fcntl(lock_file, F_SETLK, &whole) == 0 ||
        (errno != EAGAIN && errno != EACCES))
      return nullptr;
    writer = holder(lock_file);
  }
  if (writer <= 0)
    die(options.file, "locked by an unknown process, perhaps in a container");
  die(options.file, format("already written by PID %ld (-k stops it)", writer));
}

// Stops the pinglog that has the lock, and waits for its release. If the lock
// file is not trusted, root does what its owner may do. That takes setuid():
// kill() looks at the real user ID, too.
int stop_writer() {
  constexpr char hint[] = " (only its owner or root can stop it)";
  lock_file = open(options.lock, O_RDONLY | careful);
  if (lock_file == -1 && errno != ENOENT)
    die(options.lock, strerror(errno), errno == EACCES ? hint : "");
  const pid_t pid = holder(lock_file);
  if (pid <= 0)
    die(options.file, "no pinglog on this machine or container writes it",
        options.hint);
  const char *const process = format("PID %ld", long{pid});
  struct stat status;
  if (fstat(lock_file, &status) == -1 || status.st_nlink > 1)
    die(options.lock, "another user may have linked it here to stop ", process);
  const bool is_root = geteuid() == 0;
  if ((is_root && !is_trusted(status) && setuid(status.st_uid) == -1) ||
      (kill(pid, SIGTERM) == -1 && errno != ESRCH))
    die(process, strerror(errno),
        is_root ? " (the owner of the lock file may not stop it)" : hint);
  (void)kill(pid, SIGCONT); // stopped, it would not see SIGTERM
  for (int tries = 0; holder(lock_file) == pid; ++tries) {
    if (tries == 1000)
      die(process, "does not exit; only kill -9 is left");
    (void)poll(nullptr, 0, 10);
  }
  return EXIT_SUCCESS;
}

// After a kill or a power cut: cuts off NULs and then an unfinished line of
// pinglog; other text gets a newline. Returns false with errno.
[[nodiscard]] bool repair() {
  const off_t end = lseek(log_file, 0, SEEK_END);
  off_t size = end;
  char tail[longest_line];
  size_t most, length; // of the tail, with and without NULs
  do {
    const off_t from = std::max<off_t>(size - off_t{sizeof tail}, 0);
    most = size - from;
    if (end == -1 || pread(log_file, tail, most, from) != ssize_t(most))
      return false;
    length = std::string_view(tail, most).find_last_not_of('\0') + 1;
    size -= off_t(most - length);
  } while (length < most);
  const size_t line = std::string_view(tail, length).rfind('\n') + 1;
  const size_t torn = length - line;
  const bool is_ours =
      torn < sizeof tail && // no line of pinglog is as long
      std::any_of(std::begin(labels), std::end(labels), [&](const char *l) {
        return memcmp(tail + line, l, std::min(torn, strlen(l))) == 0;
      });
  if (is_ours)
    size -= off_t(torn);
  const bool is_cut = size == end || ftruncate(log_file, size) == 0;
  if (is_ours && is_cut)
    return true;
  return write(log_file, "\n", 1) == 1;
}

// Opens the file that has the log's name, unless it is open. Takes the lock
// before: it may be another pinglog's. Returns the reason of a failure.
const char *open_log_file() {
  if (has_name(log_file, options.file))
    return nullptr;
  struct stat named;
  if (lstat(options.file, &named) == 0 && !S_ISREG(named.st_mode))
    return "not a regular file (for standard output, -f -o -)";
  if (const char *reason = keep_lock())
    return reason;
  replace(log_file,
          open(options.file, O_RDWR | O_CREAT | O_APPEND | careful, 0644));
  rename_error = 0; // a new file logs its own reason
  if (log_file != -1 && repair())
    return nullptr;
  const char *const reason = strerror(errno);
  replace(log_file); // or the next line would be appended to a torn one
  return reason;
}

// Waits until standard output takes a line: a pipe that nobody reads must not
// stall the pings. Returns the reason of a failure.
const char *wait_for_reader(int patience_ms) {
  pollfd output = {log_file, POLLOUT, 0};
  if (poll(&output, 1, patience_ms) != 1)
    return "its reader has stalled";
  if ((output.revents & (POLLERR | POLLHUP)) == 0)
    return nullptr;
  stop_requested = 1;
  return reader_is_gone;
}

// Writes the queue's first line. A file gets all of it or nothing.
const char *write_line() {
  const ssize_t line_size = strcspn(queue, "\n") + 1;
  const ssize_t size = write(log_file, queue, line_size);
  if (size <= 0)
    return strerror(errno);
  if (size < line_size) {
    const off_t start = lseek(log_file, 0, SEEK_CUR) - size; // a pipe has none
    if (start >= 0 && ftruncate(log_file, start) == 0 &&
        lseek(log_file, start, SEEK_SET) == start)
      return strerror(ENOSPC); // or a limit: only another write would tell
  }
  needs_sync = needs_sync || begins_with(queue, outage_label);
  queued -= size;
  (void)memmove(queue, queue + size, queued);
  return nullptr;
}

// Somebody may pull the plug because the line is down. A slow disk must not
// stall the pings, so a child waits for it. What is written meanwhile is for
// the next child: a disk that hangs keeps one child waiting.
void sync_log() {
  if (!needs_sync || sync_pid != 0 || options.to_stdout)
    return;
  const pid_t pid = fork();
  if (pid == 0) {
    (void)fsync(log_file);
    _exit(0);
  }
  sync_pid = std::max<pid_t>(pid, 0);
  needs_sync = pid == -1; // the next call tries again
}

// Writes the queue. Returns the reason why lines are left, or nullptr.
const char *flush_log(int patience_ms = 0) {
  const char *reason = write_error;
  while (reason == nullptr && (queued > 0 || lost > 0)) {
    if (queued == 0)
      queued = snprintf(queue, sizeof queue, "%s%ld\n", lost_label,
                        std::exchange(lost, 0));
    reason = options.to_stdout ? wait_for_reader(patience_ms) : open_log_file();
    if (reason == nullptr)
      reason = write_error = write_line();
  }
  sync_log();
  return reason;
}

void add_line(const char *label, time_t time, const char *text = "") {
  if (sizeof queue - queued < longest_line)
    (void)flush_log();
  const size_t left = sizeof queue - queued;
  char stamp[32]; // ctime_r() needs 26, of which the newline is left out
  const size_t size =
      snprintf(queue + queued, left, "%s%.24s%s%s\n", label,
               ctime_r(&time, stamp), text[0] != '\0' ? " " : "", text);
  // Once a line is lost, drop all until the count is in the queue.
  if (lost > 0 || size >= left)
    ++lost;
  else
    queued += size;
}

// Renames the file at half of the limit, once its outage lines are safe. Logs
// each reason of a failure once. Until then, the file grows.
void rotate() {
  struct stat status;
  if (options.limit == 0 || fstat(log_file, &status) == -1 ||
      status.st_size < options.limit / 2 || needs_sync ||
      !has_name(log_file, options.file))
    return;
  // If both names are links to one file, rename() does nothing.
  const bool is_done =
      rename(options.file, options.old_file) == 0 &&
      (!has_name(log_file, options.file) || unlink(options.file) == 0);
  const int error = is_done ? 0 : errno;
  if (error != std::exchange(rename_error, error) && error != 0)
    add_line(rename_label, time(nullptr), strerror(error));
}

void open_log() {
  if (!options.to_stdout) {
    if (const char *reason = open_log_file())
      die(options.file, reason,
          errno == EACCES || errno == EPERM ? " (is it another user's? use -o)"
                                            : options.hint);
    return;
  }
  // A terminal with less room than a line blocks, although poll() reports
  // room. O_NONBLOCK would also change what the shell has: open it anew.
  if (const char *terminal = ttyname(STDOUT_FILENO))
    log_file = open(terminal, O_WRONLY | careful);
  if (log_file == -1)
    log_file = STDOUT_FILENO;
}

// In each cycle, also if there is nothing to log: notices that another pinglog
// has the lock, that the log was moved, or that its reader is gone.
void renew_log() {
  write_error = nullptr;
  if (options.to_stdout) {
    (void)wait_for_reader(0);
    return;
  }
  if (keep_lock() == nullptr) // without the lock, no new log could be opened
    rotate();
  (void)open_log_file();
}

// ---- The cycle: start, wait, finish -----------------------------------------
int64_t clock_offset_ns; // from the monotonic to the wall clock
time_t start_time;       // of the cycle, on the wall clock
int64_t start_ns;        // the same on the monotonic clock
int64_t end_ns;
bool is_full;           // log all results, not only changes
bool is_logged;         // the start line has been logged
bool is_overdue;        // pinglog is ending the pings that have not ended
sigset_t mask_in_wait;  // the signals that are blocked while pinglog waits
sigset_t mask_of_pings; // the one before: none

void on_stop(int) { stop_requested = 1; }
void on_child(int) {} // its arrival ends pselect()

// In the foreground, SIGINT, SIGQUIT and SIGHUP stay ignored if the caller
// ignores them (nohup, `&` in a script). reset_process() forgets that.
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

// Called after detach(): until the daemon is up, ^C ends the launcher.
void catch_signals() {
  sigset_t all;
  sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, &mask_of_pings);
  struct sigaction action = {};
  for (int number : {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP}) {
    action.sa_handler = number == SIGCHLD ? on_child : on_stop;
    (void)sigaction(number, &action, nullptr);
  }
}

bool is_in_flight(const Host &host) { return host.output != -1; }
bool is_down(const Host &host) { return host.failures >= 2; }

void log_outage(const Host &host, bool is_over) {
  char state[32] = "is down";
  const long s = (now() - host.down_ns + second_ns / 2) / second_ns;
  if (is_over)
    (void)snprintf(state, sizeof state, "was down %ld:%02ld:%02ld", s / 3600,
                   s / 60 % 60, s % 60);
  char since[32], text[longest_line];
  (void)snprintf(text, sizeof text, "%s %s since %.24s: %s", host.name, state,
                 ctime_r(&host.down_since, since),
                 host.first.text + strlen("fail "));
  add_line(outage_label, time(nullptr), text);
}

// Logs the result in a full cycle or if it is a change, and the outage that it
// begins or ends. Pings that end because pinglog stops have no result.
void log_result(Host &host, const Verdict &verdict) {
  if (stop_requested)
    return;
  const bool was_failing = host.failures > 0;
  const bool was_down = verdict.answered && is_down(host);
  host.failures = verdict.answered ? 0 : host.failures + 1;
  if (host.failures == 1) {
    host.first = verdict;
    host.down_since = start_time;
    host.down_ns = start_ns;
  }
  if (!is_full && verdict.answered != was_failing && host.failures != 2)
    return;
  if (!std::exchange(is_logged, true))
    add_line(start_label, start_time);
  char text[longest_line];
  (void)snprintf(text, sizeof text, "%s %s", host.name, verdict.text);
  add_line(result_label, time(nullptr), text);
  if (was_down || host.failures == 2)
    log_outage(host, was_down);
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
  (void)setpgid(0, 0);
  if (dup2(output, STDOUT_FILENO) != -1 && dup2(output, STDERR_FILENO) != -1 &&
      sigprocmask(SIG_SETMASK, &mask_of_pings, nullptr) == 0)
    (void)execv(ping_file, ping_words);
  // This becomes the reason in the log. perror() would add 1 KiB.
  (void)dprintf(STDERR_FILENO, "%s: %s\n", ping_words[0], strerror(errno));
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
  if (pid == -1) {
    log_result(host,
               verdict(false, "fail %s: %s", ping_words[0], strerror(errno)));
    replace(ends[0]);
  }
  replace(ends[1]);
  host.pid = std::max<pid_t>(pid, 0);
  host.output = ends[0];
}

// Waits until a signal has arrived or this time has come. Logs the pings that
// have ended, starts those that have waited for them, and writes the queue.
void serve_until(int64_t time) {
  const int64_t left = std::max(time - now(), int64_t{0});
  const timespec timeout = {time_t(left / second_ns), long(left % second_ns)};
  if (pselect(0, nullptr, nullptr, nullptr, &timeout, &mask_in_wait) == -1 &&
      errno != EINTR)
    die("pselect", strerror(errno), " (a sandbox forbids it)");
  int status; // one SIGCHLD can stand for many pings
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == sync_pid)
      sync_pid = 0;
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
  (void)flush_log(); // if that fails, a later call tries again
}

// A host never has two pings. If one has survived SIGKILL, the next one waits.
void start_cycle(bool full) {
  const int64_t interval = options.interval_ns;
  start_time = time(nullptr);
  start_ns = now();
  const int64_t offset_ns = now(CLOCK_REALTIME) - start_ns;
  const int64_t jump_ns = offset_ns - std::exchange(clock_offset_ns, offset_ns);
  if (std::abs(jump_ns) > 2 * second_ns) {
    // Without this line, nobody could date an outage from before.
    const time_t old = start_time - jump_ns / second_ns;
    char stamp[32], text[64];
    (void)snprintf(text, sizeof text, "from %.24s", ctime_r(&old, stamp));
    add_line(clock_label, start_time, text);
  }
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
    // Lets signals in and writes after each 16th ping, and after the last one.
    if ((hosts_end - host) % 16 == 1)
      serve_until(0);
  }
}

void finish_cycle(bool is_last) {
  is_overdue = true;
  // SIGINT makes a ping print its statistics. Some pings ignore it.
  int64_t grace_ns = std::min(options.interval_ns / 4, second_ns / 10);
  for (int number : {SIGINT, SIGKILL}) {
    for (const Host *host = hosts; host < hosts_end; ++host)
      if (host->pid != 0) {
        (void)kill(-host->pid, number);
        (void)kill(host->pid, number); // not or no longer in that group
      }
    const int64_t deadline = now() + grace_ns;
    while (deadline > now() && std::any_of(hosts, hosts_end, is_in_flight))
      serve_until(deadline);
    grace_ns = second_ns / 2;
  }
  const bool is_exit = is_last || stop_requested;
  for (Host *host = hosts; host < hosts_end; ++host) {
    if (is_in_flight(*host)) // no exit status yet, but perhaps a time
      report(*host, 0);
    else if (std::exchange(host->is_due, false))
      log_result(*host, {false, "fail the previous ping has not exited"});
    if (is_exit && is_down(*host))
      log_outage(*host, true);
  }
  if (is_logged || is_exit) // so the log shows the exit
    add_line(end_label, time(nullptr));
}

const char *run(const char *duty) {
  add_line(started_label, time(nullptr),
           format("PID %ld %s every %g s", long{getpid()}, duty,
                  options.interval_ns / 1e9));
  clock_offset_ns = now(CLOCK_REALTIME) - now();
  end_ns = now();
  for (int64_t done = 0; done < options.count && !stop_requested; ++done) {
    renew_log();
    start_cycle(done % options.full_every == 0);
    // A slow disk or many hosts can use up the cycle before all pings run.
    const int64_t end = std::max(end_ns, now() + options.interval_ns / 2);
    while (!stop_requested && end > now())
      serve_until(end);
    finish_cycle(done + 1 == options.count);
    (void)flush_log();
  }
  write_error = nullptr;
  sync_pid = 0;          // if it still waits for the disk, it is left behind
  return flush_log(250); // ms, for a slow reader
}
} // namespace

int main(int argc, char **argv) {
  parse_options(argc, argv);
  if (options.to_stdout && write(STDOUT_FILENO, "", 0) == -1)
    die(options.file, strerror(errno)); // closed, or open for reading
  choose_signals();
  if (!reset_process(!options.foreground))
    die("/dev/null", strerror(errno));
  if (options.kill)
    return stop_writer();
  tzset();        // ctime_r() need not do it
  serve_until(0); // if that is forbidden, say so now
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
  const char *const reason = run(duty);
  // `| head -1` knows the reason, and a stalled terminal would stall a message.
  if (reason != nullptr && reason != reader_is_gone &&
      !(options.to_stdout && isatty(STDOUT_FILENO)))
    die(options.file, reason);
  return reason == nullptr ? EXIT_SUCCESS : EXIT_FAILURE;
}
