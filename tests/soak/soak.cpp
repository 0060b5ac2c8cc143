// Mixed work of several callers on twenty servers while everything around them fails, from a seed; see tests/soak/run.
// The seed decides what is done and what fails, not which of it meets.
//
// In the first half the daemon is killed again and again; the second half is one life of it, so that what it leaks adds
// up. Then nothing fails any more, and everything that was asked for has to be true.
#include <gtest/gtest.h>

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "tests/soak/caller.hpp"
#include "tests/soak/faults.hpp"
#include "tests/soak/servers.hpp"
#include "tests/support/daemon.hpp"

namespace cmssh::test {
namespace {

int given_seconds = 120;
unsigned given_seed = 0;

constexpr int kCallers = 6;
// Fewer than the daemon remembers when they have ended: each of them is looked at in the end.
constexpr int kMostJobs = 9000;
constexpr int kLongestPauseMs = 1200;
constexpr std::chrono::seconds kReportEvery{30};

// Quick to notice and to try again, or most of the time would be waiting.
constexpr const char* kConfig = R"([pool]
control_persist = "5s"
health_interval = "1s"
health_timeout = "1s"
connect_timeout = "5s"
backoff_initial = "50ms"
backoff_max = "1s"
)";

struct Strays {
    Strays() { begin_test(); }
    ~Strays() { kill_strays(); }
};

int resident_kib(pid_t pid) {
    return static_cast<int>(resident_bytes(pid) / 1024);
}

// Programs that sessions under `dir` have left.
Words programs_of_sessions(const std::string& dir) {
    Words found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") != std::string::npos) {
            continue;
        }
        std::ifstream file(entry.path() / "environ");
        std::ostringstream text;
        text << file.rdbuf();
        const std::string environment = text.str();
        if (environment.find("CMSSH_SESSION=sess-") != std::string::npos &&
            environment.find("HOME=" + dir) != std::string::npos) {
            found.push_back(name + ' ' + command_line(std::stoi(name)));
        }
    }
    return found;
}

struct Sample {
    int jobs = 0;
    int rss_kib = 0;
};

// The middle one of the samples from `first` to `last`, both parts of the whole.
Sample middle(const std::vector<Sample>& samples, double first, double last) {
    const auto at = [&](double part) {
        return samples.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(samples.size()));
    };
    std::vector<Sample> part(at(first), at(last));
    std::sort(part.begin(), part.end(), [](const Sample& a, const Sample& b) { return a.rss_kib < b.rss_kib; });
    return part.empty() ? Sample{} : part[part.size() / 2];
}

class Soak : public ::testing::Test {
protected:
    void SetUp() override {
        make_dirs(dir_ / "ran");
        daemon_.write_config(kConfig);
        daemon_.start();
        for (int i = 0; i < kCallers; ++i) {
            callers_.push_back(
                std::make_unique<Caller>(desk_, servers_, daemon_.socket_path(), dir_, i, given_seed, kMostJobs));
        }
        for (auto& caller : callers_) {
            threads_.emplace_back([&caller] { caller->run(); });
        }
    }
    void TearDown() override { join(); }

    void join() {
        desk_.phase = Desk::Phase::Finish;
        for (auto& thread : threads_) {
            thread.join();
        }
        threads_.clear();
    }

    // False: something that ends the test.
    [[nodiscard]] bool go_on_until(Deadline end, Faults::Daemons daemons) {
        std::mt19937 random(given_seed + 1);
        Deadline report = in(kReportEvery);
        while (std::chrono::steady_clock::now() < end) {
            faults_.go_on(daemons);
            reap_orphans();
            ::poll(nullptr, 0, std::uniform_int_distribution<int>(0, kLongestPauseMs)(random));
            if (!daemon_.running()) {
                ADD_FAILURE() << "the daemon has ended by itself";
                return false;
            }
            samples_.push_back({.jobs = desk_.jobs, .rss_kib = resident_kib(daemon_.pid())});
            if (std::chrono::steady_clock::now() >= report) {
                report = in(kReportEvery);
                std::printf("%5.0f s: %d sessions asked for, RSS %.1f MiB, %d descriptors, %zu ssh\n", seconds(),
                            desk_.jobs.load(), samples_.back().rss_kib / 1024.0, descriptors_of(daemon_.pid()),
                            daemon_.all_ssh_processes().size());
                std::fflush(stdout);
            }
        }
        return true;
    }

