// process.cpp - see support.h: files, processes and their surroundings.

#include "support.h"

#include <grp.h>
#include <sched.h>
#include <sstream>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>

Words operator+(Words words, const Words &more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

bool eventually(const std::function<bool()> &condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end)
      return condition();
    sleep_ms(5);
  }
  return true;
}

void sleep_ms(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

int rounds(const char *variable, int usual) {
  const char *wanted = getenv(variable);
  return wanted != nullptr ? atoi(wanted) : usual;
}

// ---- Files ------------------------------------------------------------------

std::string read_file(const std::string &path) {
  std::error_code error; // the file of a process that has just exited, say
  if (fs::is_character_file(path, error)) // reading /dev/full never ends
    return "";
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const std::string &path, const std::string &text, mode_t mode) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  ASSERT_TRUE(file) << path << ": " << strerror(errno);
  ASSERT_EQ(chmod(path.c_str(), mode), 0);
}

Words read_lines(const std::string &path) {
  Words lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);)
    lines.push_back(line);
  return lines;
}

// ---- Processes, as /proc shows them -----------------------------------------

namespace {

std::string proc(pid_t pid, const std::string &name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

int exit_status(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace

char process_state(pid_t pid) { return process_status(pid, "State")[0]; }

bool is_alive(pid_t pid) {
  const char state = process_state(pid);
  const bool is_zombie = state == 'Z' || state == 'X';
  return state != '\0' && !(is_zombie && process_status(pid, "Threads") == "1");
}

long process_stat(pid_t pid, int field) {
  const std::string text = read_file(proc(pid, "stat"));
  std::istringstream rest(text.substr(text.rfind(")") + 1)); // the third field
  std::string value;
  for (; field > 2; --field)
    rest >> value;
  return value.empty() ? -1 : std::stol(value);
}

std::string process_status(pid_t pid, const std::string &key) {
  for (const std::string &line : read_lines(proc(pid, "status")))
    if (line.rfind(key + ":", 0) == 0) {
      const size_t value = line.find_first_not_of(" \t", key.size() + 1);
      return value == std::string::npos ? "" : line.substr(value);
    }
  return "";
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  std::ifstream list(proc(pid, "task/" + std::to_string(pid) + "/children"));
  for (pid_t child; list >> child;)
    children.push_back(child);
  return children;
}

std::vector<pid_t> zombies_of(pid_t pid) {
  std::vector<pid_t> found;
  for (pid_t child : children_of(pid))
    if (process_state(child) == 'Z')
      found.push_back(child);
  return found;
}

std::map<int, std::string> descriptors_of(pid_t pid) {
  std::map<int, std::string> found;
  std::error_code error, gone;
  for (fs::directory_iterator entry(proc(pid, "fd"), error);
       !error && entry != fs::directory_iterator(); entry.increment(error))
    found[std::stoi(entry->path().filename())] =
        fs::read_symlink(entry->path(), gone);
  return found;
}

pid_t writer(const std::string &path) {
  const int file = open((path + ".lock").c_str(), O_RDONLY | O_CLOEXEC);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  const bool asked = file != -1 && fcntl(file, F_GETLK, &lock) == 0;
  close(file);
  return asked && lock.l_type != F_UNLCK ? lock.l_pid : -1;
}

void send_signal(pid_t pid, int number) {
  ASSERT_GT(pid, 1);
  ASSERT_EQ(kill(pid, number), 0) << strerror(errno);
}

void stop(pid_t pid, int signal) {
  send_signal(pid, signal);
  if (!eventually([pid] { return !is_alive(pid); })) {
    ADD_FAILURE() << "PID " << pid << " does not exit";
    kill(pid, SIGKILL);
  }
}

void while_stopped(pid_t pid, const std::function<void()> &act) {
  send_signal(pid, SIGSTOP);
  EXPECT_TRUE(eventually([pid] { return process_state(pid) == 'T'; }));
  act();
  send_signal(pid, SIGCONT);
}

bool set_soft_limit(pid_t pid, decltype(RLIMIT_CPU) resource,
                    std::optional<rlim_t> limit) {
  rlimit limits = {};
  (void)prlimit(pid, resource, nullptr, &limits);
  limits.rlim_cur = limit.value_or(limits.rlim_max);
  return prlimit(pid, resource, &limits, nullptr) == 0;
}

int in_a_child(const std::function<int()> &function) {
  const pid_t pid = fork();
  if (pid == 0)
    _exit(function());
  int status = -1;
  (void)waitpid(pid, &status, 0);
  return exit_status(status);
}

// ---- Starting a program -----------------------------------------------------

std::string program() {
  const char *named = getenv("PINGLOG");
  return fs::canonical(named != nullptr
                           ? fs::path(named)
                           : fs::canonical("/proc/self/exe").parent_path() /
                                 "../pinglog");
}

void open_as(int descriptor, const std::string &file) {
  const int flags = descriptor == STDIN_FILENO ? O_RDONLY : O_WRONLY | O_APPEND;
  const int opened = open(file.c_str(), flags | O_CREAT | O_CLOEXEC, 0644);
  if (dup2(opened, descriptor) == -1)
    _exit(126);
}

void ignore_and_block_signals() {
  sigset_t all;
  sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, nullptr);
  for (int number = 1; number <= SIGRTMAX; ++number)
    if (number != 34) // musl reserves it: pinglog could not reset it
      (void)signal(number, SIG_IGN); // fails for SIGKILL, say
}

bool become_nobody() {
  return setgroups(0, nullptr) == 0 && setgid(nobody) == 0 &&
         setuid(nobody) == 0;
}

Process::Process(const Launch &launch) {
  for (int &file : files_)
    file = memfd_create("output", MFD_CLOEXEC);
  Words words = Words{launch.executable} + launch.arguments;
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);

  pid_ = fork();
  if (pid_ != 0)
    return;
  for (int i : {0, 1})
    dup2(files_[i], STDOUT_FILENO + i);
  dup2(open("/dev/null", O_RDONLY), 0);
  for (const auto &[name, value] : launch.environment)
    setenv(name.c_str(), value.c_str(), 1);
  if (!launch.directory.empty() && chdir(launch.directory.c_str()) == -1)
    _exit(126);
  const int executable =
      launch.as_nobody ? open(argv[0], O_RDONLY | O_CLOEXEC) : -1;
  if (launch.as_nobody && !become_nobody())
    _exit(126);
  // Reset all signals: make or nohup may have left some ignored. posix_spawn()
  // leaves two ignored that the C library's sigaction() refuses to reset.
  for (int number = 1; number <= 64; ++number) {
    const char by_default[64] = {};
    (void)syscall(SYS_rt_sigaction, number, by_default, nullptr, 8);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Close on exec what the test inherited; before_exec() may add descriptors.
  for (int fd = STDERR_FILENO + 1; fd < 1024; ++fd)
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (launch.before_exec)
    launch.before_exec();
  for (const auto &[resource, value] : launch.limits) {
    const rlimit limit = {value, value};
    if (setrlimit(static_cast<decltype(RLIMIT_CPU)>(resource), &limit) == -1)
      _exit(126);
  }
  execvp(argv[0], argv.data());
  // Another user may not reach the file by name, if it is in root's home, say.
  if (executable != -1)
    fexecve(executable, argv.data(), environ);
  _exit(126);
}

Process::~Process() {
  if (!reaped_ && pid_ > 0) {
    kill(pid_, SIGKILL);
    (void)waitpid(pid_, nullptr, 0);
  }
  for (int file : files_)
    close(file);
}

void Process::signal(int number) const {
  ASSERT_FALSE(reaped_);
  send_signal(pid_, number);
}

// pinglog may have been built with musl.
std::string in_words_of_glibc(std::string text) {
  for (const auto &[musl, error] :
       {std::pair("Filename too long", ENAMETOOLONG),
        {"No file descriptors available", EMFILE},
        {"Out of memory", ENOMEM},
        {"Symbolic link loop", ELOOP}})
    for (size_t at; (at = text.find(musl)) != std::string::npos;)
      text.replace(at, strlen(musl), strerror(error));
  return text;
}

std::string Process::captured(int i) const {
  return in_words_of_glibc(
      read_file(proc(getpid(), "fd/" + std::to_string(files_[i]))));
}

bool Process::has_ended() {
  int status;
  if (!reaped_ && waitpid(pid_, &status, WNOHANG) == pid_) {
    reaped_ = true;
    status_ = exit_status(status);
  }
  return reaped_;
}

Result Process::wait() {
  EXPECT_TRUE(eventually([this] { return has_ended(); })) << "still running";
  return {status_, out(), err()};
}

Result run(const Launch &launch) { return Process(launch).wait(); }

// ---- Surroundings -----------------------------------------------------------

bool unshare_anyhow(int flags) {
  const std::string user = std::to_string(geteuid());
  const std::string group = std::to_string(getegid());
  if (unshare(flags) == 0)
    return true;
  if (unshare(CLONE_NEWUSER | flags) == -1)
    return false;
  for (const auto &[file, text] :
       {std::pair<const char *, std::string>{"setgroups", "deny"},
        {"uid_map", user + " " + user + " 1"},
        {"gid_map", group + " " + group + " 1"}})
    if (!(std::ofstream(proc(getpid(), file)) << text << "\n" << std::flush))
      return false;
  return true;
}

// Moves the test to mounts of its own. Returns the name of the call that
// failed, or nullptr.
static const char *leave_mounts() {
  const fs::path directory = fs::current_path();
  if (!unshare_anyhow(CLONE_NEWNS))
    return "unshare";
  // Make all mounts private: a shared one would propagate ours to others. In a
  // chroot, first go to the namespace's root, because "/" may be no mount.
  const int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int self = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (setns(self, CLONE_NEWNS) == -1)
    return "setns";
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == -1)
    return "mount";
  return fchdir(root) == 0 && chroot(".") == 0 && chdir(directory.c_str()) == 0
             ? nullptr
             : "chroot";
}

Mount::Mount(const std::string &directory, const char *options)
    : directory_(directory) {
  static bool has_left = false;
  const char *failed = has_left ? nullptr : leave_mounts();
  has_left = has_left || failed == nullptr;
  if (failed == nullptr &&
      mount("tmpfs", directory.c_str(), "tmpfs", 0, options) == -1)
    failed = "tmpfs";
  if (failed != nullptr)
    why_ =
        std::string("no mount namespace: ") + failed + ": " + strerror(errno);
}

Mount::~Mount() {
  if (why_.empty())
    (void)umount2(directory_.c_str(), MNT_DETACH);
}

Terminal::Terminal() : master_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
  const char *name = nullptr;
  if (master_ != -1 && grantpt(master_) == 0 && unlockpt(master_) == 0)
    name = ptsname(master_);
  if (name != nullptr && access(name, R_OK | W_OK) == 0)
    name_ = name;
  else
    why_ = std::string("no terminal: ") + strerror(errno);
}

int Terminal::open_slave() const {
  return open(name_.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
}

void Terminal::close() {
  if (master_ != -1)
    ::close(master_);
  master_ = -1;
}

std::function<void()> Terminal::controls() const {
  return [name = name_] {
    const int terminal =
        setsid() == -1 ? -1 : open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ioctl(terminal, TIOCSCTTY, 0) == -1)
      _exit(126);
    for (int fd = 0; fd <= 2; ++fd)
      (void)dup2(terminal, fd);
  };
}
