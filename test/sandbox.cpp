// sandbox.cpp - see support.h: the log and the sandbox.

#include "support.h"

#include <stdexcept>

std::string in_words_of_glibc(std::string text); // in process.cpp

// ---- The log ----------------------------------------------------------------

namespace {

// Where in the cycles of so many hosts the next line may stand: 0 is between
// two cycles, 1 + 2 * n is after n results of a cycle, 2 + 2 * n is after the
// outage line of the nth, and -1 is after an outage line that pinglog logs
// because it exits. After lost lines, there may be several places.
using Places = std::set<int>;
constexpr char exit_label[] = "an outage line at the exit";

// The places after a line with one of these labels; none if it cannot stand
// here.
Places after(const Places &places, const Words &labels, int hosts,
             bool is_last) {
  Places next;
  for (const int place : places)
    for (const std::string &label : labels) {
      const bool is_between = place == 0;
      const int results = (place - 1) / 2;
      if (label == started_label && is_between)
        next.insert(0);
      if (label == start_label && is_between)
        next.insert(1);
      if (label == result_label && place > 0 && results < hosts)
        next.insert(3 + 2 * results);
      if (label == outage_label && place >= 3 && place % 2 == 1)
        next.insert(place + 1);
      if (label == exit_label && !is_between)
        next.insert(-1);
      if (label == end_label && !is_between &&
          (results == hosts || is_last || place == -1))
        next.insert(0);
    }
  return next;
}

// Says what is wrong with the line itself, "" if nothing is.
std::string fault_in(const std::string &line) {
  bool is_labelled = false;
  for (const std::string label :
       {started_label, start_label, result_label, outage_label, end_label,
        clock_label, lost_label, rename_label})
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

time_t time_of(const std::string &line) {
  tm parts = {};
  const std::string text = line.substr(label_size, time_size);
  EXPECT_TRUE(strptime(text.c_str(), "%a %b %d %T %Y", &parts));
  EXPECT_EQ(asctime(&parts), text + "\n");
  return timegm(&parts);
}

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

  Places places = {0};
  int cycle = 0;
  int too_slow = 0; // pings that a busy machine may have kept from counting
  bool is_after_loss = false;
  std::set<std::string> seen;                   // the hosts of this cycle
  std::map<std::string, int> failures, numbers; // in a row; by the last ping
  std::map<std::string, std::string> reasons;   // of the first failure in a row
  std::string changed; // the host whose outage begins or ends with this line
  for (const std::string &line : lines) {
    const std::string label = line.substr(0, label_size);
    if (label == rename_label || label == clock_label) // belongs to no cycle
      continue;
    const size_t begin = label_size + time_size + 1;
    const std::string rest = line.substr(std::min(begin, line.size()));
    const std::string host = rest.substr(0, rest.find(' '));
    cycle += label == start_label;
    const std::string where = "in cycle " + std::to_string(cycle) + ": " + line;
    const bool is_exit = label == outage_label && host != changed &&
                         rest.find(" was down ") != std::string::npos;
    int lines_here = 1;
    if (label == lost_label) {
      blame(sscanf(line.c_str() + label_size, "%d", &lines_here) == 1, where);
      blame(!is_after_loss, where);
      account.lost += lines_here;
      for (int skipped = 0; skipped < lines_here; ++skipped)
        places =
            after(places, {start_label, result_label, outage_label, end_label},
                  hosts, false);
    } else {
      Words labels = {is_exit ? exit_label : label};
      if (is_exit && account.lost > 0) // or the result before may be lost
        labels.push_back(label);
      places = after(places, labels, hosts, &line == &lines.back());
    }
    is_after_loss = label == lost_label;
    account.lines += lines_here;
    blame(!places.empty(), where);
    if (account.lost > 0) // the lost lines may have been results
      continue;
    if (is_exit)
      blame(changed.empty() && std::exchange(failures[host], 0) >= 2, where);
    else
      blame(label == outage_label ? host == changed : changed.empty(), where);
    if (label == outage_label)
      blame(Matches(EndsWith(": " + reasons[host]))(rest), where);
    changed.clear();
    if (label == started_label)
      failures.clear();
    if (label == start_label)
      seen.clear();
    if (label != result_label)
      continue;
    blame(seen.insert(host).second, where);
    const bool has_failed = rest.rfind(host + " fail ", 0) == 0;
    if (has_failed ? ++failures[host] == 2
                   : std::exchange(failures[host], 0) >= 2)
      changed = host;
    if (failures[host] == 1)
      reasons[host] = rest.substr(host.size() + strlen(" fail "));
    int number = 0;
    if (sscanf(rest.c_str(), "%*s fail %d ", &number) != 1)
      ++too_slow; // or no result of the counting ping
    else
      blame(number > std::exchange(numbers[host], number) && number <= cycle &&
                number >= cycle - too_slow,
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
  if (!eventually([this] { return processes().empty(); }))
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

void Sandbox::expect_sound_end(Process &process, int hosts) const {
  expect_end(process);
  expect_sound_log(hosts);
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
    if (!become_nobody())
      return 1;
    return chdir(directory_.c_str()) == 0 ? 0 : 2;
  });
  return status == 1   ? "cannot become another user"
         : status == 2 ? "another user cannot enter " + directory_
                       : "";
}
