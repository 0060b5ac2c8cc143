#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "client/curses_screen.hpp"
#include "client/event_stream.hpp"
#include "client/interrupt.hpp"
#include "client/own_verb.hpp"
#include "client/terminal.hpp"
#include "client/top_model.hpp"
#include "client/top_screen.hpp"
#include "client/typed_command.hpp"
#include "client/verbs.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

// What no event tells: round trip times, ages, the daemon's own.
constexpr auto kSample = std::chrono::seconds(2);
// A daemon that is stopped must not hold up the keys for long.
constexpr auto kAnswer = std::chrono::seconds(3);
constexpr int kPage = 10;
// However many events come: nobody reads faster.
constexpr auto kLeastPause = std::chrono::milliseconds(100);

class Top {
public:
    Top(const GlobalOptions& global, CursesScreen& screen) : global_(global), screen_(screen), stream_(global, {}) {}

    // What ended it.
    std::optional<CallError> run() {
        auto opened = stream_.open(deadline_of(global_));
        if (auto* failure = std::get_if<CallError>(&opened)) {
            return std::move(*failure);
        }
        ask();
        while (!quit_) {
            if (Clock::now() >= next_sample_) {
                take_sample();
            } else if (ask_at_ && Clock::now() >= *ask_at_) {
                ask();
            }
            screen_.draw(draw_top(model_, view_, screen_.columns(), screen_.rows()));
            const auto woken = stream_.wait(std::min(next_sample_, ask_at_.value_or(next_sample_)), STDIN_FILENO);
            if (std::holds_alternative<CallError>(woken)) {
                lose_daemon();
                continue;
            }
            switch (std::get<EventStream::Woken>(woken)) {
                case EventStream::Woken::Interrupted:
                case EventStream::Woken::OutputClosed:
                    return std::nullopt;
                case EventStream::Woken::Resized:
                    screen_.resize();
                    break;
                case EventStream::Woken::Input:
                    if (!read_keys()) {
                        return std::nullopt;
                    }
                    break;
                case EventStream::Woken::Events:
                    hear();
                    break;
                case EventStream::Woken::Time:
                    break;
            }
        }
        return std::nullopt;
    }

private:
    using Clock = std::chrono::steady_clock;

    void hear() {
        for (const Json& event : stream_.take()) {
            if (event.value("type", "") == to_string(api::EventType::Overflow)) {
                (void)stream_.open(Clock::now() + kAnswer);
            }
        }
        ask_at_ = asked_ + kLeastPause;
    }

    void ask() {
        ask_at_.reset();
        asked_ = Clock::now();
        if (!stream_.connected()) {
            return;
        }
        const Instant deadline = Clock::now() + kAnswer;
        const auto stats = call<api::StatsResult>(stream_.client(), "stats", Json::object(), deadline);
        const auto list = call<api::ListResult>(stream_.client(), "list", Json::object(), deadline);
        const auto* connections = std::get_if<Reply<api::StatsResult>>(&stats);
        const auto* sessions = std::get_if<Reply<api::ListResult>>(&list);
        if (connections == nullptr || sessions == nullptr) {
            // Where the daemon is lost, the next wait says so.
            view_.daemon = "the daemon does not answer";
            return;
        }
        model_.set_connections(connections->value.connections);
        model_.set_sessions(sessions->value.sessions);
        const api::DaemonStats& daemon = connections->value.daemon;
        view_.daemon =
            "cmsshd " + daemon.version + ", up " + duration_text(daemon.uptime_s) + ", " + bytes_text(daemon.rss_bytes);
    }

    void take_sample() {
        if (!stream_.connected() && !stream_.try_next(Clock::now() + kAnswer)) {
            next_sample_ = Clock::now() + kSample;
            return;
        }
        ask();
        model_.sample();
        next_sample_ = Clock::now() + kSample;
    }

    void lose_daemon() {
        stream_.close();
        view_.daemon = "the daemon is gone, waiting for the next one";
        next_sample_ = Clock::now() + kSample;
    }

    // false: the terminal is gone.
    bool read_keys() {
        bool some = false;
        for (KeyPress press = screen_.read_key(); press.key != Key::None; press = screen_.read_key()) {
            some = true;
            on_key(press);
        }
        return some || ::isatty(STDIN_FILENO) != 0;
    }

    void on_key(KeyPress press) {
        view_.note.clear();
        if (std::exchange(view_.help, false)) {
            return;
        }
        if (view_.question) {
            view_.question = false;
            if (press.character == 'y' || press.character == 'Y') {
                kill();
            } else {
                view_.note = "not killed";
            }
            return;
        }
        switch (press.key) {
            case Key::Up:
                return model_.move(-1);
            case Key::Down:
                return model_.move(1);
            case Key::PageUp:
                return model_.move(-kPage);
            case Key::PageDown:
                return model_.move(kPage);
            case Key::First:
                return model_.move(-static_cast<int>(model_.sessions().size() + model_.connections().size()));
            case Key::Last:
                return model_.move(static_cast<int>(model_.sessions().size() + model_.connections().size()));
            case Key::Tab:
                return model_.switch_pane();
            case Key::Enter:
                return attach();
            case Key::Other:
                return on_letter(press.character);
            case Key::None:
                return;
        }
    }

