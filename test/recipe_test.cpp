// recipe_test.cpp - the awk recipes of README, as they stand there, on a log of
// two days. What they must print is computed from the plan by which the log was
// made, not from the log.

#include "support.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <sstream>

namespace {

using Lines = std::vector<std::string>;

constexpr int interval = 3;
constexpr int cycles = 2 * 86400 / interval;
const Lines hosts = {"www.baidu.com", "192.0.2.1", "2001:db8::1"};

// The host fails from one cycle to before the other.
struct Outage {
  int first;
  int end;
  int host;
  const char *reason; // of its first cycle
};

// In the order in which they begin, and of the hosts within a cycle.
constexpr Outage outages[] = {
    {0, 1, 0, "ping: www.baidu.com: Temporary failure in name resolution"},
    {100, 101, 1, "ok 99.9 ms"}, // a reason that looks like an answer
    {1500, 1600, 1, "77 ms"},    // and one like a time
    {1602, 1603, 1, "exit status 2"},
    // Over a midnight, two hosts at once.
    {19400, 19600, 0, "1 packets transmitted, 0 received, 100% packet loss"},
    {19400, 19700, 2, "From 10.9.0.1 icmp_seq=1 Destination Host Unreachable"},
    // Over lines that are lost, and ended among them.
    {24900, 25500, 0, "no answer in 3 s"},
    {24990, 25390, 2, "killed by signal 11"},
    // Over the end of the month.
    {48000, 49000, 1, "ping: sendto: Network is unreachable"},
    {52000, 54500, 0, "ping: connect: Network is unreachable"}, // an hour
    // Still going on at the end.
    {57000, cycles, 2, "no answer in 3 s"},
    {cycles - 1, cycles, 0, "no answer in 3 s"},
};

// These lines are lost: a count of them stands where they were.
constexpr int lost_first = 25000;
constexpr int lost_end = 25400;

bool is_logged(int cycle) {
  return cycle < lost_first || cycle >= lost_end;
}

std::string date(time_t time) {
  char text[32];
  tm fields = {};
  gmtime_r(&time, &fields);
  strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &fields);
  return text;
}

// When a cycle starts, on a wall clock that is set back once.
time_t start_of(int cycle) {
  constexpr time_t begin = 1795938297; // Sun Nov 29 07:44:57 2026
  return begin + cycle * interval - (cycle < 40000 ? 0 : 600);
}

const char *reason_of(int host, int cycle) {
  for (const Outage &outage : outages)
    if (outage.host == host && outage.first <= cycle && cycle < outage.end)
      return cycle == outage.first ? outage.reason : "a later reason";
  return nullptr;
}

// The time of an answer as iputils prints it, or "": some answers have none,
// and one host has none for more than an hour. Each host has a range of its
// own, so that in a drawing their points are apart.
std::string time_of(int host, int cycle) {
  if (cycle % 50 == 7 || (host == 1 && cycle > 5000 && cycle < 7500))
    return "";
  const double time = (cycle * 7919 % 48000 + 50000 * host + 300) / 1000.0;
  char text[32];
  snprintf(text, sizeof text, "%.*f",
           time < 1     ? 3
           : time < 10  ? 2
           : time < 100 ? 1
                        : 0,
           time);
  return text;
}

std::string result_of(int host, int cycle) {
  if (const char *reason = reason_of(host, cycle))
    return hosts[host] + " fail " + reason;
  const std::string time = time_of(host, cycle);
  return hosts[host] + " ok" + (time.empty() ? "" : " " + time + " ms");
}

std::string two_days() {
  std::string text;
  for (int cycle = 0; cycle < cycles; ++cycle) {
    if (cycle == lost_first)
      text += lost_label +
              std::to_string((lost_end - lost_first) * (hosts.size() + 2)) +
              "\n";
    if (!is_logged(cycle))
      continue;
    text += start_label + date(start_of(cycle)) + "\n";
    for (size_t host = 0; host < hosts.size(); ++host)
      text += result_label + result_of(host, cycle) + "\n";
    if (cycle % 1000 != 999) // as if it was killed
      text += end_label + date(start_of(cycle + 1)) + "\n";
  }
  return text;
}

std::string outage_line(const std::string &host, const std::string &reason,
                        time_t from, time_t until, bool is_over) {
  return date(from) + " - " + date(until) + ", " +
         std::to_string(until - from) + " s, " + (is_over ? "ok" : "fail") +
         ": " + host + " fail " + reason;
}

Lines expected_outages() {
  Lines lines;
  for (const Outage &outage : outages) {
    const bool is_over = outage.end < cycles;
    int until = is_over ? outage.end : cycles - 1;
    while (!is_logged(until))
      ++until;
    lines.push_back(outage_line(hosts[outage.host], outage.reason,
                                start_of(outage.first), start_of(until),
                                is_over));
  }
  return lines;
}

