// options_test.cpp - options, hosts, the command, defaults, messages and exit
// status.

#include "support.h"

namespace {

constexpr size_t many = 100 * 1024; // bytes; Linux takes 128 KiB per argument

std::string text_of(const Words &words) {
  return PrintToString(words).substr(0, 100);
}

bool is_sanitized() {
  return read_file(program()).find("__asan_init") != std::string::npos;
}

class OptionsTest : public Sandbox {
protected:
  // If pinglog accepts what it should refuse, it exits soon and does not write
  // to /home/ping.log.
  Launch harmless(const Words &words) const {
    return pinglog(Words{"-e", "true", "-c", "1", "-i", "0.2"} + words);
  }

  // Expects exit status 2, the error, one line of advice, and no log.
  void expect_refused(const Words &words, const std::string &line,
                      const std::string &advice) {
    SCOPED_TRACE(text_of(words));
    const Result result = run(harmless(words));
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.err, "pinglog: " + line + "\n" + advice + "\n");
    EXPECT_FALSE(fs::exists(log()));
  }

  // The line of the help that explains this option, without its indentation.
  std::string help_on(const std::string &option) {
    if (help_.empty())
      help_ = run(command(program(), {"-h"})).out;
    const size_t at = help_.find("\n  " + option + " ") + 3;
    return help_.substr(at, help_.find('\n', at) - at);
  }

  // The results of one cycle in the foreground. The cycle is long enough for a
  // busy machine; pinglog is stopped as soon as the log has all results.
  Words first_results(Launch launch, size_t hosts = 1) const {
    fs::remove(log());
    launch.arguments = Words{"-f", "-i", "60"} + launch.arguments;
    Process process(launch);
    EXPECT_TRUE(eventually(
        [&] { return results().size() >= hosts || process.has_ended(); }));
    if (process.has_ended())
      ADD_FAILURE() << process.err();
    else
      expect_sound_end(process);
    return results();
  }

  // A ping that writes its arguments to a file, each after a `>`, and answers.
  std::string recording_ping(const std::string &name) const {
    return script(name, "printf '>%s' \"$@\" >'" + path("arguments") + "'");
  }
  std::string arguments() const { return read_file(path("arguments")); }

private:
  std::string help_;
};

// ---- Help and version -------------------------------------------------------

TEST_F(OptionsTest, HelpAndVersionArePrintedAloneAndFitATerminal) {
  for (const auto &[option, beginning] :
       {std::pair("-h", "usage: pinglog [-f] "),
        {"--help", "usage: pinglog [-f] "},
        {"-V", "pinglog 2.0\n"},
        {"--version", "pinglog 2.0\n"}}) {
    const Result result = run(command(program(), {option}));
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_THAT(result.out, StartsWith(beginning));
    write_file(path("help"), result.out);
    EXPECT_LE(read_lines(path("help")).size(), option[1] == 'V' ? 1u : 25u);
    for (const std::string &line : read_lines(path("help")))
      EXPECT_LE(line.size(), 80u) << line;
  }
  Launch closed = command(program(), {"-h"}); // the help cannot be printed
  closed.before_exec = [] { close(STDOUT_FILENO); };
  EXPECT_EQ(run(closed).status, 1);
}

// ---- Bad options and hosts --------------------------------------------------

TEST_F(OptionsTest, BadNumberIsRefusedAndNamed) {
  const Words always = {"",   " ",    ".",     "..",     "x",       "1x",
                        "x1", "1 ",   " 1",    "1\n",    "-1",      "-0",
                        "+1", "1..2", "1.2.3", "1,5",    "1-2",     "1/",
                        "1:", "1e3",  "0x10",  "nan",    "inf",     "--",
                        "-c", "%s%n", "1\x80", "\x1b[m", "\xd9\xa3"};
  const Words large = {
      "1000000000001",        "9223372036854775807",
      "9223372036854775808",  "18446744073709551616",
      "18446744073709551617", "340282366920938463463374607431768211457",
      std::string(many, '9'), std::string(many, '0') + "x"};
  const std::map<std::string, Words> also = {
      {"-c", {"0", "00", "1.", "1.0", ".5"}},
      {"-i",
       {"0", "0.0", ".0", "-0.5", "0.-5", "0.009", "0.00999999999999999",
        "86400.1", "86400.000000001", "86401", "9223372037", "18446744074",
        "18446744073.709551626"}},
      {"-q", {"0", "1.", "1.5"}},
      {"-s", {"0.", "1.5", "1K", "18014398509481984"}}};
  for (const auto &[option, values] : also)
    for (const Words *list : {&always, &large, &values})
      for (const std::string &value : *list)
        expect_refused({option, value, "host"},
                       "bad " + option + ": '" + value + "'", help_on(option));
}

