#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "daemon/app/notify.hpp"

namespace cmssh {

ReadyPipe ReadyPipe::from_environment() {
    ReadyPipe pipe;
    const char* text = std::getenv("CMSSH_READY_FD");
    if (text == nullptr) {
        return pipe;
    }
    const std::string_view view(text);
    int fd = -1;
    const auto [end, failure] = std::from_chars(view.data(), view.data() + view.size(), fd);
    if (failure == std::errc() && end == view.data() + view.size() && fd > STDERR_FILENO &&
        ::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) {
        pipe.fd_ = UniqueFd(fd);
    }
    ::unsetenv("CMSSH_READY_FD");
    return pipe;
}

void ReadyPipe::announce() {
    constexpr std::string_view kReady = "READY\n";
    if (fd_) {
        // Whoever asked may be gone.
        (void)!::write(fd_.get(), kReady.data(), kReady.size());
        fd_.reset();
    }
}

}  // namespace cmssh
