// process.cpp - see process.h.

#include "process.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <grp.h>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace fs = std::filesystem;

std::string program() {
  const char *named = getenv("PINGLOG");
  const fs::path self = fs::canonical("/proc/self/exe");
  return fs::canonical(named != nullptr
                           ? fs::path(named)
                           : self.parent_path().parent_path() / "pinglog");
}

bool eventually(const std::function<bool()> &condition,
                std::chrono::seconds bound) {
  const auto end = std::chrono::steady_clock::now() + bound;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end)
      return condition();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

int rounds(const char *variable, int usual) {
  const char *wanted = getenv(variable);
  return wanted != nullptr ? atoi(wanted) : usual;
}

std::string scratch(const std::string &name) {
  const char *directory = getenv("TMPDIR");
  return std::string(directory != nullptr ? directory : "/tmp") + "/" + name;
}

int wait_for(pid_t pid) {
  int status = -1;
  while (waitpid(pid, &status, 0) == -1 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int in_a_child(const std::function<int()> &function) {
  const pid_t pid = fork();
  if (pid == 0)
    _exit(function());
  return pid == -1 ? -1 : wait_for(pid);
}

namespace {

// The fields of /proc/PID/stat from the third on. The second field, the name in
// parentheses, may contain blanks.
std::vector<std::string> stat_fields(pid_t pid) {
  const std::string text = read_file("/proc/" + std::to_string(pid) + "/stat");
  const size_t end = text.rfind(") ");
  std::vector<std::string> fields;
  if (end == std::string::npos)
    return fields;
  std::istringstream rest(text.substr(end + 2));
  for (std::string field; rest >> field;)
    fields.push_back(field);
  return fields;
}

std::vector<pid_t> all_processes() {
  std::vector<pid_t> pids;
  for (const auto &entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos)
      pids.push_back(std::stoi(name));
  }
  return pids;
}

std::string unique_file() {
  std::string name = scratch("pinglog-output.XXXXXX");
  const int fd = mkstemp(name.data());
  if (fd == -1)
    abort();
  close(fd);
  return name;
}

} // namespace

char process_state(pid_t pid) {
  const auto fields = stat_fields(pid);
  return fields.empty() ? '\0' : fields[0][0];
}

bool is_alive(pid_t pid) {
  const char state = process_state(pid);
  const bool is_zombie = state == 'Z' || state == 'X';
  return state != '\0' && !(is_zombie && process_stat(pid, 20) <= 1);
}

long process_stat(pid_t pid, int field) {
  const auto fields = stat_fields(pid);
  return fields.size() < static_cast<size_t>(field - 2)
             ? -1
             : std::stol(fields[field - 3]);
}

std::string process_status(pid_t pid, const std::string &key) {
  for (const std::string &line :
       read_lines("/proc/" + std::to_string(pid) + "/status"))
    if (line.rfind(key + ":", 0) == 0) {
      const size_t value = line.find_first_not_of(" \t", key.size() + 1);
      return value == std::string::npos ? "" : line.substr(value);
    }
  return "";
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  const std::string task = "/proc/" + std::to_string(pid) + "/task/";
  if (std::ifstream list(task + std::to_string(pid) + "/children"); list) {
    for (pid_t child; list >> child;)
      children.push_back(child);
    return children;
  }
  // Not every kernel has that list.
  for (pid_t candidate : all_processes())
    if (process_stat(candidate, 4) == pid)
      children.push_back(candidate);
  return children;
}

std::vector<pid_t> zombies_of(pid_t pid) {
  std::vector<pid_t> found;
  for (pid_t child : children_of(pid))
    if (process_state(child) == 'Z')
      found.push_back(child);
  return found;
}

std::vector<pid_t> processes_with_environment(const std::string &entry) {
  std::vector<pid_t> found;
  const std::string wanted = entry + '\0';
  for (pid_t pid : all_processes()) {
    if (pid == getpid())
      continue;
    const std::string text =
        '\0' + read_file("/proc/" + std::to_string(pid) + "/environ") + '\0';
    if (text.find('\0' + wanted) != std::string::npos)
      found.push_back(pid);
  }
  return found;
}

std::map<int, std::string> descriptors_of(pid_t pid) {
  std::map<int, std::string> found;
  std::error_code error;
  const std::string directory = "/proc/" + std::to_string(pid) + "/fd";
  for (fs::directory_iterator entry(directory, error);
       !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code gone;
    found[std::stoi(entry->path().filename())] =
        fs::read_symlink(entry->path(), gone);
  }
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

std::vector<std::string> read_lines(const std::string &path) {
  std::vector<std::string> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);)
    lines.push_back(line);
  return lines;
}

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

