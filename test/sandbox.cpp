// sandbox.cpp - see sandbox.h.

#include "sandbox.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <grp.h>
#include <stdexcept>
#include <sys/stat.h>

namespace fs = std::filesystem;

Sandbox::Sandbox() : directory_(scratch("pinglog-test.XXXXXX")) {
  if (mkdtemp(directory_.data()) == nullptr)
    abort();
  directory_ = fs::canonical(directory_); // as getcwd() says it
  chmod(directory_.c_str(), 0755);        // pinglog may run as another user
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
    GTEST_SKIP() << "cannot run a script in " << scratch("") << ": "
                 << strerror(errno) << " (set TMPDIR to another directory)";
}

void Sandbox::TearDown() {
  if (access("/proc/self/stat", R_OK) == -1)
    return;
  // A PID may have been reused by now: stop only processes that carry our mark.
  const std::vector<pid_t> ours = processes_with_environment(mark());
  for (pid_t pid : daemons_)
    if (std::count(ours.begin(), ours.end(), pid) > 0)
      stop(pid);
  // Everything that the test started has exited by now, or is about to exit.
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

// The ping counts in lines: a kill at any moment leaves no half-written count.
std::string Sandbox::counting_ping() const {
  return script("counting-ping", "counter=$0.${3%%-*}\n"
                                 "echo >>$counter\n"
                                 "n=0\n"
                                 "while read line; do n=$((n + 1)); done "
                                 "<$counter\n"
                                 "printf '%d %0190d\\n' $n 0\n"
                                 "exit 1");
}

Sandbox::Words Sandbox::long_hosts(int count) {
  Words hosts;
  for (int host = 0; host < count; ++host) {
    hosts.push_back(std::to_string(host));
    hosts.back().resize(255, 'h');
  }
  return hosts;
}

std::string Sandbox::held_ping() const {
  return script("held-ping", "echo >>$0.started\n"
                             "case $3 in held*)\n"
                             "until [ -e $0.$3 ]; do sleep 0.05; done\n"
                             "esac\n"
                             "printf 'x%0199d\\n' 0\n"
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
           process_state(pings[0]) == 'S'; // its libraries are loaded
  }));
  return pings.empty() ? -1 : pings[0];
}

bool Sandbox::is_left_with(size_t left, size_t all, pid_t pinglog) const {
  const auto sleeps = [=] { return process_state(pinglog) == 'S'; };
  return eventually([=] {
    // If pinglog sleeps before and after the count, it has written the results
    // of the pings that are gone.
    return read_lines(path("held-ping.started")).size() == all && sleeps() &&
           children_of(pinglog).size() == left && sleeps();
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
  if (sscanf(result.out.c_str(), "Daemon PID %ld ", &pid) != 1 || pid <= 1 ||
      result.out.find('\n') + 1 != result.out.size())
    throw std::runtime_error("no daemon: '" + result.out + "' " + result.err);
  daemons_.push_back(static_cast<pid_t>(pid));
  return static_cast<pid_t>(pid);
}

void Sandbox::stop(pid_t pid, int signal) {
  send_signal(pid, signal);
  if (!eventually([pid] { return !is_alive(pid); })) {
    ADD_FAILURE() << "PID " << pid << " does not exit";
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

Sandbox::Words Sandbox::log_lines() const {
  Words lines = read_lines(log_file());
  for (std::string &line : lines)
    line = in_words_of_glibc(line);
  return lines;
}

int Sandbox::count(const std::string &beginning) const {
  int found = 0;
  for (const std::string &line : log_lines())
    found += line.rfind(beginning, 0) == 0;
  return found;
}

namespace {

// The text after label and time of each line that has this label.
std::vector<std::string> texts_of(const std::vector<std::string> &lines,
                                  const char *label) {
  const size_t head = strlen(label) + time_size + 1;
  std::vector<std::string> found;
  for (const std::string &line : lines)
    if (line.rfind(label, 0) == 0 && line.size() > head)
      found.push_back(line.substr(head));
  return found;
}

} // namespace

Sandbox::Words Sandbox::results() const {
  return texts_of(log_lines(), result_label);
}

Sandbox::Words Sandbox::outages() const {
  return texts_of(log_lines(), outage_label);
}

void Sandbox::await_results(const std::string &beginning, size_t wanted) const {
  ASSERT_TRUE(eventually([&] {
    size_t found = 0;
    for (const std::string &result : results())
      found += result.rfind(beginning, 0) == 0;
    return found >= wanted;
  })) << "too few results that begin with: "
      << beginning << "\n"
      << read_file(log_file());
}

void Sandbox::await_lines(const std::string &beginning, int wanted) const {
  ASSERT_TRUE(eventually([&] { return count(beginning) >= wanted; }))
      << "only " << count(beginning) << " lines that begin with: " << beginning
      << "\n"
      << read_file(log_file());
}

void Sandbox::await_cycles(int wanted) const {
  await_lines(end_label, count(end_label) + wanted);
}

void Sandbox::expect_sound_log(int hosts) const {
  const Account account = check_log(log_file(), hosts);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lost, 0);
  EXPECT_EQ(count(start_label), count(end_label));
}

std::string Sandbox::why_not_as(uid_t user) const {
  const int status = in_a_child([&] {
    if (setgroups(0, nullptr) == -1 || setgid(user) == -1 || setuid(user) == -1)
      return 1;
    return chdir(directory_.c_str()) == 0 ? 0 : 2;
  });
  return status == 1   ? "cannot become another user"
         : status == 2 ? "another user cannot enter " + directory_
                       : "";
}
