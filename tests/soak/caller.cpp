#include "tests/soak/caller.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "tests/support/files.hpp"

namespace cmssh::test {
namespace {

// Everything is answered, in whatever state servers are: a login's time in the configuration, for several in a row.
constexpr std::chrono::seconds kLongestAnswer{60};
constexpr std::chrono::seconds kLongestEnd{120};
constexpr int kMeanPauseMs = 40;
constexpr std::size_t kMostOpen = 12;
constexpr int kActsOfAConnection = 60;

// What a caller may be told while servers, masters and daemons come and go, and others disconnect.
const std::set<std::string, std::less<>> kExpected = {"connect_refused", "connect_timeout", "connect_failed",
                                                      "master_lost",     "channel_refused", "timeout",
                                                      "shutting_down",   "session_ended",   "cancelled"};

void pause(int ms) {
    ::poll(nullptr, 0, ms);
}

// The first bytes of what is behind a forward's socket; empty where nothing comes.
std::string greeting(const std::string& path) {
    constexpr int kPatienceMs = 2000;
    const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return "";
    }
    std::array<char, 4> bytes{};
    pollfd readable{.fd = fd.get(), .events = POLLIN, .revents = 0};
    if (::poll(&readable, 1, kPatienceMs) != 1) {
        return "";
    }
    const ssize_t count = ::recv(fd.get(), bytes.data(), bytes.size(), 0);
    return {bytes.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))};
}

}  // namespace

void Desk::count(const std::string& what) {
    const std::scoped_lock lock(mutex_);
    ++counts_[what];
}

void Desk::complain(const std::string& what) {
    const std::scoped_lock lock(mutex_);
    complaints_.push_back(what);
}

std::map<std::string, int> Desk::counts() {
    const std::scoped_lock lock(mutex_);
    return counts_;
}

Words Desk::complaints() {
    const std::scoped_lock lock(mutex_);
    return complaints_;
}

Caller::Caller(Desk& desk, const Servers& servers, std::string socket_path, const TempDir& dir, int number,
               unsigned seed, int most_jobs)
    : desk_(desk),
      servers_(servers),
      socket_path_(std::move(socket_path)),
      dir_(dir.path()),
      number_(number),
      most_jobs_(most_jobs),
      random_(seed + static_cast<unsigned>(number)) {}

int Caller::any(int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random_);
}

std::optional<Json> Caller::ask(const std::string& method, const Json& params) {
    const Deadline deadline = in(kLongestAnswer);
    try {
        if (!client_) {
            client_.emplace(socket_path_);
            acts_left_ = any(1, kActsOfAConnection);
            if (any(1, 3) == 1) {
                (void)client_->call("subscribe");
            }
        }
        const int id = client_->send(method, params);
        if (any(1, 50) == 1) {
            // Whoever asked is gone; the call is repeated by those who need to know.
            client_.reset();
            lease_.reset();
            desk_.count(method + ": left alone");
            return std::nullopt;
        }
        const Json answer = client_->reply(id, deadline);
        if (answer.contains("result")) {
            desk_.count(method);
            return answer.at("result");
        }
        const Json& error = answer.at("error");
        const std::string kind = error.contains("data") ? error.at("data").value("kind", "none") : "none";
        desk_.count(method + ": " + kind);
        if (!kExpected.contains(kind)) {
            desk_.complain(method + ' ' + params.dump() + ": " + error.dump());
        }
    } catch (const RpcFailure& failure) {
        client_.reset();
        lease_.reset();
        if (std::chrono::steady_clock::now() >= deadline) {
            desk_.complain(method + ' ' + params.dump() + " is not answered: " + failure.what());
        }
        desk_.count("no daemon");
        pause(any(1, kMeanPauseMs));
    } catch (const Json::exception& failure) {
        desk_.complain(method + ": " + failure.what());
    }
    return std::nullopt;
}