TEST_F(OptionsTest, BadOptionOrHostIsRefusedWithTheReason) {
  const std::string dash = "-o - needs -f, and does not go with -k";
  const std::string no_host = "-k takes no host";
  const std::string unknown = "pinglog -h lists the options";
  const std::string no_value = "it needs a value";
  const std::tuple<Words, std::string, std::string> rows[] = {
      // Commands.
      {{"-e", ""}, "bad -e: ''", help_on("-e")},
      {{"-e", " \t "}, "bad -e: ' \t '", help_on("-e")},
      {{"-e", std::string(many, ' ')},
       "bad -e: '" + std::string(many, ' ') + "'",
       help_on("-e")},
      // Logs.
      {{"-o", "-"}, "bad -o: '-'", dash},
      {{"-k", "-o", "-"}, "bad -o: '-'", dash},
      {{"-k", "-f", "-o", "-"}, "bad -o: '-'", dash},
      {{"-k", "host"}, "bad host: 'host'", no_host},
      {{"-k", ""}, "bad host: ''", no_host},
      // Options.
      {{"-x"}, "bad option: '-x'", unknown},
      {{"-fx"}, "bad option: '-fx'", unknown},
      {{"-" + std::string(many, 'z')},
       "bad option: '-" + std::string(many, 'z') + "'",
       unknown},
      {{"--foo"}, "bad option: '--foo'", unknown},
      {{"-f", "--helper", "host"}, "bad option: '--helper'", unknown},
      {{"-c"}, "bad option: '-c'", no_value},
      {{"-e"}, "bad option: '-e'", no_value},
      {{"-i"}, "bad option: '-i'", no_value},
      {{"-o"}, "bad option: '-o'", no_value},
      {{"-fs"}, "bad option: '-fs'", no_value},
  };
  for (const auto &[words, line, advice] : rows)
    expect_refused(words, line, advice);
  Words hosts = {"",   "-",    "-f",  "--",       "a b",
                 " a", "a\tb", "a\n", "a\x1b[2J", "h\xc3\xa9"};
  for (const size_t size : {size_t{256}, many})
    hosts.push_back(std::string(size, 'h'));
  for (const int byte : {1, 31, 32, 127, 128, 255})
    hosts.push_back(std::string("h") + static_cast<char>(byte));
  for (const std::string &host : hosts)
    expect_refused({"--", "good", host}, "bad host: '" + host + "'",
                   host[0] == '-' ? "options come before hosts"
                                  : "a host is 1 to 255 visible ASCII "
                                    "characters");
  expect_refused({"good", "-f"}, "bad host: '-f'", "options come before hosts");
}

// ---- Valid options, hosts and commands --------------------------------------

TEST_F(OptionsTest, ValidNumberIsAcceptedAndTheLastOneCounts) {
  const std::string zeros(many / 2, '0');
  const std::map<std::string, Words> good = {
      {"-c", {"1", "01", zeros + "1", "4294967297", "1000000000000"}},
      {"-i",
       {"0.01", "0.010", ".5", "5.", "3", "007", "86400", "86400.000",
        "0.019999999999999999999999", zeros + "0.1" + zeros}},
      {"-q", {"1", "1200", "1000000000000"}},
      {"-s", {"0", "1", zeros, "10240", "4194305", "1000000000000"}}};
  for (const auto &[option, values] : good)
    for (const std::string &value : values) {
      SCOPED_TRACE(option + " " + value.substr(0, 30));
      EXPECT_THAT(first_results(pinglog({"-e", "true", "-c", "1", "-c", "99999",
                                         option, value, "host"}))
                      .at(0),
                  StartsWith("host "));
    }
}

TEST_F(OptionsTest, EveryHostIsPingedByNameEvenTheLongest) {
  const std::string ping = script("ping", "echo \"$3\"; exit 1");
  Words words = {"-e", ping, "--"};
  Words expected;
  for (const char *host :
       {"a", "192.0.2.1", "fe80::1%eth0", "x_y.example", "~$HOME;`id`*"}) {
    words.push_back(host);
    expected.push_back(words.back() + " fail " + host);
  }
  // One line must hold the longest host and the longest reason.
  words.push_back(std::string(255, 'h'));
  expected.push_back(words.back() + " fail " + std::string(200, 'h'));
  EXPECT_THAT(first_results(pinglog(words), expected.size()),
              UnorderedElementsAreArray(expected));
}

