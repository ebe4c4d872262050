// sandbox.cpp - see support.h: the log and the sandbox.

#include "support.h"

#include <grp.h>
#include <stdexcept>

std::string in_words_of_glibc(std::string text); // in process.cpp

// ---- The log ----------------------------------------------------------------

namespace {

// Where in the cycles of so many hosts a log stands.
struct Place {
  int cycle = 0;
  int results = -1;           // of this cycle; -1: between two cycles
  std::set<std::string> seen; // the hosts of these results
  bool has_gap = false;       // lines of this cycle are lost: any may follow
  std::string before;         // the label of the line before
  std::string newest;         // the host of the result in the line before

  // Moves on by this line. Returns false if it cannot stand here.
  bool pass(const std::string &label, const std::string &host, int hosts,
            bool is_last) {
    if (label == rename_label) // belongs to no cycle
      return true;
    const bool is_between = results == -1;
    const std::string last_label = std::exchange(before, label);
    const std::string last_host = std::exchange(newest, "");
    if (label == lost_label)
      return !std::exchange(has_gap, true) || last_label != lost_label;
    if (label == start_label) {
      ++cycle;
      results = 0;
      seen.clear();
      return std::exchange(has_gap, false) || is_between;
    }
    if (label == result_label) {
      newest = host;
      results = std::max(results, 0) + 1;
      return has_gap ||
             (!is_between && results <= hosts && seen.insert(host).second);
    }
    if (label == outage_label)
      return has_gap || last_host == host;
    const bool is_whole = results == hosts || (is_last && !is_between);
    if (label == end_label)
      results = -1;
    return has_gap || (label == end_label ? is_whole : is_between);
  }
};

// Says what is wrong with the line itself, "" if nothing is.
std::string fault_in(const std::string &line) {
  bool is_labelled = false;
  for (const std::string label :
       {started_label, start_label, result_label, outage_label, end_label,
        lost_label, rename_label})
    is_labelled |= line.rfind(label, 0) == 0 &&
                   line.find("--------:", label.size()) == std::string::npos;
  if (!is_labelled)
    return "no whole line: " + line;
  for (char byte : line)
    if (byte < ' ' || byte > '~')
      return "unprintable: " + line;
  return "";
}

} // namespace

Account check_log(const std::string &path, int hosts) {
  Account account;
  const auto blame = [&account](bool is_good, const std::string &fault) {
    if (!is_good && account.fault.empty())
      account.fault = fault;
  };
  const std::string text = read_file(path);
  blame(text.empty() || text.back() == '\n',
        "torn: " + text.substr(text.rfind('\n') + 1));
  const Words lines = read_lines(path);
  for (const std::string &line : lines)
    blame(fault_in(line).empty(), fault_in(line));
  if (hosts == 0 || !account.fault.empty())
    return account;

  Place place;
  int too_slow = 0; // pings that a busy machine may have kept from counting
  std::map<std::string, int> last_number;
  for (const std::string &line : lines) {
    const std::string label = line.substr(0, label_size);
    const size_t begin = label_size + time_size + 1;
    const std::string rest = line.substr(std::min(begin, line.size()));
    const std::string host = rest.substr(0, rest.find(' '));
    const std::string where =
        "in cycle " + std::to_string(place.cycle) + ": " + line;
    blame(place.pass(label, host, hosts, &line == &lines.back()), where);
    int lost = 0, number = 0;
    if (label == lost_label)
      blame(sscanf(line.c_str() + label_size, "%d", &lost) == 1, where);
    account.lost += lost;
    account.lines += label == lost_label ? lost : label != rename_label;
    if (label != result_label || account.lost > 0)
      continue;
    if (sscanf(rest.c_str(), "%*s fail %d ", &number) != 1)
      ++too_slow; // or no result of the counting ping
    else
      blame(number > std::exchange(last_number[host], number) &&
                number <= place.cycle && number >= place.cycle - too_slow,
            "by number " + where);
  }
  return account;
}

// ---- The sandbox ------------------------------------------------------------

static std::string scratch() {
  const char *directory = getenv("TMPDIR");
  return directory != nullptr ? directory : "/tmp";
}

Sandbox::Sandbox() : directory_(scratch() + "/pinglog-test.XXXXXX") {
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
    GTEST_SKIP() << "cannot run a script in " << scratch() << ": "
                 << strerror(errno) << " (set TMPDIR to another directory)";
}

void Sandbox::TearDown() {
  if (access("/proc/self/stat", R_OK) == -1)
    return;
  // A PID may have been reused by now: stop only processes that carry our mark.
  const std::vector<pid_t> ours = processes();
  for (pid_t pid : daemons_)
    if (std::count(ours.begin(), ours.end(), pid) > 0)
      stop(pid);
  // Everything that the test started has exited by now, or is about to exit.
  if (!eventually([this] { return processes().empty(); },
                  std::chrono::seconds(10)))
    for (pid_t pid : processes()) {
      ADD_FAILURE() << "left behind: PID " << pid << " "
                    << process_status(pid, "Name");
      kill(pid, SIGKILL);
    }
}

