// Children: started without a shell in a process group of their own, awaited, and never left behind. The seam is
// ProcessSpawner; PosixSpawner is the real one. As a child subreaper the daemon also inherits ssh masters and orphans.
#pragma once

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>

#include <sys/types.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/base/clock.hpp"
#include "daemon/base/unique_fd.hpp"
#include "protocol/result.hpp"

namespace cmssh {

struct ExitStatus {
    int code = 0;  // where signal is 0
    int signal = 0;
};

struct SpawnRequest {
    std::vector<std::string> argv;         // argv[0] is looked for in PATH
    std::vector<std::string> environment;  // NAME=value, whole
    UniqueFd standard_output;              // not set: /dev/null; standard input is always /dev/null
    UniqueFd standard_error;
};

// Destroying it while the child runs kills its process group.
class ChildProcess {
public:
    virtual ~ChildProcess() = default;
    [[nodiscard]] virtual pid_t pid() const = 0;
    // nullopt: still running at the deadline.
    virtual asio::awaitable<std::optional<ExitStatus>> wait_until(Instant deadline) = 0;
    // SIGKILL to the whole group; nothing once the child was collected.
    virtual void kill_group() = 0;
};

class ProcessSpawner {
public:
    virtual ~ProcessSpawner() = default;
    // Internal error where the program can't be started; the message names it.
    virtual Result<std::unique_ptr<ChildProcess>> spawn(SpawnRequest request) = 0;
};

class PosixSpawner final : public ProcessSpawner {
public:
    PosixSpawner(const asio::any_io_executor& executor, Clock& clock);
    ~PosixSpawner() override;
    Result<std::unique_ptr<ChildProcess>> spawn(SpawnRequest request) override;
    // SIGKILL to the groups of all children that run, so that their waits end. From then on none is started: spawn()
    // gives ShuttingDown.
    void end_all();
    // Ends the watch for SIGCHLD, so that the loop can run out of work.
    void stop();

private:
    struct Reaper;
    // Shared with the signal handler, which may still be queued when the spawner goes.
    std::shared_ptr<Reaper> reaper_;
    Clock& clock_;
    bool ended_ = false;
};

struct CapturedOutput {
    ExitStatus status;
    std::string standard_output;
    std::string standard_error;
};
// Runs a child to its end and keeps up to max_bytes of each output. Timeout at the deadline: the group is killed.
asio::awaitable<Result<CapturedOutput>> run_captured(asio::any_io_executor executor, Clock& clock,
                                                     ProcessSpawner& spawner, std::vector<std::string> argv,
                                                     std::vector<std::string> environment, Instant deadline,
                                                     std::size_t max_bytes);

// Sends SIGKILL to every process of ours whose environment holds NAME=value. For what escaped its process group by
// daemonising; reads /proc, which takes some 15 us for each process of the machine, so only where something went wrong.
// Returns how many.
int kill_marked_processes(const std::string& name_and_value);
// Every NAME=value that is in the environment of a process of ours, at the same price.
[[nodiscard]] std::set<std::string> marks_of_processes(const std::string& name);

}  // namespace cmssh
