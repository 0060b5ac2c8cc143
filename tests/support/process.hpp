// Child processes of the integration tests. Their output goes to memory files: nobody has to read along, and what was
// written so far can be looked at any time.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "daemon/base/unique_fd.hpp"
#include "tests/support/wait.hpp"

namespace cmssh::test {

using Words = std::vector<std::string>;

struct SpawnOptions {
    Words environment;             // the whole of it
    std::string input;             // standard input
    std::vector<int> descriptors;  // handed on under the same numbers
    std::string terminal;          // in place of all three: it leads a session that has this terminal
    bool merge_errors = false;     // standard error goes to errors() and output() alike, in order: to output()
};

struct ExitStatus {
    int code = -1;  // where signal is 0
    int signal = 0;

    friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};
void PrintTo(const ExitStatus& status, std::ostream* stream);

class Process {
public:
    // argv[0] is looked for in our own PATH.
    explicit Process(const Words& argv, const SpawnOptions& options = {});
    // Ends it with SIGKILL where it still runs.
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] bool running();
    void send_signal(int number);
    // nullopt: it runs on.
    [[nodiscard]] std::optional<ExitStatus> wait(Deadline deadline = in(kPatience));
    [[nodiscard]] std::string output() const;
    [[nodiscard]] std::string errors() const;

private:
    pid_t pid_ = -1;
    UniqueFd pidfd_;
    UniqueFd output_;
    UniqueFd errors_;
    std::optional<ExitStatus> status_;
};

struct Finished {
    ExitStatus status;
    std::string output;
    std::string errors;
};
// To its end; throws where the deadline comes first.
Finished run(const Words& argv, const SpawnOptions& options = {}, Deadline deadline = in(kPatience));

// Not a zombie.
[[nodiscard]] bool alive(pid_t pid);
// As ps shows it.
[[nodiscard]] std::string command_line(pid_t pid);
[[nodiscard]] std::vector<pid_t> children_of(pid_t pid);
// How many it has open.
[[nodiscard]] int descriptors_of(pid_t pid);
[[nodiscard]] std::size_t resident_bytes(pid_t pid);

// Orphans of our children become ours from now on: kill_strays() finds them all, wherever they have moved in the
// process tree. A thread ends everything when the tests are interrupted, or one of them takes longer than a test ever
// does.
void begin_test();
// Collects those that have ended of the orphans that became ours.
void reap_orphans();
// Ends with SIGKILL every descendant that no Process owns, and what that one started.
void kill_strays();

// PATH of everything that tests start.
inline constexpr const char* kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

}  // namespace cmssh::test
