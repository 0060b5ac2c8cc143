// Masters without ssh. A FakeLauncher keeps each login until the test decides it; a FakeMaster opens channels to a
// server's tmux that answers every line, as long as the test wants it to.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "daemon/base/event.hpp"
#include "daemon/ssh/master.hpp"

namespace cmssh::fakes {

// What the tmux of a fake server answers to one command.
struct TmuxAnswer {
    bool error = false;
    std::string text;
};
// By command line: the answers to the commands in it. A line that is not here is one command, with an empty answer.
using TmuxAnswers = std::map<std::string, std::vector<TmuxAnswer>, std::less<>>;

class FakeChannel final : public Channel {
public:
    FakeChannel(Clock& clock, const std::string& command, const TmuxAnswers& answers, std::string start,
                std::vector<std::string>& heard)
        : answers_(answers), heard_(heard), changed_(clock) {
        // The command says which word the greeting begins with: "k='cmssh-…'", quoted once more.
        const auto begin = command.find("cmssh-", command.find("k="));
        if (begin == std::string::npos) {
            return;  // no tmux is asked for: an empty answer
        }
        const auto end = command.find_first_not_of("0123456789", begin + 6);
        const std::string token = command.substr(begin, end - begin);
        output_ = token + " tmux 3.3a\n" + token + " home /home/u\n" + start;
        speaks_ = true;
    }

    asio::awaitable<std::string> read_output() override {
        while (output_.empty() && speaks_ && !closed_) {
            co_await changed_.wait();
        }
        co_return closed_ ? std::string() : std::exchange(output_, {});
    }
    asio::awaitable<std::string> read_error() override {
        while (speaks_ && !closed_) {
            co_await changed_.wait();
        }
        co_return std::string();
    }
    std::size_t try_write(std::string_view bytes) override {
        for (const char byte : bytes) {
            if (byte == '\n') {
                asked_.push_back(std::exchange(line_, {}));
            } else {
                line_ += byte;
            }
        }
        answer();
        return bytes.size();
    }
    // While it is cut, what was asked is on its way.
    void set_cut(bool cut) {
        cut_ = cut;
        answer();
    }
    asio::awaitable<bool> wait_writable() override { co_return !closed_; }
    void close_input() override {}
    asio::awaitable<std::optional<int>> exit_status() override { co_return 0; }
    void close() override {
        closed_ = true;
        changed_.notify_all();
    }

private:
    void answer() {
        while (!asked_.empty() && !cut_) {
            heard_.push_back(asked_.front());
            const auto known = answers_.find(asked_.front());
            for (const auto& answer : known != answers_.end() ? known->second : std::vector<TmuxAnswer>(1)) {
                const std::string numbers = "1700000000 " + std::to_string(++replies_) + " 1\n";
                output_ += "%begin " + numbers + answer.text + (answer.text.empty() ? "" : "\n") +
                           (answer.error ? "%error " : "%end ") + numbers;
            }
            asked_.pop_front();
        }
        changed_.notify_all();
    }

    const TmuxAnswers& answers_;
    std::vector<std::string>& heard_;
    std::string line_;
    std::deque<std::string> asked_;
    std::string output_;
    bool cut_ = false;
    bool speaks_ = false;
    bool closed_ = false;
    int replies_ = 0;
    Event changed_;
};

class FakeMaster : public Master {
public:
    FakeMaster(Clock& clock, pid_t pid, bool adopted) : clock_(clock), pid_(pid), adopted_(adopted), changed_(clock) {}

    // What the test decides.
    std::optional<Error> channel_error;  // of the channels asked for from now on
    bool holds_channels = false;         // they are answered once this is false
    bool ends_when_told = true;
    bool stopped = false;  // the process answers nothing
    TmuxAnswers tmux_answers;
    // What tmux says to its start-up commands.
    std::string tmux_start =
        "%begin 1700000000 0 0\n%end 1700000000 0 0\n%begin 1700000000 1 0\ncmssh-life 1 2\n%end 1700000000 1 0\n";
    std::optional<Error> forward_error;  // of the forwards asked for from now on
    int chosen_port = 40000;             // for a remote one that asks for port 0