TEST_F(OptionsTest, CommandIsSplitAtBlanksAndCountAndHostAreAppended) {
  const std::string ping = recording_ping("ping");
  std::string thousand = ping, words;
  for (int word = 1; word <= 1000; ++word) {
    thousand += (word % 3 == 0 ? "\t " : " ") + std::to_string(word);
    words += ">" + std::to_string(word);
  }
  const std::pair<std::string, std::string> rows[] = {
      {ping, ">-c>1>host"},
      {" \t" + ping + "  -I\twwan0 \t", ">-I>wwan0>-c>1>host"},
      // No shell interprets the words.
      {ping + " 'a b' \"c\" $HOME * ; | & \\", ">'a>b'>\"c\">$HOME>*>;>|>&>\\"
                                               ">-c>1>host"},
      {thousand + "\t", words + ">-c>1>host"},
  };
  for (const auto &[text, expected] : rows) {
    SCOPED_TRACE(text.substr(0, 100));
    fs::remove(path("arguments"));
    Launch launch = pinglog({"-e", text, "host"});
    launch.environment["MALLOC_PERTURB_"] = "1"; // new memory is not zero
    EXPECT_THAT(first_results(launch), ElementsAre("host ok"));
    EXPECT_EQ(arguments(), expected);
  }
  // As many words as fit into one argument: every second byte is a word.
  std::string most = "true";
  while (most.size() < many)
    most += " 7";
  EXPECT_THAT(first_results(pinglog({"-e", most, "host"})),
              ElementsAre("host ok"));
}

TEST_F(OptionsTest, CommandIsFoundInPathAndRunUnderTheGivenName) {
  for (const char *name : {"bin", "text"})
    fs::create_directory(path(name));
  write_file(path("text/myping"), "no program", 0644);
  // An error message of sh begins with the name under which sh was run.
  fs::copy_file("/bin/sh", path("bin/myping"));
  for (const std::string &search :
       {"/nowhere:" + path("text") + ":" + path("bin") + ":/usr/bin:/bin",
        std::string("bin")}) { // relative to the caller's directory
    SCOPED_TRACE(search);
    Launch launch = pinglog({"-e", "myping /nonexistent", "h"});
    launch.environment["PATH"] = search;
    EXPECT_THAT(first_results(launch),
                ElementsAre(AllOf(StartsWith("h fail myping: "),
                                  Not(HasSubstr("denied")))));
  }
  // Unlike in a shell, an empty entry of PATH is not the current directory.
  Launch launch = harmless({"-e", "answering-ping", "h"});
  answering_ping();
  launch.environment["PATH"] = ":";
  expect_failure(launch, "answering-ping: No such file or directory");
}

TEST_F(OptionsTest, CommandIsFoundInAnEmptyEnvironment) {
  Launch launch = pinglog({"-e", "true", "host"});
  launch.before_exec = [mark = launch.directory] {
    const char *sanitizer = getenv("ASAN_OPTIONS"); // a build with one needs it
    clearenv();
    setenv("PINGLOG_TEST", mark.c_str(), 1);
    setenv("ASAN_OPTIONS", sanitizer != nullptr ? sanitizer : "", 1);
  };
  EXPECT_THAT(first_results(launch), ElementsAre("host ok"));
}

// ---- Failures at the start --------------------------------------------------

