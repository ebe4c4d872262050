// readme_test.cpp - README and `pinglog -h` are short and list the same
// options; README's commands do what README says; README contains the promises
// that the other test files quote.

#include "support.h"

#include <csignal>
#include <cstdlib>
#include <sstream>

namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using ::testing::UnorderedElementsAreArray;
using Lines = std::vector<std::string>;

class ReadmeTest : public Sandbox {
protected:
  void SetUp() override {
    Sandbox::SetUp();
    if (IsSkipped())
      return;
    tests_ = fs::canonical("/proc/self/exe").parent_path();
    readme_ = read_lines(tests_.parent_path() / "README");
    write_file(path("help"), run(command(program(), {"-h"})).out);
    help_ = read_lines(path("help"));
  }

  // A block of README's indented lines, without the indentation: from the first
  // one that contains this part to the end of the block.
  Lines block(const std::string &part) const {
    Lines found;
    for (const std::string &line : readme_)
      if (line.rfind("    ", 0) != 0 && !found.empty())
        break;
      else if (line.rfind("    ", 0) == 0 &&
               (!found.empty() || line.find(part) != std::string::npos))
        found.push_back(line.substr(4));
    EXPECT_FALSE(found.empty()) << "README has no: " << part;
    return found;
  }

  // What the command prints when it reads the sandbox's log.
  Lines output(const Lines &text) const {
    std::string line;
    for (const std::string &each : text)
      line += each + "\n";
    constexpr char name[] = "/home/ping.log";
    size_t found = line.find(name);
    EXPECT_NE(found, std::string::npos) << line;
    for (; found != std::string::npos; found = line.find(name, found))
      line.replace(found, strlen(name), log());
    Launch launch = command("/bin/sh", {"-c", line});
    launch.environment["LC_ALL"] = "C"; // bash warns of a missing locale
    const Result result = run(launch);
    EXPECT_EQ(result.err, "") << line;
    write_file(path("output"), result.out);
    return read_lines(path("output"));
  }

  fs::path tests_;
  Lines readme_, help_;
};

TEST_F(ReadmeTest, ReadmeIsShortAndFitsATerminal) {
  EXPECT_LE(readme_.size(), 153u);
  for (const std::string &line : readme_)
    EXPECT_LE(line.size(),
              line.rfind("    apt-get ", 0) == 0 ? line.size() : 80);
}

TEST_F(ReadmeTest, HelpAndReadmeListTheSameOptions) {
  const Lines options = block("-c n ");
  ASSERT_THAT(options, SizeIs(9));
  for (const std::string &line : options)
    EXPECT_EQ(std::count(help_.begin(), help_.end(), "  " + line), 1) << line;
}

// Each test file begins with a list of the promises that it tests.
TEST_F(ReadmeTest, PromisesThatTheTestsQuoteStandInReadme) {
  // The words of these lines, with one blank between them.
  const auto squeezed = [](const Lines &lines) {
    std::string text;
    for (const std::string &line : lines) {
      std::istringstream words(line);
      for (std::string word; words >> word;)
        text += (text.empty() ? "" : " ") + word;
    }
    return text;
  };
  const std::string readme = squeezed(readme_);
  int promises = 0;
  for (const auto &entry : fs::directory_iterator(tests_)) {
    const std::string file = entry.path().filename();
    if (file.find("_test.cpp") == std::string::npos)
      continue;
    Lines quotes;
    for (const std::string &line : read_lines(entry.path()))
      if (line.rfind("//   - ", 0) == 0)
        quotes.push_back(line.substr(7));
      else if (line.rfind("//     ", 0) == 0 && !quotes.empty())
        quotes.back() += " " + line.substr(7);
      else if (line.rfind("//", 0) != 0)
        break;
    for (const std::string &quote : quotes)
      EXPECT_THAT(readme, HasSubstr(squeezed({quote}))) << file;
    promises += static_cast<int>(quotes.size());
  }
  EXPECT_GT(promises, 30);
}

