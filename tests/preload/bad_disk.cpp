// Loaded into a daemon by LD_PRELOAD: a disk that fails under its registry, with the kernel's own error. While the file
// $CMSSH_BAD_DISK.writes is there, whatever changes or syncs a file named registry.db… is EIO; while
// $CMSSH_BAD_DISK.reads is, reads of it are too.
#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

bool bad(int fd, const char* what) {
    const char* gate = std::getenv("CMSSH_BAD_DISK");
    if (gate == nullptr || ::access((std::string(gate) + what).c_str(), F_OK) != 0) {
        return false;
    }
    std::array<char, 4096> path{};
    const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path.data(), path.size());
    const std::string_view name(path.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
    return name.find("/registry.db") != std::string_view::npos;
}

// What the name means without this.
template <typename Function>
Function* real(const char* name) {
    void* found = ::dlsym(RTLD_NEXT, name);
    Function* function = nullptr;
    static_assert(sizeof(found) == sizeof(function));
    std::memcpy(&function, &found, sizeof(found));
    return function;
}

template <typename Function, typename... Arguments>
auto call(Function* function, const char* what, int fd, Arguments... arguments) {
    const int error = errno;
    if (bad(fd, what)) {
        errno = EIO;
        return decltype(function(fd, arguments...)){-1};
    }
    errno = error;
    return function(fd, arguments...);
}

constexpr const char* kWrites = ".writes";
constexpr const char* kReads = ".reads";

}  // namespace

extern "C" {

// NOLINTBEGIN: glibc's names
ssize_t write(int fd, const void* from, size_t size) {
    static auto* const next = real<ssize_t(int, const void*, size_t)>("write");
    return call(next, kWrites, fd, from, size);
}
ssize_t pwrite(int fd, const void* from, size_t size, off_t at) {
    static auto* const next = real<ssize_t(int, const void*, size_t, off_t)>("pwrite");
    return call(next, kWrites, fd, from, size, at);
}
ssize_t pwrite64(int fd, const void* from, size_t size, off64_t at) {
    static auto* const next = real<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
    return call(next, kWrites, fd, from, size, at);
}
int fsync(int fd) {
    static auto* const next = real<int(int)>("fsync");
    return call(next, kWrites, fd);
}
int fdatasync(int fd) {
    static auto* const next = real<int(int)>("fdatasync");
    return call(next, kWrites, fd);
}
int ftruncate(int fd, off_t size) noexcept {
    static auto* const next = real<int(int, off_t)>("ftruncate");
    return call(next, kWrites, fd, size);
}
int ftruncate64(int fd, off64_t size) noexcept {
    static auto* const next = real<int(int, off64_t)>("ftruncate64");
    return call(next, kWrites, fd, size);
}
ssize_t read(int fd, void* to, size_t size) {
    static auto* const next = real<ssize_t(int, void*, size_t)>("read");
    return call(next, kReads, fd, to, size);
}
ssize_t pread(int fd, void* to, size_t size, off_t at) {
    static auto* const next = real<ssize_t(int, void*, size_t, off_t)>("pread");
    return call(next, kReads, fd, to, size, at);
}
ssize_t pread64(int fd, void* to, size_t size, off64_t at) {
    static auto* const next = real<ssize_t(int, void*, size_t, off64_t)>("pread64");
    return call(next, kReads, fd, to, size, at);
}
// NOLINTEND
}
