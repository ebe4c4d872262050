// readme_test.cpp - README and `pinglog -h` are short and list the same
// options; README's everyday commands, and those that read the log, do what it
// says; it contains the promises that the other test files quote. README's
// other commands are run by the proofs readme_commands and recipes.

#include "support.h"

#include <cstdlib>
#include <sstream>

namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
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

  // What the command prints when $log is the sandbox's log.
  Lines output(const Lines &text) const {
    std::string line;
    for (const std::string &each : text)
      line += each + "\n";
    Launch launch = command("/bin/sh", {"-c", line});
    launch.environment["LC_ALL"] = "C"; // bash warns of a missing locale
    launch.environment["log"] = log();
    const Result result = run(launch);
    EXPECT_EQ(result.err, "") << line;
    EXPECT_EQ(result.status, 0) << line;
    write_file(path("output"), result.out);
    return read_lines(path("output"));
  }

  fs::path tests_;
  Lines readme_, help_;
};

TEST_F(ReadmeTest, ReadmeIsShortAndFitsATerminal) {
  EXPECT_LE(readme_.size(), 185u);
  EXPECT_LE(fs::file_size(tests_.parent_path() / "README"), 9600u);
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
      EXPECT_NE(readme.find(squeezed({quote})), std::string::npos)
          << file << ": " << quote;
    promises += static_cast<int>(quotes.size());
  }
  EXPECT_GT(promises, 30);
}

// The older file ends in NULs, as after a power failure. pinglog was restarted
// while ::1 was down, and was not running when c.example came back.
TEST_F(ReadmeTest, RecipesReadBothFilesOfTheLog) {
  write_file(log() + ".0", R"(start time---------:Sun Nov 29 22:59:54 2026
ping result--------:Sun Nov 29 22:59:54 2026 ab ok 12.3 ms
ping result--------:Sun Nov 29 22:59:54 2026 ::1 fail 77 ms
end of time--------:Sun Nov 29 22:59:57 2026
start time---------:Sun Nov 29 22:59:57 2026
ping result--------:Sun Nov 29 22:59:58 2026 ab ok
ping result--------:Sun Nov 29 22:59:59 2026 ::1 fail no answer in 3 s
ping outage--------:Sun Nov 29 22:59:59 2026 ::1 is down since Sun Nov 29 22:59:54 2026: 77 ms
end of time--------:Sun Nov 29 23:00:00 2026
start time---------:Sun Nov 29 23:00:10 2026
ping result--------:Sun Nov 29 23:00:11 2026 ::1 fail 77 ms
ping outage--------:Sun Nov 29 23:00:14 2026 ::1 is down since Sun Nov 29 23:00:11 2026: 77 ms
end of time--------:Sun Nov 29 23:00:14 2026
)" + std::string(512, '\0') + "\n");
  write_file(
      log(),
      R"(pinglog started----:Mon Nov 30 00:00:00 2026 PID 39 pings ::1 every 3 s
start time---------:Mon Nov 30 00:00:00 2026
ping result--------:Mon Nov 30 00:00:00 2026 ab fail was down
ping result--------:Mon Nov 30 00:00:01 2026 ::1 ok 0 ms
ping outage--------:Mon Nov 30 00:00:01 2026 ::1 was down 1:00:07 since Sun Nov 29 22:59:54 2026: 9
ping result--------:Mon Nov 30 00:00:03 2026 d.example fail eth0 is down since 7 was down for 9
ping outage--------:Mon Nov 30 00:00:03 2026 c.example is down since Mon Nov 30 00:00:00 2026: 77 ms
end of time--------:Mon Nov 30 00:00:03 2026
lines lost---------:8
start time---------:Mon Nov 30 00:00:09 2026
ping result--------:Mon Nov 30 00:00:09 2026 ::1 ok 100.4 ms
ping result--------:Mon Nov 30 00:00:09 2026 c.example ok 5 ms
ping result--------:Mon Nov 30 00:00:09 2026 ab fail exit status 2
ping outage--------:Mon Nov 30 00:00:09 2026 ab is down since Mon Nov 30 00:00:00 2026: was down
)");
  const Lines was_down = output(block("'was down'"));
  const std::string in_help = "sed -n '$s,/home/ping.log,$log,gp' ";
  EXPECT_EQ(output({in_help + path("help") + " | sh"}), was_down);
  EXPECT_THAT(was_down, Contains(HasSubstr("::1 was down 1:00:07 since")));
  EXPECT_THAT(was_down, Contains(HasSubstr(" PID 39 pings ::1")));
  EXPECT_THAT(output(block("{ last[$7] = $0 }")),
              UnorderedElementsAre(HasSubstr("09 2026 ::1 ok 100.4 ms"),
                                   HasSubstr("c.example ok 5 ms"),
                                   HasSubstr("d.example fail eth0"),
                                   HasSubstr("ab fail exit status 2")));
  EXPECT_THAT(output(block("^ping result.* fail ")),
              AllOf(SizeIs(6), Each(HasSubstr(" fail "))));
  write_file(
      path("table"),
      R"(Nov 29 ab lost 0 of 2 (0.00 %), outages: 0, 0:00:00, mean 12.3, worst 12.3 ms
Nov 29 ::1 lost 3 of 3 (100.00 %), outages: 0, 0:00:00
Nov 30 ab lost 2 of 2 (100.00 %), outages: 0, 0:00:00
Nov 30 ::1 lost 0 of 2 (0.00 %), outages: 1, 1:00:07, mean 50.2, worst 100.4 ms
Nov 30 d.example lost 1 of 1 (100.00 %), outages: 0, 0:00:00
Nov 30 c.example lost 0 of 1 (0.00 %), outages: 0, 0:00:00, mean 5.0, worst 5.0 ms
)");
  EXPECT_EQ(output(block("LC_ALL=C awk")), read_lines(path("table")));
}