Lines expected_hours() {
  struct Hour {
    int pings = 0;
    int answers = 0;
    int times = 0;
    double sum = 0;
    double worst = 0;
  };
  std::map<std::string, Hour> hours;
  Lines names; // in the order in which they appear
  for (int cycle = 0; cycle < cycles; ++cycle) {
    for (size_t i = 0; is_logged(cycle) && i < hosts.size(); ++i) {
      const std::string name =
          date(start_of(cycle)).substr(0, 13) + ":00 " + hosts[i];
      Hour &hour = hours[name];
      if (hour.pings++ == 0)
        names.push_back(name);
      if (reason_of(i, cycle) != nullptr)
        continue;
      ++hour.answers;
      const std::string time = time_of(i, cycle);
      if (time.empty())
        continue;
      ++hour.times;
      hour.sum += std::stod(time);
      hour.worst = std::max(hour.worst, std::stod(time));
    }
  }
  Lines lines;
  for (const std::string &name : names) {
    const Hour &hour = hours[name];
    char text[128];
    snprintf(text, sizeof text, "%-40s%7.2f%%%7.1f%7.1f ms ", name.c_str(),
             100.0 * hour.answers / hour.pings,
             hour.times == 0 ? 0 : hour.sum / hour.times, hour.worst);
    lines.push_back(text + std::string(20 * hour.answers / hour.pings, '#'));
  }
  return lines;
}

// What gnuplot reads: HOST DATE TIME.
Lines expected_points() {
  Lines lines;
  for (int cycle = 0; cycle < cycles; ++cycle)
    for (size_t host = 0; is_logged(cycle) && host < hosts.size(); ++host)
      if (reason_of(host, cycle) == nullptr && !time_of(host, cycle).empty())
        lines.push_back(hosts[host] + " " + date(start_of(cycle)).substr(4) +
                        " " + time_of(host, cycle));
  return lines;
}

Lines split(const std::string &text) {
  Lines lines;
  std::istringstream rest(text);
  for (std::string line; std::getline(rest, line);)
    lines.push_back(line);
  return lines;
}

// "" if they are equal. (EXPECT_EQ would print, and compare, 170,000 lines.)
std::string difference(const Lines &expected, const Lines &actual) {
  const std::string none = "(nothing)";
  for (size_t i = 0; i < std::max(expected.size(), actual.size()); ++i) {
    const std::string &left = i < expected.size() ? expected[i] : none;
    const std::string &right = i < actual.size() ? actual[i] : none;
    if (left != right)
      return "line " + std::to_string(i + 1) + ":\n  " + right +
             "\ninstead of:\n  " + left;
  }
  return "";
}

std::string readme() {
  if (const char *named = getenv("README_FILE"))
    return named;
  return std::filesystem::canonical("/proc/self/exe")
             .parent_path()
             .parent_path() /
         "README";
}

// The indented blocks between the section's heading and the next one, without
// the indentation.
std::vector<Lines> recipes() {
  std::vector<Lines> found;
  bool in_section = false;
  bool in_recipe = false;
  for (const std::string &line : read_lines(readme())) {
    const bool is_indented = line.rfind("    ", 0) == 0;
    if (line.size() > 1 && isupper(line[0]) && isupper(line[1]))
      in_section = line == "LOOKING AT OUTAGES";
    if (in_section && is_indented && !in_recipe)
      found.emplace_back();
    in_recipe = in_section && is_indented;
    if (in_recipe)
      found.back().push_back(line.substr(4));
  }
  return found;
}

enum Recipe { outage_recipe, hour_recipe, plot_recipe };

class RecipeTest : public Sandbox {
protected:
  void SetUp() override { ASSERT_EQ(recipes().size(), 3u) << readme(); }

  // The recipe as a command for this awk and the sandbox's log.
  std::string text(Recipe number, const std::string &awk) const {
    const Lines recipe = recipes().at(number);
    std::string text;
    for (const std::string &line : recipe)
      text += line + "\n";
    replace(text, "awk ", awk + " ");
    replace(text, "/home/ping.log", log());
    return text;
  }

  // Replaces what must be there, where it stands first.
  static void replace(std::string &text, const std::string &what,
                      const std::string &by) {
    const size_t position = text.find(what);
    ASSERT_NE(position, std::string::npos) << what << " is not in " << text;
    text.replace(position, what.size(), by);
  }

  // What the command prints; it must succeed and not complain.
  std::string output(const std::string &text) const {
    const Result result = Process(command("/bin/sh", {"-c", text}))
                              .wait(std::chrono::seconds(120));
    EXPECT_EQ(result.status, 0) << text;
    EXPECT_EQ(result.err, "") << text;
    return result.out;
  }
};

