// readme_test.cpp - README and `pinglog -h` are short and list the same
// options; README's everyday commands do what it says. README's other commands
// are run by the proofs readme_commands and recipes.

#include "support.h"
#include <regex>

namespace {

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
  Words block(const std::string &part) const {
    Words found;
    for (const std::string &line : readme_)
      if (line.rfind("    ", 0) == 0 &&
          (!found.empty() || line.find(part) != std::string::npos))
        found.push_back(line.substr(4));
      else if (!found.empty())
        break;
    EXPECT_FALSE(found.empty()) << "README has no: " << part;
    return found;
  }

  fs::path tests_;
  Words readme_, help_;
};

TEST_F(ReadmeTest, ReadmeIsShortAndFitsATerminal) {
  EXPECT_LE(readme_.size(), 190u);
  EXPECT_LE(fs::file_size(tests_.parent_path() / "README"), 10000u);
  for (const std::string &line : readme_)
    EXPECT_LE(line.size(),
              line.rfind("    apt-get ", 0) == 0 ? line.size() : 80);
}

TEST_F(ReadmeTest, HelpAndReadmeListTheSameOptions) {
  const Words options = block("-c n ");
  ASSERT_THAT(options, SizeIs(9));
  for (const std::string &line : options)
    EXPECT_EQ(std::count(help_.begin(), help_.end(), "  " + line), 1) << line;
  Words list = block("'^ping outage'");
  for (std::string &line : list)
    line = "  " + std::regex_replace(line, std::regex("\"\\$log(.*?)\""),
                                     "/home/ping.log$1");
  EXPECT_EQ(Words(help_.end() - 2, help_.end()), list);
}

// The commands of README's chapter, in a shell whose ./pinglog takes a log in
// the sandbox for the default one, and gives its pings time.
TEST_F(ReadmeTest, EverydayCommandsStartAndStopPinglogAndShowItsLog) {
  fs::create_directory(path("bin"));
  fs::copy(answering_ping(), path("bin/ping"));
  script("pinglog", "exec " + program() + " -i 60 -o " + log() + " \"$@\"");
  const auto shell = [this](std::string line) {
    if (const size_t at = line.find(" /home/ping.log "); at != line.npos)
      line.replace(at, strlen(" /home/ping.log "), " " + log() + " ");
    Launch launch = command("/bin/sh", {"-c", "exec " + line});
    launch.environment["PATH"] = path("bin") + ":" + getenv("PATH");
    return launch;
  };
  pid_t pid = start_daemon(shell("./pinglog"));
  for (const std::string &line : block("tail -F")) {
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
      Words expected = {"www.baidu.com ok 12.3 ms"};
      if (line.find("192.168.1.1") != std::string::npos)
        expected = {"192.168.1.1 ok 12.3 ms"};
      if (line.find("example.org") != std::string::npos)
        expected.emplace_back("example.org ok 12.3 ms");
      await(result_label, static_cast<int>(expected.size()));
      EXPECT_THAT(results(), UnorderedElementsAreArray(expected));
    }
  }
}

} // namespace