std::string Sandbox::move_log() {
  fs::create_directory(path("d"));
  set_log(path("d/ping.log"));
  return path("d");
}

std::vector<pid_t> Sandbox::processes() const {
  std::vector<pid_t> found;
  const std::string mark = '\0' + ("PINGLOG_TEST=" + directory_) + '\0';
  for (const auto &entry : fs::directory_iterator("/proc")) {
    const pid_t pid = atoi(entry.path().filename().c_str());
    if (pid > 0 && pid != getpid() &&
        ('\0' + read_file(entry.path() / "environ") + '\0').find(mark) !=
            std::string::npos)
      found.push_back(pid);
  }
  return found;
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

// The ping counts in lines: a kill at any moment leaves no half-written count.
std::string Sandbox::counting_ping() const {
  return script("counting-ping", R"(counter=$0.${3%%-*}
echo >>$counter
n=0
while read line; do n=$((n + 1)); done <$counter
printf '%d %0190d\n' $n 0
exit 1)");
}

int Sandbox::cycles() const {
  int most = 0;
  for (const auto &entry : fs::directory_iterator(directory_))
    if (entry.path().filename().string().rfind("counting-ping.", 0) == 0)
      most = std::max(most, static_cast<int>(fs::file_size(entry.path())));
  return most;
}

std::string Sandbox::held_ping() const {
  return script("held-ping", R"(echo >>$0.started
case $3 in held*) until [ -e $0.$3 ]; do sleep 0.05; done ;; esac
printf 'x%0199d\n' 0
exit 1)");
}

void Sandbox::release(const std::string &host) const {
  write_file(path("held-ping." + host), "");
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

Words Sandbox::long_hosts(int count) {
  Words hosts;
  for (int host = 0; host < count; ++host) {
    hosts.push_back(std::to_string(host));
    hosts.back().resize(255, 'h');
  }
  return hosts;
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
  return command(program(), Words{"-o", log()} + arguments);
}

Launch Sandbox::quick(const Words &arguments) const {
  return pinglog(Words{"-i", "0.1", "-e", "true"} + arguments + Words{"host"});
}

Launch Sandbox::counting(const Words &arguments, int hosts,
                         bool long_names) const {
  Words words = arguments + Words{"-e", counting_ping()};
  for (int i = 0; i < hosts; ++i)
    words.push_back("h" + std::to_string(i) + "-" +
                    std::string(long_names ? 240 : 1, 'x'));
  return pinglog(words);
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

void Sandbox::expect_failure(const Launch &launch, const std::string &message) {
  const Result result = run(launch);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "pinglog: " + message + "\n");
}

std::string Sandbox::refusal(pid_t holder) const {
  return log() + ": already written by PID " + std::to_string(holder) +
         " (-k stops it)";
}

void Sandbox::expect_refusal(pid_t holder) const {
  expect_failure(quick({"-c", "1"}), refusal(holder));
}

void Sandbox::expect_end(Process &process) {
  process.signal(SIGTERM);
  const Result result = process.wait();
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
}

Words Sandbox::log_lines() const {
  Words lines = read_lines(log());
  for (std::string &line : lines)
    line = in_words_of_glibc(line);
  return lines;
}

int Sandbox::count(const std::string &text) const {
  const Words lines = log_lines();
  return static_cast<int>(
      std::count_if(lines.begin(), lines.end(), [&](const auto &line) {
        return line.find(text) != std::string::npos;
      }));
}

void Sandbox::await(const std::string &text, int wanted) const {
  ASSERT_TRUE(eventually([&] { return count(text) >= wanted; }))
      << "only " << count(text) << " lines have: " << text << "\n"
      << read_file(log());
}

void Sandbox::await_more(const std::string &text, int wanted) const {
  await(text, count(text) + wanted);
}

Words Sandbox::texts(const char *label) const {
  Words found;
  for (const std::string &line : log_lines())
    if (line.rfind(label, 0) == 0 && line.size() > label_size + time_size)
      found.push_back(line.substr(label_size + time_size + 1));
  return found;
}

void Sandbox::expect_sound_log(int hosts) const {
  const Account account = check_log(log(), hosts);
  EXPECT_EQ(account.fault, "");
  EXPECT_EQ(account.lost, 0);
  EXPECT_EQ(count(start_label), count(end_label));
}

std::string Sandbox::why_not_as_nobody() const {
  const int status = in_a_child([this] {
    if (setgroups(0, nullptr) == -1 || setgid(nobody) == -1 ||
        setuid(nobody) == -1)
      return 1;
    return chdir(directory_.c_str()) == 0 ? 0 : 2;
  });
  return status == 1   ? "cannot become another user"
         : status == 2 ? "another user cannot enter " + directory_
                       : "";
}
