// Logins that need a person. ssh asks through its askpass program, which is ours (daemon/app/askpass_helper.*) and
// hands each question to the daemon. Here it is put to a client that waits for that login, and its answer given back.
// Answers pass through: they are not stored, logged or put into an error.
#pragma once

#include <asio/awaitable.hpp>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/event.hpp"
#include "protocol/methods.hpp"
#include "protocol/result.hpp"

namespace cmssh {

// How long a person is waited for, with each question.
inline constexpr Duration kAnswerPatience = std::chrono::minutes(2);

// The person behind a call that waits for a login: part of that call, and not used any more once it has left.
struct Person {
    std::string ctx;               // what the call names the server
    const void* client = nullptr;  // tells whose answers are theirs
    std::function<void(const api::Prompt& prompt)> show;
    const bool* gone = nullptr;  // the client is; gone_event is notified then
    Event* gone_event = nullptr;
    bool cancelled = false;  // they gave up

    [[nodiscard]] bool has_left() const { return cancelled || *gone; }
};

struct Question {
    enum class Kind {
        Text,
        Confirm,  // yes or no
        Notice,   // nothing to answer: a key waits to be touched
    };
    std::string text;
    Kind kind = Kind::Text;
};

// The questions of one login, one at a time, and who can be asked: in the order in which they came, the first that is
// still there. Shared by the login, its ssh and the questions under way.
class LoginQuestions {
public:
    // Why the login was given up. Such a question has no answer that ssh could go on with: it would take an empty one
    // for the password.
    enum class GivenUp { No, NobodyThere, Cancelled, NoAnswer };
    struct Listener {
        std::function<void()> on_change;   // of who is there
        std::function<void()> on_asked;    // somebody is asked: the login takes as long as they take
        std::function<void()> on_give_up;  // the login is to be ended
    };

    LoginQuestions(Clock& clock, Listener listener) : clock_(clock), listener_(std::move(listener)), changed_(clock) {}

    void join(std::shared_ptr<Person> person);
    void leave(const Person& person);

    // What ssh's askpass program has to print. nullopt: nobody gives an answer, or nobody wants it any more: `gone` is
    // true, and gone_event notified then.
    asio::awaitable<std::optional<std::string>> ask(Question question, const bool& gone, Event& gone_event);
    // nullopt: that prompt was not shown to this client, or is over. InvalidParams where it cannot be answered so.
    std::optional<Result<void>> answer(api::AnswerParams& answer, const void* client);
    // The login is over: nobody is asked any more, and the listener is not called again.
    void close();

    // The first who is still there; nullptr: nobody is.
    [[nodiscard]] std::shared_ptr<Person> someone() const;
    [[nodiscard]] GivenUp given_up() const { return given_up_; }
    [[nodiscard]] bool asking() const { return open_.has_value(); }
    // Of the login's time so far, what it took to answer.
    [[nodiscard]] Duration time_asked() const;

private:
    struct Open {
        Question question;
        Instant since;
        std::string prompt;              // id
        std::shared_ptr<Person> person;  // who is asked
        std::optional<std::string> answer;
    };

    void show_to(std::shared_ptr<Person> person);
    void give_up(GivenUp why);

    Clock& clock_;
    Listener listener_;
    std::deque<std::shared_ptr<Person>> persons_;
    std::optional<Open> open_;
    Duration asked_before_{};
    GivenUp given_up_ = GivenUp::No;
    bool last_cancelled_ = false;
    bool closed_ = false;
    Event changed_;
};

// The logins under way that can be asked about, for the whole daemon.
class AskpassRelay {
public:
    // program: what ssh runs; socket_path: where it finds the daemon.
    AskpassRelay(std::string program, std::string socket_path)
        : program_(std::move(program)), socket_path_(std::move(socket_path)) {}

    // For as long as it lives, its ssh can ask.
    class Ticket {
    public:
        Ticket(AskpassRelay& relay, std::string token) : relay_(relay), token_(std::move(token)) {}
        ~Ticket();
        Ticket(const Ticket&) = delete;
        Ticket& operator=(const Ticket&) = delete;

        // To that ssh's environment: it says which login this is and nothing else, and after the login nothing.
        void add_to(std::vector<std::string>& environment) const;

    private:
        AskpassRelay& relay_;
        std::string token_;
    };
    [[nodiscard]] std::unique_ptr<Ticket> open(std::shared_ptr<LoginQuestions> questions);

    // From the askpass program. NeedsAuth: there is no answer; InvalidParams: no login has that token.
    asio::awaitable<Result<api::AskpassResult>> ask(api::AskpassParams params, const bool& gone, Event& gone_event);
    // InvalidParams: no such prompt is open, or it was not shown to this client.
    Result<api::Empty> answer(api::AnswerParams params, const void* client);

private:
    std::string program_;
    std::string socket_path_;
    std::map<std::string, std::shared_ptr<LoginQuestions>> logins_;
};

// Overwrites it first: what somebody typed does not stay in memory that was given back.
void wipe(std::string& secret);

}  // namespace cmssh
