#include "daemon/ssh/askpass.hpp"

#include <string.h>

#include <algorithm>
#include <array>
#include <utility>

#include "daemon/base/random.hpp"
#include "protocol/askpass.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

// ssh reads so much of what its askpass program prints (OpenSSH 9.2 readpass.c).
constexpr std::size_t kMaxAnswer = 1023;

std::string hex(std::uint64_t bits) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    for (int shift = 60; shift >= 0; shift -= 4) {
        text += kDigits[(bits >> static_cast<unsigned>(shift)) & 0xfU];
    }
    return text;
}

// ssh's own question about a host key, the only one that it asks with echo. It does not tell its askpass program so.
bool is_host_key_question(std::string_view text) {
    constexpr std::array<std::string_view, 3> kEnds = {"(yes/no/[fingerprint])? ", "(yes/no)? ",
                                                       "'yes', 'no' or the fingerprint: "};
    return std::any_of(kEnds.begin(), kEnds.end(), [text](std::string_view end) { return text.ends_with(end); }) ||
           text == "Please type 'yes' or 'no': ";
}

Error invalid(std::string message, std::string hint = {}) {
    return Error{.kind = ErrorKind::InvalidParams, .message = std::move(message), .hint = std::move(hint)};
}

// The text for ssh; nullopt: cancelled.
Result<std::optional<std::string>> read_answer(const Question& question, api::AnswerParams& params) {
    const bool cancel = params.cancel.value_or(false);
    if ((params.text ? 1 : 0) + (params.confirm ? 1 : 0) + (cancel ? 1 : 0) != 1) {
        return invalid("params: expected one of text, confirm and cancel");
    }
    if (cancel) {
        return std::optional<std::string>();
    }
    if (question.kind == Question::Kind::Notice) {
        return invalid("params: nothing is asked: it can be cancelled only");
    }
    if (params.confirm) {
        if (question.kind != Question::Kind::Confirm && !is_host_key_question(question.text)) {
            return invalid("params.confirm: expected params.text, ssh asks for more than yes or no");
        }
        return std::optional<std::string>(*params.confirm ? "yes" : "no");
    }
    if (params.text->size() > kMaxAnswer) {
        std::string message = "params.text: expected at most ";
        message += std::to_string(kMaxAnswer);
        message += " bytes";
        return invalid(std::move(message));
    }
    if (params.text->find_first_of(std::string_view("\0\r\n", 3)) != std::string::npos) {
        return invalid("params.text: expected one line");
    }
    return std::optional<std::string>(std::move(*params.text));
}

}  // namespace

void wipe(std::string& secret) {
    ::explicit_bzero(secret.data(), secret.size());
    secret.clear();
}

void LoginQuestions::join(std::shared_ptr<Person> person) {
    persons_.push_back(std::move(person));
    changed_.notify_all();
}

std::shared_ptr<Person> LoginQuestions::someone() const {
    const auto found =
        std::find_if(persons_.begin(), persons_.end(), [](const auto& person) { return !person->has_left(); });
    return found == persons_.end() ? nullptr : *found;
}

void LoginQuestions::leave(const Person& person) {
    std::erase_if(persons_, [&person](const auto& it) { return it.get() == &person; });
    if (open_ && open_->person.get() == &person) {
        open_->person.reset();
        open_->prompt.clear();
    }
    changed_.notify_all();
}

void LoginQuestions::close() {
    closed_ = true;
    listener_ = {};
    persons_.clear();
    if (open_) {
        open_->person.reset();
        open_->prompt.clear();
    }
    changed_.notify_all();
}

Duration LoginQuestions::time_asked() const {
    return asked_before_ + (open_ ? clock_.now() - open_->since : Duration::zero());
}

void LoginQuestions::give_up(GivenUp why) {
    if (given_up_ != GivenUp::No) {
        return;
    }
    given_up_ = why;
    if (listener_.on_give_up) {
        listener_.on_give_up();
    }
}

void LoginQuestions::show_to(std::shared_ptr<Person> person) {
    open_->prompt = "prompt-" + hex(random_bits());
    open_->person = std::move(person);
    api::Prompt prompt;
    prompt.prompt = open_->prompt;
    prompt.text = open_->question.text;
    prompt.confirm = open_->question.kind == Question::Kind::Confirm;
    prompt.notice = open_->question.kind == Question::Kind::Notice;
    prompt.echo = prompt.confirm || prompt.notice || is_host_key_question(prompt.text);
    prompt.ctx = open_->person->ctx;
    open_->person->show(prompt);
}