    [[nodiscard]] double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    }

    // Descriptors of the daemon with all servers known, and connected to none.
    [[nodiscard]] int idle_descriptors() {
        RpcClient client(daemon_.socket_path());
        for (int n = 1; n <= Servers::kCount; ++n) {
            // A login that a fault has met ends with an error, the next one does not.
            EXPECT_TRUE(wait_until([&] {
                const int id = client.send("connect", {{"ctx", Servers::name(n)}});
                return client.reply(id, in(60s)).contains("result");
            })) << Servers::name(n);
        }
        for (int n = 1; n <= Servers::kCount; ++n) {
            client.call("disconnect", {{"ctx", Servers::name(n)}, {"force", true}});
        }
        EXPECT_TRUE(wait_until([&] { return daemon_.all_ssh_processes().empty(); })) << strays();
        EXPECT_EQ(daemon_.control_sockets(), Words{});
        int last = 0;
        // What is closed behind an answer is closed within a moment.
        (void)wait_until(
            [&] { return std::exchange(last, descriptors_of(daemon_.pid())) == descriptors_of(daemon_.pid()); });
        return last;
    }

    [[nodiscard]] std::string strays() const {
        std::string text;
        for (const pid_t pid : daemon_.all_ssh_processes()) {
            text += std::to_string(pid) + ' ' + command_line(pid) + '\n';
        }
        return text;
    }

    const Deadline began_ = std::chrono::steady_clock::now();
    TempDir dir_;
    Strays strays_;
    Servers servers_{dir_};
    Daemon daemon_{dir_, servers_.ssh_config()};
    Desk desk_;
    std::vector<std::unique_ptr<Caller>> callers_;
    std::vector<std::thread> threads_;
    Faults faults_{desk_, servers_, daemon_, given_seed};
    std::vector<Sample> samples_;
};

