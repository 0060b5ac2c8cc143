#include "client/ssh_command_line.hpp"

#include <string_view>

namespace cmssh::client {
namespace {

constexpr std::string_view kFlags = "1246ACGKMNTVXYafgknqstvxy";
constexpr std::string_view kWithValue = "BDEFIJLOPQRSWbceilmopw";
// No session that could be shared. -f and -N are not for a mux client (before OpenSSH 9.4), -M is a master of its own.
constexpr std::string_view kOpensNone = "GOQVMNf";
// -s is refused without a command, which is left out as well.
constexpr std::string_view kLeftOut = "FEvqynsfGMNTt";

bool contains(std::string_view letters, char letter) {
    return letters.find(letter) != std::string_view::npos;
}

class Reader {
public:
    explicit Reader(const std::vector<std::string>& words) : words_(words) {}

    // ssh reads options, the destination, options again (unless "--" has ended them), and the rest is the command.
    std::optional<SshCommandLine> read() {
        if (!read_options() || at_ == words_.size()) {
            return std::nullopt;
        }
        const std::string& destination = words_[at_++];
        if (!options_ended_ && !read_options()) {
            return std::nullopt;
        }
        line_.words.emplace_back("--");
        line_.words.push_back(destination);
        return std::move(line_);
    }

private:
    bool read_options() {
        while (at_ < words_.size()) {
            const std::string& word = words_[at_];
            if (word.size() < 2 || word.front() != '-') {
                return true;
            }
            ++at_;
            if (word == "--") {
                options_ended_ = true;
                return true;
            }
            if (!read_word(word)) {
                return false;
            }
        }
        return true;
    }

    bool read_word(std::string_view word) {
        for (std::size_t i = 1; i < word.size(); ++i) {
            const char letter = word[i];
            if (contains(kWithValue, letter)) {
                std::string value(word.substr(i + 1));
                if (value.empty()) {
                    if (at_ == words_.size()) {
                        return false;
                    }
                    value = words_[at_++];
                }
                take(letter, std::move(value));
                return true;
            }
            if (!contains(kFlags, letter)) {
                return false;
            }
            take(letter, std::nullopt);
        }
        return true;
    }

    void take(char letter, std::optional<std::string> value) {
        if (contains(kOpensNone, letter)) {
            line_.opens_session = false;
        }
        if (letter == 'W') {
            line_.forwards_stdio = true;
        }
        if (letter == 'q') {
            line_.quiet = true;
        }
        if (letter == 'F') {
            line_.config_file = value;
        }
        if (contains(kLeftOut, letter)) {
            return;
        }
        line_.words.push_back(std::string("-") + letter);
        if (value) {
            line_.words.push_back(std::move(*value));
        }
    }

    const std::vector<std::string>& words_;
    std::size_t at_ = 0;
    bool options_ended_ = false;
    SshCommandLine line_;
};

}  // namespace

std::optional<SshCommandLine> parse_ssh_command_line(const std::vector<std::string>& words) {
    return Reader(words).read();
}

}  // namespace cmssh::client
