#include "daemon/tmux/tmux_channel.hpp"

#include <algorithm>

#include "daemon/base/log.hpp"
#include "daemon/base/random.hpp"
#include "daemon/base/timeout.hpp"
#include "daemon/tmux/tmux_scripts.hpp"
#include "protocol/names.hpp"

namespace cmssh {
namespace {

constexpr std::size_t kMaxGreeting = 256 * 1024;
constexpr std::size_t kKeptDiagnostics = 2048;
constexpr std::size_t kMaxUnwritten = 64 * 1024 * 1024;
constexpr tmux::Version kOldestTmux{3, 2};

std::string make_token() {
    return "cmssh-" + std::to_string(random_bits()) + std::to_string(random_bits());
}

std::string with_first_line(std::string message, const std::string& diagnostics) {
    const auto line = first_line(diagnostics);
    if (!line.empty()) {
        message += ": " + printable(line);
    }
    return message;
}

Error channel_closed(const std::string& diagnostics) {
    return Error{.kind = ErrorKind::MasterLost,
                 .message = with_first_line("the connection to the server's tmux was lost", diagnostics)};
}

Error not_started(const std::string& diagnostics) {
    return Error{
        .kind = ErrorKind::TmuxFailed,
        .message = with_first_line("tmux on the server did not start", diagnostics),
        .hint = "start it by hand on the server, as sessions.tmux and sessions.tmux_socket name it, to see why"};
}

Error not_in_time() {
    return Error{.kind = ErrorKind::Timeout, .message = "the server's tmux did not answer in time"};
}

std::string one_line(const std::vector<std::string>& lines) {
    std::string text;
    for (const auto& line : lines) {
        text += text.empty() ? line : ' ' + line;
    }
    return text;
}

bool tmux_is_ending(std::string_view text) {
    return text.find("server exited") != std::string_view::npos ||
           text.find("no server running") != std::string_view::npos ||
           text.find("lost server") != std::string_view::npos;
}

bool has_row(const tmux::Block& block) {
    return std::any_of(block.lines.begin(), block.lines.end(),
                       [](const std::string& line) { return line.starts_with(tmux::kRowMark); });
}

}  // namespace

TmuxChannel::TmuxChannel(asio::any_io_executor executor, Clock& clock, std::shared_ptr<Master> master,
                         std::unique_ptr<Channel> channel)
    : executor_(executor),
      clock_(clock),
      master_(std::move(master)),
      channel_(std::move(channel)),
      start_answered_(clock),
      write_wanted_(clock),
      tasks_(std::move(executor), clock) {}

TmuxChannel::~TmuxChannel() = default;

asio::awaitable<Result<std::unique_ptr<TmuxChannel>>> TmuxChannel::open(asio::any_io_executor executor, Clock& clock,
                                                                        std::shared_ptr<Master> master,
                                                                        const SessionsConfig& config,
                                                                        tmux::Ownership ownership, Instant deadline) {
    // A tmux server that is just ending refuses newcomers for a moment.
    constexpr int kTries = 5;
    constexpr Duration kPause = std::chrono::milliseconds(200);
    for (int attempt = 1;; ++attempt) {
        const std::string token = make_token();
        auto opened = co_await master->open_channel(tmux::open_command(config, ownership, token), deadline);
        if (!opened) {
            co_return std::move(opened).error();
        }
        std::unique_ptr<TmuxChannel> channel(new TmuxChannel(executor, clock, master, std::move(*opened)));
        channel->tasks_.spawn("tmux errors", channel->read_errors());
        auto greeted = co_await channel->greet(token, deadline);
        if (greeted) {
            channel->tasks_.spawn("tmux replies", channel->read_replies());
            channel->tasks_.spawn("tmux requests", channel->write_queue());
            greeted = co_await channel->wait_for_start(deadline);
            if (greeted) {
                channel->post(tmux::setup_commands(config, ownership, random_bits()));
                co_return std::move(channel);
            }
        }
        const bool ending = tmux_is_ending(greeted.error().message);
        channel->close();
        co_await channel->joined();
        if (!ending || attempt == kTries || clock.now() + kPause >= deadline) {
            Error error = std::move(greeted).error();
            if (error.kind == ErrorKind::MasterLost && !master->dead()) {
                // The channel ended: where its master answers, it was the server that ended it.
                const auto answers = co_await master->check(deadline);
                error = answers ? not_started(channel->diagnostics_) : std::move(error);
            }
            if (error.kind == ErrorKind::TmuxMissing && config.tmux != "tmux") {
                error.message = "there is no " + printable(config.tmux) + " on the server, which sessions.tmux names";
            }
            co_return error;
        }
        const auto timer = clock.make_timer();
        co_await timer->wait_until(clock.now() + kPause);
    }
}

asio::awaitable<Result<void>> TmuxChannel::wait_for_start(Instant deadline) {
    while (!started_ && open_) {
        const bool in_time = co_await start_answered_.wait_until(deadline);
        if (!in_time) {
            co_return not_in_time();
        }
    }
    if (!started_) {
        co_return channel_closed(diagnostics_);
    }
    co_return Result<void>();
}

asio::awaitable<Result<void>> TmuxChannel::greet(std::string token, Instant deadline) {
    auto greeting = co_await with_deadline(clock_, deadline, read_greeting(std::move(token)));
    if (!greeting) {
        co_return Error{.kind = ErrorKind::Timeout, .message = "the server's tmux did not start in time"};
    }
    co_return std::move(*greeting);
}

asio::awaitable<Result<void>> TmuxChannel::read_greeting(std::string token) {
    std::string text;
    for (;;) {
        const std::string bytes = co_await channel_->read_output();
        if (bytes.empty()) {
            co_return channel_closed(diagnostics_);
        }
        // The last piece may hold the control stream's first one.
        if (text.size() > kMaxGreeting) {
            co_return Error{.kind = ErrorKind::TmuxFailed,
                            .message = "the server's login shell prints without end",
                            .hint = "look at the server user's shell start-up files"};
        }
        text += bytes;
        // Whatever the rc files print stands before the token.
        const auto first = text.starts_with(token) ? 0 : text.find('\n' + token);
        if (first == std::string::npos) {
            continue;
        }
        std::string_view rest = std::string_view(text).substr(text.starts_with(token) ? 0 : first + 1);
        const auto line_end = rest.find('\n');
        if (line_end == std::string_view::npos) {
            continue;
        }
        std::string_view answer = rest.substr(token.size(), line_end - token.size());
        answer.remove_prefix(answer.starts_with(' ') ? 1 : 0);
        if (answer == "missing") {
            co_return Error{.kind = ErrorKind::TmuxMissing,
                            .message = "there is no tmux on the server",
                            .hint = "install tmux 3.2 or newer on the server, or set sessions.tmux"};
        }
        const auto version = tmux::parse_version(answer);
        if (version && *version < kOldestTmux) {
            co_return Error{.kind = ErrorKind::TmuxFailed,
                            .message = "the server's " + printable(answer) + " is too old",
                            .hint = "install tmux 3.2 or newer on the server, or set sessions.tmux"};
        }
        version_ = version.value_or(tmux::Version{});
        rest.remove_prefix(line_end + 1);
        const std::string boot_word = token + " boot ";
        if (rest.starts_with(boot_word)) {
            const auto boot_end = rest.find('\n');
            if (boot_end == std::string_view::npos) {
                continue;
            }
            life_.boot_id = rest.substr(boot_word.size(), boot_end - boot_word.size());
            rest.remove_prefix(boot_end + 1);
        }
        const auto home_end = rest.find('\n');
        if (home_end == std::string_view::npos) {
            continue;
        }
        const std::string home_word = token + " home ";
        if (rest.starts_with(home_word)) {
            remote_home_ = rest.substr(home_word.size(), home_end - home_word.size());
        }
        unread_ = rest.substr(home_end + 1);
        co_return Result<void>();
    }
}

asio::awaitable<void> TmuxChannel::read_replies() {
    std::string bytes = std::move(unread_);
    while (open_) {
        if (!bytes.empty()) {
            handle(bytes);
            if (!open_) {
                break;
            }
        }
        bytes = co_await channel_->read_output();
        if (bytes.empty()) {
            break;
        }
    }
    open_ = false;
    fail_pending();
    start_answered_.notify_all();
    write_wanted_.notify_all();
    channel_->close();
    if (!closing_ && listener_.on_closed) {
        listener_.on_closed();
    }
}

asio::awaitable<void> TmuxChannel::read_errors() {
    for (;;) {
        const std::string bytes = co_await channel_->read_error();
        if (bytes.empty()) {
            co_return;
        }
        keep_diagnostics(bytes);
    }
}

void TmuxChannel::keep_diagnostics(std::string_view text) {
    diagnostics_ += text;
    if (diagnostics_.size() > kKeptDiagnostics) {
        diagnostics_.erase(0, diagnostics_.size() - kKeptDiagnostics);
    }
}

void TmuxChannel::handle(std::string_view bytes) {
    auto events = parser_.feed(bytes);
    if (!events) {
        log_warn("tmux", events.error().message);
        open_ = false;
        return;
    }
    for (auto& event : *events) {
        if (auto* block = std::get_if<tmux::Block>(&event)) {
            handle_block(std::move(*block));
            continue;
        }
        const auto& notification = std::get<tmux::Notification>(event);
        if (notification.name == "exit") {
            keep_diagnostics(notification.rest);
        } else if (listener_.on_notification) {
            listener_.on_notification(notification);
        }
    }
}

void TmuxChannel::handle_block(tmux::Block block) {
    if (!block.ours) {
        // Of the start-up command, and of what the user's hooks do behind it.
        if (block.error) {
            keep_diagnostics(one_line(block.lines));
        } else if (auto life = tmux::parse_life(block.lines); life && !started_) {
            life_.tmux = *std::move(life);
            started_ = true;
            start_answered_.notify_all();
        }
        return;
    }
    if (pending_.empty()) {
        log_warn("tmux", "a reply that nobody asked for");
        open_ = false;
        return;
    }
    const auto pending = pending_.front();
    if (block.time <= tmux::kLatestTime) {
        clock_offset_.add(block.time, pending->sent_ms, clock_.wall_ms());
    }
    if (pending->answered) {
        // Of a command behind the one that was waited for; where it fails, none comes of those behind it.
        if (block.error || --pending->blocks_behind == 0) {
            pending_.pop_front();
        }
        return;
    }
    if (pending->group && !block.error && !has_row(block)) {
        return;  // of a command before the last one
    }
    pending->answered = true;
    if (block.error || pending->blocks_behind == 0) {
        pending_.pop_front();
    }
    if (block.error) {
        pending->reply =
            Error{.kind = ErrorKind::TmuxFailed, .message = "tmux on the server: " + printable(one_line(block.lines))};
    } else {
        pending->reply = std::move(block.lines);
    }
    pending->done.notify_all();
    if (pending->given_up && --overdue_ == 0 && listener_.on_answers_again) {
        listener_.on_answers_again();
    }
}

void TmuxChannel::fail_pending() {
    for (const auto& pending : pending_) {
        if (!pending->answered) {
            pending->reply = channel_closed(diagnostics_);
            pending->done.notify_all();
        }
    }
    pending_.clear();
    overdue_ = 0;
}

void TmuxChannel::send(std::string_view bytes) {
    if (unwritten_.empty()) {
        bytes.remove_prefix(channel_->try_write(bytes));
    }
    if (!bytes.empty()) {
        unwritten_ += bytes;
        write_wanted_.notify_all();
    }
}

asio::awaitable<void> TmuxChannel::write_queue() {
    while (open_) {
        if (unwritten_.empty()) {
            co_await write_wanted_.wait();
            continue;
        }
        const bool writable = co_await channel_->wait_writable();
        if (!writable) {
            co_return;
        }
        unwritten_.erase(0, channel_->try_write(unwritten_));
    }
}

std::vector<std::shared_ptr<TmuxChannel::Pending>> TmuxChannel::post(const std::vector<std::string>& lines) {
    std::vector<std::shared_ptr<Pending>> asked;
    std::string bytes;
    for (const auto& line : lines) {
        asked.push_back(std::make_shared<Pending>(clock_));
        pending_.push_back(asked.back());
        bytes += line;
        bytes += '\n';
    }
    send(bytes);
    return asked;
}

asio::awaitable<std::vector<TmuxChannel::Reply>> TmuxChannel::request_all(std::vector<std::string> lines,
                                                                          Instant deadline, int blocks_behind_first) {
    std::vector<Reply> replies;
    if (!takes_requests()) {
        replies.assign(lines.size(), Reply(channel_closed(diagnostics_)));
        co_return replies;
    }
    const auto asked = post(lines);
    asked.front()->blocks_behind = blocks_behind_first;
    for (const auto& pending : asked) {
        replies.push_back(co_await reply_to(pending, deadline));
    }
    co_return replies;
}

asio::awaitable<TmuxChannel::Reply> TmuxChannel::request_group(std::string line, Instant deadline) {
    co_return co_await request_group(std::move(line), deadline, std::vector<std::string>(), std::vector<std::string>());
}

asio::awaitable<TmuxChannel::Reply> TmuxChannel::request_group(std::string line, Instant deadline,
                                                               std::vector<std::string> ahead,
                                                               std::vector<std::string> behind) {
    if (!takes_requests()) {
        co_return channel_closed(diagnostics_);
    }
    std::vector<std::shared_ptr<Pending>> asked;
    std::string bytes;
    const auto add = [&](const std::string& command) {
        pending_.push_back(std::make_shared<Pending>(clock_));
        bytes += command;
        bytes += '\n';
    };
    for (const auto& command : ahead) {
        add(command);
        asked.push_back(pending_.back());
    }
    add(line);
    pending_.back()->group = true;
    asked.push_back(pending_.back());
    for (const auto& command : behind) {
        add(command);
    }
    send(bytes);
    Reply reply = std::vector<std::string>();
    for (const auto& pending : asked) {
        auto answer = co_await reply_to(pending, deadline);
        if (reply) {
            reply = std::move(answer);
        }
    }
    co_return reply;
}

bool TmuxChannel::takes_requests() const {
    return open_ && unwritten_.size() <= kMaxUnwritten;
}

asio::awaitable<TmuxChannel::Reply> TmuxChannel::reply_to(std::shared_ptr<Pending> pending, Instant deadline) {
    bool in_time = true;
    while (!pending->reply && in_time) {
        in_time = co_await pending->done.wait_until(deadline);
    }
    if (!pending->reply) {
        pending->given_up = true;
        ++overdue_;
        co_return not_in_time();
    }
    co_return std::move(*pending->reply);
}

asio::awaitable<TmuxChannel::Reply> TmuxChannel::request(std::string line, Instant deadline) {
    std::vector<std::string> lines;
    lines.push_back(std::move(line));
    auto replies = co_await request_all(std::move(lines), deadline);
    co_return std::move(replies.front());
}

asio::awaitable<Result<Duration>> TmuxChannel::round_trip(Instant deadline) {
    Clock& clock = clock_;  // the channel may be gone by the time of the answer
    const Instant begin = clock.now();
    const auto reply = co_await request("display-message -p cmssh", deadline);
    if (!reply) {
        co_return reply.error();
    }
    co_return clock.now() - begin;
}

void TmuxChannel::close() {
    closing_ = true;
    open_ = false;
    channel_->close();
    write_wanted_.notify_all();
}

asio::awaitable<void> TmuxChannel::joined() {
    co_await tasks_.join_until(Instant::max());
    fail_pending();
}

}  // namespace cmssh
