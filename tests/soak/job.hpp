// A session that a caller asked for, and what is to be true of it in the end. Its command leaves a line in a file of
// its own when it starts, and one more where it comes to its end by itself: what ran is counted, not believed.
#pragma once

#include <random>
#include <string>

#include "tests/support/process.hpp"
#include "tests/support/rpc_client.hpp"

namespace cmssh::test {

struct Job {
    enum class Kind {
        Quick,      // ends at once
        Timed,      // in a while
        Signalled,  // by a signal of its own
        Reader,     // once a line is typed
        Endless,    // by our kill only
    };

    // dir: for its file; number: unlike that of any other.
    static Job make(const std::string& dir, const std::string& number, int server, std::mt19937& random);

    [[nodiscard]] bool ends_by_itself() const { return kind != Kind::Reader && kind != Kind::Endless; }
    // It has left its first line.
    [[nodiscard]] bool has_begun() const;
    [[nodiscard]] Json start_params() const;
    // Empty, or what is wrong about it in the end.
    [[nodiscard]] std::string fault() const;

    Kind kind = Kind::Quick;
    int server = 0;
    int code = 0;
    std::string number;
    std::string file;
    std::string text;  // for a reader
    Words command;
    std::string id;  // empty: no start was answered yet
    bool kill_asked = false;
    Json ended;  // the session, as `wait` gave it
};

}  // namespace cmssh::test