TEST_F(OptionsTest, UnusableCommandOrLogIsReportedAtTheStart) {
  write_file(path("text"), "untouched", 0644);
  fs::create_directory(path("directory"));
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0644), 0);
  for (const auto &[target, link] : {std::pair("elsewhere", "dangling"),
                                     {"text", "link"},
                                     {"loop", "loop"},
                                     {"elsewhere", "locked.lock"}})
    fs::create_symlink(target, path(link));
  const std::string word(many, 'a');
  const std::string irregular =
      ": not a regular file (for standard output, -f -o -)";
  const std::string loop = std::string(": ") + strerror(ELOOP);
  const std::string not_directory = std::string(": ") + strerror(ENOTDIR);
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
      {{"-o", path("nowhere/log")}, path("nowhere/log") + missing},
      {{"-o", word}, path(word) + too_long},
      {{"-o", "/" + word + "/x"}, "/" + word + "/x" + too_long},
      {{"-o", path("loop/log")}, path("loop/log") + loop},
      {{"-o", path("locked")}, path("locked") + loop},
      {{"-o", path("text/log")}, path("text/log") + not_directory},
      {{"-o", "/dev/null"}, "/dev/null" + irregular},
      {{"-o", path("fifo")}, path("fifo") + irregular},
      {{"-o", path("dangling")}, path("dangling") + irregular},
      {{"-o", path("link")}, path("link") + irregular},
      {{"-o", path("directory")}, path("directory") + irregular},
      {{"-k", "-o", word}, path(word) + ".lock" + too_long},
  };
  for (const auto &[words, line] : rows)
    for (const char *mode : {"-f", "-i1"}) {
      SCOPED_TRACE(text_of(words));
      expect_failure(harmless(Words{mode} + words), line);
    }
  for (const std::string &file :
       {log(), path("elsewhere"), path("directory.lock")})
    EXPECT_FALSE(fs::exists(file)) << file;
  EXPECT_EQ(read_file(path("text")), "untouched");
}

TEST_F(OptionsTest, UnwritableDefaultLogIsReportedWithTheOptionToUse) {
  const Mount home("/home", "ro");
  SKIP_IF(home.why());
  Launch launch = command(program(), {"-f", "-c", "1", "-e", "true"});
  expect_failure(launch, "/home/ping.log: Read-only file "
                         "system (use -o)");
  launch.arguments = {"-f", "-c", "1", "-e", "true", "-o", "/home/my.log"};
  expect_failure(launch, "/home/my.log: Read-only file system");
  launch.arguments = {"-k"};
  expect_failure(launch,
                 "/home/ping.log: no pinglog on this machine or container "
                 "writes it (use -o)");
}

TEST_F(OptionsTest, StartWithTooFewDescriptorsIsReported) {
  if (is_sanitized())
    GTEST_SKIP() << "AddressSanitizer itself needs descriptors";
  const std::string none_left = ": Too many open files\n";
  std::set<std::string> reports;
  for (const char *mode : {"-f", "-i1"}) {
    Launch launch = quick({mode, "-c", "1"});
    unsigned long &limit = launch.limits[RLIMIT_NOFILE];
    limit = 3;
    for (Result result; (result = run(launch)).status != 0; ++limit) {
      if (result.status == 127) // the loader of a dynamic program has failed
        continue;
      EXPECT_EQ(result.status, 1);
      EXPECT_THAT(result.err,
                  AllOf(StartsWith("pinglog: "), EndsWith(none_left)));
      ASSERT_LT(limit, 64u);
      reports.insert(result.err);
    }
    EXPECT_TRUE(eventually([this] { return processes().empty(); }));
    fs::remove(log());
  }
  EXPECT_THAT(reports, Contains("pinglog: " + log() + none_left));
  EXPECT_THAT(reports, Contains("pinglog: detach" + none_left));
}

TEST_F(OptionsTest, EmptyArgumentListMeansTheDefaults) {
  // Without a ping, pinglog fails before it opens the default log.
  Launch launch = command(program(), {});
  launch.environment["PATH"] = "/nonexistent";
  launch.before_exec = [executable = program()] {
    char *none[] = {nullptr};
    execve(executable.c_str(), none, environ);
    _exit(126);
  };
  expect_failure(launch,
                 "ping: No such file or directory (install a ping, or use -e)");
}