    // What the test sees.
    int channels_asked = 0;
    int told_to_end = 0;
    int checks = 0;
    bool listens = true;
    std::vector<mux::Forward> forwards;  // that are open
    bool released = false;
    std::vector<std::string> tmux_heard;  // by every channel

    void let_channels_through() {
        holds_channels = false;
        changed_.notify_all();
    }
    // Nothing of the server arrives any more.
    void cut_path() {
        holds_channels = true;
        set_cut(true);
    }
    void join_path() {
        let_channels_through();
        set_cut(false);
    }
    void resume() {
        stopped = false;
        changed_.notify_all();
    }
    void die() {
        dead_ = true;
        close_channels();
        changed_.notify_all();
    }
    void close_channels() {
        for (const auto& channel : std::exchange(channels_, {})) {
            if (const auto open = channel.lock()) {
                open->close();
            }
        }
    }

    [[nodiscard]] pid_t pid() const override { return pid_; }
    [[nodiscard]] bool adopted() const override { return adopted_; }
    asio::awaitable<Result<void>> check(Instant deadline) override {
        ++checks;
        co_return co_await answer(deadline);
    }
    asio::awaitable<Result<void>> stop_listening(Instant deadline) override {
        auto answered = co_await answer(deadline);
        listens = listens && !answered;
        if (answered) {
            forwards.clear();
        }
        co_return answered;
    }
    asio::awaitable<Result<int>> open_forward(mux::Forward forward, Instant deadline) override {
        const auto answered = co_await answer(deadline);
        if (!answered) {
            co_return answered.error();
        }
        if (forward_error) {
            co_return *forward_error;
        }
        const bool chosen = forward.type == mux::ForwardType::Remote && forward.listen.port == 0;
        forwards.push_back(std::move(forward));
        co_return chosen ? chosen_port : 0;
    }
    asio::awaitable<Result<void>> close_forward(mux::Forward forward, Instant deadline) override {
        const auto answered = co_await answer(deadline);
        if (!answered) {
            co_return answered;
        }
        if (std::erase(forwards, forward) == 0) {
            co_return Error{.kind = ErrorKind::ChannelRefused, .message = "port not forwarded"};
        }
        co_return Result<void>();
    }
    asio::awaitable<Result<std::unique_ptr<Channel>>> open_channel(std::string command, Instant deadline) override {
        ++channels_asked;
        while (holds_channels && !dead_) {
            const bool in_time = co_await changed_.wait_until(deadline);
            if (!in_time) {
                co_return Error{.kind = ErrorKind::Timeout, .message = "no channel in time"};
            }
        }
        if (dead_) {
            co_return Error{.kind = ErrorKind::MasterLost, .message = "dead"};
        }
        if (channel_error) {
            co_return *channel_error;
        }
        auto channel = std::make_shared<FakeChannel>(clock_, command, tmux_answers, tmux_start, tmux_heard);
        channels_.push_back(channel);
        co_return std::unique_ptr<Channel>(std::make_unique<Shared>(std::move(channel)));
    }
    asio::awaitable<void> wait_for_death() override {
        while (!dead_ && !released) {
            co_await changed_.wait();
        }
    }
    [[nodiscard]] bool dead() const override { return dead_; }
    asio::awaitable<void> end(Instant deadline) override {
        ++told_to_end;
        if (ends_when_told) {
            die();
        }
        bool in_time = true;
        while (!dead_ && !released && in_time) {
            in_time = co_await changed_.wait_until(deadline);
        }
    }
    void release() override {
        released = true;
        changed_.notify_all();
    }

private:
    asio::awaitable<Result<void>> answer(Instant deadline) {
        while (stopped && !dead_ && !released) {
            const bool in_time = co_await changed_.wait_until(deadline);
            if (!in_time) {
                co_return Error{.kind = ErrorKind::Timeout, .message = "no answer"};
            }
        }
        if (dead_ || released) {
            co_return Error{.kind = ErrorKind::MasterLost, .message = "dead"};
        }
        co_return Result<void>();
    }
    void set_cut(bool cut) {
        for (const auto& channel : channels_) {
            if (const auto open = channel.lock()) {
                open->set_cut(cut);
            }
        }
    }

