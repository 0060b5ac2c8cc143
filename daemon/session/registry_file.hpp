// registry.db, open: its schema and migrations, its statements, and what is done to the file itself. Everything throws:
// NotUsable where the file can't be used now, NotOurs where it is to be set aside. Registry decides what follows.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "daemon/session/stored.hpp"

namespace cmssh {

class RegistryFile {
public:
    struct NotUsable : std::runtime_error {
        using std::runtime_error::runtime_error;
    };
    struct NotOurs : std::runtime_error {
        NotOurs(std::string kind_, const std::string& why) : std::runtime_error(why), kind(std::move(kind_)) {}
        std::string kind;  // "damaged", "newer", "foreign"
    };

    // Makes or migrates the file. stamp: of the time now, for the name of a copy. check: looks at the structure of what
    // is read at start. Writes once, so that a file that can't be written shows here and not at the first put.
    RegistryFile(const std::string& path, const std::string& stamp, bool check);
    RegistryFile(const RegistryFile&) = delete;
    RegistryFile& operator=(const RegistryFile&) = delete;
    // Leaves the WAL as it is.
    ~RegistryFile();

    // All in one transaction.
    void write(const StoredChanges& changes);
    // Adds to contents; what does not decode is passed over and told in the log.
    void read(StoredContents& contents);
    [[nodiscard]] std::optional<std::string> screen(std::string_view id);
    // Moves the WAL into the file. The fsync that a WAL costs at its first commit is made here too.
    void checkpoint();
    // The last checkpoint, and the WAL is gone with the object.
    void finish();
    [[nodiscard]] bool fresh() const { return fresh_; }  // it was made, not found
    // The file of this name is still the one that is open.
    [[nodiscard]] bool in_place() const;

    // Renames the file with what SQLite has beside it; gives the new name. Nobody has it open.
    static std::string set_aside(const std::string& path, const std::string& kind, const std::string& stamp);
    // For what can't be opened for writing: a full disk, a file system that is read only.
    static void read_only(const std::string& path, StoredContents& contents);
    static std::optional<std::string> read_only_screen(const std::string& path, std::string_view id);

private:
    struct Handles;
    std::string path_;
    dev_t device_ = 0;
    ino_t inode_ = 0;
    bool fresh_ = false;
    std::unique_ptr<Handles> handles_;
};

}  // namespace cmssh
