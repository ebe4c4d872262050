// support.cpp - see support.h.

#include "support.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <grp.h>
#include <sched.h>
#include <sstream>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
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

namespace {

// Where all that a test writes is: $TMPDIR, or else /tmp.
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

// What the function returns in a child, 0 to 255.
int in_a_child(const std::function<int()> &function) {
  const pid_t pid = fork();
  if (pid == 0)
    _exit(function());
  return pid == -1 ? -1 : wait_for(pid);
}

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

pid_t writer(const std::string &path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  const bool asked = file != -1 && fcntl(file, F_GETLK, &lock) == 0;
  close(file);
  return asked && lock.l_type != F_UNLCK ? lock.l_pid : -1;
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
std::string Process::err() const { return read_file(err_path_); }

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
    if (!(std::ofstream(std::string("/proc/self/") + file) << text << "\n"
                                                           << std::flush))
      return false;
  return true;
}

namespace {

// What the holder of a MountNamespace does: leaves the mounts of all others.
// Returns what failed, or nullptr.
const char *leave_mounts() {
  if (!unshare_anyhow(CLONE_NEWNS))
    return "unshare";
  // What is mounted must not reach the others by way of a shared mount. Where
  // we are in a chroot, that mount is found from the namespace's own root.
  const int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int self = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (setns(self, CLONE_NEWNS) == -1)
    return "setns";
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == -1)
    return "mount";
  return fchdir(root) == 0 && chroot(".") == 0 ? nullptr : "chroot";
}

} // namespace

MountNamespace::MountNamespace() {
  int word[2];
  if (pipe2(word, O_CLOEXEC) == -1)
    abort();
  const pid_t test = getpid();
  holder_ = fork();
  if (holder_ == 0) {
    const char *failed = leave_mounts();
    if (failed != nullptr)
      (void)dprintf(word[1], "no mount namespace: %s: %s", failed,
                    strerror(errno));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(word[1]);
    while (failed == nullptr && getppid() == test)
      pause();
    _exit(0);
  }
  close(word[1]);
  char text[256];
  for (ssize_t size; (size = read(word[0], text, sizeof text)) > 0;)
    why_.append(text, size);
  close(word[0]);
}

MountNamespace::~MountNamespace() {
  kill(holder_, SIGKILL);
  (void)wait_for(holder_);
}

void MountNamespace::enter() const {
  const fs::path directory = fs::current_path();
  const int root = open(path("").c_str(), O_RDONLY | O_CLOEXEC);
  const std::string spaces = "/proc/" + std::to_string(holder_) + "/ns/";
  const int users = open((spaces + "user").c_str(), O_RDONLY | O_CLOEXEC);
  const int mounts = open((spaces + "mnt").c_str(), O_RDONLY | O_CLOEXEC);
  (void)setns(users, CLONE_NEWUSER); // fails where it is one's own
  if (setns(mounts, CLONE_NEWNS) == -1 || fchdir(root) == -1 ||
      chroot(".") == -1 || chdir(directory.c_str()) == -1)
    _exit(125);
}

std::string MountNamespace::path(const std::string &name) const {
  return "/proc/" + std::to_string(holder_) + "/root" + name;
}

void MountNamespace::mount_tmpfs(const std::string &directory,
                                 const std::string &options) const {
  EXPECT_EQ(in_a_child([&] {
              enter();
              errno = 0;
              (void)mount("tmpfs", directory.c_str(), "tmpfs", 0,
                          options.c_str());
              return errno;
            }),
            0)
      << directory << " " << options;
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

void Terminal::close() {
  if (master_ != -1)
    ::close(master_);
  master_ = -1;
}

std::function<void()> Terminal::controls(bool standard_descriptors) const {
  return [name = name_, standard_descriptors] {
    const int terminal =
        setsid() == -1 ? -1 : open(name.c_str(), O_RDWR | O_NOCTTY);
    if (terminal == -1 || ioctl(terminal, TIOCSCTTY, 0) == -1)
      _exit(126);
    for (int fd = 0; fd <= 2 && standard_descriptors; ++fd)
      (void)dup2(terminal, fd);
    ::close(terminal);
  };
}

Sandbox::Sandbox() : directory_(scratch("pinglog-test.XXXXXX")) {
  if (mkdtemp(directory_.data()) == nullptr)
    abort();
  chmod(directory_.c_str(), 0755); // other users' pinglogs look in here
  log_ = path("ping.log");
}

Sandbox::~Sandbox() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

void Sandbox::SetUp() {
  if (access("/proc/self/stat", R_OK) == -1)
    GTEST_SKIP() << "needs /proc";
  if (access(script("script", "").c_str(), X_OK) == -1)
    GTEST_SKIP() << "no script can be run in " << scratch("") << ": "
                 << strerror(errno) << " (TMPDIR names another directory)";
}

void Sandbox::TearDown() {
  if (access("/proc/self/stat", R_OK) == -1)
    return;
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
          std::chrono::seconds(10))) {
    for (pid_t pid : left) {
      ADD_FAILURE() << "left behind: PID " << pid << " "
                    << process_status(pid, "Name");
      kill(pid, SIGKILL);
    }
  }
}

