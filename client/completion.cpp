#include "client/completion.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "client/cp_operand.hpp"
#include "client/syntax.hpp"
#include "protocol/methods.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

constexpr int kLastSignal = 31;
constexpr std::size_t kLongestText = 60;

// tmux's names of what a person presses in a program that does not answer.
constexpr std::array kKeys = {"C-c",    "C-d", "C-z",  "Enter", "Escape", "Tab",    "Space",
                              "BSpace", "Up",  "Down", "Left",  "Right",  "PageUp", "PageDown"};

std::vector<Candidate> signals() {
    std::vector<Candidate> names;
    for (int number = 1; number <= kLastSignal; ++number) {
        names.push_back({.word = signal_name(number), .text = {}});
    }
    return names;
}

std::vector<Candidate> methods() {
    std::vector<Candidate> names;
    for (const Json& method : api::openrpc_document(CMSSH_VERSION).at("methods")) {
        names.push_back({.word = method.at("name"), .text = method.value("summary", "")});
    }
    return names;
}

std::vector<Candidate> environment_names() {
    std::vector<Candidate> names;
    for (char** variable = environ; *variable != nullptr; ++variable) {
        const std::string_view text = *variable;
        const std::string_view name = text.substr(0, text.find('='));
        if (valid_env_name(name)) {
            names.push_back({.word = std::string(name), .text = {}});
        }
    }
    return names;
}

// "start|stop" of a type, or "WHEN:{auto,always}" with which CLI11 shows what a value must be one of.
std::vector<Candidate> words_of_type(std::string_view type) {
    char separator = '|';
    if (const auto brace = type.find('{'); brace != std::string_view::npos && type.ends_with('}')) {
        type = type.substr(brace + 1, type.size() - brace - 2);
        separator = ',';
    }
    std::vector<Candidate> words;
    if (type.find(separator) == std::string_view::npos) {
        return words;
    }
    while (!type.empty()) {
        const std::string_view word = type.substr(0, type.find(separator));
        // Capitals stand for something.
        const auto small = [](char c) { return (c >= 'a' && c <= 'z') || c == '.'; };
        if (word.empty() || !std::all_of(word.begin(), word.end(), small)) {
            return {};
        }
        words.push_back({.word = std::string(word), .text = {}});
        type.remove_prefix(std::min(word.size() + 1, type.size()));
    }
    return words;
}

bool can_be_ended(std::string_view verb) {
    return verb == "logs" || verb == "wait";
}

// The value of an option, or an operand, by what the help calls it.
void complete_value(Completion& completion, const VerbSyntax& verb, const OptionSyntax& option) {
    const std::string& name = option.names.front();
    const std::string& type = option.type;
    if (type == "C" || name == "ctx") {
        completion.asked = Asked::Contexts;
    } else if (type == "S" || name == "session") {
        completion.asked = can_be_ended(verb.name) ? Asked::AllSessions : Asked::RunningSessions;
    } else if (type == "SRC... DST") {
        completion.files = !parse_cp_operand(completion.typed).ctx.has_value();
        completion.asked = completion.files ? Asked::Servers : Asked::Nothing;
    } else if (type == "[ID...]") {
        const bool removes = !completion.given.empty() && completion.given.front() == "rm";
        completion.asked = removes ? Asked::Forwards : Asked::Nothing;
    } else if (type == "SIG") {
        completion.candidates = signals();
    } else if (type == "K") {
        for (const char* key : kKeys) {
            completion.candidates.push_back({.word = key, .text = {}});
        }
    } else if (type == "K[=V]") {
        completion.candidates = environment_names();
    } else if (type == "F" || type == "P") {
        completion.files = true;
    } else if (name == "method") {
        completion.candidates = methods();
    } else {
        completion.candidates = words_of_type(type);
    }
}

void complete_option(Completion& completion, const VerbSyntax& verb) {
    const std::string& typed = completion.typed;
    const auto equals = typed.find('=');
    if (equals != std::string::npos && typed.starts_with("--")) {
        const OptionSyntax* option = verb.find_option(typed.substr(0, equals));
        if (option != nullptr && !option->type.empty()) {
            completion.before = typed.substr(0, equals + 1);
            completion.typed = std::string(typed.substr(equals + 1));
            complete_value(completion, verb, *option);
        }
        return;
    }
    for (const OptionSyntax& option : verb.options) {
        // The long name where there is one: it says what it is.
        completion.candidates.push_back({.word = option.names.back(), .text = option.text});
        if (typed == option.names.front() && option.names.size() > 1) {
            completion.candidates.push_back({.word = typed, .text = option.text});
        }
    }
}

// Whether the value of this option is the next word.
const OptionSyntax* waits_for_value(const VerbSyntax& verb, std::string_view word) {
    if (word.starts_with("--")) {
        const OptionSyntax* option = verb.find_option(word);
        return option != nullptr && !option->type.empty() ? option : nullptr;
    }
    // -qs TERM: flags, and the first that takes a value has what is behind it, or the next word.
    for (std::size_t at = 1; at < word.size(); ++at) {
        const OptionSyntax* option = verb.find_option(std::string("-") + word[at]);
        if (option != nullptr && !option->type.empty()) {
            return at + 1 == word.size() ? option : nullptr;
        }
    }
    return nullptr;
}

// The words of one line, from left to right, up to the last, which is the one to complete.
class Line {
public:
    explicit Line(const std::vector<std::string>& words) : words_(words) { completion_.typed = words.back(); }

