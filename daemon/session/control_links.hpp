// Names for control sockets that a plain ssh can be configured with: it knows what a person typed and not which socket
// that leads to. A name is a symlink in a directory of ours that is there while some process has a lease, and beside it
// lies a note of each such process, for a daemon that comes after this one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "protocol/result.hpp"

namespace cmssh {

class ControlLinks {
public:
    // The directory is made, for us alone, by take().
    explicit ControlLinks(std::string directory) : directory_(std::move(directory)) {}

    struct Holder {
        pid_t pid = 0;
        std::uint64_t started = 0;  // WatchedProcess::started()
        std::string control_path;
    };
    // One process's use of a name, and its note. Removed by its destructor.
    class Link {
    public:
        Link() = default;
        Link(Link&& other) noexcept
            : links_(std::exchange(other.links_, nullptr)),
              name_(std::move(other.name_)),
              note_(std::move(other.note_)) {}
        Link& operator=(Link&& other) noexcept;
        ~Link();

        // Leaves both to the next daemon.
        void leave() { links_ = nullptr; }

    private:
        friend class ControlLinks;
        ControlLinks* links_ = nullptr;
        std::string name_;  // empty: only the note
        std::string note_;
    };

    // InvalidParams: no name for a link, or one that leads another way at the moment. Internal: the disk.
    Result<Link> take(const std::string& name, const Holder& holder);
    // What an earlier daemon left: its names are removed, its notes are handed out.
    std::vector<Holder> take_over();
    // For one of take_over(): the note, which is there already.
    Link again(const Holder& holder);

private:
    struct Name {
        std::string control_path;
        int users = 0;
    };
    [[nodiscard]] std::string path(const std::string& name) const { return directory_ + '/' + name; }
    Result<void> make_directory();
    Result<void> put(const std::string& name, const std::string& target);
    void release(const std::string& name, const std::string& note);

    std::string directory_;
    bool made_ = false;
    std::map<std::string, Name> names_;
};

}  // namespace cmssh