TEST_F(RecipeTest, EachIsShortAndReadsTheDefaultLogOnce) {
  for (const Lines &recipe : recipes()) {
    EXPECT_LE(recipe.size(), 6u) << recipe.front();
    EXPECT_EQ(recipe.front().rfind("awk '", 0), 0u) << recipe.front();
    int mentioned = 0;
    for (const std::string &line : recipe)
      mentioned += line.find("/home/ping.log") != std::string::npos;
    EXPECT_EQ(mentioned, 1) << recipe.front();
  }
}

// The same expectation for each awk: so all of them print the same bytes.
class EachAwk : public RecipeTest,
                public ::testing::WithParamInterface<const char *> {
protected:
  void SetUp() override {
    RecipeTest::SetUp();
    const std::string probe = std::string(GetParam()) + " 'BEGIN { exit }'";
    if (run(command("/bin/sh", {"-c", probe})).status != 0)
      GTEST_SKIP() << "no " << GetParam() << " on this machine";
  }

  Lines lines(Recipe number) const {
    return split(output(text(number, GetParam())));
  }
};

INSTANTIATE_TEST_SUITE_P(, EachAwk,
                         ::testing::Values("busybox awk", "mawk", "gawk",
                                           "gawk --posix"),
                         [](const auto &info) {
                           std::string name;
                           for (char byte : std::string(info.param))
                             name += isalpha(byte) ? byte : '_';
                           return name;
                         });

TEST_P(EachAwk, EveryOutageIsListedWithItsFirstReasonAndLength) {
  write_file(log(), two_days());
  EXPECT_EQ(difference(expected_outages(), lines(outage_recipe)), "");
}

TEST_P(EachAwk, LengthIsRightOverEndsOfMonthsAndYears) {
  // One outage after the other from 1998 on: up to midnight, of up to two
  // days, and of up to half a year.
  std::string text;
  Lines expected;
  unsigned random = 1;
  time_t from = 915148799; // Thu Dec 31 23:59:59 1998
  for (int i = 0; i < 3000; ++i) {
    random = random * 1103515245 + 12345;
    const time_t length = i % 100 == 0 ? random % (180 * 86400)
                          : i % 2 == 0 ? 86400 - (from + 1) % 86400
                                       : 1 + random % (2 * 86400);
    text += start_label + date(from) + "\n" + result_label + "::1 fail x\n" +
            start_label + date(from + length) + "\n" + result_label +
            "::1 ok\n";
    expected.push_back(outage_line("::1", "x", from, from + length, true));
    from += length;
  }
  write_file(log(), text);
  EXPECT_EQ(difference(expected, lines(outage_recipe)), "");
}

TEST_P(EachAwk, EachHourHasItsShareItsTimesAndItsBar) {
  write_file(log(), two_days());
  EXPECT_EQ(difference(expected_hours(), lines(hour_recipe)), "");
}

TEST_P(EachAwk, EveryAnswerWithATimeIsGivenToGnuplot) {
  write_file(log(), two_days());
  std::string awk = text(plot_recipe, GetParam());
  const size_t pipe = awk.rfind(" |\n");
  ASSERT_NE(pipe, std::string::npos) << awk;
  awk.erase(pipe);
  const Lines given = split(output(awk));
  const Lines points = expected_points();
  ASSERT_GT(given.size(), 3u);
  EXPECT_EQ(given.front(), "$log << END");
  EXPECT_EQ(difference(points, Lines(given.begin() + 1, given.end() - 2)), "");
  EXPECT_EQ(given[given.size() - 2], "END");
  // In the order of their first answers.
  EXPECT_THAT(given.back(),
              ::testing::StartsWith("plot for [h in \" " + hosts[1] + " " +
                                    hosts[2] + " " + hosts[0] + "\"] "));
}

TEST_F(RecipeTest, GnuplotDrawsEveryHost) {
  SKIP_WITHOUT("gnuplot");
  const std::string drawing = text(plot_recipe, "awk");
  std::string in_letters = drawing;
  replace(in_letters, "png size 1200, 400", "dumb 150, 40");
  write_file(log(), two_days());
  EXPECT_EQ(output(in_letters), "");
  const std::string picture = read_file(path("ping.png"));
  for (const std::string &host : hosts)
    EXPECT_NE(picture.find(host), std::string::npos) << host << picture;
  // Each host has a letter for its points, and they do not cover each other's.
  for (char letter : {'A', 'B', 'C'})
    EXPECT_GT(std::count(picture.begin(), picture.end(), letter), 100)
        << letter << picture;
  // The axis of dates goes over both midnights.
  for (const char *label : {"11/29", "11/30", "12/01"})
    EXPECT_NE(picture.find(label), std::string::npos) << label << picture;

  write_file(log(), two_days().substr(0, 10000)); // which is fast
  EXPECT_EQ(output(drawing), "");
  EXPECT_EQ(read_file(path("ping.png")).substr(0, 4), "\x89PNG");
}

} // namespace
