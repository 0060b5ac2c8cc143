// The memory of sessions, connections and forwards over the daemon's life: registry.db, one SQLite file. It never
// fails: what can not be saved stays in memory (and nothing else does) and is saved once that works; a file that can
// not be used is set aside as a copy. Entries that do not decode are passed over: the servers' tmux is the truth, this
// is the memory.
//
// Owned by Daemon, on the loop: its commits are the one blocking call allowed there. A commit is no fsync, unless
// Durability::Power asks for one; what the WAL has grown by is moved into the file by checkpoint(), when idle.
//
// What its owner does now and then, about once a second while something of it is true:
//   unsaved()        retry().
//   take_rebuilt()   puts every session and connection that it knows: the file was lost, a fresh one has none of them.
//   take_found()     takes the sessions it does not know from another load(): the file could not be read until now.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/base/clock.hpp"
#include "daemon/session/stored.hpp"

namespace cmssh {

class RegistryFile;

class Registry {
public:
    // Opens the file, makes or migrates it; its directory is there and private. What can't be used is set aside as
    // FILE.damaged-TIME, .newer-TIME (of a newer cmsshd) or .foreign-TIME (not ours).
    Registry(Clock& clock, std::string file);
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;
    ~Registry();

    using Contents = StoredContents;
    // What the file has. Reads it also where it can't be written. Entries with changes that are not saved are left out:
    // the owner knows better.
    [[nodiscard]] Contents load();

    void put(const StoredSession& session, Durability durability);
    // The session with its last screen, in one transaction; of a screen over kMaxScreen its end. Where unsaved() after
    // it, the server's copy of the screen is the only one that lasts.
    void put_ended(const StoredSession& session, std::string_view screen, Durability durability);
    // nullopt: none kept.
    [[nodiscard]] std::optional<std::string> screen(std::string_view id);
    // With its screen.
    void remove(std::string_view id);
    void put(const StoredConnection& connection);
    void remove_connection(std::string_view key_text);
    void put(const StoredForward& forward);
    void remove_forward(std::string_view id);

    // Something is in memory only, or would be.
    [[nodiscard]] bool unsaved() const { return trouble_ || rebuilt_; }
    // Tries to save what is unsaved, whenever it is called; a put does so once in kRetryPause only.
    void retry();
    [[nodiscard]] bool take_rebuilt();
    [[nodiscard]] bool take_found();
    // Moves the WAL into the file, and notices a file that was removed or replaced. A few fsyncs; nothing where nothing
    // was committed since.
    void checkpoint();
    // The next daemon reads the log in whole before it serves: some 15 ms for 1,000 starts.
    [[nodiscard]] bool has_long_log() const { return uncheckpointed_ > kLongLog; }
    // The last checkpoint, then closes. What comes after it is not saved.
    void close();

    static constexpr std::size_t kMaxScreen = std::size_t{16} << 20U;
    // Of screens that are in memory because they can't be saved; a further one is dropped, its session is not.
    static constexpr std::size_t kMaxUnsavedScreens = std::size_t{64} << 20U;
    static constexpr Duration kRetryPause = std::chrono::seconds(1);
    // A second damage within it is the disk's: no further copy is made meanwhile.
    static constexpr Duration kSetAsidePause = std::chrono::minutes(1);

private:
    enum class Pace { Now, Limited };
    void save(Pace pace);
    bool leave_what_was_removed();
    // Carries out a step on the open file, opened where it is not. False, with the trouble noted, where that fails.
    bool attempt(const std::function<void(RegistryFile&)>& step);
    void open();
    void set_aside(const std::string& kind, const std::string& why);
    void begin_trouble(const std::string& why);
    void end_trouble(std::size_t saved);
    [[nodiscard]] std::string stamp() const;

    static constexpr int kLongLog = 500;

    Clock& clock_;
    std::string path_;
    std::unique_ptr<RegistryFile> file_;  // null while it can't be used
    StoredChanges changes_;
    bool trouble_ = false;  // from the log line that says so to the one that ends it
    Instant next_try_{};
    bool checked_ = false;  // the file's structure, once in its life here
    std::optional<Instant> set_aside_at_;
    bool known_ = false;  // the owner knows of entries that a fresh file would lack
    bool rebuilt_ = false;
    bool unread_ = false;  // load() had no file to read
    bool found_ = false;
    int uncheckpointed_ = 0;  // writes
    bool closed_ = false;
};

}  // namespace cmssh
