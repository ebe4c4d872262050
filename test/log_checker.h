// log_checker.h - what a sound log looks like.

#ifndef LOG_CHECKER_H
#define LOG_CHECKER_H

#include <string>

constexpr char started_label[] = "pinglog started----:";
constexpr char start_label[] = "start time---------:";
constexpr char result_label[] = "ping result--------:";
constexpr char end_label[] = "end of time--------:";
constexpr char lost_label[] = "lines lost---------:";
constexpr char outage_label[] = "ping outage--------:";
constexpr char rename_label[] = "log not renamed----:";
constexpr size_t time_size = 24; // Sun Nov 22 07:45:00 2026

struct Account {
  std::string fault;      // "" if there is none
  int lines = 0;          // those counted as lost included
  int lost = 0;           // lines that are counted as lost
  size_t before_mark = 0; // bytes before the first `lines lost`
};

// Checks a log. Every line must have one of the labels, a newline and only
// printable bytes. With 0 hosts, nothing more is checked. Otherwise, each cycle
// must have a start line, one result line for each host, which its outage line
// may follow, and an end line; starts stand between. Only the last cycle may be
// shorter. A `lines lost` line must name the size of its gap, which is known
// only if no host answers. The counting ping's numbers must match the cycles.
[[nodiscard]] Account check_log(const std::string &path, int hosts = 0);

#endif
