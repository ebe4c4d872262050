// result_test.cpp - one result line for each ping, and what it says.

#include "support.h"

namespace {

using ::testing::ElementsAre;

class ResultTest : public Sandbox {
protected:
  // The result line of one cycle with this ping.
  std::string result_of(const std::string &body,
                        const std::string &interval = "1") {
    const Result result = run(pinglog(
        {"-f", "-c", "1", "-i", interval, "-e", script("ping", body), "host"}));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(fault_in_log(log()), "");
    EXPECT_EQ(results().size(), 1u);
    return results().empty() ? "" : results().back();
  }
};

TEST_F(ResultTest, AnswerIsOkWithTheTimeAsPrinted) {
  EXPECT_EQ(result_of("echo '64 bytes from 192.0.2.1: icmp_seq=1 ttl=53 "
                      "time=12.30 ms'"),
            "host ok 12.30 ms");
}

TEST_F(ResultTest, SilenceUntilTheDeadlineIsNoAnswer) {
  EXPECT_EQ(result_of("exec sleep 1000", "0.5"),
            "host fail no answer in 0.5 s");
}

} // namespace