Process::Process(const Launch &launch) {
  // Choose the output files before the fork: the parent reads them later.
  out_path_ = launch.stdout_to;
  err_path_ = launch.stderr_to;
  for (std::string *path : {&out_path_, &err_path_})
    if (path->empty())
      own_files_.push_back(*path = unique_file());
  std::vector<std::string> words = {launch.executable};
  words.insert(words.end(), launch.arguments.begin(), launch.arguments.end());
  std::vector<char *> argv;
  for (std::string &word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);

  pid_ = fork();
  if (pid_ != 0)
    return;
  for (const auto &[fd, path] :
       {std::pair<int, std::string>{1, out_path_}, {2, err_path_}}) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (file == -1 || dup2(file, fd) == -1)
      _exit(126);
    close(file);
  }
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  close(null);
  if (launch.clear_environment)
    clearenv();
  for (const auto &[name, value] : launch.environment)
    setenv(name.c_str(), value.c_str(), 1);
  if (!launch.directory.empty() && chdir(launch.directory.c_str()) == -1)
    _exit(126);
  if (launch.umask)
    umask(*launch.umask);
  const int executable = launch.user ? open(argv[0], O_RDONLY | O_CLOEXEC) : -1;
  if (launch.user && (setgroups(0, nullptr) == -1 ||
                      setgid(*launch.user) == -1 || setuid(*launch.user) == -1))
    _exit(126);
  // Reset all signals: make or nohup may have left some ignored. posix_spawn()
  // leaves two ignored that the C library's sigaction() refuses to reset.
  for (int number = 1; number <= 64; ++number) {
    const char by_default[64] = {};
    (void)syscall(SYS_rt_sigaction, number, by_default, nullptr, 8);
  }
  for (int number : launch.ignored)
    ::signal(number, SIG_IGN);
  sigset_t blocked;
  sigemptyset(&blocked);
  for (int number : launch.blocked)
    sigaddset(&blocked, number);
  sigprocmask(SIG_SETMASK, &blocked, nullptr);
  // Close on exec what the test inherited; before_exec() may add descriptors.
  for (int fd = STDERR_FILENO + 1; fd < 1024; ++fd)
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (launch.before_exec)
    launch.before_exec();
  for (int fd : launch.closed)
    close(fd);
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

void send_signal(pid_t pid, int number) {
  ASSERT_GT(pid, 1);
  ASSERT_EQ(kill(pid, number), 0) << strerror(errno);
}

void while_stopped(pid_t pid, const std::function<void()> &act) {
  send_signal(pid, SIGSTOP);
  EXPECT_TRUE(eventually([pid] { return process_state(pid) == 'T'; }));
  act();
  send_signal(pid, SIGCONT);
}

Process::~Process() {
  if (!reaped_ && pid_ > 0) {
    kill(pid_, SIGKILL);
    (void)wait_for(pid_);
  }
  for (const std::string &path : own_files_)
    unlink(path.c_str());
}

void Process::signal(int number) const {
  ASSERT_FALSE(reaped_);
  send_signal(pid_, number);
}

std::string Process::out() const { return read_file(out_path_); }
std::string Process::err() const {
  return in_words_of_glibc(read_file(err_path_));
}

bool Process::has_ended() {
  int status;
  if (!reaped_ && waitpid(pid_, &status, WNOHANG) == pid_) {
    reaped_ = true;
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return reaped_;
}

Result Process::wait(std::chrono::seconds bound) {
  EXPECT_TRUE(eventually([this] { return has_ended(); }, bound))
      << "still running";
  return {status_, out(), err()};
}

Result run(const Launch &launch) { return Process(launch).wait(); }