std::string Sandbox::mount_disk(const MountNamespace &inside,
                                const std::string &options) {
  const std::string disk = path("disk");
  fs::create_directory(disk);
  inside.mount_tmpfs(disk, options);
  inside_ = &inside;
  outside_ = inside.path("");
  log_ = disk + "/ping.log";
  return inside.path(disk);
}

std::string Sandbox::mark() const { return "PINGLOG_TEST=" + directory_; }

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

// It may be killed at any moment: a line for each start is never half-written.
std::string Sandbox::counting_ping() const {
  return script("counting-ping", "counter=$0.${3%%-*}\n"
                                 "echo >>$counter\n"
                                 "n=0\n"
                                 "while read line; do n=$((n + 1)); done "
                                 "<$counter\n"
                                 "printf '%d %0190d\\n' $n 0\n"
                                 "exit 1");
}

std::string Sandbox::held_ping() const {
  return script("held-ping", "case $3 in held*)\n"
                             "until [ -e $0.$3 ]; do sleep 0.05; done\n"
                             "esac\n"
                             "exit 1");
}

void Sandbox::release(const std::string &host) const {
  write_file(path("held-ping." + host), "");
}

int Sandbox::cycles() const {
  int most = 0;
  for (const auto &entry : fs::directory_iterator(directory_))
    if (entry.path().filename().string().rfind("counting-ping.", 0) == 0)
      most = std::max(most, static_cast<int>(fs::file_size(entry.path())));
  return most;
}

pid_t Sandbox::ping_of(pid_t pinglog) {
  std::vector<pid_t> pings;
  EXPECT_TRUE(eventually([&] {
    pings = children_of(pinglog);
    return pings.size() == 1 && process_status(pings[0], "Name") == "sleep" &&
           process_state(pings[0]) == 'S'; // it has loaded its libraries
  }));
  return pings.empty() ? -1 : pings[0];
}

bool Sandbox::is_left_with(size_t pings, pid_t pinglog) {
  const auto sleeps = [=] { return process_state(pinglog) == 'S'; };
  return eventually([=] {
    // It has started them all, these are left, and of the others it has
    // written.
    return sleeps() && children_of(pinglog).size() == pings && sleeps();
  });
}

Launch Sandbox::command(const std::string &executable,
                        const Words &arguments) const {
  Launch launch;
  launch.executable = executable;
  launch.arguments = arguments;
  launch.environment["PINGLOG_TEST"] = directory_;
  launch.directory = directory_;
  return launch;
}

Launch Sandbox::pinglog(const Words &arguments) const {
  Launch launch = command(program(), {"-o", log()});
  launch.arguments.insert(launch.arguments.end(), arguments.begin(),
                          arguments.end());
  if (inside_ != nullptr)
    launch.before_exec = [inside = inside_] { inside->enter(); };
  return launch;
}

Launch Sandbox::quick(const Words &arguments) const {
  Launch launch = pinglog({"-i", "0.1", "-e", "true"});
  launch.arguments.insert(launch.arguments.end(), arguments.begin(),
                          arguments.end());
  launch.arguments.push_back("host");
  return launch;
}

Launch Sandbox::counting(const Words &arguments, int hosts,
                         bool long_names) const {
  Launch launch = pinglog(arguments);
  launch.arguments.insert(launch.arguments.end(), {"-e", counting_ping()});
  for (int i = 0; i < hosts; ++i)
    launch.arguments.push_back("h" + std::to_string(i) + "-" +
                               std::string(long_names ? 240 : 1, 'x'));
  return launch;
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

void Sandbox::expect_failure(const Launch &launch, const std::string &message) {
  const Result result = run(launch);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "pinglog: " + message + "\n");
  EXPECT_TRUE(eventually(
      [this] { return processes_with_environment(mark()).empty(); }));
}

