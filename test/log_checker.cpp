// log_checker.cpp - see log_checker.h.

#include "log_checker.h"

#include "process.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace {

std::string label_of(const std::string &line) {
  return line.substr(0, strlen(start_label));
}

// The host of a result or outage line.
std::string host_of(const std::string &line) {
  const size_t begin = strlen(result_label) + time_size + 1;
  return line.size() < begin
             ? ""
             : line.substr(begin, line.find(' ', begin) - begin);
}

// Where in the cycles of this many hosts a log stands.
class Place {
public:
  explicit Place(int hosts) : hosts_(hosts) {}

  int cycle() const { return cycle_; }

  // Moves on by this line. Returns false if it cannot stand here.
  bool pass(const std::string &label, const std::string &host, bool is_last) {
    if (label == started_label)
      return !is_within_;
    if (label == start_label)
      return start();
    if (!is_within_)
      return false;
    if (label == result_label)
      return result() && seen_.insert(newest_ = host).second;
    if (label == outage_label)
      return outage() && (host == newest_ || newest_.empty());
    is_within_ = false;
    return label == end_label && (results_ == hosts_ || is_last);
  }

  // Moves on by a lost line of hosts that never answer: with the second cycle,
  // an outage of each of them begins.
  void skip() {
    newest_.clear();
    if (!is_within_)
      (void)start();
    else if (may_be_outage_ && cycle_ == 2)
      (void)outage();
    else if (results_ < hosts_)
      (void)result();
    else
      is_within_ = false;
  }

private:
  bool start() {
    const bool may = !is_within_;
    is_within_ = true;
    ++cycle_;
    results_ = 0;
    may_be_outage_ = false;
    seen_.clear();
    return may;
  }
  bool result() {
    may_be_outage_ = true;
    return ++results_ <= hosts_;
  }
  bool outage() { return std::exchange(may_be_outage_, false); }

  const int hosts_;
  int cycle_ = 0;
  bool is_within_ = false;
  int results_ = 0; // of this cycle
  bool may_be_outage_ = false;
  std::set<std::string> seen_; // the hosts whose results are not lost
  std::string newest_;         // the host of the last result, "" if lost
};

// Says what is wrong with the line itself, "" if nothing is.
std::string fault_in(const std::string &line) {
  bool is_labelled = false;
  for (const std::string label :
       {started_label, start_label, result_label, outage_label, end_label,
        lost_label, rename_label})
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

Account check_log(const std::string &path, int hosts) {
  Account account;
  const auto blame = [&account](const std::string &fault) {
    if (account.fault.empty())
      account.fault = fault;
  };
  const std::string text = read_file(path);
  if (!text.empty() && text.back() != '\n')
    blame("torn: " + text.substr(text.rfind('\n') + 1));
  const std::vector<std::string> lines = read_lines(path);
  for (const std::string &line : lines)
    blame(fault_in(line));
  if (hosts == 0 || !account.fault.empty())
    return account;

  Place place(hosts);
  int too_slow = 0; // pings that a busy machine may have kept from counting
  std::map<std::string, int> last_number;
  bool is_after_mark = false;
  for (const std::string &line : lines) {
    const std::string label = label_of(line);
    if (label == rename_label) // belongs to no cycle
      continue;
    if (label == lost_label) {
      const int number = atoi(line.c_str() + label.size());
      if (is_after_mark || line != lost_label + std::to_string(number))
        blame("no number of lost lines: " + line);
      for (int skipped = 0; skipped < number; ++skipped)
        place.skip();
      account.lost += number;
      account.lines += number;
    } else {
      const std::string host = host_of(line);
      if (!place.pass(label, host, &line == &lines.back()))
        blame("in cycle " + std::to_string(place.cycle()) + ": " + line);
      ++account.lines;
      // A result of the counting ping.
      const size_t fail = line.find(" " + host + " fail ");
      int number = 0;
      if (label == result_label && fail != std::string::npos &&
          sscanf(line.c_str() + fail + host.size() + 7, "%d ", &number) == 1) {
        // If results are lost, how many pings were too slow is unknown.
        if (number <= last_number[host] || number > place.cycle() ||
            (account.lost == 0 && number < place.cycle() - too_slow))
          blame("in cycle " + std::to_string(place.cycle()) +
                " by number: " + line);
        last_number[host] = number;
      } else if (label == result_label) {
        ++too_slow;
      }
    }
    is_after_mark = label == lost_label;
    if (account.lost == 0)
      account.before_mark += line.size() + 1;
  }
  return account;
}
