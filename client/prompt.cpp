#include "client/prompt.hpp"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "client/output.hpp"
#include "client/rpc_client.hpp"
#include "daemon/base/unique_fd.hpp"
#include "protocol/methods.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

constexpr std::size_t kMaxLine = 4096;  // N_TTY_BUF_SIZE: no line is longer

UniqueFd open_terminal() {
    return UniqueFd(::open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC));
}

void write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(fd, text.data(), text.size());
        if (written < 0 && errno != EINTR) {
            return;
        }
        text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
    }
}

// What the signal handlers need: the terminal while it has the modes of a question. One at a time in a process.
struct Asked {
    int fd = -1;
    termios before{};
    termios now{};
    const char* text = nullptr;
    std::size_t size = 0;
};
Asked asked;

void set_handler(int signal, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    ::sigaction(signal, &action, nullptr);
}

void on_fatal_signal(int signal) {
    ::tcsetattr(asked.fd, TCSANOW, &asked.before);
    set_handler(signal, SIG_DFL);
    ::raise(signal);  // once the handler has returned
}

void on_stop(int signal) {
    const int error = errno;
    ::tcsetattr(asked.fd, TCSANOW, &asked.before);
    set_handler(signal, SIG_DFL);
    ::raise(signal);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal);
    ::sigprocmask(SIG_UNBLOCK, &only, nullptr);
    // Continued.
    ::sigprocmask(SIG_BLOCK, &only, nullptr);
    set_handler(signal, on_stop);
    ::tcsetattr(asked.fd, TCSANOW, &asked.now);
    write_all(asked.fd, {asked.text, asked.size});
    errno = error;
}

// The terminal's modes for a question, and who watches over them.
class QuestionModes {
public:
    QuestionModes(int fd, bool echo, const std::string& text) {
        asked = {};
        if (::tcgetattr(fd, &asked.before) != 0) {
            return;
        }
        asked.now = asked.before;
        asked.now.c_iflag |= ICRNL;
        asked.now.c_oflag |= OPOST | ONLCR;
        asked.now.c_lflag |= ICANON | ISIG | ECHO | ECHOE | ECHOK;
        if (!echo) {
            asked.now.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHOE | ECHOK | ECHONL);
        }
        asked.text = text.data();
        asked.size = text.size();
        asked.fd = fd;
        for (std::size_t i = 0; i < kSignals.size(); ++i) {
            ::sigaction(kSignals[i], nullptr, &handlers_[i]);
            // What the verb itself catches or ignores stays so.
            if (handlers_[i].sa_handler == SIG_DFL) {
                set_handler(kSignals[i], kSignals[i] == SIGTSTP ? on_stop : on_fatal_signal);
            }
        }
        // What was typed ahead is not the answer.
        ::tcsetattr(fd, TCSAFLUSH, &asked.now);
    }
    ~QuestionModes() {
        if (asked.fd < 0) {
            return;
        }
        ::tcsetattr(asked.fd, TCSANOW, &asked.before);
        for (std::size_t i = 0; i < kSignals.size(); ++i) {
            if (handlers_[i].sa_handler == SIG_DFL) {
                ::sigaction(kSignals[i], &handlers_[i], nullptr);
            }
        }
        asked = {};
    }
    QuestionModes(const QuestionModes&) = delete;
    QuestionModes& operator=(const QuestionModes&) = delete;

private:
    static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGALRM, SIGTSTP};
    std::array<struct sigaction, kSignals.size()> handlers_{};
};

class TerminalQuestioner final : public Questioner {
public:
    TerminalQuestioner(UniqueFd terminal, StatusLine* line) : terminal_(std::move(terminal)), line_(line) {}
    ~TerminalQuestioner() override { end_question(); }
    TerminalQuestioner(const TerminalQuestioner&) = delete;
    TerminalQuestioner& operator=(const TerminalQuestioner&) = delete;

    void ask(RpcClient& /*client*/, const Json& params) override {
        const auto prompt = api::read<api::Prompt>(params);
        if (!prompt) {
            return;
        }
        end_question();
        if (line_ != nullptr) {
            line_->clear();
        }
        text_ = printable_lines(prompt->text);
        if (prompt->notice) {
            write_all(terminal_.get(), text_ + '\n');
            return;
        }
        text_ += prompt->confirm ? " [yes/no] " : "";
        question_ = *prompt;
        if (!prompt->echo) {
            const rlimit no_core{.rlim_cur = 0, .rlim_max = 0};
            ::setrlimit(RLIMIT_CORE, &no_core);
        }
        modes_.emplace(terminal_.get(), prompt->echo, text_);
        write_all(terminal_.get(), text_);
    }

    [[nodiscard]] int fd() const override { return modes_ ? terminal_.get() : -1; }

    void read_input(RpcClient& client) override {
        const std::size_t before = input_.size();
        input_.resize(before + kMaxLine);
        const ssize_t count = ::read(terminal_.get(), input_.data() + before, kMaxLine);
        input_.resize(before + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) {
            return;
        }
        // Ctrl-D, or a terminal that is gone.
        if (count <= 0 || input_.size() > kMaxLine) {
            cancel(client);
            return;
        }
        const auto end = input_.find('\n');
        if (end == std::string::npos) {
            return;
        }
        input_.resize(end);
        Json answer = {{"prompt", question_.prompt}};
        if (question_.confirm) {
            answer["confirm"] = input_ == "yes" || input_ == "y" || input_ == "Yes" || input_ == "Y";
        } else {
            answer["text"] = input_;
        }
        end_question();
        client.notify("answer", std::move(answer));
    }

    void stop(RpcClient& client) override {
        if (modes_) {
            cancel(client);
        }
    }

private:
    void cancel(RpcClient& client) {
        question_.echo = false;  // no line was ended
        end_question();
        client.notify("answer", {{"prompt", question_.prompt}, {"cancel", true}});
    }

    void end_question() {
        if (!modes_) {
            return;
        }
        modes_.reset();
        ::explicit_bzero(input_.data(), input_.size());
        input_.clear();
        if (!question_.echo) {
            write_all(terminal_.get(), "\n");
        }
    }

    UniqueFd terminal_;
    StatusLine* line_;
    api::Prompt question_;
    std::string text_;
    std::string input_;
    std::optional<QuestionModes> modes_;  // while something is asked
};

}  // namespace

bool person_is_there() {
    const UniqueFd terminal = open_terminal();
    return terminal && ::tcgetpgrp(terminal.get()) == ::getpgrp();
}

void answer_prompts(RpcClient& client, StatusLine* line) {
    if (UniqueFd terminal = open_terminal()) {
        client.set_questioner(std::make_shared<TerminalQuestioner>(std::move(terminal), line));
    }
}

}  // namespace cmssh::client
