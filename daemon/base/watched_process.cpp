#include "daemon/base/watched_process.hpp"

#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 declares it without C linkage
}

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace cmssh {
namespace {

// 0: it has ended. proc(5): the name in parentheses may hold anything, the 20th field behind it is the start.
std::uint64_t start_of(const std::string& directory) {
    std::ifstream file(directory + "/stat");
    std::ostringstream text;
    text << file.rdbuf();
    const std::string line = text.str();
    const std::size_t name_end = line.rfind(')');
    if (name_end == std::string::npos) {
        return 0;
    }
    constexpr int kFieldsBetween = 19;
    std::istringstream fields(line.substr(name_end + 1));
    std::string field;
    for (int i = 0; i < kFieldsBetween; ++i) {
        fields >> field;
    }
    std::uint64_t started = 0;
    fields >> started;
    return fields ? started : 0;
}

std::string process_directory(pid_t pid) {
    return "/proc/" + std::to_string(pid);
}

// Linux's sockets tell their protocol as an attribute: "TCP", "TCPv6", "UNIX-STREAM".
bool is_tcp(const std::filesystem::path& descriptor) {
    std::array<char, 32> protocol{};
    const ssize_t length = ::getxattr(descriptor.c_str(), "system.sockprotoname", protocol.data(), protocol.size());
    return length > 0 && std::string_view(protocol.data(), static_cast<std::size_t>(length)).starts_with("TCP");
}

bool is_pipe(const std::filesystem::path& descriptor) {
    struct stat status {};
    return ::stat(descriptor.c_str(), &status) == 0 && S_ISFIFO(status.st_mode);
}

}  // namespace

Result<std::unique_ptr<WatchedProcess>> WatchedProcess::open(const asio::any_io_executor& executor, pid_t pid) {
    const Error none{.kind = ErrorKind::InvalidParams,
                     .message = "there is no process " + std::to_string(pid) + " of this user"};
    UniqueFd pidfd(::pidfd_open(pid, 0));
    if (!pidfd) {
        return none;
    }
    const std::string directory = process_directory(pid);
    struct stat status {};
    const bool ours = ::stat(directory.c_str(), &status) == 0 && status.st_uid == ::geteuid();
    const std::uint64_t started = start_of(directory);
    // Signalled last: whoever has the pid now has had it since the pidfd was opened.
    if (!ours || started == 0 || ::pidfd_send_signal(pidfd.get(), 0, nullptr, 0) != 0) {
        return none;
    }
    return std::make_unique<WatchedProcess>(executor, std::move(pidfd), pid, started);
}

WatchedProcess::WatchedProcess(const asio::any_io_executor& executor, UniqueFd pidfd, pid_t pid, std::uint64_t started)
    : pidfd_(executor, pidfd.release()), pid_(pid), started_(started) {}

asio::awaitable<bool> WatchedProcess::wait() {
    asio::error_code closed;
    co_await pidfd_.async_wait(asio::posix::stream_descriptor::wait_read,
                               asio::redirect_error(asio::use_awaitable, closed));
    co_return !closed;
}

bool WatchedProcess::has_own_connection() const {
    const std::string directory = process_directory(pid_);
    std::error_code failure;
    bool found = false;
    for (std::filesystem::directory_iterator entry(directory + "/fd", failure), end; !failure && entry != end;
         entry.increment(failure)) {
        const std::filesystem::path& file = entry->path();
        const std::string name = file.filename();
        const bool standard = name == "0" || name == "1" || name == "2";
        found = found || (!standard && (is_tcp(file) || is_pipe(file)));
    }
    // Last: the pid was this process's all the while.
    return found && start_of(directory) == started_;
}

void WatchedProcess::close() {
    asio::error_code ignored;
    pidfd_.close(ignored);
}

}  // namespace cmssh
