// A terminal as a person has one, with a shell that runs one command on it and then says how it ended. The shell is
// what keeps the terminal's modes as the command left them: with the end of its first process a terminal gets new ones.
#pragma once

#include <termios.h>

#include <optional>
#include <string>
#include <string_view>

#include "tests/support/process.hpp"

namespace cmssh::test {

class Terminal {
public:
    Terminal(const Words& argv, const Words& environment, int columns = 80, int rows = 24);

    // As from a keyboard.
    void type(std::string_view keys);
    void resize(int columns, int rows);
    // Waits until the text is printed, behind what was found by the last call.
    [[nodiscard]] bool prints(std::string_view text, Deadline deadline = in(kPatience));
    // All that was printed, escape sequences too.
    [[nodiscard]] const std::string& output();
    // The command's exit code as a shell has it, once it has ended; throws where it does not.
    int wait(Deadline deadline = in(kPatience));
    // Of the command.
    [[nodiscard]] pid_t pid() const;
    [[nodiscard]] termios modes() const;
    // As a shell does that has it for a while.
    void set_modes(const termios& modes) const;
    // Before the command had it.
    [[nodiscard]] const termios& first_modes() const { return first_modes_; }

private:
    void read_available();

    UniqueFd keyboard_;
    termios first_modes_{};
    UniqueFd line_;  // the other end: stays open, and its modes can be asked for
    std::string output_;
    std::size_t found_ = 0;
    std::optional<Process> shell_;
};

}  // namespace cmssh::test
