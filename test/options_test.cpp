// options_test.cpp - what can be asked of it, and what it answers: options and
// their values, hosts, the command, the environment, the defaults; messages and
// exit status.

#include "support.h"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>

namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

constexpr size_t many = 100 * 1024; // bytes: Linux takes 128 KiB in a word

std::string text_of(const std::vector<std::string> &words) {
  return ::testing::PrintToString(words).substr(0, 100);
}

class OptionsTest : public Sandbox {
protected:
  // Where it takes what it should refuse, it does not do so for long, and not
  // in /home/ping.log.
  Launch harmless(const Words &words) const {
    Words all = {"-e", "true", "-c", "1", "-i", "0.2"};
    all.insert(all.end(), words.begin(), words.end());
    return pinglog(all);
  }

  // Exit status 2, one line, then how it is used in short, and no log.
  void expect_refused(const Words &words, const std::string &line) {
    SCOPED_TRACE(text_of(words));
    if (usage_.empty()) {
      const std::string help = run(command(program(), {"-h"})).out;
      usage_ = help.substr(0, help.find('\n', help.find('\n') + 1) + 1);
    }
    const Result result = run(harmless(words));
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.out, "");
    const std::string expected = "pinglog: " + line + "\n" + usage_;
    EXPECT_EQ(result.err.substr(0, expected.size()), expected);
    EXPECT_THAT(result.err.substr(std::min(expected.size(), result.err.size())),
                MatchesRegex("[^\n]*-h[^\n]*\n"));
    EXPECT_FALSE(fs::exists(log()));
  }

  // The results of the first cycle, in the foreground. It is long enough for
  // any ping on a busy machine, and ended as soon as they are there.
  Words first_results(Launch launch, size_t hosts = 1) const {
    fs::remove(log());
    launch.arguments.insert(launch.arguments.begin(), {"-f", "-i", "60"});
    Process process(launch);
    EXPECT_TRUE(eventually(
        [&] { return results().size() >= hosts || process.has_ended(); }));
    if (!process.has_ended())
      process.signal(SIGTERM);
    const Result result = process.wait();
    EXPECT_EQ(result.status, 0) << result.err;
    expect_sound_log();
    return results();
  }

  // A ping that leaves its arguments, each behind a `>`, and answers.
  std::string recording_ping(const std::string &name) const {
    return script(name, "printf '>%s' \"$@\" >'" + path("arguments") + "'");
  }
  std::string arguments() const { return read_file(path("arguments")); }

private:
  std::string usage_;
};

// ---- What is asked of it alone ----------------------------------------------