// The older file ends in NULs, as after a power failure. pinglog was restarted
// while ::1 was down, and was not running when c.example came back.
TEST_F(ReadmeTest, RecipesReadBothFilesOfTheLog) {
  write_file(log() + ".0", R"(start time---------:Sun Nov 29 22:59:54 2026
ping result--------:Sun Nov 29 22:59:54 2026 a.example ok 12.3 ms
ping result--------:Sun Nov 29 22:59:54 2026 ::1 fail 77 ms
end of time--------:Sun Nov 29 22:59:57 2026
start time---------:Sun Nov 29 22:59:57 2026
ping result--------:Sun Nov 29 22:59:58 2026 a.example ok
ping result--------:Sun Nov 29 22:59:59 2026 ::1 fail no answer in 3 s
ping outage--------:Sun Nov 29 22:59:59 2026 ::1 is down since Sun Nov 29 22:59:54 2026: 77 ms
end of time--------:Sun Nov 29 23:00:00 2026
start time---------:Sun Nov 29 23:00:10 2026
ping result--------:Sun Nov 29 23:00:11 2026 ::1 fail 77 ms
ping outage--------:Sun Nov 29 23:00:14 2026 ::1 is down since Sun Nov 29 23:00:11 2026: 77 ms
end of time--------:Sun Nov 29 23:00:14 2026
)" + std::string(512, '\0') + "\n");
  write_file(log(), R"(start time---------:Mon Nov 30 00:00:00 2026
ping result--------:Mon Nov 30 00:00:00 2026 a.example fail was down
ping result--------:Mon Nov 30 00:00:01 2026 ::1 ok 0 ms
ping outage--------:Mon Nov 30 00:00:01 2026 ::1 was down 1:00:07 since Sun Nov 29 22:59:54 2026: 77 ms
ping result--------:Mon Nov 30 00:00:03 2026 d.example fail eth0 is down since 7 was down for 9
ping outage--------:Mon Nov 30 00:00:03 2026 c.example is down since Mon Nov 30 00:00:00 2026: 77 ms
end of time--------:Mon Nov 30 00:00:03 2026
lines lost---------:8
start time---------:Mon Nov 30 00:00:09 2026
ping result--------:Mon Nov 30 00:00:09 2026 ::1 ok 100.4 ms
ping result--------:Mon Nov 30 00:00:09 2026 c.example ok 5 ms
ping result--------:Mon Nov 30 00:00:09 2026 a.example fail exit status 2
ping outage--------:Mon Nov 30 00:00:09 2026 a.example is down since Mon Nov 30 00:00:00 2026: was down
)");
  const std::string fail = "^ping result.* fail ";
  const Lines was_down = output(block("-e 'was down'"));
  EXPECT_EQ(output({help_.back().substr(help_.back().find("grep"))}), was_down);
  EXPECT_THAT(was_down, Contains(HasSubstr("::1 was down 1:00:07 since")));
  EXPECT_THAT(output(block("| awk '/^ping result/")),
              UnorderedElementsAre(HasSubstr("09 2026 ::1 ok 100.4 ms"),
                                   HasSubstr("c.example ok 5 ms"),
                                   HasSubstr("d.example fail eth0"),
                                   HasSubstr("a.example fail exit status 2")));
  EXPECT_THAT(output(block(fail)), AllOf(SizeIs(6), Each(HasSubstr(" fail "))));
  EXPECT_EQ(output(block("LC_ALL=C awk")),
            Lines({"Nov 29 22:00 a.example 0 of 2 12.3 12.3 ms",
                   "Nov 29 22:00 ::1 2 of 2 0.0 0.0 ms",
                   "Nov 29 23:00 ::1 1 of 1 0.0 0.0 ms",
                   "Nov 30 00:00 a.example 2 of 2 0.0 0.0 ms",
                   "Nov 30 00:00 ::1 0 of 2 50.2 100.4 ms",
                   "Nov 30 00:00 d.example 1 of 1 0.0 0.0 ms",
                   "Nov 30 00:00 c.example 0 of 1 5.0 5.0 ms"}));
  Lines table = block("awk >ping.data"); // gnuplot's lines follow
  while (table.back().find(" from[h], t }'") == std::string::npos)
    table.pop_back();
  EXPECT_EQ(output(table), Lines());
  EXPECT_EQ(
      read_lines(path("ping.data")),
      Lines({"a.example ok 29-Nov-2026/22:59:54 29-Nov-2026/22:59:54 12.3",
             "::1 fail 29-Nov-2026/22:59:54 29-Nov-2026/22:59:54 77",
             "a.example ok 29-Nov-2026/22:59:58 29-Nov-2026/22:59:58 -",
             "::1 fail 29-Nov-2026/22:59:59 29-Nov-2026/22:59:59 -",
             "::1 fail 29-Nov-2026/23:00:11 29-Nov-2026/23:00:11 77",
             "a.example fail 30-Nov-2026/00:00:00 30-Nov-2026/00:00:00 -",
             "::1 ok 30-Nov-2026/00:00:01 30-Nov-2026/00:00:01 0",
             "::1 down 29-Nov-2026/22:59:54 30-Nov-2026/00:00:01",
             "d.example fail 30-Nov-2026/00:00:03 30-Nov-2026/00:00:03 -",
             "::1 ok 30-Nov-2026/00:00:09 30-Nov-2026/00:00:09 100.4",
             "c.example ok 30-Nov-2026/00:00:09 30-Nov-2026/00:00:09 5",
             "c.example down 30-Nov-2026/00:00:00 30-Nov-2026/00:00:09",
             "a.example fail 30-Nov-2026/00:00:09 30-Nov-2026/00:00:09 -",
             "a.example down 30-Nov-2026/00:00:00 30-Nov-2026/00:00:09"}));
}