    // The test closes a channel that the product owns.
    class Shared final : public Channel {
    public:
        explicit Shared(std::shared_ptr<FakeChannel> channel) : channel_(std::move(channel)) {}
        asio::awaitable<std::string> read_output() override { return channel_->read_output(); }
        asio::awaitable<std::string> read_error() override { return channel_->read_error(); }
        std::size_t try_write(std::string_view bytes) override { return channel_->try_write(bytes); }
        asio::awaitable<bool> wait_writable() override { return channel_->wait_writable(); }
        void close_input() override { channel_->close_input(); }
        asio::awaitable<std::optional<int>> exit_status() override { return channel_->exit_status(); }
        void close() override { channel_->close(); }

    private:
        std::shared_ptr<FakeChannel> channel_;
    };

    Clock& clock_;
    pid_t pid_;
    bool adopted_;
    bool dead_ = false;
    std::vector<std::weak_ptr<FakeChannel>> channels_;
    Event changed_;
};

class FakeLauncher final : public MasterLauncher {
public:
    explicit FakeLauncher(Clock& clock) : clock_(clock) {}

    struct Login {
        Login(LaunchRequest asked, Clock& clock) : request(std::move(asked)), decided(clock) {}
        LaunchRequest request;
        bool process_ended = false;  // by its interrupt
        bool throws = false;
        std::optional<Result<std::shared_ptr<Master>>> outcome;
        Event decided;
    };

    // Oldest first.
    [[nodiscard]] std::size_t count() const { return logins_.size(); }
    [[nodiscard]] Login& login(std::size_t index) const { return *logins_.at(index); }
    std::shared_ptr<FakeMaster> succeed(std::size_t index, bool adopted = false) {
        auto master = std::make_shared<FakeMaster>(clock_, 1000 + static_cast<pid_t>(index), adopted);
        decide(index, std::shared_ptr<Master>(master));
        return master;
    }
    void fail(std::size_t index, ErrorKind kind, std::string message) {
        decide(index, Error{.kind = kind, .message = std::move(message)});
    }

    asio::awaitable<Result<std::shared_ptr<Master>>> launch(LaunchRequest request) override {
        const auto login = std::make_shared<Login>(std::move(request), clock_);
        logins_.push_back(login);
        if (login->request.on_login) {
            login->request.on_login();
        }
        login->request.interrupt->end = [login] { login->process_ended = true; };
        while (!login->outcome) {
            co_await login->decided.wait();
        }
        login->request.interrupt->end = nullptr;
        if (login->throws) {
            throw std::runtime_error("no more descriptors");
        }
        co_return *login->outcome;
    }

    // What is there when find() is called, and for how long it looks.
    std::shared_ptr<FakeMaster> leftover;
    Duration find_takes{};
    std::vector<std::string> looked_at;  // control paths
    asio::awaitable<Result<std::shared_ptr<Master>>> find(LaunchRequest request) override {
        looked_at.push_back(request.control_path);
        const auto timer = clock_.make_timer();
        co_await timer->wait_until(clock_.now() + find_takes);
        co_return std::shared_ptr<Master>(leftover);
    }

private:
    void decide(std::size_t index, Result<std::shared_ptr<Master>> outcome) {
        logins_.at(index)->outcome = std::move(outcome);
        logins_.at(index)->decided.notify_all();
    }

    Clock& clock_;
    std::vector<std::shared_ptr<Login>> logins_;
};

}  // namespace cmssh::fakes
