#include "client/openmetrics.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace cmssh::client {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

api::StatsResult some_stats() {
    api::Connection up;
    up.server.key = "me@server:22 as /home/me/\"odd\" \\key\n";
    up.state = api::ConnectionState::Up;
    up.sessions = 3;
    up.rtt_ms = api::Rtt{.last = 1.5, .p50 = 2, .p95 = 250};
    up.probes.ok = 41;
    api::Connection idle;
    idle.server.key = "me@other:22";
    api::StatsResult stats;
    stats.connections = {up, idle};
    stats.handshakes = 12'345'678'901;
    stats.daemon.version = "1.2.3";
    stats.daemon.cpu_s = 0.125;
    return stats;
}

TEST(OpenMetrics, EscapesLabels) {
    const std::string text = openmetrics(some_stats());
    EXPECT_THAT(
        text, HasSubstr("cmssh_connection_sessions{server=\"me@server:22 as /home/me/\\\"odd\\\" \\\\key\\\\n\"} 3\n"))
        << "printable() first, and then what the format asks for";
}

TEST(OpenMetrics, EndsCountersInTotalAndUnitsInBaseUnits) {
    const std::string text = openmetrics(some_stats());
    EXPECT_THAT(text, HasSubstr("# TYPE cmssh_handshakes counter\n# HELP cmssh_handshakes Logins made.\n"
                                "cmssh_handshakes_total 12345678901\n"));
    EXPECT_THAT(text, HasSubstr("# UNIT cmssh_daemon_cpu_seconds seconds\n"));
    EXPECT_THAT(text, HasSubstr("cmssh_daemon_cpu_seconds_total 0.125\n"));
    EXPECT_THAT(text, HasSubstr("of=\"p95\"} 0.25\n"));
    EXPECT_THAT(text, HasSubstr("result=\"ok\"} 41\n"));
    EXPECT_THAT(text, HasSubstr("cmssh_build_info{version=\"1.2.3\"} 1\n"));
    EXPECT_THAT(text, EndsWith("\n# EOF\n"));
}

TEST(OpenMetrics, HasOneStateForEachConnection) {
    const std::string text = openmetrics(some_stats());
    EXPECT_THAT(text, HasSubstr("cmssh_connection_state{server=\"me@other:22\",state=\"idle\"} 1\n"));
    EXPECT_THAT(text, HasSubstr("cmssh_connection_state{server=\"me@other:22\",state=\"up\"} 0\n"));
    EXPECT_THAT(text, Not(HasSubstr("rtt_seconds{server=\"me@other:22\""))) << "never probed";
}

TEST(OpenMetrics, DescribesEachFamilyOnceBeforeItsSamples) {
    std::istringstream lines(openmetrics(some_stats()));
    std::set<std::string> families;
    std::string family;
    for (std::string line; std::getline(lines, line) && line != "# EOF";) {
        if (line.starts_with("# TYPE ")) {
            family = line.substr(7, line.find(' ', 7) - 7);
            EXPECT_TRUE(families.insert(family).second) << line;
        } else {
            EXPECT_TRUE(line.starts_with(line.starts_with("# ") ? line.substr(0, 7) + family + ' ' : family)) << line;
        }
    }
    EXPECT_GT(families.size(), 20U);
}

}  // namespace
}  // namespace cmssh::client
