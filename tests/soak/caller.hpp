// One of several clients at work, on a thread of its own: it starts, kills, asks and types, repeats what a lost daemon
// or server has not answered, and remembers what it is to find in the end.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/soak/job.hpp"
#include "tests/soak/servers.hpp"
#include "tests/support/rpc_client.hpp"

namespace cmssh::test {

// Shared by the callers and who directs them.
class Desk {
public:
    enum class Phase { Work, Pause, Finish };

    std::atomic<Phase> phase = Phase::Work;
    std::atomic<int> resting = 0;  // callers that have seen Phase::Pause, and have no call under way
    std::atomic<int> jobs = 0;

    void count(const std::string& what);
    // What should not have been.
    void complain(const std::string& what);
    [[nodiscard]] std::map<std::string, int> counts();
    [[nodiscard]] Words complaints();

private:
    std::mutex mutex_;
    std::map<std::string, int> counts_;
    Words complaints_;
};

class Caller {
public:
    // most_jobs: of all callers.
    Caller(Desk& desk, const Servers& servers, std::string socket_path, const TempDir& dir, int number, unsigned seed,
           int most_jobs);

    // Until Phase::Finish, and then what is left of its jobs to their ends.
    void run();

    [[nodiscard]] const std::vector<Job>& jobs() const { return jobs_; }

private:
    // nullopt: an error, or the daemon is gone.
    std::optional<Json> ask(const std::string& method, const Json& params = Json::object());
    void act();
    void rest();
    void finish();
    // One try; true once its end is known.
    [[nodiscard]] bool finish(Job& job);

    void start();
    void repeat_start();
    void start_answered(std::size_t index, const Json& result);
    void kill();
    void type();
    void wait();
    void logs();
    void list();
    void exec();
    void forward();
    void lease();
    void connect();
    void disconnect();

    [[nodiscard]] int any(int least, int most);
    [[nodiscard]] std::string any_ctx() { return Servers::name(any(1, Servers::kCount)); }
    // One of them that has begun, taken out of the list; nullptr: none.
    Job* take_open(Job::Kind kind);

    Desk& desk_;
    const Servers& servers_;
    const std::string socket_path_;
    const std::string dir_;
    const int number_;
    const int most_jobs_;
    std::mt19937 random_;
    std::optional<RpcClient> client_;
    int acts_left_ = 0;  // on this connection
    std::vector<Job> jobs_;
    std::vector<std::size_t> unanswered_;
    std::vector<std::size_t> open_;  // those that do not end by themselves
    std::optional<std::string> lease_;
    int forwards_ = 0;
};

}  // namespace cmssh::test
