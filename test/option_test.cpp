// option_test.cpp - what can be asked of it: options, their values, hosts, the
// environment; and what it answers: lines, messages, exit status.

#include "support.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSubsetOf;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

std::string text_of(const Words &words) {
  return ::testing::PrintToString(words);
}

// A time as ctime() writes it, so many seconds east of Greenwich.
std::string ctime_at(time_t time, long east) {
  time += east;
  const std::string text = asctime(gmtime(&time));
  return text.substr(0, text.size() - 1);
}

std::string link(pid_t pid, const std::string &name) {
  std::error_code error;
  return fs::read_symlink("/proc/" + std::to_string(pid) + "/" + name, error);
}

class OptionTest : public Sandbox {
protected:
  // A ping that leaves its arguments, each behind a `>`, in arguments(), and
  // does not answer.
  std::string recording_ping(const std::string &name) const {
    return script(name, "printf '>%s' \"$@\" >'" + path("arguments.new") +
                            "'; mv '" + path("arguments.new") + "' '" +
                            path("arguments") + "'; exec sleep 1000");
  }
  std::string arguments() const { return read_file(path("arguments")); }

  // Runs it in the foreground until the condition is true, then ends it: the
  // first cycle is long enough for any ping on a busy machine.
  void run_until(const Words &words, const std::function<bool()> &condition,
                 const std::string &search = "") const {
    Words all = {"-f", "-i", "60"};
    all.insert(all.end(), words.begin(), words.end());
    Launch launch = pinglog(all);
    if (!search.empty())
      launch.environment["PATH"] = search;
    Process process(launch);
    EXPECT_TRUE(eventually([&] { return condition() || process.has_ended(); }));
    if (!process.has_ended())
      process.signal(SIGTERM);
    const Result result = process.wait();
    EXPECT_EQ(result.status, 0) << result.err;
  }

  // What a recording ping gets, with these arguments and this PATH.
  std::string recorded(const Words &words,
                       const std::string &search = "") const {
    fs::remove(path("arguments"));
    run_until(
        words, [this] { return fs::exists(path("arguments")); }, search);
    return arguments();
  }

  // One cycle in the foreground, with a short interval and these arguments.
  Launch cycle(const Words &words) const {
    Words all = {"-f", "-c", "1", "-i", "0.2"};
    all.insert(all.end(), words.begin(), words.end());
    return pinglog(all);
  }

  // What a launch refuses: exit status 2, one line, then the usage.
  void expect_refused(const Launch &launch, const std::string &line) {
    Process process(launch);
    const Result result = process.wait(std::chrono::seconds(5));
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, "pinglog: " + line + "\n" + usage());
    EXPECT_FALSE(fs::exists(log()));
  }

  // Where a mutant takes what it should refuse, it does not do so for long,
  // and not in /home/ping.log.
  Launch harmless(const Words &words) const {
    Words all = {"-e", answering_ping(), "-c", "1", "-i", "0.2"};
    all.insert(all.end(), words.begin(), words.end());
    return pinglog(all);
  }

  // What a launch dies of: exit status 1, one line, no process left.
  void expect_failure(const Launch &launch, const std::string &line) {
    const Result result = run(launch);
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, "pinglog: " + line + "\n");
    EXPECT_TRUE(processes_with_environment(mark()).empty());
  }

  const std::string &usage() {
    if (usage_.empty())
      usage_ = run(command(program(), {"-h"})).out;
    return usage_;
  }

  // The one ping that this pinglog has started, once it is `sleep`.
  static pid_t ping_of(pid_t pid) {
    std::vector<pid_t> pings;
    EXPECT_TRUE(eventually([&] {
      pings = children_of(pid);
      return pings.size() == 1 && process_status(pings[0], "Name") == "sleep" &&
             process_state(pings[0]) == 'S'; // it has loaded its libraries
    }));
    return pings.empty() ? -1 : pings[0];
  }

private:
  std::string usage_;
};

// ---- -h, -V and what is refused -------------------------------------------

