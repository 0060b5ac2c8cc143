#include "daemon/session/control_links.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "protocol/names.hpp"

namespace cmssh {
namespace {

// A note's name is .PID.START, which no link's can be.
std::string note_name(const ControlLinks::Holder& holder) {
    return '.' + std::to_string(holder.pid) + '.' + std::to_string(holder.started);
}

std::optional<ControlLinks::Holder> parse_note(std::string_view name) {
    ControlLinks::Holder holder;
    if (!name.starts_with('.')) {
        return std::nullopt;
    }
    const char* const end = name.data() + name.size();
    const auto pid = std::from_chars(name.data() + 1, end, holder.pid);
    if (pid.ec != std::errc() || pid.ptr == end || *pid.ptr != '.') {
        return std::nullopt;
    }
    const auto started = std::from_chars(pid.ptr + 1, end, holder.started);
    if (started.ec != std::errc() || started.ptr != end) {
        return std::nullopt;
    }
    return holder;
}

// What ssh makes of %r@%n:%p for a user, host and port that we would accept.
bool valid_name(std::string_view name) {
    constexpr std::string_view kAlso = "._@\\+:%-";
    return !name.empty() && name.front() != '.' && name.size() <= NAME_MAX &&
           std::all_of(name.begin(), name.end(), [kAlso](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      kAlso.find(c) != std::string_view::npos;
           });
}

}  // namespace

ControlLinks::Link& ControlLinks::Link::operator=(Link&& other) noexcept {
    std::swap(links_, other.links_);
    std::swap(name_, other.name_);
    std::swap(note_, other.note_);
    return *this;
}

ControlLinks::Link::~Link() {
    if (links_ != nullptr) {
        links_->release(name_, note_);
    }
}

Result<void> ControlLinks::make_directory() {
    const auto unusable = [this](const std::string& problem) {
        return Error{.kind = ErrorKind::Internal, .message = directory_ + ": " + problem};
    };
    if (::mkdir(directory_.c_str(), 0700) != 0 && errno != EEXIST) {
        return unusable(std::strerror(errno));
    }
    struct stat status {};
    if (::lstat(directory_.c_str(), &status) != 0) {
        return unusable(std::strerror(errno));
    }
    if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() || (status.st_mode & 077U) != 0) {
        return unusable("is not a directory of ours alone");
    }
    return {};
}

Result<void> ControlLinks::put(const std::string& name, const std::string& target) {
    // The directory may have been cleared away with others of the runtime directory.
    for (const bool again : {true, false}) {
        if (!made_) {
            if (auto made = make_directory(); !made) {
                return made;
            }
            made_ = true;
        }
        if (::symlink(target.c_str(), path(name).c_str()) == 0) {
            return {};
        }
        if (!again) {
            break;
        }
        if (errno == EEXIST) {
            ::unlink(path(name).c_str());
        } else {
            made_ = false;
        }
    }
    return Error{.kind = ErrorKind::Internal, .message = path(name) + ": " + std::strerror(errno)};
}

Result<ControlLinks::Link> ControlLinks::take(const std::string& name, const Holder& holder) {
    if (!valid_name(name) || path(name).size() >= sizeof(sockaddr_un::sun_path)) {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "params.link: " + printable(name) + " can be no name of a control socket"};
    }
    const auto found = names_.find(name);
    if (found != names_.end() && found->second.control_path != holder.control_path) {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "params.link: " + printable(name) + " leads to another server at the moment"};
    }
    if (found == names_.end()) {
        if (auto put_there = put(name, holder.control_path); !put_there) {
            return std::move(put_there).error();
        }
    }
    Name& entry = names_[name];
    entry.control_path = holder.control_path;
    ++entry.users;
    Link link;
    link.links_ = this;
    link.name_ = name;
    link.note_ = note_name(holder);
    if (auto noted = put(link.note_, holder.control_path); !noted) {
        return std::move(noted).error();
    }
    return link;
}

ControlLinks::Link ControlLinks::again(const Holder& holder) {
    Link link;
    link.links_ = this;
    link.note_ = note_name(holder);
    return link;
}

std::vector<ControlLinks::Holder> ControlLinks::take_over() {
    std::vector<Holder> holders;
    std::error_code failure;
    for (const auto& entry : std::filesystem::directory_iterator(directory_, failure)) {
        std::error_code unreadable;
        auto holder = parse_note(entry.path().filename().native());
        const auto target = std::filesystem::read_symlink(entry.path(), unreadable);
        if (holder && !unreadable) {
            holder->control_path = target.native();
            holders.push_back(std::move(*holder));
        } else {
            ::unlink(entry.path().c_str());
        }
    }
    return holders;
}

void ControlLinks::release(const std::string& name, const std::string& note) {
    ::unlink(path(note).c_str());
    const auto found = names_.find(name);
    if (found != names_.end() && --found->second.users == 0) {
        names_.erase(found);
        ::unlink(path(name).c_str());
    }
}

}  // namespace cmssh
