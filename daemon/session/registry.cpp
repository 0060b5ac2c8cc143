#include "daemon/session/registry.hpp"

#include <algorithm>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/session/registry_file.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

std::string entries(std::size_t count) {
    return std::to_string(count) + (count == 1 ? " entry" : " entries");
}

// The end of what is too long, from a character's beginning on.
std::string_view last_part(std::string_view screen) {
    if (screen.size() <= Registry::kMaxScreen) {
        return screen;
    }
    screen.remove_prefix(screen.size() - Registry::kMaxScreen);
    const auto inside = [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) == 0x80U; };
    const auto begin = std::find_if_not(screen.begin(), screen.end(), inside);
    return screen.substr(static_cast<std::size_t>(begin - screen.begin()));
}

std::size_t bytes(const StoredChanges& changes) {
    std::size_t sum = 0;
    for (const auto& [id, screen] : changes.screens) {
        sum += screen ? screen->size() : 0;
    }
    return sum;
}

}  // namespace

Registry::Registry(Clock& clock, std::string file) : clock_(clock), path_(std::move(file)) {
    attempt([](RegistryFile&) {});
}

Registry::~Registry() {
    close();
}

Registry::Contents Registry::load() {
    Contents contents;
    const auto read = [&contents](RegistryFile& file) { file.read(contents); };
    if (file_ != nullptr && attempt(read)) {
        unread_ = false;
    } else {
        try {
            RegistryFile::read_only(path_, contents);
            unread_ = false;
        } catch (const std::exception&) {
            // Why it can't be used was said when the trouble began.
            unread_ = true;
        }
    }
    known_ = known_ || !contents.sessions.empty() || !contents.connections.empty() || !contents.forwards.empty();
    std::erase_if(contents.sessions, [this](const auto& it) { return changes_.sessions.contains(it.view.id); });
    std::erase_if(contents.connections,
                  [this](const auto& it) { return changes_.connections.contains(it.key.text()); });
    std::erase_if(contents.forwards, [this](const auto& it) { return changes_.forwards.contains(it.view.id); });
    return contents;
}

void Registry::put(const StoredSession& session, Durability durability) {
    changes_.sessions.insert_or_assign(session.view.id, session);
    changes_.durability = std::max(changes_.durability, durability);
    save(Pace::Limited);
}

void Registry::put_ended(const StoredSession& session, std::string_view screen, Durability durability) {
    const std::string_view kept = last_part(screen);
    if (bytes(changes_) + kept.size() <= kMaxUnsavedScreens) {
        changes_.screens.insert_or_assign(session.view.id, std::string(kept));
    } else {
        log_warn(session.view.id, "its last screen is dropped: too much is unsaved already");
    }
    put(session, durability);
}

std::optional<std::string> Registry::screen(std::string_view id) {
    if (const auto changed = changes_.screens.find(id); changed != changes_.screens.end()) {
        return changed->second;
    }
    std::optional<std::string> screen;
    const auto read = [&screen, id](RegistryFile& file) { screen = file.screen(id); };
    if (file_ == nullptr || !attempt(read)) {
        try {
            screen = RegistryFile::read_only_screen(path_, id);
        } catch (const std::exception&) {
            // Why it can't be used was said when the trouble began.
            return std::nullopt;
        }
    }
    return screen;
}

void Registry::remove(std::string_view id) {
    changes_.sessions.insert_or_assign(std::string(id), std::nullopt);
    changes_.screens.insert_or_assign(std::string(id), std::nullopt);
    save(Pace::Limited);
}

void Registry::put(const StoredConnection& connection) {
    changes_.connections.insert_or_assign(connection.key.text(), connection);
    save(Pace::Limited);
}

void Registry::remove_connection(std::string_view key_text) {
    changes_.connections.insert_or_assign(std::string(key_text), std::nullopt);
    save(Pace::Limited);
}

void Registry::put(const StoredForward& forward) {
    changes_.forwards.insert_or_assign(forward.view.id, forward);
    save(Pace::Limited);
}