TEST_F(OptionTest, HelpNamesEveryOptionOnStandardOutput) {
  const Result result = run(command(program(), {"-h"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out,
              StartsWith("usage: pinglog [-f] [-c count] [-e command] [-i "
                         "seconds] [-o file]\n"));
  for (const char *part :
       {"[-s KiB]", "[host ...]", "pinglog -k [-o file]", "pinglog -h | -V"})
    EXPECT_THAT(result.out, HasSubstr(part));
}

TEST_F(OptionTest, VersionIsPrintedAlone) {
  const Result result = run(command(program(), {"-V"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, MatchesRegex("pinglog [0-9]+[.][0-9]+\n"));
}

TEST_F(OptionTest, BadNumberIsRefusedWithOptionValueAndUsage) {
  const std::map<std::string, Words> bad = {
      {"-c",
       {"",
        " ",
        "x",
        "1x",
        "x1",
        "1 ",
        " 1",
        "0",
        "00",
        "-1",
        "+1",
        "1.",
        "1.0",
        "1e3",
        "0x1",
        "nan",
        "inf",
        "1\n",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551617",
        "340282366920938463463374607431768211457"}},
      {"-i",
       {"",
        ".",
        " ",
        "x",
        "nan",
        "inf",
        "1x",
        "1s",
        "x1",
        "1 ",
        " 1",
        "0",
        "0.0",
        "-1",
        "-0.5",
        "0.-5",
        "+1",
        "1e1",
        "0x1",
        "1,5",
        "1.2.3",
        "1..",
        "0.009",
        "0.009999999",
        "86401",
        "86400.1",
        "86400.000000001",
        "18446744073.709551626",
        "18446744074",
        "9223372036854775808",
        "340282366920938463463374607431768211457"}},
      {"-s",
       {"", " ", "x", "1x", "1K", "1 ", " 1", "-1", "-0", "+1", "1.5", "0.",
        "1e3", "0x1", "nan", "9223372036854775807", "18014398509481984",
        "18446744073709551616", "340282366920938463463374607431768211457"}}};
  for (const auto &[option, values] : bad)
    for (const std::string &value : values) {
      SCOPED_TRACE(option + " '" + value + "'");
      expect_refused(harmless({option, value, "host"}),
                     "bad " + option + ": '" + value + "'");
    }
}

TEST_F(OptionTest, GoodNumberIsTaken) {
  const std::map<std::string, Words> good = {
      {"-c", {"1", "01", "4294967297", "1000000000000"}},
      {"-i",
       {"0.01", "0.010", ".5", "5.", "3", "007", "1.5", "86400", "86400.000",
        "0.123456789"}},
      {"-s", {"0", "1", "00", "10240", "4194305", "1000000000000"}}};
  for (const auto &[option, values] : good)
    for (const std::string &value : values) {
      SCOPED_TRACE(option + " '" + value + "'");
      fs::remove(log());
      Process process(
          pinglog({"-f", "-e", answering_ping(), option, value, "host"}));
      EXPECT_TRUE(eventually([&] { return count(result_label) > 0; }));
      if (!process.has_ended()) // as it may, with -c 1
        process.signal(SIGTERM);
      EXPECT_EQ(process.wait().status, 0);
    }
}

TEST_F(OptionTest, BadWordIsRefusedWithWhatItIsAndUsage) {
  const std::string longest(255, 'h');
  const struct {
    Words words;
    std::string line;
  } rows[] = {
      // Hosts.
      {{""}, "bad host: ''"},
      {{"good", ""}, "bad host: ''"},
      {{"--", "-f"}, "bad host: '-f'"},
      {{"-"}, "bad host: '-'"},
      {{"good", "a b"}, "bad host: 'a b'"},
      {{"a\tb"}, "bad host: 'a\tb'"},
      {{"a\nb"}, "bad host: 'a\nb'"},
      {{" a"}, "bad host: ' a'"},
      {{"a\x1b[2J"}, "bad host: 'a\x1b[2J'"},
      {{"a\x7f"}, "bad host: 'a\x7f'"},
      {{"h\xc3\xa9"}, "bad host: 'h\xc3\xa9'"},
      {{longest + "h"}, "bad host: '" + longest + "h'"},
      // Commands.
      {{"-e", ""}, "bad -e: ''"},
      {{"-e", " "}, "bad -e: ' '"},
      {{"-e", " \t "}, "bad -e: ' \t '"},
      // Logs.
      {{"-o", ""}, "bad -o: ''"},
      {{"-o", "-"}, "bad -o: '-'"},
      {{"-k", "-o", "-"}, "bad -o: '-'"},
      {{"-k", "-f", "-o", "-"}, "bad -o: '-'"},
      {{"-k", "host"}, "bad -k with host: 'host'"},
      {{"-k", ""}, "bad -k with host: ''"},
      // Options.
      {{"-x"}, "bad option: '-x'"},
      {{"-fx"}, "bad option: '-x'"},
      {{"--help"}, "bad option: '--'"},
      {{"-c"}, "bad option without a value: '-c'"},
      {{"-e"}, "bad option without a value: '-e'"},
      {{"-i"}, "bad option without a value: '-i'"},
      {{"-o"}, "bad option without a value: '-o'"},
      {{"-s"}, "bad option without a value: '-s'"},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(text_of(row.words));
    expect_refused(harmless(row.words), row.line);
  }
}

TEST_F(OptionTest, LaterValueOfAnOptionCounts) {
  const Result result = run(cycle({"-e", answering_ping(), "-c", "2", "h"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(count(start_label), 2);
}

// ---- Hosts and the command ------------------------------------------------

TEST_F(OptionTest, EveryHostIsPingedAlsoTheLongest) {
  const std::string longest(255, 'h');
  const Words hosts = {"a",           "192.0.2.1",   "fe80::1%eth0",
                       "x_y.example", "$HOME;`id`*", longest};
  Words words = {"-e", script("ping", "echo \"$@ time=1 ms\""), "--"};
  words.insert(words.end(), hosts.begin(), hosts.end());
  run_until(words, [&] { return results().size() == hosts.size(); });
  EXPECT_EQ(fault_in_log(log()), "");
  Words expected;
  for (const std::string &host : hosts)
    expected.push_back(host + " ok 1 ms");
  EXPECT_THAT(results(), ::testing::UnorderedElementsAreArray(expected));
}

TEST_F(OptionTest, CommandIsSplitAtBlanksAndCountAndHostArePutBehind) {
  const std::string ping = recording_ping("ping");
  const std::pair<std::string, std::string> rows[] = {
      {ping, ">-c>1>host"},
      {ping + " -6", ">-6>-c>1>host"},
      {" \t" + ping + "  -I\twwan0 \t", ">-I>wwan0>-c>1>host"},
      // There is no shell.
      {ping + " 'a b' \"c\" $HOME * ; | & \\", ">'a>b'>\"c\">$HOME>*>;>|>&>\\"
                                               ">-c>1>host"},
  };
  for (const auto &[text, expected] : rows) {
    SCOPED_TRACE(text);
    EXPECT_EQ(recorded({"-e", text, "host"}), expected);
  }
}

TEST_F(OptionTest, CommandOfAThousandWordsIsKept) {
  std::string text = recording_ping("ping");
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    text += " " + std::to_string(i);
    expected += ">" + std::to_string(i);
  }
  EXPECT_EQ(recorded({"-e", text, "host"}), expected + ">-c>1>host");
}

TEST_F(OptionTest, CommandIsFoundInPathAndUnderTheNameThatWasGiven) {
  fs::create_directory(path("bin"));
  recording_ping("bin/myping");
  fs::create_directory(path("empty"));
  write_file(path("empty/myping"), "no program", 0644);
  for (const std::string &search :
       {"/nowhere:" + path("empty") + ":" + path("bin") + ":/usr/bin:/bin",
        std::string("bin:/usr/bin:/bin")}) { // relative to the caller's
    SCOPED_TRACE(search);
    EXPECT_EQ(recorded({"-e", "myping", "host"}, search), ">-c>1>host");
  }
}

TEST_F(OptionTest, CommandIsFoundWithoutAPath) {
  Launch launch = pinglog({"-f", "-c", "1", "-i", "1", "-e", "true", "host"});
  launch.before_exec = [] { unsetenv("PATH"); };
  const Result result = run(launch);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(results(), ElementsAre("host ok"));
}

TEST_F(OptionTest, DirectoryIsNoCommand) {
  fs::create_directories(path("first/myping"));
  fs::create_directory(path("second"));
  fs::rename(recording_ping("myping"), path("second/myping"));
  // As execvp() does, it looks on.
  EXPECT_EQ(recorded({"-e", "myping", "host"},
                     path("first") + ":" + path("second") + ":/usr/bin:/bin"),
            ">-c>1>host");
  const std::string name = path("first/myping");
  expect_failure(harmless({"-e", name, "host"}), name + ": Permission denied");
}

TEST_F(OptionTest, CommandThatIsNotThereIsSaidAtTheStart) {
  write_file(path("text"), "no program", 0644);
  const std::pair<std::string, std::string> rows[] = {
      {"nosuchping", "nosuchping: No such file or directory"},
      {"nosuchping -n", "nosuchping: No such file or directory"},
      {"/nowhere/ping", "/nowhere/ping: No such file or directory"},
      {"./nosuchping", "./nosuchping: No such file or directory"},
      {path("text"), path("text") + ": Permission denied"},
  };
  for (const auto &[text, line] : rows)
    for (const Words &words :
         {Words{"-e", text, "host"}, Words{"-f", "-e", text, "host"}}) {
      SCOPED_TRACE(text_of(words));
      expect_failure(pinglog(words), line);
    }
}

TEST_F(OptionTest, LogThatCannotBeOpenedIsSaidAtTheStart) {
  const std::string name = path("nowhere/ping.log");
  for (const Words &words :
       {Words{"-o", name, "host"}, Words{"-f", "-o", name, "host"}}) {
    SCOPED_TRACE(text_of(words));
    expect_failure(harmless(words), name + ": No such file or directory");
  }
}

TEST_F(OptionTest, RelativeCommandAndLogMeanTheCallersDirectory) {
  fs::create_directory(path("bin"));
  fs::create_directory(path("logs"));
  recording_ping("bin/relative-ping");
  // Named, or found by a relative PATH.
  for (const char *name : {"bin/relative-ping", "relative-ping"}) {
    SCOPED_TRACE(name);
    fs::remove(path("arguments"));
    Launch launch =
        command(program(), {"-o", "logs/my.log", "-e", name, "host"});
    launch.environment["PATH"] = "bin:/usr/bin:/bin";
    const pid_t pid = start_daemon(launch);
    EXPECT_TRUE(eventually([&] { return arguments() == ">-c>1>host"; }));
    EXPECT_THAT(read_file(path("logs/my.log")), StartsWith(start_label));
    // -k means the same file by the same name.
    const Result result = run(command(program(), {"-k", "-o", "logs/my.log"}));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_FALSE(is_alive(pid));
  }
}

// ---- The defaults ---------------------------------------------------------

TEST_F(OptionTest, DefaultHostAndCommand) {
  recording_ping("ping");
  EXPECT_EQ(recorded({}, path("") + ":/usr/bin:/bin"),
            ">-n>-c>1>www.baidu.com");
}

// Keeps others of these tests from the default log, puts aside what is there,
// and puts it back.
class DefaultLog {
public:
  DefaultLog() {
    // Who had the lock before has removed the file: then it is another one.
    struct stat locked, named;
    do {
      if (lock_ != -1)
        close(lock_);
      lock_ = open(lock_name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
      if (lock_ == -1 || flock(lock_, LOCK_EX) == -1 ||
          fstat(lock_, &locked) == -1)
        return;
    } while (stat(lock_name, &named) == -1 || named.st_ino != locked.st_ino);
    const int log = open("/home/ping.log", O_RDONLY | O_CLOEXEC);
    struct flock writer = {};
    writer.l_type = F_WRLCK;
    const bool busy = log != -1 && fcntl(log, F_GETLK, &writer) == 0 &&
                      writer.l_type != F_UNLCK;
    if (log != -1)
      close(log);
    if (busy || access("/home", W_OK) == -1)
      return;
    for (const std::string name : names) {
      std::error_code error;
      fs::rename(name, name + aside, error);
    }
    usable_ = true;
  }
  DefaultLog(const DefaultLog &) = delete;
  DefaultLog &operator=(const DefaultLog &) = delete;
  ~DefaultLog() {
    for (const std::string name : names) {
      std::error_code error;
      if (!usable_)
        continue;
      fs::remove(name, error);
      fs::rename(name + aside, name, error);
    }
    unlink(lock_name);
    close(lock_);
  }
  bool usable() const { return usable_; }

private:
  static constexpr char lock_name[] = "/tmp/pinglog-test-default-log.lock";
  static constexpr const char *names[] = {"/home/ping.log", "/home/ping.log.0"};
  const std::string aside = ".aside-" + std::to_string(getpid());
  int lock_ = -1;
  bool usable_ = false;
};

TEST_F(OptionTest, WithoutArgumentsItPingsEveryThreeSecondsIntoHomePingLog) {
  SKIP_UNLESS_ROOT(); // who else may write in /home
  const DefaultLog log;
  if (!log.usable())
    GTEST_SKIP() << "/home/ping.log is in use or cannot be written";
  recording_ping("ping");
  Launch launch = command(program(), {});
  launch.environment["PATH"] = path("") + ":/usr/bin:/bin";
  const pid_t pid = start_daemon(launch);
  EXPECT_TRUE(
      eventually([] { return read_lines("/home/ping.log").size() >= 4; }));
  EXPECT_EQ(fault_in_log("/home/ping.log"), "");
  EXPECT_EQ(read_lines("/home/ping.log").at(1),
            "ping result--------:www.baidu.com fail no answer in 3 s");
  EXPECT_EQ(arguments(), ">-n>-c>1>www.baidu.com");
  const Result result = run(command(program(), {"-k"}));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_FALSE(is_alive(pid));
}

TEST_F(OptionTest, LogIsRenamedFromTheSizeThatWasAskedFor) {
  const struct {
    Words words;
    off_t size;
    bool renamed;
  } rows[] = {{{"-s", "1"}, 1023, false},        {{"-s", "1"}, 1024, true},
              {{"-s", "20"}, 20479, false},      {{"-s", "20"}, 20480, true},
              {{}, 10240 * 1024 - 1, false},     {{}, 10240 * 1024, true},
              {{"-s", "0"}, 10240 * 1024, false}};
  for (const auto &row : rows) {
    SCOPED_TRACE(text_of(row.words) + " " + std::to_string(row.size));
    fs::remove(log() + ".0");
    write_file(log(), "");
    ASSERT_EQ(truncate(log().c_str(), row.size - 1), 0); // no disk is needed
    ASSERT_EQ(run(command("sh", {"-c", "echo >>ping.log"})).status, 0);
    Words words = row.words;
    words.insert(words.end(), {"-e", answering_ping(), "host"});
    EXPECT_EQ(run(cycle(words)).status, 0);
    EXPECT_EQ(fs::exists(log() + ".0"), row.renamed);
    if (row.renamed) {
      EXPECT_EQ(fs::file_size(log() + ".0"), uintmax_t(row.size));
    }
    EXPECT_EQ(fs::file_size(log()) < 200, row.renamed);
  }
}

// ---- -c, -f, -o, -k -------------------------------------------------------

TEST_F(OptionTest, CountEndsItAfterSoManyCycles) {
  for (int cycles : {1, 2, 5}) {
    SCOPED_TRACE(cycles);
    fs::remove(log());
    EXPECT_EQ(run(pinglog({"-f", "-i", "0.1", "-c", std::to_string(cycles),
                           "-e", answering_ping(), "a", "b"}))
                  .status,
              0);
    EXPECT_EQ(count(start_label), cycles);
    EXPECT_EQ(count(result_label), 2 * cycles);
    EXPECT_EQ(count(end_label), cycles);
    EXPECT_EQ(log_lines().size(), 4u * cycles);
  }
}

TEST_F(OptionTest, CountEndsTheDaemonToo) {
  const pid_t pid = start_daemon(
      pinglog({"-i", "0.1", "-c", "2", "-e", answering_ping(), "host"}));
  EXPECT_TRUE(eventually([pid] { return !is_alive(pid); }));
  EXPECT_EQ(count(end_label), 2);
}

TEST_F(OptionTest, CountAboveFourBillionIsNotTruncated) {
  Process process(pinglog({"-f", "-i", "0.01", "-c", "4294967297", "-e",
                           answering_ping(), "host"}));
  EXPECT_TRUE(eventually([&] { return count(start_label) > 3; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

TEST_F(OptionTest, ForegroundLeavesTheProcessAsItWas) {
  write_file(path("in"), "");
  Launch launch = pinglog({"-f", "-e", silent_ping(), "-i", "60", "host"});
  launch.umask = 027;
  launch.stdout_to = path("out");
  launch.stderr_to = path("err");
  launch.before_exec = [in = path("in")] {
    (void)close(0);
    (void)!open(in.c_str(), O_RDONLY);
  };
  Process process(launch);
  const pid_t pid = process.pid();
  (void)ping_of(pid);
  EXPECT_EQ(process_status(pid, "Name"), "pinglog"); // no fork
  EXPECT_EQ(link(pid, "cwd"), path("").substr(0, path("").size() - 1));
  EXPECT_EQ(process_status(pid, "Umask"), "0027");
  EXPECT_EQ(process_stat(pid, 5), process_stat(getpid(), 5)); // its group
  EXPECT_EQ(process_stat(pid, 6), process_stat(getpid(), 6)); // its session
  EXPECT_EQ(link(pid, "fd/0"), path("in"));
  EXPECT_EQ(link(pid, "fd/1"), path("out"));
  EXPECT_EQ(link(pid, "fd/2"), path("err"));
  process.signal(SIGTERM);
  const Result result = process.wait();
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "");
}

TEST_F(OptionTest, DaemonLeavesWhatTheCallerHas) {
  Launch launch = pinglog({"-e", silent_ping(), "-i", "60", "host"});
  launch.umask = 027;
  const pid_t pid = start_daemon(launch);
  const pid_t ping = ping_of(pid);
  EXPECT_EQ(process_status(pid, "Name"), "pinglog");
  EXPECT_EQ(link(pid, "cwd"), "/");
  EXPECT_EQ(process_status(pid, "Umask"), "0000");
  EXPECT_NE(process_stat(pid, 5), process_stat(getpid(), 5));
  EXPECT_NE(process_stat(pid, 6), process_stat(getpid(), 6));
  EXPECT_NE(process_stat(pid, 6), pid);
  for (const char *name : {"fd/0", "fd/1", "fd/2"})
    EXPECT_EQ(link(pid, name), "/dev/null");
  EXPECT_THAT(processes_with_environment(mark()),
              ::testing::UnorderedElementsAre(pid, ping));
}

TEST_F(OptionTest, DashIsStandardOutput) {
  const Result result =
      run(command(program(), {"-f", "-c", "2", "-i", "0.2", "-o", "-", "-e",
                              answering_ping(), "host"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  write_file(log(), result.out);
  EXPECT_EQ(fault_in_log(log()), "");
  EXPECT_EQ(log_lines().size(), 6u);
  EXPECT_EQ(results().size(), 2u);
  EXPECT_FALSE(fs::exists(path("-")));
}

TEST_F(OptionTest, KillStopsTheDaemonOfThisLogAndWaits) {
  const pid_t other = start_daemon(
      command(program(), {"-o", path("other.log"), "-e", silent_ping(), "h"}));
  for (bool stopped : {false, true}) {
    SCOPED_TRACE(stopped);
    fs::remove(log());
    const pid_t pid = start_daemon(pinglog({"-e", silent_ping(), "host"}));
    (void)ping_of(pid);
    if (stopped) {
      send_signal(pid, SIGSTOP);
      ASSERT_TRUE(eventually([pid] { return process_state(pid) == 'T'; }));
    }
    const Result result = run(pinglog({"-k"}));
    EXPECT_FALSE(is_alive(pid));
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, "");
    EXPECT_EQ(count(end_label), 1);
    EXPECT_EQ(fault_in_log(log()), "");
  }
  EXPECT_TRUE(is_alive(other));
}

TEST_F(OptionTest, KillStopsTheForegroundAlsoWhereNobodyWaitsForIt) {
  Process process(pinglog({"-f", "-e", silent_ping(), "host"}));
  (void)ping_of(process.pid());
  EXPECT_EQ(run(pinglog({"-k"})).status, 0);
  EXPECT_EQ(process_state(process.pid()), 'Z');
  EXPECT_EQ(process.wait().status, 0);
}

// The writer is one that takes its time.
TEST_F(OptionTest, KillWaitsUntilTheWriterHasGone) {
  write_file(log(), "");
  Launch slow = pinglog({});
  slow.before_exec = [log = log(), asked = path("asked"), go = path("go")] {
    const int file = open(log.c_str(), O_RDWR);
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    sigset_t termination;
    sigemptyset(&termination);
    sigaddset(&termination, SIGTERM);
    sigprocmask(SIG_SETMASK, &termination, nullptr);
    int number = 0;
    if (fcntl(file, F_SETLK, &lock) == -1 ||
        sigwait(&termination, &number) != 0 || mkdir(asked.c_str(), 0755) == -1)
      _exit(1);
    while (access(go.c_str(), F_OK) == -1)
      usleep(5000);
    _exit(0);
  };
  Process writer(slow);
  // Until it has the lock, there is none to stop.
  std::optional<Process> killer;
  EXPECT_TRUE(eventually([&] {
    killer.emplace(pinglog({"-k"}));
    return eventually(
               [&] { return killer->has_ended() || fs::exists(path("asked")); },
               std::chrono::seconds(5)) &&
           fs::exists(path("asked"));
  }));
  EXPECT_FALSE(
      eventually([&] { return killer->has_ended(); }, std::chrono::seconds(1)));
  write_file(path("go"), "");
  EXPECT_EQ(killer->wait().status, 0);
  EXPECT_EQ(writer.wait().status, 0);
}

TEST_F(OptionTest, KillWhereNoneRunsSaysSo) {
  const std::string line = log() + ": no pinglog writes it here";
  expect_failure(pinglog({"-k"}), line);
  EXPECT_FALSE(fs::exists(log()));
  write_file(log(), "");
  expect_failure(pinglog({"-k"}), line);
}

TEST_F(OptionTest, HangupEndsTheForegroundUnlessItWasIgnoredAtTheStart) {
  Launch launch = pinglog({"-f", "-i", "0.2", "-e", answering_ping(), "host"});
  {
    launch.before_exec = [] { // the tests may themselves run under nohup
      (void)signal(SIGHUP, SIG_DFL);
    };
    Process process(launch);
    EXPECT_TRUE(eventually([&] { return count(result_label) > 0; }));
    process.signal(SIGHUP);
    EXPECT_EQ(process.wait().status, 0);
    EXPECT_EQ(count(end_label), count(start_label));
  }
  launch.before_exec = nullptr;
  launch.ignored = {SIGHUP};
  Process process(launch);
  const int before = count(start_label);
  EXPECT_TRUE(eventually([&] { return count(start_label) > before; }));
  process.signal(SIGHUP);
  const int then = count(start_label);
  EXPECT_TRUE(eventually([&] { return count(start_label) > then + 2; }));
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
}

TEST_F(OptionTest, LogModeIs0644WhateverTheMask) {
  for (mode_t mask : {0000, 0022, 0077, 0777})
    for (bool foreground : {false, true}) {
      SCOPED_TRACE(std::to_string(mask) + (foreground ? " -f" : ""));
      fs::remove(log());
      Launch launch = harmless({"host"});
      if (foreground)
        launch.arguments.push_back("-f");
      launch.umask = mask;
      EXPECT_EQ(run(launch).status, 0);
      struct stat file = {};
      EXPECT_EQ(stat(log().c_str(), &file), 0);
      EXPECT_EQ(file.st_mode, static_cast<mode_t>(S_IFREG | 0644));
      EXPECT_TRUE(eventually(
          [&] { return processes_with_environment(mark()).empty(); }));
    }
}

// ---- What the ping gets ---------------------------------------------------

TEST_F(OptionTest, PingHasTheCLocaleAndNothingElseOfTheCallers) {
  for (bool foreground : {false, true}) {
    SCOPED_TRACE(foreground);
    Launch launch = pinglog({"-i", "60", "-e", silent_ping(), "host"});
    if (foreground)
      launch.arguments.push_back("-f");
    launch.environment["LC_ALL"] = "de_DE.UTF-8";
    launch.environment["KEPT"] = "yes";
    for (int number = 1; number <= SIGRTMAX; ++number) {
      launch.ignored.push_back(number); // SIGKILL, say, refuses
      launch.blocked.push_back(number);
    }
    launch.before_exec = [in = path("in")] {
      (void)close(0);
      (void)!open(in.c_str(), O_RDONLY | O_CREAT, 0600);
      (void)dup2(0, 100);
    };
    std::optional<Process> process;
    pid_t pid = -1;
    if (foreground) {
      process.emplace(launch);
      pid = process->pid();
    } else {
      pid = start_daemon(launch);
    }
    const pid_t ping = ping_of(pid);
    EXPECT_EQ(process_status(ping, "SigIgn"), "0000000000000000");
    EXPECT_EQ(process_status(ping, "SigBlk"), "0000000000000000");
    EXPECT_EQ(process_status(ping, "SigCgt"), "0000000000000000");
    EXPECT_EQ(process_stat(ping, 5), ping); // a group of its own
    const auto open = descriptors_of(ping);
    ASSERT_EQ(open.size(), 3u) << ::testing::PrintToString(open);
    EXPECT_EQ(open.at(0), "/dev/null");
    EXPECT_THAT(open.at(1), StartsWith("pipe:"));
    EXPECT_EQ(open.at(1), open.at(2));
    const std::string environment =
        '\0' + read_file("/proc/" + std::to_string(ping) + "/environ");
    EXPECT_NE(environment.find(std::string("\0LC_ALL=C\0", 10)),
              std::string::npos);
    EXPECT_EQ(environment.find("de_DE"), std::string::npos);
    EXPECT_NE(environment.find(std::string("\0KEPT=yes\0", 10)),
              std::string::npos);
    EXPECT_EQ(run(pinglog({"-k"})).status, 0);
  }
}

// ---- The lines ------------------------------------------------------------

// A compiled time zone with one offset: more than a day, if need be.
std::string time_zone_file(long east) {
  std::string text("TZif\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4",
                   44);
  for (int shift = 24; shift >= 0; shift -= 8)
    text += static_cast<char>(east >> shift & 0xff);
  return text + std::string("\0\0XXX\0", 6);
}

TEST_F(OptionTest, StartAndEndLineAreExact) {
  // Whatever today's date is: the fifth and the twenty-fifth.
  const time_t today = time(nullptr);
  const long day = 24 * 60 * 60;
  const int day_of_month = gmtime(&today)->tm_mday;
  const long to_5th = (5 - day_of_month) * day;
  const long to_25th = (25 - day_of_month) * day;
  write_file(path("5th"), time_zone_file(to_5th));
  write_file(path("25th"), time_zone_file(to_25th));
  const std::pair<std::string, long> rows[] = {
      {"UTC0", 0},
      {"XXX-05:30", (5 * 60 + 30) * 60},
      {"XXX+11", -11 * 60 * 60},
      {path("5th"), to_5th},
      {path("25th"), to_25th}};
  for (const auto &[zone, east] : rows) {
    SCOPED_TRACE(zone);
    fs::remove(log());
    Launch launch = cycle({"-e", answering_ping(), "host"});
    launch.environment["TZ"] = zone;
    launch.environment["LC_ALL"] = "de_DE.UTF-8";
    Words starts, ends; // what may stand there
    time_t second = time(nullptr);
    EXPECT_EQ(run(launch).status, 0);
    timespec last; // time() lags behind by a tick
    clock_gettime(CLOCK_REALTIME, &last);
    for (; second <= last.tv_sec; ++second) {
      starts.push_back("start time---------:" + ctime_at(second, east));
      ends.push_back("end of time--------:" + ctime_at(second, east));
    }
    const Words lines = log_lines();
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_THAT(Words{lines[0]}, IsSubsetOf(starts));
    EXPECT_THAT(lines[1], StartsWith("ping result--------:host "));
    EXPECT_THAT(Words{lines[2]}, IsSubsetOf(ends));
    EXPECT_EQ(read_file(log()).back(), '\n');
    if (zone == path("5th")) {
      EXPECT_EQ(lines[0].substr(20 + 7, 4), "  5 ");
    }
  }
}

// Each ping has to be killed, after it was asked to end. The next one starts
// late by that quarter of the interval, but always by the same: a schedule that
// counts from the last start would drift.
TEST_F(OptionTest, StartsDoNotDrift) {
  const std::string ping =
      script("ping", "trap '' INT\ndate +%s.%N >>'" + path("starts") +
                         "'\nwhile :; do sleep 1000; done");
  EXPECT_EQ(
      run(pinglog({"-f", "-c", "10", "-i", "0.4", "-e", ping, "host"})).status,
      0);
  const Words starts = read_lines(path("starts"));
  ASSERT_GT(starts.size(), 5u);
  std::vector<double> faults; // of the steps, in intervals
  for (size_t i = 2; i < starts.size(); ++i)
    faults.push_back(
        std::abs((std::stod(starts[i]) - std::stod(starts[i - 1])) / 0.4 - 1));
  // One or the other is late on a busy machine, but not most of them.
  std::sort(faults.begin(), faults.end());
  EXPECT_LT(faults[faults.size() / 2], 0.1) << ::testing::PrintToString(faults);
}

} // namespace