void Caller::run() {
    try {
        while (desk_.phase != Desk::Phase::Finish) {
            if (desk_.phase == Desk::Phase::Pause) {
                rest();
            } else {
                act();
                pause(any(0, 2 * kMeanPauseMs));
            }
        }
        finish();
    } catch (const std::exception& failure) {
        desk_.complain(std::string("a caller: ") + failure.what());
    }
    client_.reset();
}

void Caller::rest() {
    client_.reset();
    lease_.reset();
    ++desk_.resting;
    while (desk_.phase == Desk::Phase::Pause) {
        pause(5);
    }
    --desk_.resting;
}

void Caller::act() {
    if (--acts_left_ <= 0) {
        client_.reset();
        lease_.reset();
    }
    using Act = void (Caller::*)();
    static constexpr std::array<std::pair<Act, double>, 12> kActs = {{{&Caller::start, 20},
                                                                      {&Caller::repeat_start, 10},
                                                                      {&Caller::kill, 5},
                                                                      {&Caller::type, 5},
                                                                      {&Caller::wait, 6},
                                                                      {&Caller::logs, 8},
                                                                      {&Caller::list, 12},
                                                                      {&Caller::exec, 10},
                                                                      {&Caller::forward, 3},
                                                                      {&Caller::lease, 4},
                                                                      {&Caller::connect, 3},
                                                                      {&Caller::disconnect, 2}}};
    std::array<double, kActs.size()> weights{};
    std::transform(kActs.begin(), kActs.end(), weights.begin(), [](const auto& act) { return act.second; });
    (this->*kActs[std::discrete_distribution<std::size_t>(weights.begin(), weights.end())(random_)].first)();
}

void Caller::start() {
    if (open_.size() >= kMostOpen || unanswered_.size() >= kMostOpen) {
        return;
    }
    if (++desk_.jobs > most_jobs_) {
        --desk_.jobs;
        return;
    }
    const std::string number = "job-" + std::to_string(number_) + '-' + std::to_string(jobs_.size());
    jobs_.push_back(Job::make(dir_ + "/ran", number, any(1, Servers::kCount), random_));
    unanswered_.push_back(jobs_.size() - 1);
    if (const auto result = ask("start", jobs_.back().start_params())) {
        start_answered(jobs_.size() - 1, *result);
    }
}

void Caller::repeat_start() {
    if (unanswered_.empty()) {
        return;
    }
    const std::size_t index = unanswered_[static_cast<std::size_t>(any(0, static_cast<int>(unanswered_.size()) - 1))];
    if (const auto result = ask("start", jobs_[index].start_params())) {
        start_answered(index, *result);
    }
}

void Caller::start_answered(std::size_t index, const Json& result) {
    jobs_[index].id = result.at("session").at("id");
    std::erase(unanswered_, index);
    if (!jobs_[index].ends_by_itself()) {
        open_.push_back(index);
    }
}

Job* Caller::take_open(Job::Kind kind) {
    const auto found = std::find_if(open_.begin(), open_.end(), [&](std::size_t index) {
        return jobs_[index].kind == kind && jobs_[index].has_begun();
    });
    if (found == open_.end()) {
        return nullptr;
    }
    Job* job = &jobs_[*found];
    open_.erase(found);
    return job;
}

void Caller::kill() {
    // A reader now and then: it may be at its end by itself.
    Job* job = take_open(any(1, 4) == 1 ? Job::Kind::Reader : Job::Kind::Endless);
    if (job == nullptr) {
        return;
    }
    job->kill_asked = true;
    Json params = {{"session", job->id}};
    if (any(1, 4) == 1) {
        params["signal"] = "KILL";
    }
    (void)ask("kill", params);
}

void Caller::type() {
    if (Job* job = take_open(Job::Kind::Reader)) {
        (void)ask("send", {{"session", job->id}, {"text", job->text}});
    }
}

void Caller::wait() {
    if (jobs_.empty()) {
        return;
    }
    constexpr int kRecent = 10;
    const int last = static_cast<int>(jobs_.size()) - 1;
    const Job& job = jobs_[static_cast<std::size_t>(any(std::max(0, last - kRecent), last))];
    if (!job.id.empty()) {
        (void)ask("wait", {{"session", job.id}, {"timeout_ms", any(1, 1000)}});
    }
}