asio::awaitable<std::optional<std::string>> LoginQuestions::ask(Question question, const bool& gone,
                                                                Event& gone_event) {
    while (open_ && !closed_ && !gone) {
        // Of the ssh of a hop.
        co_await Event::wait_for_either(changed_, gone_event, clock_.now() + kAnswerPatience);
    }
    if (closed_ || gone || given_up_ != GivenUp::No) {
        co_return std::nullopt;
    }
    const bool notice = question.kind == Question::Kind::Notice;
    open_.emplace();
    open_->question = std::move(question);
    open_->since = clock_.now();
    if (listener_.on_asked) {
        listener_.on_asked();
    }
    const Instant deadline = open_->since + kAnswerPatience;
    while (!closed_ && !gone && !open_->answer) {
        if (persons_.empty()) {
            // Who only hears of something need not be there for it.
            if (!notice) {
                give_up(last_cancelled_ ? GivenUp::Cancelled : GivenUp::NobodyThere);
                break;
            }
        } else if (open_->person != persons_.front()) {
            show_to(persons_.front());
        }
        const bool in_time = co_await Event::wait_for_either(changed_, gone_event, deadline);
        if (!in_time && clock_.now() >= deadline) {
            if (!closed_) {
                give_up(GivenUp::NoAnswer);
            }
            break;
        }
    }
    asked_before_ = time_asked();
    auto answer = std::move(open_->answer);
    open_.reset();
    changed_.notify_all();
    co_return answer;
}

std::optional<Result<void>> LoginQuestions::answer(api::AnswerParams& answer, const void* client) {
    if (!open_ || open_->answer || open_->person == nullptr || open_->prompt != answer.prompt ||
        open_->person->client != client) {
        return std::nullopt;
    }
    auto text = read_answer(open_->question, answer);
    if (!text) {
        return Result<void>(std::move(text).error());
    }
    if (*text) {
        open_->answer = std::move(**text);
        changed_.notify_all();
        return Result<void>();
    }
    const auto person = open_->person;
    person->cancelled = true;
    last_cancelled_ = true;
    leave(*person);
    if (listener_.on_change) {
        listener_.on_change();
    }
    return Result<void>();
}

AskpassRelay::Ticket::~Ticket() {
    relay_.logins_.erase(token_);
}

void AskpassRelay::Ticket::add_to(std::vector<std::string>& environment) const {
    environment.push_back("SSH_ASKPASS=" + relay_.program_);
    environment.emplace_back("SSH_ASKPASS_REQUIRE=force");
    environment.push_back(std::string(askpass::kSocketVariable) + '=' + relay_.socket_path_);
    environment.push_back(std::string(askpass::kTokenVariable) + '=' + token_);
    // OpenSSH before 8.4 does not know SSH_ASKPASS_REQUIRE and wants a DISPLAY, whichever.
    if (std::none_of(environment.begin(), environment.end(),
                     [](const auto& it) { return it.starts_with("DISPLAY="); })) {
        environment.emplace_back("DISPLAY=none");
    }
}

std::unique_ptr<AskpassRelay::Ticket> AskpassRelay::open(std::shared_ptr<LoginQuestions> questions) {
    std::string token = hex(random_bits()) + hex(random_bits());
    logins_.emplace(token, std::move(questions));
    return std::make_unique<Ticket>(*this, std::move(token));
}

asio::awaitable<Result<api::AskpassResult>> AskpassRelay::ask(api::AskpassParams params, const bool& gone,
                                                              Event& gone_event) {
    const auto login = logins_.find(params.token);
    if (login == logins_.end()) {
        co_return invalid("params.token: no login under way has it");
    }
    const auto questions = login->second;
    Question question;
    question.text = std::move(params.text);
    if (params.kind == askpass::kConfirm) {
        question.kind = Question::Kind::Confirm;
    } else if (params.kind == askpass::kNotice) {
        question.kind = Question::Kind::Notice;
    }
    auto answer = co_await questions->ask(std::move(question), gone, gone_event);
    if (!answer) {
        co_return Error{.kind = ErrorKind::NeedsAuth, .message = "nobody answers"};
    }
    api::AskpassResult result;
    result.text = std::move(*answer);
    co_return result;
}

Result<api::Empty> AskpassRelay::answer(api::AnswerParams params, const void* client) {
    for (const auto& [token, questions] : logins_) {
        if (auto answered = questions->answer(params, client)) {
            if (params.text) {
                wipe(*params.text);
            }
            return *answered ? Result<api::Empty>(api::Empty()) : std::move(*answered).error();
        }
    }
    return invalid("params.prompt: " + printable(params.prompt) + " is not asked of this client",
                   "a prompt ends with its answer, its login and its call");
}

}  // namespace cmssh