// The commands of README's chapter, in a shell whose ./pinglog takes a log in
// the sandbox for the default one, and gives its pings time.
TEST_F(ReadmeTest, EverydayCommandsStartAndStopPinglogAndShowItsLog) {
  fs::create_directory(path("bin"));
  fs::copy(answering_ping(), path("bin/ping"));
  script("bin/busybox", "shift; exec " + path("bin/ping") + " \"$@\"");
  script("pinglog", "exec " + program() + " -i 60 -o " + log() + " \"$@\"");
  const auto shell = [this](std::string line) {
    if (const size_t at = line.find(" /home/ping.log "); at != line.npos)
      line.replace(at, strlen(" /home/ping.log "), " " + log() + " ");
    Launch launch = command("/bin/sh", {"-c", "exec " + line});
    launch.environment["PATH"] = path("bin") + ":" + getenv("PATH");
    return launch;
  };
  Lines commands = block("tail -F");
  commands.push_back("./pinglog -e \"busybox ping\"");
  EXPECT_THAT(readme_, Contains(HasSubstr(commands.back().substr(10))));
  pid_t pid = start_daemon(shell("./pinglog"));
  for (const std::string &line : commands) {
    SCOPED_TRACE(line);
    if (line.rfind("tail", 0) == 0) {
      Process tail(shell(line));
      const std::string answer = " www.baidu.com ok 12.3 ms\n";
      EXPECT_TRUE(eventually(
          [&] { return tail.out().find(answer) != std::string::npos; }));
    } else if (line.find(" -k") < line.find('#')) {
      EXPECT_EQ(run(shell(line)).status, 0);
      EXPECT_TRUE(eventually([pid] { return !is_alive(pid); }));
    } else {
      if (is_alive(pid))
        stop(pid);
      fs::remove(log());
      pid = start_daemon(shell(line));
      Lines expected = {"www.baidu.com ok 12.3 ms"};
      if (line.find("192.168.1.1") != std::string::npos)
        expected = {"192.168.1.1 ok 12.3 ms"};
      if (line.find("example.org") != std::string::npos)
        expected.emplace_back("example.org ok 12.3 ms");
      await_lines(result_label, static_cast<int>(expected.size()));
      EXPECT_THAT(results(), UnorderedElementsAreArray(expected));
    }
  }
}

} // namespace
