// What could stand at the end of an unfinished command line. Pure: what only the daemon knows is named, not looked up.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cmssh::client {

struct Candidate {
    std::string word;
    std::string text;  // beside it in a list; for reading only

    friend bool operator==(const Candidate&, const Candidate&) = default;
};

// What the daemon has to be asked for.
enum class Asked {
    Nothing,
    Contexts,
    Servers,
    RunningSessions,
    AllSessions,
    Forwards
};  // Servers: contexts, as "ctx:"

struct Completion {
    std::string before;  // of the word that is completed, what stands in front of the value: "--ctx="
    std::string typed;   // of the value
    std::vector<Candidate> candidates;
    Asked asked = Asked::Nothing;
    std::vector<std::string> given;  // operands that stand on the line already
    bool files = false;              // and local files
    // From this word on it is a command line of its own.
    std::optional<std::size_t> command_at;
    std::optional<std::string> socket;  // what --socket says
    bool elsewhere = false;             // --host: the daemon is another machine's
};

// words: what stands behind "cmctl", the last one up to the cursor.
[[nodiscard]] Completion complete_line(const std::vector<std::string>& words);

// For the scripts of the shells: first a line that says how to go on, ":words", ":files" or ":command N", then a
// candidate per line, with a tab and its text behind it. Only those that begin as typed, and only such that no shell
// gives a meaning to any character of; the text is made fit for a terminal, and short.
[[nodiscard]] std::string completion_lines(const Completion& completion);

}  // namespace cmssh::client