    void on_letter(int letter) {
        switch (letter) {
            case 'a':
                return attach();
            case 'l':
                return follow();
            case 'k':
                return ask_to_kill();
            case 'r':
                return reconnect();
            case '?':
            case 'h':
                view_.help = true;
                return;
            case 'q':
                quit_ = true;
                return;
            default:
                view_.note = "? shows the keys";
                return;
        }
    }

    // nullptr, and said so: none is selected.
    const api::Session* selected_session() {
        const api::Session* session = model_.session();
        if (session == nullptr) {
            view_.note = model_.sessions().empty() ? "there is no session" : "select a session first: Tab";
        }
        return session;
    }

    void attach() {
        if (const api::Session* session = selected_session()) {
            run_verb({"attach", session->id}, "");
        }
    }

    void follow() {
        if (const api::Session* session = selected_session()) {
            run_verb({"logs", "-f", session->id}, "the session has ended");
        }
    }

    void ask_to_kill() {
        if (const api::Session* session = selected_session()) {
            kill_ = session->id;
            view_.note = "kill " + session->id + (session->name == session->id ? "" : " (" + session->name + ")") +
                         ": " + command_text(session->command) + " ? y/n";
            view_.question = true;
        }
    }

    void kill() {
        if (!stream_.connected()) {
            view_.note = "not killed: there is no daemon";
            return;
        }
        // What comes of it is seen in the list.
        stream_.client().notify("kill", {{"session", kill_}});
        view_.note = kill_ + ": is being killed";
    }

    void reconnect() {
        const api::Connection* connection = model_.connection();
        if (connection == nullptr) {
            view_.note = "there is no connection to make again";
            return;
        }
        const std::string key = connection->server.key;
        const auto ctx = ctx_of(*connection);
        if (!ctx) {
            view_.note = for_typing(global_, "no context leads to " + key + ": cmctl connect does it by name");
            return;
        }
        if (run_verb({"connect", "-q", *ctx}, "")) {
            view_.note = key + ": connected";
        }
    }

    // A name that leads to it: of a session there, or as `contexts` says.
    std::optional<std::string> ctx_of(const api::Connection& connection) {
        for (const api::Session& session : model_.sessions()) {
            if (session.server.key == connection.server.key) {
                return session.ctx;
            }
        }
        if (stream_.connected()) {
            const auto known =
                call<api::ContextsResult>(stream_.client(), "contexts", Json::object(), Clock::now() + kAnswer);
            if (const auto* reply = std::get_if<Reply<api::ContextsResult>>(&known)) {
                for (const api::Context& context : reply->value.contexts) {
                    if (context.server && context.server->key == connection.server.key) {
                        return context.name;
                    }
                }
            }
        }
        const std::string destination =
            connection.server.user + "@" + connection.server.host + ":" + std::to_string(connection.server.port);
        return connection.server.key == destination ? std::optional(destination) : std::nullopt;
    }

    // On the terminal in place of us. What it said is left there for as long as a person wants to read it, where it
    // failed or its end is news. False: it failed.
    bool run_verb(const std::vector<std::string>& words, const std::string& news) {
        screen_.suspend();
        const int code = run_own_verb(global_, words);
        if (code < 0) {
            std::fputs("cmctl: top: no other process could be started\n", stderr);
        }
        const bool left = code == exit_code::kInterrupted || (code == exit_code::kOk && news.empty());
        if (!left) {
            std::fprintf(stderr, "\n%s%sEnter goes back to top\n", code == exit_code::kOk ? news.c_str() : "",
                         code == exit_code::kOk ? ". " : "");
            wait_for_enter();
        }
        screen_.resume();
        next_sample_ = {};
        return code == exit_code::kOk;
    }

    static void wait_for_enter() {
        char byte = 0;
        while (byte != '\n' && !interrupted() && ::read(STDIN_FILENO, &byte, 1) == 1) {
        }
    }

    const GlobalOptions& global_;
    CursesScreen& screen_;
    EventStream stream_;
    TopModel model_;
    TopView view_;
    std::string kill_;
    Instant next_sample_{};
    Instant asked_{};
    std::optional<Instant> ask_at_;  // some event came
    bool quit_ = false;
};

}  // namespace

int top(const GlobalOptions& global) {
    if (global.json || !on_terminal()) {
        std::fputs(global.json ? "cmctl: top: --json is for what prints a result\n"
                               : "cmctl: top: standard input and output must be a terminal\n",
                   stderr);
        print_note(global, "hint: cmctl stats, cmctl list --watch and cmctl events need none");
        return exit_code::kUsage;
    }
    guard_terminal();
    catch_interrupts();
    // Before the screen is taken: a daemon that has to be started may have something to say.
    if (const auto connected = RpcClient::connect(global, deadline_of(global));
        const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    std::optional<CallError> ended;
    {
        auto opened = CursesScreen::open(use_color(global));
        if (const auto* why = std::get_if<std::string>(&opened)) {
            print_note(global,
                       "cmctl: top: " + printable(*why) + "\nhint: TERM=xterm cmctl top, or cmctl list --watch");
            return exit_code::kFailed;
        }
        ended = Top(global, *std::get<std::unique_ptr<CursesScreen>>(opened)).run();
    }
    return ended ? print_error(global, *ended) : exit_code::kOk;
}

}  // namespace cmssh::client