TEST_F(OptionsTest, LackOfMemoryAtTheStartIsReportedAndLeavesNoProcess) {
  if (is_sanitized())
    GTEST_SKIP() << "AddressSanitizer itself needs terabytes";
  // The command takes 1 MB in the launcher, the hosts take more in the daemon.
  const Words command = {"-e", "true" + std::string(125'000, ' ')};
  Words hosts(100'000, "a");
  hosts.insert(hosts.begin(), {"-e", "true"});
  for (const Words &words : {command, hosts}) {
    Launch launch = pinglog(words);
    unsigned long &limit = launch.limits[RLIMIT_DATA];
    int reports = 0;
    // Under the first limits, the program itself is killed, or not loaded.
    for (limit = 1UL << 15; limit <= 1UL << 20; limit *= 2) {
      const int status = run(launch).status;
      if (status == 0) // as a 32-bit program
        stop(writer(log()));
      if (status != 1)
        continue;
      ++reports;
      expect_failure(launch, "memory: Cannot allocate memory");
      EXPECT_EQ(read_file(log()), "");
    }
    EXPECT_GT(reports, 0) << words.size();
  }
}

TEST_F(OptionsTest, StackOf64KiBIsEnough) {
  if (is_sanitized())
    GTEST_SKIP() << "AddressSanitizer needs more stack";
  Launch launch = pinglog({"-e", "true", "host"});
  launch.limits[RLIMIT_STACK] = 64 * 1024;
  EXPECT_THAT(first_results(launch), ElementsAre("host ok"));
}

// ---- Relative names and removed directories ---------------------------------

TEST_F(OptionsTest, RelativeCommandAndLogAreFoundInTheCallersDirectory) {
  fs::create_directory(path("bin"));
  recording_ping("bin/my-ping");
  const pid_t pid = start_daemon(
      command(program(), {"-o", "bin/my.log", "-e", "bin/my-ping", "host"}));
  EXPECT_TRUE(eventually([&] { return arguments() == ">-c>1>host"; }));
  EXPECT_THAT(read_file(path("bin/my.log")), StartsWith(started_label));
  EXPECT_EQ(run(command(program(), {"-k", "-o", "bin/my.log"})).status, 0);
  EXPECT_TRUE(eventually([pid] { return !is_alive(pid); }));
}

TEST_F(OptionsTest, ForegroundRunsOnAfterItsDirectoryIsRemoved) {
  const std::string directory = path("directory");
  fs::create_directory(directory);
  answering_ping();
  Launch launch = pinglog({"-f", "-i", "1", "-e", "../answering-ping", "h"});
  launch.arguments[1] = "../ping.log";
  launch.directory = directory;
  Process process(launch);
  await(result_label, 1);
  // pinglog's absolute names now lead through a new directory of the same name.
  fs::rename(directory, path("moved"));
  fs::create_directory(directory);
  fs::remove(path("moved"));
  await_cycles(1); // this one may have begun before
  await_more(" h ok 12.3 ms");
  expect_sound_end(process);
}

TEST_F(OptionsTest, RelativeLogInARemovedDirectoryIsRefused) {
  fs::create_directory(path("gone"));
  Launch launch = command(
      program(), {"-f", "-c", "1", "-e", "true", "-o", "ping.log", "h"});
  launch.directory = path("gone");
  launch.before_exec = [gone = path("gone")] { (void)rmdir(gone.c_str()); };
  expect_failure(launch, "ping.log: No such file or directory");
}

// ---- Defaults and the start message -----------------------------------------

TEST_F(OptionsTest, WithoutArgumentsTheLogIsHomePingLog) {
  const Mount home("/home");
  if (!home.why().empty() &&
      (access("/home", W_OK) == -1 || fs::exists("/home/ping.log")))
    GTEST_SKIP() << home.why() << ", and the real /home is not to be used";
  recording_ping("ping");
  Launch start = command(program(), {});
  start.environment["PATH"] = path("") + ":/usr/bin:/bin";
  const pid_t pid = start_daemon(start);
  set_log("/home/ping.log");
  await(" www.baidu.com ok");
  EXPECT_EQ(arguments(), ">-n>-c>1>www.baidu.com");
  EXPECT_EQ(run(command(program(), {"-k"})).status, 0);
  EXPECT_TRUE(eventually([pid] { return !is_alive(pid); }));
  EXPECT_EQ(check_log(log()).fault, "");
  fs::remove(log());
  fs::remove(log() + ".lock");
}

TEST_F(OptionsTest, StartIsReportedAndLoggedWithTheHostsAndTheInterval) {
  const std::tuple<Words, std::string, std::string> rows[] = {
      {{}, "www.baidu.com", "3"},
      {{"-i", ".25", "one.example"}, "one.example", "0.25"},
      {{"-i", "2", "one.example", "two.example"},
       "one.example and 1 more",
       "2"}};
  for (const auto &[words, names, interval] : rows) {
    const Result result = run(pinglog(Words{"-e", "true"} + words));
    EXPECT_EQ(result.status, 0);
    const std::string subject =
        "PID " + std::to_string(writer(log())) + " pings " + names;
    EXPECT_EQ(result.out, "Daemon " + subject + ", logs to " + log() + "\n");
    stop(writer(log()));
    EXPECT_THAT(log_lines()[0],
                AllOf(StartsWith(started_label),
                      EndsWith(subject + " every " + interval + " s")));
    EXPECT_EQ(count(started_label), 1);
    fs::remove(log());
  }
}

} // namespace