void Registry::remove_forward(std::string_view id) {
    changes_.forwards.insert_or_assign(std::string(id), std::nullopt);
    save(Pace::Limited);
}

void Registry::retry() {
    if (trouble_) {
        save(Pace::Now);
    }
}

bool Registry::take_rebuilt() {
    return std::exchange(rebuilt_, false);
}

bool Registry::take_found() {
    return std::exchange(found_, false);
}

void Registry::checkpoint() {
    if (leave_what_was_removed()) {
        attempt([](RegistryFile&) {});
    }
    if (file_ != nullptr && uncheckpointed_ > 0 && attempt([](RegistryFile& file) { file.checkpoint(); })) {
        uncheckpointed_ = 0;
    }
}

void Registry::close() {
    if (closed_) {
        return;
    }
    save(Pace::Now);
    closed_ = true;
    if (!changes_.empty()) {
        log_error("registry", path_ + " can't be written: " + entries(changes_.size()) + " that changed are lost");
    }
    if (file_ != nullptr) {
        file_->finish();
        file_.reset();
    }
}

void Registry::save(Pace pace) {
    if (closed_ || (trouble_ && pace == Pace::Limited && clock_.now() < next_try_) || (changes_.empty() && !trouble_)) {
        return;
    }
    const auto write = [this](RegistryFile& file) {
        if (!changes_.empty()) {
            file.write(changes_);
            ++uncheckpointed_;
            known_ = true;
        }
    };
    leave_what_was_removed();
    if (attempt(write)) {
        changes_ = {};
    }
}

bool Registry::leave_what_was_removed() {
    if (file_ == nullptr || file_->in_place()) {
        return false;
    }
    log_warn("registry", path_ + " was removed or replaced by somebody: it is written anew");
    file_.reset();
    rebuilt_ = known_;
    return true;
}

bool Registry::attempt(const std::function<void(RegistryFile&)>& step) {
    const std::size_t unsaved_entries = changes_.size();
    try {
        try {
            open();
            step(*file_);
        } catch (const RegistryFile::NotOurs& error) {
            set_aside(error.kind, error.what());
            open();
            step(*file_);
        }
    } catch (const std::exception& error) {
        // Whatever state the handle is in: the next try opens the file anew.
        file_.reset();
        begin_trouble(error.what());
        return false;
    }
    end_trouble(unsaved_entries);
    return true;
}

void Registry::open() {
    if (file_ != nullptr) {
        return;
    }
    file_ = std::make_unique<RegistryFile>(path_, stamp(), !checked_);
    checked_ = true;
    if (file_->fresh()) {
        rebuilt_ = rebuilt_ || known_;
    } else if (unread_) {
        found_ = true;
    }
    unread_ = false;
}

void Registry::set_aside(const std::string& kind, const std::string& why) {
    file_.reset();
    const Instant now = clock_.now();
    if (set_aside_at_ && now - *set_aside_at_ < kSetAsidePause) {
        throw RegistryFile::NotUsable("it is " + kind + " again: " + why);
    }
    const std::string name = RegistryFile::set_aside(path_, kind, stamp());
    log_warn("registry", path_ + " can't be used, " + why + ": it is kept as " + name + ", and a new one is begun");
    set_aside_at_ = now;
    checked_ = false;
}

void Registry::begin_trouble(const std::string& why) {
    next_try_ = clock_.now() + kRetryPause;
    if (!std::exchange(trouble_, true)) {
        log_warn("registry", path_ + " can't be written (" + why + "): what changes is kept in memory until it can be");
    }
}

void Registry::end_trouble(std::size_t saved) {
    if (std::exchange(trouble_, false)) {
        log_info("registry", path_ + " can be written again: " + entries(saved) + " saved");
    }
}

std::string Registry::stamp() const {
    // "2026-11-23T08:16:34.123Z" without what a name does not need.
    std::string time = format_time(clock_.wall_ms());
    time.resize(time.find('.'));
    std::erase_if(time, [](char c) { return c == '-' || c == ':'; });
    return time;
}

}  // namespace cmssh