void Sandbox::expect_refusal(pid_t holder) {
  const Result second = run(quick({"-c", "1"}));
  EXPECT_EQ(second.status, 1);
  EXPECT_EQ(second.out, "");
  EXPECT_EQ(second.err, "pinglog: " + log() + ": already written by PID " +
                            std::to_string(holder) + " (-k stops it)\n");
}

int Sandbox::count(const std::string &beginning) const {
  int found = 0;
  for (const std::string &line : log_lines())
    found += line.rfind(beginning, 0) == 0;
  return found;
}

Sandbox::Words Sandbox::results() const {
  Words found;
  for (const std::string &line : log_lines())
    if (line.rfind(result_label, 0) == 0)
      found.push_back(line.substr(strlen(result_label)));
  return found;
}

void Sandbox::await_lines(const std::string &beginning, int wanted) const {
  ASSERT_TRUE(eventually([&] { return count(beginning) >= wanted; }))
      << "only " << count(beginning) << " x " << beginning << "\n"
      << read_file(log_file());
}

void Sandbox::await_cycles(int wanted) const {
  await_lines(end_label, count(end_label) + wanted);
}

void Sandbox::expect_sound_log() const {
  EXPECT_EQ(fault_in_log(log_file()), "");
  EXPECT_EQ(count(lost_label), 0);
  EXPECT_EQ(count(start_label), count(end_label));
}

void Sandbox::expect_a_line_for_each_host(size_t hosts) const {
  std::set<std::string> answered;
  bool within = false;
  int cycle = 0;
  const int last = count(start_label);
  for (const std::string &line : log_lines()) {
    if (line.rfind(start_label, 0) == 0) {
      ASSERT_FALSE(within) << cycle;
      within = true;
      ++cycle;
    } else if (line.rfind(end_label, 0) == 0) {
      ASSERT_TRUE(within) << cycle;
      ASSERT_TRUE(answered.size() == hosts || cycle == last)
          << answered.size() << " results in cycle " << cycle;
      within = false;
      answered.clear();
    } else {
      ASSERT_TRUE(within) << "after cycle " << cycle << ": " << line;
      const size_t blank = line.find(' ', strlen(result_label));
      ASSERT_TRUE(answered.insert(line.substr(0, blank)).second)
          << "again in cycle " << cycle << ": " << line;
    }
  }
  EXPECT_FALSE(within);
}

std::string Sandbox::why_not_as(uid_t user) const {
  const int status = in_a_child([&] {
    if (setgroups(0, nullptr) == -1 || setgid(user) == -1 || setuid(user) == -1)
      return 1;
    return chdir(directory_.c_str()) == 0 ? 0 : 2;
  });
  return status == 1   ? "needs the right to become another user"
         : status == 2 ? "another user does not get into " + directory_
                       : "";
}

Account check_lines(const std::vector<std::string> &lines, int hosts) {
  Account account;
  int silent = 0; // pings that a busy machine was too slow for
  std::map<std::string, int> last;
  bool after_mark = false;
  for (const std::string &line : lines) {
    const int within = account.lines % (hosts + 2);
    const int cycle = account.lines / (hosts + 2) + 1;
    const std::string label = line.substr(0, strlen(start_label));
    std::string expected = result_label;
    if (within == 0)
      expected = start_label;
    else if (within == hosts + 1)
      expected = end_label;
    else if (label == end_label && &line == &lines.back())
      expected = label; // the last cycle has been ended early
    int number = 0;
    char host[256] = "";
    bool good = label == expected;
    if (label == lost_label) {
      number = atoi(line.c_str() + label.size());
      good = number > 0 && !after_mark &&
             line == lost_label + std::to_string(number);
      account.lost += number;
    } else if (label == result_label &&
               sscanf(line.c_str() + label.size(), "%255s fail %d ", host,
                      &number) == 2) {
      // One that was too slow may not have counted. Of those among the lost
      // lines nobody knows; there the caller's total tells.
      good = good && number > last[host] && number <= cycle &&
             (account.lost > 0 || number >= cycle - silent);
      last[host] = number;
    } else if (label == result_label) {
      ++silent;
    }
    if (!good && account.fault.empty())
      account.fault = "expected line " + std::to_string(within) + " of cycle " +
                      std::to_string(cycle) + ": " + line;
    after_mark = label == lost_label;
    account.lines += after_mark ? number : 1;
    if (account.lost == 0)
      account.before_mark += line.size() + 1;
  }
  return account;
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