TEST_F(Soak, LosesNothingAndStartsNothingTwice) {
    const auto half = std::chrono::seconds(given_seconds) / 2;
    ASSERT_TRUE(go_on_until(in(half), Faults::Daemons::Killed));

    faults_.heal();
    desk_.phase = Desk::Phase::Pause;
    ASSERT_TRUE(wait_until([&] { return desk_.resting == kCallers; }, in(120s)));
    daemon_.crash();
    daemon_.start();
    const int descriptors_before = idle_descriptors();
    desk_.phase = Desk::Phase::Work;
    samples_.clear();
    ASSERT_TRUE(go_on_until(in(half), Faults::Daemons::LeftAlone));

    faults_.heal();
    join();
    std::size_t jobs = 0;
    std::set<std::string> ids;
    int false_ones = 0;
    for (const auto& caller : callers_) {
        for (const Job& job : caller->jobs()) {
            ++jobs;
            ids.insert(job.id);
            if (const std::string fault = job.fault(); !fault.empty() && ++false_ones <= 20) {
                ADD_FAILURE() << fault;
            }
        }
    }
    EXPECT_EQ(false_ones, 0) << "of " << jobs << " sessions";
    EXPECT_EQ(ids.size(), jobs);
    const Words complaints = desk_.complaints();
    for (std::size_t i = 0; i < std::min<std::size_t>(complaints.size(), 20); ++i) {
        ADD_FAILURE() << complaints[i];
    }

    RpcClient client(daemon_.socket_path());
    const Json left = client.call("forward.list");
    for (const auto& forward : left.at("forwards")) {
        client.call("forward.remove", {{"forward", forward.at("id")}});
    }
    std::set<std::string> known;
    const Json all_sessions = client.call("list", {{"all", true}});
    for (const auto& session : all_sessions.at("sessions")) {
        known.insert(session.at("id"));
    }
    EXPECT_EQ(known, ids) << "what the daemon knows, and what was asked for";
    EXPECT_EQ(client.call("stats").at("total_sessions"), 0);
    EXPECT_TRUE(wait_until([&] { return servers_.tmux_sessions().empty(); })) << servers_.tmux_sessions().size();
    EXPECT_TRUE(wait_until([&] { return programs_of_sessions(dir_.path()).empty(); }))
        << ::testing::PrintToString(programs_of_sessions(dir_.path()));

    std::set<pid_t> masters;
    EXPECT_TRUE(wait_until([&] {
        masters.clear();
        const Json stats = client.call("stats");
        for (const auto& connection : stats.at("connections")) {
            if (connection.at("master_pid").is_number()) {
                masters.insert(connection.at("master_pid").get<pid_t>());
            }
        }
        const auto all = daemon_.all_ssh_processes();
        return std::set<pid_t>(all.begin(), all.end()) == masters;
    })) << masters.size()
        << " masters, and these ssh processes:\n"
        << strays();
    client.close();
    const int descriptors_after = idle_descriptors();
    EXPECT_TRUE(wait_until([&] { return servers_.tmux_clients().empty(); })) << servers_.tmux_clients().size();
    EXPECT_EQ(descriptors_after, descriptors_before);

    const Sample early = middle(samples_, 0.25, 0.5);
    const Sample late = middle(samples_, 0.75, 1);
    const int rss = resident_kib(daemon_.pid());
    for (const auto& [what, count] : desk_.counts()) {
        std::printf("%7d  %s\n", count, what.c_str());
    }
    std::printf(
        "%zu sessions, %d false; descriptors idle %d, then %d; RSS in the second half %.1f MiB at %d sessions, "
        "%.1f MiB at %d, idle %.1f MiB; %d logins; %.0f s; seed %u\n",
        jobs, false_ones, descriptors_before, descriptors_after, early.rss_kib / 1024.0, early.jobs,
        late.rss_kib / 1024.0, late.jobs, rss / 1024.0, servers_.half(0).logins() + servers_.half(1).logins(),
        seconds(), given_seed);
    // Flat but for the sessions, which stay known when they have ended, and for what the heap and SQLite's cache vary
    // by.
    constexpr int kOfASession = 4;
    constexpr int kVariation = 2048;
    EXPECT_LE(late.rss_kib, early.rss_kib + kOfASession * (late.jobs - early.jobs) + kVariation);
    daemon_.stop();
}

// The number behind a flag; exits where there is none.
long number_of(int argc, char** argv, int at) {
    char* end = nullptr;
    const long number = at < argc ? std::strtol(argv[at], &end, 10) : 0;
    if (end == nullptr || *end != '\0' || number < 0) {
        std::fprintf(stderr, "usage: soak_tests [--seconds N] [--seed S]\n");
        std::exit(2);
    }
    return number;
}

}  // namespace
}  // namespace cmssh::test

int main(int argc, char** argv) {
    namespace test = cmssh::test;
    ::testing::InitGoogleTest(&argc, argv);
    test::given_seed = std::random_device{}() % 1'000'000;
    for (int i = 1; i < argc; i += 2) {
        const std::string_view flag = argv[i];
        const long number =
            flag == "--seconds" || flag == "--seed" ? test::number_of(argc, argv, i + 1) : test::number_of(0, argv, 0);
        if (flag == "--seconds") {
            test::given_seconds = static_cast<int>(number);
        } else {
            test::given_seed = static_cast<unsigned>(number);
        }
    }
    // What comes behind the soak is bounded on its own; this ends everything where that is not so.
    constexpr int kAtMostBehindIt = 400;
    ::setenv("CMSSH_TEST_SECONDS", std::to_string(test::given_seconds + kAtMostBehindIt).c_str(), 1);
    std::printf("soak: %d s, replay with: tests/soak/run --seconds %d --seed %u\n", test::given_seconds,
                test::given_seconds, test::given_seed);
    std::fflush(stdout);
    return RUN_ALL_TESTS();
}
