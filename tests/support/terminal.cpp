#include "tests/support/terminal.hpp"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace cmssh::test {
namespace {

// Never in the output of a command: the mark is put together by printf.
constexpr const char* kShell = R"(trap : INT TERM HUP; "$@"; printf '\n[%s %s]\n' ended $?; exec sleep 1000)";
constexpr std::string_view kEnded = "\n[ended ";

int checked(int result, const char* what) {
    if (result < 0) {
        throw std::system_error(errno, std::generic_category(), what);
    }
    return result;
}

}  // namespace

Terminal::Terminal(const Words& argv, const Words& environment, int columns, int rows)
    : keyboard_(checked(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), "posix_openpt")) {
    std::array<char, 64> path{};
    checked(::grantpt(keyboard_.get()), "grantpt");
    checked(::unlockpt(keyboard_.get()), "unlockpt");
    checked(-::ptsname_r(keyboard_.get(), path.data(), path.size()), "ptsname_r");
    line_.reset(checked(::open(path.data(), O_RDWR | O_NOCTTY | O_CLOEXEC), "the terminal"));
    checked(::fcntl(keyboard_.get(), F_SETFL, O_NONBLOCK), "fcntl");
    resize(columns, rows);
    first_modes_ = modes();
    SpawnOptions options;
    options.environment = environment;
    options.environment.push_back("TERM=xterm-256color");
    options.terminal = path.data();
    Words words = {"/bin/sh", "-c", kShell, "sh"};
    words.insert(words.end(), argv.begin(), argv.end());
    shell_.emplace(words, options);
}

void Terminal::type(std::string_view keys) {
    // A few of them: they fit into its buffer.
    const auto written = ::write(keyboard_.get(), keys.data(), keys.size());
    if (written != static_cast<ssize_t>(keys.size())) {
        throw std::runtime_error("the terminal takes no more keys");
    }
}

void Terminal::resize(int columns, int rows) {
    winsize size{};
    size.ws_col = static_cast<unsigned short>(columns);
    size.ws_row = static_cast<unsigned short>(rows);
    checked(::ioctl(keyboard_.get(), TIOCSWINSZ, &size), "TIOCSWINSZ");
}

void Terminal::read_available() {
    std::array<char, 65536> bytes{};
    for (;;) {
        const ssize_t count = ::read(keyboard_.get(), bytes.data(), bytes.size());
        if (count <= 0) {
            return;
        }
        output_.append(bytes.data(), static_cast<std::size_t>(count));
    }
}

bool Terminal::prints(std::string_view text, Deadline deadline) {
    for (;;) {
        read_available();
        const auto at = output_.find(text, found_);
        if (at != std::string::npos) {
            found_ = at + text.size();
            return true;
        }
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd readable{.fd = keyboard_.get(), .events = POLLIN, .revents = 0};
        if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) == 0) {
            return false;
        }
    }
}

const std::string& Terminal::output() {
    read_available();
    return output_;
}

int Terminal::wait(Deadline deadline) {
    // A terminal may print a line feed as two bytes.
    if (!prints(kEnded, deadline) || !prints("]", deadline)) {
        throw std::runtime_error("the command on the terminal does not end: " + output_);
    }
    const auto at = output_.rfind(kEnded) + kEnded.size();
    return std::stoi(output_.substr(at));
}

pid_t Terminal::pid() const {
    pid_t found = -1;
    if (!wait_until([&] {
            const auto children = children_of(shell_->pid());
            found = children.empty() ? -1 : children.front();
            return found > 0;
        })) {
        throw std::runtime_error("no command runs on the terminal");
    }
    return found;
}

termios Terminal::modes() const {
    termios modes{};
    checked(::tcgetattr(line_.get(), &modes), "tcgetattr");
    return modes;
}

void Terminal::set_modes(const termios& modes) const {
    checked(::tcsetattr(line_.get(), TCSANOW, &modes), "tcsetattr");
}

}  // namespace cmssh::test
