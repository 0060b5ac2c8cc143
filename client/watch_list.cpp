// `list --watch`: the table again with each change. On a terminal in place of the one before, elsewhere below it.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <string>
#include <utility>

#include "client/event_stream.hpp"
#include "client/interrupt.hpp"
#include "client/session_table.hpp"
#include "client/verbs.hpp"

namespace cmssh::client {
namespace {

// Ages count on without an event.
constexpr auto kTick = std::chrono::seconds(1);
// However many events come: nobody reads faster.
constexpr auto kLeastPause = std::chrono::milliseconds(100);

class Watch {
public:
    Watch(const GlobalOptions& global, const ListOptions& options)
        : global_(global),
          options_(options),
          stream_(global, {}),
          terminal_(!global.json && ::isatty(STDOUT_FILENO) != 0) {}

    int run() {
        const auto deadline = deadline_of(global_);
        if (const auto opened = stream_.open(deadline); const auto* failure = std::get_if<CallError>(&opened)) {
            return print_error(global_, *failure);
        }
        ask_at_ = std::chrono::steady_clock::now();
        for (;;) {
            if (ask_at_ && std::chrono::steady_clock::now() >= *ask_at_) {
                if (const auto code = ask_and_show(deadline)) {
                    return *code;
                }
            } else if (terminal_) {
                show();
            }
            if (std::ferror(stdout) != 0) {
                return exit_code::kFailed;
            }
            const auto woken = stream_.wait(next_look(deadline));
            if (std::holds_alternative<CallError>(woken)) {
                if (const auto code = find_next()) {
                    return *code;
                }
                continue;
            }
            switch (std::get<EventStream::Woken>(woken)) {
                case EventStream::Woken::Interrupted:
                    return exit_code::kOk;
                case EventStream::Woken::OutputClosed:
                    return exit_code::kFailed;
                case EventStream::Woken::Time:
                    if (deadline && std::chrono::steady_clock::now() >= *deadline) {
                        return exit_code::kTimeout;
                    }
                    break;
                case EventStream::Woken::Resized:
                    shown_.clear();
                    break;
                case EventStream::Woken::Input:
                    break;
                case EventStream::Woken::Events:
                    if (const auto code = hear(deadline)) {
                        return *code;
                    }
                    break;
            }
        }
    }

private:
    // nullopt: with the next event.
    [[nodiscard]] std::optional<Instant> next_look(std::optional<Instant> deadline) const {
        std::optional<Instant> until = deadline;
        const auto no_later_than = [&until](Instant time) { until = until ? std::min(*until, time) : time; };
        if (ask_at_) {
            no_later_than(*ask_at_);
        }
        if (ticks()) {
            no_later_than(std::chrono::steady_clock::now() + kTick);
        }
        return until;
    }

    [[nodiscard]] bool ticks() const { return terminal_ && !global_.quiet; }

    // Set: it ends with that.
    std::optional<int> ask_and_show(std::optional<Instant> deadline) {
        ask_at_.reset();
        asked_ = std::chrono::steady_clock::now();
        auto outcome = call<api::ListResult>(stream_.client(), "list", list_params(options_), deadline);
        if (const auto* failure = std::get_if<CallError>(&outcome)) {
            if (failure->daemon_lost) {
                return std::nullopt;  // the next wait says so
            }
            return interrupted() ? exit_code::kOk : print_error(global_, *failure);
        }
        auto& reply = std::get<Reply<api::ListResult>>(outcome);
        // When a session was heard of last is no change of it.
        Json seen = reply.json;
        for (Json& session : seen["sessions"]) {
            session.erase("as_of");
        }
        if (std::exchange(seen_, seen) != seen || terminal_) {
            sessions_ = std::move(reply.value.sessions);
            json_ = std::move(reply.json);
            show();
        }
        return std::nullopt;
    }

    std::optional<int> hear(std::optional<Instant> deadline) {
        ask_at_ = asked_ + kLeastPause;
        const auto came = stream_.take();
        const bool overflowed = std::any_of(came.begin(), came.end(), [](const Json& event) {
            return event.value("type", "") == to_string(api::EventType::Overflow);
        });
        if (!overflowed) {
            return std::nullopt;
        }
        const auto again = stream_.open(deadline);
        const auto* failure = std::get_if<CallError>(&again);
        return failure != nullptr && !failure->daemon_lost ? std::optional(print_error(global_, *failure))
                                                           : std::nullopt;
    }

    std::optional<int> find_next() {
        if (!global_.quiet) {
            std::fputs("cmctl: the daemon is gone, waiting for the next one\n", stderr);
        }
        const auto next = stream_.open_next();
        const auto* failure = std::get_if<CallError>(&next);
        if (failure == nullptr) {
            ask_at_ = std::chrono::steady_clock::now();
            if (terminal_) {
                shown_.clear();
            }
            return std::nullopt;
        }
        return interrupted() ? exit_code::kOk : print_error(global_, *failure);
    }

    void show() {
        std::string text;
        if (global_.json) {
            text = json_.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
        } else if (global_.quiet) {
            for (const api::Session& session : sessions_) {
                text += session.id + "\n";
            }
        } else {
            const Table table = session_table(sessions_);
            text =
                table.empty() ? no_sessions_text(options_) + "\n" : table.render(use_color(global_), terminal_width());
        }
        if (!terminal_) {
            const bool apart = !shown_.empty() && !global_.json;
            std::fputs((apart ? "\n" + text : text).c_str(), stdout);
            shown_ = "before";
        } else if (shown_ != text) {
            std::fputs(on_screen(text).c_str(), stdout);
            shown_ = text;
        }
        std::fflush(stdout);
    }

    // From the top left corner on, each line over the one that was there, and nothing of it below. What does not fit is
    // counted.
    static std::string on_screen(const std::string& text) {
        winsize size{};
        const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2;
        // The last row stays free for the cursor.
        const std::size_t rows = known ? size.ws_row - 1U : static_cast<std::size_t>(-1);
        const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
        std::string drawn = "\033[H";
        std::istringstream input(text);
        std::size_t row = 0;
        for (std::string line; std::getline(input, line); ++row) {
            if (lines > rows && row + 1 == rows) {
                drawn += "… " + std::to_string(lines - row) + " more\033[K\n";
                break;
            }
            drawn += line + "\033[K\n";
        }
        return drawn + "\033[J";
    }

    const GlobalOptions& global_;
    const ListOptions& options_;
    EventStream stream_;
    bool terminal_;  // the table is drawn over the one before
    Json seen_;
    Json json_;
    std::vector<api::Session> sessions_;
    Instant asked_{};
    std::optional<Instant> ask_at_;  // some event came
    std::string shown_;              // empty: nothing, or not as it should be
};

}  // namespace

int watch_list(const GlobalOptions& global, const ListOptions& options) {
    catch_interrupts();
    return Watch(global, options).run();
}

}  // namespace cmssh::client
