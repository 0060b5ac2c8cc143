// Twenty servers on loopback, each with a home directory and a tmux of its own. They are two sshds, for one ends itself
// at its 17th address; so half of them can be down while the others serve.
#pragma once

#include <string>
#include <vector>

#include "tests/support/sshd.hpp"

namespace cmssh::test {

class Servers {
public:
    static constexpr int kOfEach = 10;
    static constexpr int kCount = 2 * kOfEach;

    explicit Servers(const TempDir& dir);

    // N is 1 to kCount.
    [[nodiscard]] static std::string name(int n) { return "server-" + std::to_string(n); }
    // Where the sshd of server N is reached from there.
    [[nodiscard]] std::string address(int n) const;
    [[nodiscard]] std::string ssh_config() const { return near_.ssh_config(); }
    [[nodiscard]] Sshd& half(int index) { return index == 0 ? near_ : far_; }
    // Asks the tmux of server N itself.
    [[nodiscard]] Finished tmux(int n, const Words& arguments) const;
    // Of all of them: the sessions without the daemon's own.
    [[nodiscard]] Words tmux_sessions() const;
    [[nodiscard]] Words tmux_clients() const;

private:
    [[nodiscard]] const Sshd& sshd_of(int n) const { return n <= kOfEach ? near_ : far_; }
    [[nodiscard]] static int number_there(int n) { return n <= kOfEach ? n : n - kOfEach; }
    [[nodiscard]] Words tmux_lines(const Words& arguments) const;

    Sshd near_;
    Sshd far_;
};

}  // namespace cmssh::test