void Caller::logs() {
    if (jobs_.empty()) {
        return;
    }
    const Job& job = jobs_[static_cast<std::size_t>(any(0, static_cast<int>(jobs_.size()) - 1))];
    if (!job.id.empty()) {
        (void)ask(any(1, 2) == 1 ? "logs" : "get", {{"session", job.id}});
    }
}

void Caller::list() {
    switch (any(1, 12)) {
        case 1:
            (void)ask("list", {{"ctx", any_ctx()}, {"all", true}});
            break;
        case 2:
            (void)ask("check", {{"ctx", any_ctx()}});
            break;
        case 3:
        case 4:
            (void)ask("stats");
            break;
        case 5:
            (void)ask("contexts");
            break;
        default:
            (void)ask("list");
    }
}

void Caller::exec() {
    const std::string word = "it's $" + std::to_string(any(0, 1'000'000));
    const int code = any(0, 120);
    const Json params = {{"ctx", any_ctx()},
                         {"command", {"sh", "-c", R"(printf %s "$1"; exit "$2")", "sh", word, std::to_string(code)}}};
    if (const auto result = ask("exec", params)) {
        if (result->at("exit_code") != code || result->at("stdout") != word) {
            desk_.complain("exec " + params.dump() + ": " + result->dump());
        }
    }
}

void Caller::forward() {
    const int server = any(1, Servers::kCount);
    const std::string path = dir_ + "/f-" + std::to_string(number_) + '-' + std::to_string(++forwards_);
    const auto added = ask(
        "forward.add",
        {{"ctx", Servers::name(server)}, {"kind", "local"}, {"listen", path}, {"target", servers_.address(server)}});
    if (!added) {
        return;
    }
    const std::string said = greeting(path);
    desk_.count(said.empty() ? "forward: nothing behind it" : "forward: answered");
    if (!said.empty() && said != "SSH-") {
        desk_.complain("a forward leads elsewhere: " + said);
    }
    (void)ask("forward.remove", {{"forward", added->at("forward").at("id")}});
}

void Caller::lease() {
    if (lease_) {
        const std::string lease = *std::exchange(lease_, std::nullopt);
        (void)ask("release", {{"lease", lease}});
    } else if (const auto result = ask("acquire", {{"ctx", any_ctx()}})) {
        lease_ = result->at("lease");
    }
}

void Caller::connect() {
    (void)ask("connect", {{"ctx", any_ctx()}});
}

// Without force it would wait for the others' leases, and they for ours.
void Caller::disconnect() {
    (void)ask("disconnect", {{"ctx", any_ctx()}, {"force", true}});
}

void Caller::finish() {
    client_.reset();
    std::vector<Job*> left;
    for (Job& job : jobs_) {
        left.push_back(&job);
    }
    const Deadline deadline = in(kLongestEnd);
    do {
        std::erase_if(left, [this](Job* job) { return finish(*job); });
    } while (!left.empty() && std::chrono::steady_clock::now() < deadline);
}

bool Caller::finish(Job& job) {
    if (job.id.empty()) {
        const auto result = ask("start", job.start_params());
        if (!result) {
            return false;
        }
        job.id = result->at("session").at("id");
    }
    // What has begun is ended by its line or a kill, also where the first of them was lost on the way.
    if (job.kind == Job::Kind::Endless && job.has_begun()) {
        job.kill_asked = true;
        (void)ask("kill", {{"session", job.id}});
    } else if (job.kind == Job::Kind::Reader && job.has_begun()) {
        (void)ask("send", {{"session", job.id}, {"text", job.text}});
    }
    constexpr int kWaitMs = 50;
    if (const auto result = ask("wait", {{"session", job.id}, {"timeout_ms", kWaitMs}})) {
        job.ended = result->at("session");
    }
    return !job.ended.is_null();
}

}  // namespace cmssh::test
