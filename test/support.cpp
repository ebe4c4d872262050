// support.cpp - see support.h.

#include "support.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <grp.h>
#include <sstream>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

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

namespace {

// The fields of /proc/PID/stat from the third on: the second, the name in
// parentheses, may itself hold blanks.
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
  char name[] = "/tmp/pinglog-output.XXXXXX";
  const int fd = mkstemp(name);
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
  return state != '\0' && state != 'Z' && state != 'X';
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
  for (pid_t candidate : all_processes())
    if (process_stat(candidate, 4) == pid)
      children.push_back(candidate);
  return children;
}

std::vector<pid_t> processes_with_environment(const std::string &entry) {
  std::vector<pid_t> found;
  const std::string wanted = entry + '\0';
  for (pid_t pid : all_processes()) {
    if (pid == getpid() || !is_alive(pid))
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

std::string read_file(const std::string &path) {
  std::error_code error; // of a process that ends just now, say
  if (fs::is_character_file(path, error)) // /dev/full has no end
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

Process::Process(const Launch &launch) {
  // Everything is made ready before the fork.
  out_path_ = launch.stdout_to.empty() ? unique_file() : launch.stdout_to;
  err_path_ = launch.stderr_to.empty() ? unique_file() : launch.stderr_to;
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
  // Whatever the test inherited, make and nohup among it. The C library keeps
  // two signals from sigaction(), and its posix_spawn() leaves them ignored.
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
  if (launch.before_exec)
    launch.before_exec();
  for (int fd : launch.closed)
    close(fd);
  for (const auto &[resource, value] : launch.limits) {
    const rlimit limit = {value, value};
    if (setrlimit(static_cast<__rlimit_resource>(resource), &limit) == -1)
      _exit(126);
  }
  execvp(argv[0], argv.data());
  // Another user may not get there by name, into root's home, say.
  if (executable != -1)
    fexecve(executable, argv.data(), environ);
  _exit(126);
}

void send_signal(pid_t pid, int number) {
  ASSERT_GT(pid, 1);
  ASSERT_EQ(kill(pid, number), 0) << strerror(errno);
}

Process::~Process() {
  if (!reaped_ && pid_ > 0) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) == -1 && errno == EINTR) {
    }
  }
  for (const std::string &path : {out_path_, err_path_})
    if (path.rfind("/tmp/pinglog-output.", 0) == 0)
      unlink(path.c_str());
}

void Process::signal(int number) const {
  ASSERT_FALSE(reaped_);
  send_signal(pid_, number);
}

std::string Process::out() const {
  return read_file(out_path_);
}
std::string Process::err() const {
  return read_file(err_path_);
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

Result run(const Launch &launch) {
  return Process(launch).wait();
}

Sandbox::Sandbox() {
  char name[] = "/tmp/pinglog-test.XXXXXX";
  if (mkdtemp(name) == nullptr)
    abort();
  directory_ = name;
  chmod(name, 0755); // other users' pinglogs look in here
}

Sandbox::~Sandbox() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

void Sandbox::TearDown() {
  // Another process may have its PID by now: this one carries our mark.
  const std::vector<pid_t> ours = processes_with_environment(mark());
  for (pid_t pid : daemons_)
    if (std::count(ours.begin(), ours.end(), pid) > 0)
      stop(pid);
  // What a test started has ended by now, or is about to.
  std::vector<pid_t> left;
  if (!eventually(
          [&] {
            left = processes_with_environment(mark());
            return left.empty();
          },
          std::chrono::seconds(5))) {
    for (pid_t pid : left) {
      ADD_FAILURE() << "left behind: PID " << pid << " "
                    << process_status(pid, "Name");
      kill(pid, SIGKILL);
    }
  }
}

std::string Sandbox::mark() const {
  return "PINGLOG_TEST=" + directory_;
}

std::string Sandbox::script(const std::string &name,
                            const std::string &body) const {
  write_file(path(name), "#!/bin/sh\n" + body + "\n", 0755);
  return path(name);
}

std::string Sandbox::answering_ping() const {
  return script("answering-ping",
                "echo \"PING $3 (192.0.2.1) 56(84) bytes of data.\"\n"
                "echo \"64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=12.3 "
                "ms\"");
}

std::string Sandbox::silent_ping() const {
  return script("silent-ping", "exec sleep 1000");
}

Launch Sandbox::command(const std::string &executable,
                        std::vector<std::string> arguments) const {
  Launch launch;
  launch.executable = executable;
  launch.arguments = std::move(arguments);
  launch.environment["PINGLOG_TEST"] = directory_;
  launch.directory = directory_;
  return launch;
}

Launch Sandbox::pinglog(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), {"-o", log()});
  return command(program(), std::move(arguments));
}

pid_t Sandbox::start_daemon(const Launch &launch) {
  const Result result = run(launch);
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  long pid = -1;
  int length = -1;
  if (sscanf(result.out.c_str(), "Daemon PID %ld\n%n", &pid, &length) != 1 ||
      length != static_cast<int>(result.out.size()) || pid <= 1)
    throw std::runtime_error("no daemon: '" + result.out + "' " + result.err);
  daemons_.push_back(static_cast<pid_t>(pid));
  return static_cast<pid_t>(pid);
}

void Sandbox::stop(pid_t pid, int signal) {
  send_signal(pid, signal);
  if (!eventually([pid] { return !is_alive(pid); })) {
    ADD_FAILURE() << "PID " << pid << " does not end";
    kill(pid, SIGKILL);
  }
}

int Sandbox::count(const std::string &beginning) const {
  int found = 0;
  for (const std::string &line : log_lines())
    found += line.rfind(beginning, 0) == 0;
  return found;
}

std::vector<std::string> Sandbox::results() const {
  std::vector<std::string> found;
  for (const std::string &line : log_lines())
    if (line.rfind(result_label, 0) == 0)
      found.push_back(line.substr(strlen(result_label)));
  return found;
}

std::string fault_in_log(const std::string &path) {
  const std::string text = read_file(path);
  if (!text.empty() && text.back() != '\n')
    return "torn: " + text.substr(text.rfind('\n') + 1);
  for (const std::string &line : read_lines(path)) {
    bool labelled = false;
    for (const std::string label :
         {start_label, result_label, end_label, lost_label})
      labelled |= line.rfind(label, 0) == 0 &&
                  line.find("--------:", label.size()) == std::string::npos;
    if (!labelled)
      return "no whole line: " + line;
    for (char byte : line)
      if (byte < ' ' || byte > '~')
        return "unprintable: " + line;
  }
  return "";
}
