#include "daemon/rpc/client_session.hpp"

#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "daemon/base/log.hpp"
#include "daemon/base/memory.hpp"
#include "daemon/base/read_available.hpp"

namespace cmssh {
namespace {

constexpr int kMaxInFlight = 128;
// Requests are not read while more than this is unwritten, so a client that never reads holds at most this and its
// requests' own replies.
constexpr std::size_t kMaxOutgoing = 4 * 1024 * 1024;
// What each may hold of either kind while all together hold too much.
constexpr std::size_t kShareOfFull = 64 * 1024;

// As JSON a message takes up to forty times its size in small pieces, which malloc would keep.
constexpr std::size_t kLargeMessage = 256 * 1024;

JsonText text_of(const Json& json) {
    return {dump_json(json)};
}

}  // namespace

ClientSession::ClientSession(asio::local::stream_protocol::socket socket, Clock& clock, RequestHandler& handler,
                             RpcCounters& counters, ClientMemory& memory, std::size_t max_message)
    : socket_(std::move(socket)),
      handler_(handler),
      counters_(counters),
      memory_(memory),
      max_message_(max_message),
      reader_(max_message),
      gone_event_(clock),
      changed_(clock),
      tasks_(socket_.get_executor(), clock) {
    socket_.non_blocking(true);
}

ClientSession::~ClientSession() {
    memory_.change(accounted_, 0);
}

asio::awaitable<void> ClientSession::run() {
    tasks_.spawn("client", write_loop());
    co_await read_loop();
    reading_ = false;
    changed_.notify_all();
    if (!gone_) {
        tasks_.spawn("client", watch_for_hangup());
    }
    co_await tasks_.join_until(Instant::max());
    handler_.client_gone(*this);
}

void ClientSession::stop_reading() {
    asio::error_code ignored;
    socket_.shutdown(asio::socket_base::shutdown_receive, ignored);
}

void ClientSession::hang_up() {
    if (gone_) {
        return;
    }
    gone_ = true;
    outgoing_.clear();
    account();
    asio::error_code ignored;
    socket_.close(ignored);
    gone_event_.notify_all();
    changed_.notify_all();
}

asio::awaitable<void> ClientSession::read_loop() {
    bool ended = false;
    while (!gone_) {
        auto text = reader_.next();
        if (!text) {
            counters_.errors += 1;
            send(text_of(make_error(nullptr, text.error())));
            co_return;
        }
        if (*text) {
            const std::size_t size = (*text)->size();
            ++in_flight_;
            in_flight_bytes_ += size;
            account();
            tasks_.spawn("client", serve(parse_message(**text), size));
            // Others have their turn between any two of its requests, however many came at once.
            co_await asio::post(socket_.get_executor(), asio::use_awaitable);
            while (!gone_ && over_its_share()) {
                co_await changed_.wait();
            }
            continue;
        }
        if (ended) {
            co_return;
        }
        if (memory_.full() && reader_.buffered() > kShareOfFull) {
            counters_.errors += 1;
            send(text_of(make_error(
                nullptr, Error{.kind = ErrorKind::Limit,
                               .message = "the requests of all clients together are too large",
                               .hint = "fewer large requests at once; others have sent some and not ended them"})));
            co_return;
        }
        asio::error_code error;
        const std::string bytes = co_await read_available(socket_, error);
        if (error == asio::error::eof) {
            // A client may close its writing side and still read: nc -N does. What printf gave it has no line end.
            ended = true;
            reader_.feed("\n");
            continue;
        }
        if (error) {
            hang_up();
            co_return;
        }
        reader_.feed(bytes);
        account();
    }
}

// It gets on by itself: by the end of a request of its own, or when it reads replies.
bool ClientSession::over_its_share() const {
    return in_flight_ >= kMaxInFlight || outgoing_.size() > (memory_.full() ? kShareOfFull : kMaxOutgoing) ||
           in_flight_bytes_ > (memory_.full() ? kShareOfFull : 2 * max_message_);
}

void ClientSession::account() {
    const std::size_t now = reader_.buffered() + in_flight_bytes_ + outgoing_.size();
    memory_.change(accounted_, now);
    accounted_ = now;
}

asio::awaitable<void> ClientSession::serve(Message message, std::size_t size) {
    JsonText replies;
    for (auto& incoming : message.items) {
        auto reply = co_await serve_one(std::move(incoming));
        if (reply && replies.text.empty()) {
            replies = std::move(*reply);
        } else if (reply) {
            replies.text.append(",").append(reply->text);
        }
    }
    if (message.batch && !replies.text.empty()) {
        replies.text = '[' + replies.text + ']';
    }
    if (!replies.text.empty()) {
        send(std::move(replies));
    }
    if (size >= kLargeMessage) {
        message = {};
        give_memory_back();
    }
    --in_flight_;
    in_flight_bytes_ -= size;
    account();
    changed_.notify_all();
}

asio::awaitable<std::optional<JsonText>> ClientSession::serve_one(Incoming incoming) {
    ++counters_.requests;
    if (const auto* bad = std::get_if<BadRequest>(&incoming)) {
        ++counters_.errors;
        co_return text_of(make_error(bad->id, bad->error));
    }
    auto& request = std::get<Request>(incoming);
    const std::optional<Json> id = request.id;
    // Inside try there is no co_return: g++ 12 mistreats it.
    Result<JsonText> result = Error{.kind = ErrorKind::Internal, .message = "the request was not carried out"};
    try {
        result = co_await handler_.handle(std::move(request), *this);
    } catch (const std::exception& failure) {
        log_error("rpc", std::string("a request ended by an exception: ") + failure.what());
        result = Error{.kind = ErrorKind::Internal, .message = "internal error", .hint = "look into the daemon's log"};
    }
    if (!result) {
        ++counters_.errors;
    }
    if (!id) {
        co_return std::nullopt;
    }
    co_return result ? result_text(*id, std::move(*result)) : text_of(make_error(*id, result.error()));
}

asio::awaitable<void> ClientSession::watch_for_hangup() {
    pollfd now{.fd = socket_.native_handle(), .events = 0, .revents = 0};
    if (::poll(&now, 1, 0) == 1 && (now.revents & (POLLHUP | POLLERR)) != 0) {
        hang_up();
        co_return;
    }
    asio::error_code error;
    co_await socket_.async_wait(asio::socket_base::wait_error, asio::redirect_error(asio::use_awaitable, error));
    hang_up();
}

void ClientSession::notify(std::string_view method, const JsonText& params) {
    if (outgoing_.size() <= kMaxOutgoing) {
        send(notification_text(method, params));
    }
}

void ClientSession::push(const JsonText& params) {
    queue(notification_text("event", params));
}

void ClientSession::keep(bool on) {
    kept_ += on ? 1 : -1;
    changed_.notify_all();
}

void ClientSession::send(JsonText json) {
    queue(std::move(json));
    flush();
}

void ClientSession::queue(JsonText json) {
    if (gone_) {
        return;
    }
    std::string bytes = frame(std::move(json.text), reader_.framing());
    if (outgoing_.empty()) {
        outgoing_ = std::move(bytes);
    } else {
        outgoing_ += bytes;
    }
    account();
}

void ClientSession::flush() {
    if (backlog_ || outgoing_.empty()) {
        return;
    }
    // The common case without a trip through the loop. An error is seen there.
    (void)write_some();
    backlog_ = !outgoing_.empty();
    if (backlog_) {
        changed_.notify_all();
    }
}

bool ClientSession::write_some() {
    const ssize_t sent =
        ::send(socket_.native_handle(), outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    taken_ += static_cast<std::uint64_t>(sent);
    if (sent == static_cast<ssize_t>(outgoing_.size())) {
        std::string().swap(outgoing_);  // with its memory: a reply may have been large
    } else {
        outgoing_.erase(0, static_cast<std::size_t>(sent));
    }
    account();
    return true;
}

asio::awaitable<void> ClientSession::write_loop() {
    while (!gone_) {
        if (backlog_) {
            asio::error_code error;
            co_await socket_.async_wait(asio::socket_base::wait_write,
                                        asio::redirect_error(asio::use_awaitable, error));
            if (error || gone_) {
                break;
            }
            if (!write_some()) {
                break;
            }
            backlog_ = !outgoing_.empty();
            changed_.notify_all();
            continue;
        }
        if (!reading_ && in_flight_ == 0 && kept_ == 0) {
            break;
        }
        co_await changed_.wait();
    }
    hang_up();
}

}  // namespace cmssh