TEST_F(ReadmeTest, ScriptsOfTwoLinesServeAsPings) {
  for (const char *second : {"exec nc ", "exec ping "}) {
    Lines lines = block(second);
    ASSERT_FALSE(lines.empty());
    fs::create_directories(path("bin"));
    script("bin/nc", "[ \"$*\" = '-z -w 2 host 443' ]");
    script("bin/ping", "[ \"$*\" = '-n -c 3 host' ] && echo time=12.3 ms");
    script("bin/uptime", "exit 42");
    write_file(path("my-ping"), "#!/bin/sh\n" + lines.back() + "\n", 0755);
    fs::remove(log());
    const std::string search = path("bin") + ":" + getenv("PATH");
    Launch probe = command("/bin/sh", {"-c", "exec uptime"});
    probe.environment["PATH"] = search;
    if (run(probe).status != 42)
      GTEST_SKIP() << "/bin/sh is a BusyBox that does not search PATH first";
    Launch launch = pinglog({"-f", "-i", "60", "-e", path("my-ping"), "host"});
    launch.environment["PATH"] = search;
    Process process(launch);
    await_results("host ", 1);
    EXPECT_THAT(results(), ElementsAre(HasSubstr("host ok")));
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait().status, 0);
  }
}

TEST_F(ReadmeTest, CommandRunsWhenAHostGoesDownAndWhenItComesBack) {
  fs::create_directory(path("bin"));
  fs::create_symlink(program(), path("pinglog"));
  script("bin/mail", "cat >>" + path("mails"));
  const std::string ping = script("ping", "[ ! -e $0.down ]");
  write_file(ping + ".down", "");
  std::string line;
  for (const std::string &each : block("while read"))
    line += each + "\n";
  const std::string host = "example.org";
  line.replace(line.find(host), host.size(), "-i 0.5 -e " + ping + " host");
  Launch launch = command("/bin/sh", {"-c", line});
  launch.environment["PATH"] = path("bin") + ":" + getenv("PATH");
  Process shell(launch);
  const auto mails = [this] { return read_lines(path("mails")); };
  EXPECT_TRUE(eventually([&] { return !mails().empty(); }));
  fs::remove(ping + ".down");
  EXPECT_TRUE(eventually([&] { return mails().size() >= 2; }));
  for (pid_t child : children_of(shell.pid()))
    if (process_status(child, "Name") == "pinglog")
      send_signal(child, SIGTERM);
  EXPECT_EQ(shell.wait().status, 0);
  EXPECT_THAT(mails(), ElementsAre(HasSubstr(" host is down since "),
                                   HasSubstr(" host was down 0:00:")));
}

TEST_F(ReadmeTest, EverydayCommandsStartPinglog) {
  fs::create_symlink(program(), path("pinglog"));
  fs::create_directory(path("bin"));
  fs::copy(answering_ping(), path("bin/ping"));
  script("bin/busybox", "shift; exec " + path("bin/ping") + " \"$@\"");
  Lines commands = block("tail -F");
  commands.push_back("./pinglog -e \"busybox ping\"");
  EXPECT_THAT(readme_, Contains(HasSubstr(commands.back().substr(10))));
  int started = 0;
  for (std::string line : commands) {
    if (line.rfind("./pinglog", 0) != 0 || line.find(" -k") < line.find('#'))
      continue;
    if (line.find(" -o ") == std::string::npos) // only root may write in /home
      line.insert(strlen("./pinglog"), " -o ping.log");
    line.insert(strlen("./pinglog"), " -i 60"); // time for the ping
    SCOPED_TRACE(line);
    fs::remove(log());
    Launch launch = command("/bin/sh", {"-c", line});
    launch.environment["PATH"] = path("bin") + ":" + getenv("PATH");
    const pid_t pid = start_daemon(launch);
    Lines expected = {"www.baidu.com ok 12.3 ms"};
    if (++started == 1)
      expected = {"192.168.1.1 ok 12.3 ms", "example.org ok 12.3 ms"};
    await_lines(result_label, static_cast<int>(expected.size()));
    EXPECT_THAT(results(), UnorderedElementsAreArray(expected));
    stop(pid);
  }
  EXPECT_EQ(started, 3);
}

} // namespace
