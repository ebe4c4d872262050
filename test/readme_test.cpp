// readme_test.cpp - what README and `pinglog -h` say: it is short, both say the
// same, and README's commands, as they stand there, do what it says of them.

#include "support.h"

#include <cstdlib>

namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAreArray;
using Lines = std::vector<std::string>;

class ReadmeTest : public Sandbox {
protected:
  void SetUp() override {
    Sandbox::SetUp();
    if (IsSkipped())
      return;
    const fs::path own = fs::canonical("/proc/self/exe");
    readme_ = read_lines(own.parent_path().parent_path() / "README");
    write_file(path("help"), run(command(program(), {"-h"})).out);
    help_ = read_lines(path("help"));
  }

  // README's indented lines, without the indentation, from the one that has
  // this until one that is not indented.
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
    constexpr char name[] = "/home/ping.log"; // or replace() throws
    line.replace(line.find(name), strlen(name), log());
    const Result result = run(command("/bin/sh", {"-c", line}));
    EXPECT_EQ(result.err, "") << line;
    write_file(path("output"), result.out);
    return read_lines(path("output"));
  }

  Lines readme_, help_;
};

TEST_F(ReadmeTest, ReadmeIsShortAndFitsIntoATerminal) {
  EXPECT_LE(readme_.size(), 120u);
  for (const std::string &line : readme_)
    EXPECT_LE(line.size(),
              line.rfind("    apt-get ", 0) == 0 ? line.size() : 80);
}

TEST_F(ReadmeTest, HelpAndReadmeSayTheSameOfOptionsAndOfTheLog) {
  Lines options = block("-c n ");
  ASSERT_THAT(options, SizeIs(8));
  options.pop_back(); // -h, -V: it says `print this`
  for (const Lines &lines : {options, block(start_label)})
    for (const std::string &line : lines)
      EXPECT_EQ(std::count(help_.begin(), help_.end(), "  " + line), 1) << line;
}

TEST_F(ReadmeTest, RecipesFindWhatIsInTheLog) {
  write_file(log(), R"(start time---------:Sun Nov 29 23:59:54 2026
ping result--------:fail.example ok 12.3 ms
ping result--------:192.0.2.1 fail 77 ms
end of time--------:Sun Nov 29 23:59:57 2026
start time---------:Sun Nov 29 23:59:57 2026
ping result--------:fail.example fail ok  99.9 ms
ping result--------:192.0.2.1 fail no answer in 3 s
end of time--------:Mon Nov 30 00:00:00 2026
start time---------:Mon Nov 30 00:00:00 2026
ping result--------:fail.example ok
ping result--------:192.0.2.1 ok 0 ms
end of time--------:Mon Nov 30 00:00:03 2026
lines lost---------:8
start time---------:Mon Nov 30 00:00:09 2026
ping result--------:192.0.2.1 ok 100.4 ms
ping result--------:fail.example fail ping: fail.example: No address
start time---------:Mon Nov 30 00:59:59 2026
ping result--------:fail.example fail exit status 2
ping result--------:192.0.2.1 ok
)");
  EXPECT_THAT(output({help_.back().substr(help_.back().find("grep"))}),
              AllOf(SizeIs(5), Each(HasSubstr(" fail "))));
  EXPECT_EQ(output(block("/^start/ { time = substr($0, 21)")),
            Lines({"Sun Nov 29 23:59:57 2026 - Mon Nov 30 00:00:00 2026 "
                   "fail.example: ok  99.9 ms",
                   "Sun Nov 29 23:59:54 2026 - Mon Nov 30 00:00:00 2026 "
                   "192.0.2.1: 77 ms",
                   "Mon Nov 30 00:00:09 2026 - still down "
                   "fail.example: ping: fail.example: No address"}));
  EXPECT_EQ(output(block("/^start/ { hour")),
            Lines({"Sun Nov 29 23:00 fail.example 50.00% 12.3 12.3 ms",
                   "Sun Nov 29 23:00 192.0.2.1 0.00% 0.0 0.0 ms",
                   "Mon Nov 30 00:00 fail.example 33.33% 0.0 0.0 ms",
                   "Mon Nov 30 00:00 192.0.2.1 100.00% 50.2 100.4 ms"}));
  EXPECT_EQ(output(block("/^start/ { time = substr($0, 25)")), Lines());
  EXPECT_EQ(read_file(path("192.0.2.1.data")), "Nov 29 23:59:54 2026 - 1\n"
                                               "Nov 29 23:59:57 2026 - 1\n"
                                               "Nov 30 00:00:00 2026 0 0\n"
                                               "Nov 30 00:00:09 2026 100.4 0\n"
                                               "Nov 30 00:59:59 2026 - 0\n");
  EXPECT_THAT(read_file(path("fail.example.data")), HasSubstr("2026 - 0\n"));
}

TEST_F(ReadmeTest, EverydayCommandsStartIt) {
  fs::create_symlink(program(), path("pinglog"));
  fs::create_directory(path("bin"));
  fs::copy(answering_ping(), path("bin/ping"));
  script("bin/busybox", "exec \"$@\"");
  Lines commands = block("./pinglog ");
  commands.push_back("./pinglog -e \"busybox ping\"");
  EXPECT_THAT(readme_, Contains(HasSubstr(commands.back().substr(10))));
  int started = 0;
  for (std::string line : commands) {
    if (line.rfind("./pinglog", 0) != 0 || line.find(" -k") < line.find('#'))
      continue;
    if (line.find(" -o ") == std::string::npos) // in /home only root may write
      line.insert(strlen("./pinglog"), " -o ping.log");
    SCOPED_TRACE(line);
    fs::remove(log());
    Launch launch = command("/bin/sh", {"-c", line});
    launch.environment["PATH"] = path("bin") + ":" + getenv("PATH");
    const pid_t pid = start_daemon(launch);
    Lines expected = {"www.baidu.com ok 12.3 ms"};
    if (++started == 1)
      expected = {"192.0.2.1 ok 12.3 ms", "::1 ok 12.3 ms"};
    await_lines(result_label, expected.size());
    EXPECT_THAT(results(), UnorderedElementsAreArray(expected));
    stop(pid);
  }
  EXPECT_EQ(started, 3);
}

} // namespace