    Completion complete() {
        const auto before = syntax_of_verb("");
        if (read_options(*before) == End::Completed) {
            return std::move(completion_);
        }
        if (at_end()) {
            completion_.candidates = verbs();
            return std::move(completion_);
        }
        const auto verb = syntax_of_verb(words_[at_++]);
        if (!verb || read_verb(*verb) == End::Completed) {
            return std::move(completion_);
        }
        complete_operand(*verb);
        return std::move(completion_);
    }

private:
    enum class End { Operand, Completed };

    [[nodiscard]] bool at_end() const { return at_ + 1 == words_.size(); }

    static std::vector<Candidate> verbs() {
        std::vector<Candidate> names;
        for (const VerbSyntax& verb : all_verbs()) {
            names.push_back({.word = verb.name, .text = verb.text});
        }
        return names;
    }

    // Up to the next word that is no option.
    End read_options(const VerbSyntax& verb) {
        while (!separated_ && words_[at_].starts_with('-') && (words_[at_].size() > 1 || at_end())) {
            const std::string& word = words_[at_];
            if (at_end()) {
                complete_option(completion_, verb);
                return End::Completed;
            }
            ++at_;
            separated_ = word == "--";
            note(word);
            const OptionSyntax* option = waits_for_value(verb, word);
            if (option == nullptr || separated_) {
                continue;
            }
            if (at_end()) {
                complete_value(completion_, verb, *option);
                return End::Completed;
            }
            ++at_;
        }
        return End::Operand;
    }

    End read_verb(const VerbSyntax& verb) {
        while (read_options(verb) == End::Operand) {
            const OptionSyntax* operand = this->operand(verb);
            if (operand != nullptr && operand->type == "[ARG...]") {
                complete_command(verb);
                return End::Completed;
            }
            if (at_end()) {
                return End::Operand;
            }
            // Behind a text there is nothing of ours.
            if (operand != nullptr && operand->type == "TEXT|-") {
                return End::Completed;
            }
            completion_.given.push_back(words_[at_++]);
        }
        return End::Completed;
    }

    [[nodiscard]] const OptionSyntax* operand(const VerbSyntax& verb) const {
        const std::size_t count = completion_.given.size();
        if (count < verb.operands.size()) {
            return &verb.operands[count];
        }
        return !verb.operands.empty() && verb.operands.back().many ? &verb.operands.back() : nullptr;
    }

    void complete_operand(const VerbSyntax& verb) {
        if (const OptionSyntax* operand = this->operand(verb)) {
            complete_value(completion_, verb, *operand);
        }
    }

    // --ctx is also taken from the end of a start line (see take_trailing_ctx()).
    void complete_command(const VerbSyntax& verb) {
        const bool trailing = verb.name == "start" && !separated_ && !ctx_given_ && words_.size() > at_ + 2;
        if (trailing && words_[words_.size() - 2] == "--ctx") {
            completion_.asked = Asked::Contexts;
            return;
        }
        completion_.command_at = at_;
    }

    // What decides which daemon is asked. The option stands at at_ - 1.
    void note(const std::string& word) {
        ctx_given_ = ctx_given_ || word == "--ctx" || word.starts_with("--ctx=");
        completion_.elsewhere = completion_.elsewhere || word == "--host" || word.starts_with("--host=");
        constexpr std::string_view kSocket = "--socket";
        if (word == kSocket && !at_end()) {
            completion_.socket = words_[at_];
        } else if (word.starts_with("--socket=")) {
            completion_.socket = word.substr(kSocket.size() + 1);
        }
    }

    const std::vector<std::string>& words_;
    std::size_t at_ = 0;
    bool separated_ = false;  // by "--"
    bool ctx_given_ = false;
    Completion completion_;
};

// Whatever a shell or a person's set-up of it does with a word, it leaves these alone. A colon or an equals sign in
// front would be one of ours or zsh's, a tilde anybody's home.
bool safe_word(std::string_view word) {
    constexpr std::string_view kFirst = "-_.@/";
    constexpr std::string_view kPlain = "-_.@/:=+,";
    const auto alphanumeric = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    };
    return !word.empty() && (alphanumeric(word.front()) || kFirst.find(word.front()) != std::string_view::npos) &&
           std::all_of(word.begin(), word.end(),
                       [&](char c) { return alphanumeric(c) || kPlain.find(c) != std::string_view::npos; });
}

std::string short_text(const std::string& text) {
    std::string line = printable(text);
    if (line.size() <= kLongestText) {
        return line;
    }
    // Not within a character: the bytes behind its first one are 10xxxxxx.
    std::size_t end = kLongestText;
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0U) == 0x80U) {
        --end;
    }
    return line.substr(0, end) + "...";
}

}  // namespace

Completion complete_line(const std::vector<std::string>& words) {
    if (words.empty()) {
        return {};
    }
    return Line(words).complete();
}

std::string completion_lines(const Completion& completion) {
    if (completion.command_at) {
        return ":command " + std::to_string(*completion.command_at) + '\n';
    }
    std::string lines = completion.files ? ":files\n" : ":words\n";
    for (const Candidate& candidate : completion.candidates) {
        const std::string word = completion.before + candidate.word;
        if (candidate.word.starts_with(completion.typed) && safe_word(word)) {
            lines += word + (candidate.text.empty() ? "" : '\t' + short_text(candidate.text)) + '\n';
        }
    }
    return lines;
}

}  // namespace cmssh::client