TEST_F(OptionsTest, HelpNamesEveryOptionAndFitsIntoATerminal) {
  const Result result = run(command(program(), {"-h"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, StartsWith("usage: pinglog [-f] "));
  for (const char *part : {"-c ", "-e ", "-f", "-h", "-i ", "-k", "-o ", "-s ",
                           "-V", "host", "www.baidu.com", "/home/ping.log"})
    EXPECT_THAT(result.out, HasSubstr(part));
  write_file(path("help"), result.out);
  EXPECT_LE(read_lines(path("help")).size(), 24u);
  for (const std::string &line : read_lines(path("help")))
    EXPECT_LE(line.size(), 80u) << line;
  const Result same = run(command(program(), {"--help"}));
  EXPECT_EQ(same.status, 0);
  EXPECT_EQ(same.out, result.out);
  Launch closed = command(program(), {"-h"}); // nobody can see it
  closed.closed = {STDOUT_FILENO};
  EXPECT_EQ(run(closed).status, 1);
}

TEST_F(OptionsTest, VersionIsPrintedAlone) {
  for (const char *option : {"-V", "--version"}) {
    const Result result = run(command(program(), {option}));
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_THAT(result.out, MatchesRegex("pinglog [0-9]+[.][0-9]+\n"));
  }
}

// ---- What is refused --------------------------------------------------------

TEST_F(OptionsTest, BadNumberIsRefusedAndNamed) {
  const Words always = {"",
                        " ",
                        ".",
                        "..",
                        "x",
                        "1x",
                        "x1",
                        "1 ",
                        " 1",
                        "1\n",
                        "-1",
                        "-0",
                        "+1",
                        "1..2",
                        "1.2.3",
                        "1,5",
                        "1-2",
                        "1/",
                        "1:",
                        "1e3",
                        "0x10",
                        "nan",
                        "inf",
                        "--",
                        "-c",
                        "%s%n",
                        "1\x80",
                        "\x1b[m",
                        "\xd9\xa3",
                        "1000000000001",
                        "9223372036854775807",
                        "9223372036854775808",
                        "18446744073709551616",
                        "18446744073709551617",
                        "340282366920938463463374607431768211457",
                        std::string(many, '9'),
                        std::string(many, '0') + "x"};
  const std::map<std::string, Words> also = {
      {"-c", {"0", "00", "1.", "1.0", ".5"}},
      {"-i",
       {"0", "0.0", ".0", "-0.5", "0.-5", "0.009", "0.00999999999999999",
        "86400.1", "86400.000000001", "86401", "9223372037", "18446744074",
        "18446744073.709551626"}},
      {"-s", {"0.", "1.5", "1K", "18014398509481984"}}};
  for (const auto &[option, values] : also)
    for (const Words *list : {&always, &values})
      for (const std::string &value : *list)
        expect_refused({option, value, "host"},
                       "bad " + option + ": '" + value + "'");
}

TEST_F(OptionsTest, BadWordIsRefusedWithWhatItIs) {
  const std::pair<Words, std::string> rows[] = {
      // Commands.
      {{"-e", ""}, "bad -e: ''"},
      {{"-e", " \t "}, "bad -e: ' \t '"},
      {{"-e", std::string(many, ' ')},
       "bad -e: '" + std::string(many, ' ') + "'"},
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
      {{"-" + std::string(many, 'z')}, "bad option: '-z'"},
      {{"--foo"}, "bad option: '--foo'"},
      {{"-f", "--helper", "host"}, "bad option: '--helper'"},
      {{"-c"}, "bad option without a value: '-c'"},
      {{"-e"}, "bad option without a value: '-e'"},
      {{"-i"}, "bad option without a value: '-i'"},
      {{"-o"}, "bad option without a value: '-o'"},
      {{"-fs"}, "bad option without a value: '-s'"},
  };
  for (const auto &[words, line] : rows)
    expect_refused(words, line);
  Words hosts = {"",
                 "-",
                 "-f",
                 "--",
                 "a b",
                 " a",
                 "a\tb",
                 "a\n",
                 "a\x1b[2J",
                 "h\xc3\xa9",
                 std::string(256, 'h'),
                 std::string(many, 'h')};
  for (const int byte : {1, 31, 32, 127, 128, 255})
    hosts.push_back(std::string("h") + static_cast<char>(byte));
  for (const std::string &host : hosts)
    expect_refused({"--", "good", host}, "bad host: '" + host + "'");
}

// ---- What is taken ----------------------------------------------------------

TEST_F(OptionsTest, GoodNumberIsTakenAndTheLastOneCounts) {
  const std::string zeros(many / 2, '0');
  const std::map<std::string, Words> good = {
      {"-c", {"1", "01", zeros + "1", "4294967297", "1000000000000"}},
      {"-i",
       {"0.01", "0.010", ".5", "5.", "3", "007", "86400", "86400.000",
        "0.019999999999999999999999", zeros + "0.1" + zeros}},
      {"-s", {"0", "1", zeros, "10240", "4194305", "1000000000000"}}};
  for (const auto &[option, values] : good)
    for (const std::string &value : values) {
      SCOPED_TRACE(option + " " + value.substr(0, 30));
      fs::remove(log());
      Process process(pinglog({"-f", "-e", "true", "-i", "60", "-c", "1", "-c",
                               "9", option, value, "host"}));
      ASSERT_TRUE(eventually(
          [&] { return !results().empty() || process.has_ended(); }));
      EXPECT_FALSE(process.has_ended()) << process.wait().err;
      process.signal(SIGTERM);
      EXPECT_EQ(process.wait().status, 0);
      EXPECT_EQ(results().at(0).substr(0, 5), "host ");
    }
}

TEST_F(OptionsTest, EveryHostIsPingedByItsNameAlsoTheLongest) {
  const std::string ping = script("ping", "echo \"$3\"; exit 1");
  Words words = {"-e", ping, "--"};
  Words expected;
  for (const char *host :
       {"a", "192.0.2.1", "fe80::1%eth0", "x_y.example", "~$HOME;`id`*"}) {
    words.push_back(host);
    expected.push_back(words.back() + " fail " + host);
  }
  // With the longest reason there is: the line must hold both.
  words.push_back(std::string(255, 'h'));
  expected.push_back(words.back() + " fail " + std::string(200, 'h'));
  EXPECT_THAT(first_results(pinglog(words), expected.size()),
              ::testing::UnorderedElementsAreArray(expected));
}

TEST_F(OptionsTest, CommandIsSplitAtBlanksAndCountAndHostArePutBehind) {
  const std::string ping = recording_ping("ping");
  std::string thousand = ping, words;
  for (int word = 1; word <= 1000; ++word) {
    thousand += (word % 3 == 0 ? "\t " : " ") + std::to_string(word);
    words += ">" + std::to_string(word);
  }
  const std::pair<std::string, std::string> rows[] = {
      {ping, ">-c>1>host"},
      {" \t" + ping + "  -I\twwan0 \t", ">-I>wwan0>-c>1>host"},
      // There is no shell.
      {ping + " 'a b' \"c\" $HOME * ; | & \\", ">'a>b'>\"c\">$HOME>*>;>|>&>\\"
                                               ">-c>1>host"},
      {thousand + "\t", words + ">-c>1>host"},
  };
  for (const auto &[text, expected] : rows) {
    SCOPED_TRACE(text.substr(0, 100));
    fs::remove(path("arguments"));
    EXPECT_THAT(first_results(pinglog({"-e", text, "host"})),
                ElementsAre("host ok"));
    EXPECT_EQ(arguments(), expected);
  }
  // As many as fit into one option: every second byte is a word.
  std::string most = "true";
  while (most.size() < many)
    most += " 7";
  EXPECT_THAT(first_results(pinglog({"-e", most, "host"})),
              ElementsAre("host ok"));
}

TEST_F(OptionsTest, CommandIsFoundInPathAndRunUnderTheNameThatWasGiven) {
  for (const char *name : {"bin", "text"})
    fs::create_directory(path(name));
  write_file(path("text/myping"), "no program", 0644);
  // A program that tells its name when it complains.
  fs::copy_file("/bin/sh", path("bin/myping"));
  for (const std::string &search :
       {"/nowhere:" + path("text") + ":" + path("bin") + ":/usr/bin:/bin",
        std::string("bin")}) { // relative to the caller's
    SCOPED_TRACE(search);
    Launch launch = pinglog({"-e", "myping /nonexistent", "h"});
    launch.environment["PATH"] = search;
    EXPECT_THAT(first_results(launch),
                ElementsAre(AllOf(StartsWith("h fail myping: "),
                                  Not(HasSubstr("denied")))));
  }
  // An empty entry is not the current directory, as it is in a shell.
  Launch launch = harmless({"-e", "answering-ping", "h"});
  answering_ping();
  launch.environment["PATH"] = ":";
  expect_failure(launch, "answering-ping: No such file or directory");
}

TEST_F(OptionsTest, CommandIsFoundInAnEmptyEnvironment) {
  Launch launch = pinglog({"-e", "true", "host"});
  launch.environment.clear();
  launch.clear_environment = true;
  // What a build with sanitizers needs is no part of it.
  if (const char *sanitizer = getenv("ASAN_OPTIONS"))
    launch.environment["ASAN_OPTIONS"] = sanitizer;
  EXPECT_THAT(first_results(launch), ElementsAre("host ok"));
}

TEST_F(OptionsTest, DirectoryAsCommandIsAFailLine) {
  EXPECT_THAT(first_results(pinglog({"-e", path(""), "host"})),
              ElementsAre("host fail " + path("") + ": Permission denied"));
}

// ---- What it dies of at the start -------------------------------------------

TEST_F(OptionsTest, CommandOrLogThatCannotBeHadIsSaidAtTheStart) {
  write_file(path("text"), "no program", 0644);
  const std::string word(many, 'a');
  const std::string missing = ": No such file or directory";
  const std::string too_long = ": File name too long";
  const std::pair<Words, std::string> rows[] = {
      {{"-e", "nosuchping"}, "nosuchping" + missing},
      {{"-e", "nosuchping -n"}, "nosuchping" + missing},
      {{"-e", "/nowhere/ping"}, "/nowhere/ping" + missing},
      {{"-e", "./nosuchping"}, "./nosuchping" + missing},
      {{"-e", path("text")}, path("text") + ": Permission denied"},
      {{"-e", word}, word + too_long},
      {{"-e", "/" + word}, "/" + word + too_long},
      {{"-o", path("nowhere/ping.log")}, path("nowhere/ping.log") + missing},
      {{"-o", word}, path(word) + too_long},
      {{"-o", "/" + word + "/x"}, "/" + word + "/x" + too_long},
      {{"-k", "-o", word}, path(word) + ": no pinglog writes it here"},
  };
  for (const auto &[words, line] : rows)
    for (const bool foreground : {false, true}) {
      SCOPED_TRACE(text_of(words));
      Launch launch = harmless(words);
      if (foreground)
        launch.arguments.push_back("-f");
      expect_failure(launch, line);
    }
  EXPECT_FALSE(fs::exists(log()));
}

// Four descriptors leave none for the log, whoever the user is. The daemon's
// pipe would take one.
TEST_F(OptionsTest, DefaultLogThatCannotBeOpenedIsSaidWithTheRemedy) {
  Launch launch = command(program(), {"-f", "-c", "1", "-e", "true"});
  launch.limits[RLIMIT_NOFILE] = 4;
  expect_failure(launch, "/home/ping.log: Too many open files (use -o)");
  launch.arguments.insert(launch.arguments.end(), {"-o", "my.log"});
  expect_failure(launch, path("my.log") + ": Too many open files");
}

TEST_F(OptionsTest, NoArgumentsAtAllNotEvenAName) {
  // The log would be the default one: without a ping it is never reached.
  Launch launch = command(program(), {});
  launch.environment["PATH"] = "/nonexistent";
  launch.before_exec = [executable = program()] {
    char *none[] = {nullptr};
    execve(executable.c_str(), none, environ);
    _exit(126);
  };
  expect_failure(launch, "ping: No such file or directory");
}

// The least RLIMIT_DATA, in steps, under which the program can start at all;
// 0 if it takes more than a few megabytes (an emulator).
unsigned long least_data(Launch launch) {
  launch.arguments = {"-V"};
  for (unsigned long limit = 1UL << 16; limit <= 1UL << 22;
       limit += 1UL << 16) {
    launch.limits[RLIMIT_DATA] = limit;
    if (run(launch).status == 0)
      return limit;
  }
  return 0;
}

TEST_F(OptionsTest, NoMemoryAtTheStartIsSaidAndNobodyIsLeft) {
  if (read_file(program()).find("__asan_init") != std::string::npos)
    GTEST_SKIP() << "AddressSanitizer itself needs terabytes";
  const unsigned long least = least_data(pinglog({}));
  if (least == 0)
    GTEST_SKIP() << "does not start under any small limit of data";
  struct Row {
    const char *object; // of the message
    Words arguments;
    size_t variables;   // further ones in the environment
    unsigned long room; // bytes above the least
  };
  // The words of the first take 1000 KB, the environment of the second 1200 KB,
  // both at the start. The hosts of the third take 1600 KB in the daemon: the
  // launcher has to fail as well.
  Row rows[] = {
      {"memory", {"-e", "true" + std::string(125'000, ' ')}, 0, 1 << 18},
      {"LC_ALL", {"-e", "true"}, 150'000, 1 << 19},
      {"memory", Words(100'000, "a"), 0, 1 << 20}};
  rows[2].arguments.insert(rows[2].arguments.begin(), {"-e", "true"});
  for (const Row &row : rows) {
    SCOPED_TRACE(row.variables + row.arguments.size());
    Launch launch = pinglog(row.arguments);
    std::vector<char *> variables(row.variables, const_cast<char *>("A="));
    launch.before_exec = [&variables] {
      for (char **entry = environ; *entry != nullptr; ++entry)
        variables.push_back(*entry);
      variables.push_back(nullptr);
      environ = variables.data();
    };
    launch.limits[RLIMIT_DATA] = least + row.room;
    expect_failure(launch,
                   std::string(row.object) + ": Cannot allocate memory");
    EXPECT_EQ(read_file(log()), "");
  }
}

// ---- Whose directory it is --------------------------------------------------

TEST_F(OptionsTest, RelativeCommandAndLogMeanTheCallersDirectory) {
  fs::create_directory(path("bin"));
  fs::create_directory(path("logs"));
  recording_ping("bin/my-ping");
  // Named, or found by a relative PATH.
  for (const char *name : {"bin/my-ping", "my-ping"}) {
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
    EXPECT_TRUE(eventually([pid] { return !is_alive(pid); }));
  }
}

TEST_F(OptionsTest, DirectoryOfTheForegroundMayBeRemoved) {
  const std::string directory = path("directory");
  fs::create_directory(directory);
  answering_ping();
  Launch launch = pinglog({"-f", "-i", "0.5", "-e", "../answering-ping", "h"});
  launch.arguments[1] = "../ping.log";
  launch.directory = directory;
  Process process(launch);
  await_lines(result_label, 1);
  // The names that it made absolute lead on through a new one of this name.
  fs::rename(directory, path("moved"));
  fs::create_directory(directory);
  fs::remove(path("moved"));
  await_cycles(3);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait().status, 0);
  EXPECT_THAT(results(),
              ::testing::Contains("h ok 12.3 ms").Times(::testing::Ge(3)));
  expect_sound_log();
}

TEST_F(OptionsTest, RelativeLogInADirectoryThatIsGoneIsRefused) {
  fs::create_directory(path("gone"));
  Launch launch = command(
      program(), {"-f", "-c", "1", "-e", "true", "-o", "ping.log", "h"});
  launch.directory = path("gone");
  launch.before_exec = [gone = path("gone")] { (void)rmdir(gone.c_str()); };
  expect_failure(launch, "ping.log: No such file or directory");
}

// ---- The defaults -----------------------------------------------------------

TEST_F(OptionsTest, DefaultIsToPingOneHostEveryThreeSeconds) {
  const std::string arguments = path("arguments");
  script("ping", "printf '>%s' \"$@\" >'" + arguments + "'; exec sleep 1000");
  Launch launch = pinglog({"-f", "-c", "1"});
  launch.environment["PATH"] = path("") + ":/usr/bin:/bin";
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Process(launch).wait(std::chrono::seconds(30)).status, 0);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  EXPECT_THAT(results(), ElementsAre("www.baidu.com fail no answer in 3 s"));
  EXPECT_EQ(read_file(arguments), ">-n>-c>1>www.baidu.com");
}

// Has the default log for itself: puts aside what is there, and puts it back.
class DefaultLog {
public:
  DefaultLog() {
    // It waits for another of these tests.
    home_ = open("/home", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    usable_ = home_ != -1 && access("/home", W_OK) == 0 &&
              flock(home_, LOCK_EX) == 0 && writer(names[0]) == -1;
    std::error_code none;
    for (const std::string name : names)
      if (usable_)
        fs::rename(name, name + aside_, none);
  }
  DefaultLog(const DefaultLog &) = delete;
  DefaultLog &operator=(const DefaultLog &) = delete;
  ~DefaultLog() {
    std::error_code none;
    for (const std::string name : names)
      if (usable_) {
        fs::remove(name, none);
        fs::rename(name + aside_, name, none);
      }
    close(home_);
  }
  bool usable() const { return usable_; }

private:
  static constexpr const char *names[] = {"/home/ping.log", "/home/ping.log.0"};
  const std::string aside_ = ".aside-" + std::to_string(getpid());
  int home_;
  bool usable_;
};

TEST_F(OptionsTest, WithoutArgumentsTheLogIsHomePingLog) {
  const DefaultLog log;
  if (!log.usable())
    GTEST_SKIP() << "/home/ping.log is in use or cannot be written";
  recording_ping("ping");
  Launch launch = command(program(), {});
  launch.environment["PATH"] = path("") + ":/usr/bin:/bin";
  const pid_t pid = start_daemon(launch);
  EXPECT_TRUE(eventually([] {
    return read_file("/home/ping.log")
               .find("\nping result--------:www.baidu.com ok\n") !=
           std::string::npos;
  }));
  EXPECT_EQ(run(command(program(), {"-k"})).status, 0);
  const bool ended = eventually([pid] { return !is_alive(pid); });
  EXPECT_TRUE(ended);
  if (!ended) // or it would go on with the log that is put back
    stop(pid, SIGKILL);
  EXPECT_EQ(fault_in_log("/home/ping.log"), "");
}

TEST_F(OptionsTest, RealPingOfTheLoopbackAnswers) {
  if (run(command("ping", {"-n", "-c", "1", "127.0.0.1"})).status != 0)
    GTEST_SKIP() << "no ping here, or none that works";
  EXPECT_THAT(first_results(pinglog({"127.0.0.1"})),
              ElementsAre(MatchesRegex("127.0.0.1 ok [0-9.]+ ms")));
}

} // namespace
