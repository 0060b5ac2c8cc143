#include "daemon/session/remote_exec.hpp"

#include <signal.h>

#include <asio/experimental/awaitable_operators.hpp>

#include <algorithm>

#include "daemon/base/log.hpp"
#include "daemon/base/random.hpp"
#include "protocol/base64.hpp"
#include "protocol/names.hpp"
#include "protocol/remote_command.hpp"
#include "protocol/tmux_control.hpp"
#include "protocol/utf8.hpp"

namespace cmssh {
namespace {

// The server confirms a channel before it starts anything on it.
constexpr Duration kOpenDeadline = std::chrono::seconds(30);
constexpr Duration kSignalDeadline = std::chrono::seconds(15);
// Between SIGTERM and SIGKILL, and between that and giving up: signal_exec_script() may have to wait for the program.
constexpr Duration kEndDeadline = std::chrono::seconds(5);
constexpr Duration kCheckDeadline = std::chrono::seconds(2);
constexpr int kSignalled = 128;
constexpr int kLastSignal = 31;
constexpr int kEndedWithoutStatus = 129;

Error invalid(std::string message) {
    return Error{.kind = ErrorKind::InvalidParams, .message = std::move(message)};
}

bool holds_nul(std::string_view text) {
    return text.find('\0') != std::string_view::npos;
}

Result<void> check_words(const api::ExecParams& params) {
    if (std::any_of(params.command.begin(), params.command.end(), holds_nul)) {
        return invalid("params.command holds a NUL byte");
    }
    if (params.cwd && holds_nul(*params.cwd)) {
        return invalid("params.cwd holds a NUL byte");
    }
    for (const auto& [name, value] : params.env) {
        if (!valid_env_name(name)) {
            return invalid("params.env: " + printable(name) + " is not a variable's name");
        }
        if (holds_nul(value)) {
            return invalid("params.env." + name + " holds a NUL byte");
        }
        if (name.size() + 1 + value.size() > kMaxCommandLine) {
            return Error{.kind = ErrorKind::Limit,
                         .message = "params.env." + name + " is too long",
                         .hint = "put long input into a file on the server, or send it as stdin"};
        }
    }
    return {};
}

Result<std::string> read_input(api::ExecParams& params) {
    std::string input = std::move(params.standard_input).value_or("");
    if (params.stdin_encoding == api::Encoding::Base64) {
        auto decoded = base64_decode(input);
        if (!decoded) {
            return invalid("params.stdin is not valid base64");
        }
        input = std::move(*decoded);
    }
    if (input.size() > RemoteExec::kMaxInput) {
        return Error{.kind = ErrorKind::Limit,
                     .message = "params.stdin: " + std::to_string(input.size()) + " bytes are more than 4 MiB",
                     .hint = "cmctl exec passes input of any length"};
    }
    return input;
}

// What was cut in the middle of a character ends before it.
void drop_partial_character(std::string& text) {
    constexpr std::size_t kLongest = 4;
    for (std::size_t size = 1; size < kLongest && size <= text.size(); ++size) {
        const auto byte = static_cast<unsigned char>(text[text.size() - size]);
        if ((byte & 0xc0) == 0x80) {
            continue;
        }
        if (byte >= 0x80 && !utf8::first_character(std::string_view(text).substr(text.size() - size)).valid) {
            text.resize(text.size() - size);
        }
        return;
    }
}

}  // namespace

struct RemoteExec::Run {
    explicit Run(Clock& clock) : changed(clock) {}

    std::string mark;
    Connection::OpenChannel open;
    std::string input;
    std::string output;
    std::string errors;
    bool truncated = false;
    bool over = false;  // both streams and the session have ended
    std::optional<int> status;
    Event changed;

    asio::awaitable<void> collect(asio::awaitable<std::string> (Channel::*read)(), std::string& text) {
        for (;;) {
            const std::string bytes = co_await (*open.channel.*read)();
            if (bytes.empty()) {
                co_return;
            }
            const std::size_t room = kMaxOutput - text.size();
            truncated = truncated || bytes.size() > room;
            text.append(bytes, 0, room);
        }
    }
};

RemoteExec::RemoteExec(asio::any_io_executor executor, Clock& clock, const Config& config, Sessions& sessions,
                       Leases& leases)
    : clock_(clock), config_(config), sessions_(sessions), leases_(leases), tasks_(std::move(executor), clock) {
    leases_.set_on_abandoned([this](std::string id, ConnectionUse connection, Connection::Lease lease) {
        if (!stopping_) {
            const std::string name = connection->key_text();
            tasks_.spawn(name, hang_up(std::move(id), std::move(connection), std::move(lease)));
        }
    });
}

asio::awaitable<Result<api::ExecResult>> RemoteExec::exec(api::ExecParams params, Caller caller) {
    if (auto checked = check_words(params); !checked) {
        co_return std::move(checked).error();
    }
    auto input = read_input(params);
    if (!input) {
        co_return std::move(input).error();
    }
    const auto run = std::make_shared<Run>(clock_);
    run->mark = make_lease_id(random_bits());
    const auto kind = params.cwd || !params.env.empty() ? ExecInput::SetupFirst : ExecInput::Plain;
    std::string command = exec_command(run->mark, params.command, kind);
    if (command.size() > kMaxCommandLine) {
        co_return Error{.kind = ErrorKind::Limit,
                        .message = "params.command is too long",
                        .hint = "give long input as stdin, or put it into a file on the server"};
    }
    if (kind == ExecInput::SetupFirst) {
        run->input = exec_setup_line(run->mark, params.cwd, params.env);
    }
    run->input += *input;

    Instant deadline = Instant::max();
    if (params.timeout_ms) {
        constexpr std::int64_t kLongest = std::chrono::milliseconds(std::chrono::hours(24 * 365)).count();
        deadline = clock_.now() + std::chrono::milliseconds(std::min(*params.timeout_ms, kLongest));
    }
    auto found = co_await sessions_.find_connection(params.ctx);
    if (!found) {
        co_return std::move(found).error();
    }
    Connection& connection = *found->connection;
    const auto told = [ctx = found->context.name, server = connection.key_text()](Error error) {
        error.ctx = ctx;
        error.server = server;
        return error;
    };
    auto want = want_of(caller, found->context.name, connection.key_text(), params.auth_sock, params.interactive);
    ChannelBudget::Patience patience;
    patience.deadline = std::min(deadline, clock_.now() + config_.pool.connect_timeout + Leases::kQueueDeadline);
    patience.gone_event = caller.gone_event;
    patience.gone = caller.gone;
    auto lease = co_await connection.lease(want, patience);
    if (!lease) {
        co_return told(std::move(lease).error());
    }
    auto open = co_await this->open(connection, *lease, std::move(command), std::move(want), patience);
    if (!open) {
        co_return told(std::move(open).error());
    }
    run->open = std::move(*open);
    runs_.insert(run);
    tasks_.spawn(connection.key_text(), feed(run));
    tasks_.spawn(connection.key_text(), collect(run));
    co_await wait(run, deadline, caller);
    if (stopping_) {
        run->open.channel->close();
        co_return told({.kind = ErrorKind::ShuttingDown, .message = "the daemon is stopping"});
    }
    if (!run->over) {
        co_await end_program(run, connection);
        if (patience.is_gone()) {
            co_return told({.kind = ErrorKind::Cancelled, .message = "the caller is gone"});
        }
        co_return told({.kind = ErrorKind::Timeout,
                        .message = run->over ? "the program was ended after timeout_ms"
                                             : "the program could not be ended after timeout_ms"});
    }
    if (!run->status) {
        const auto alive = co_await run->open.master->check(clock_.now() + kCheckDeadline);
        if (!alive) {
            co_return told({.kind = ErrorKind::MasterLost, .message = "the connection was lost while the program ran"});
        }
    }
    if (params.cwd && run->status == 1 && run->errors.ends_with(bad_cwd_line(run->mark) + '\n')) {
        co_return told({.kind = ErrorKind::BadCwd, .message = "can't enter the directory " + printable(*params.cwd)});
    }
    api::ExecResult result;
    result.exit_code = run->status.value_or(kEndedWithoutStatus);
    if (run->status && *run->status > kSignalled && *run->status <= kSignalled + kLastSignal) {
        result.signal = signal_name(*run->status - kSignalled);
    }
    result.truncated = run->truncated;
    result.standard_output = std::move(run->output);
    result.standard_error = std::move(run->errors);
    if (result.truncated) {
        drop_partial_character(result.standard_output);
        drop_partial_character(result.standard_error);
    }
    if (!tmux::valid_utf8(result.standard_output) || !tmux::valid_utf8(result.standard_error)) {
        result.encoding = api::Encoding::Base64;
        result.standard_output = base64_encode(result.standard_output);
        result.standard_error = base64_encode(result.standard_error);
    }
    co_return result;
}

asio::awaitable<Result<Connection::OpenChannel>> RemoteExec::open(Connection& connection, Connection::Lease& lease,
                                                                  std::string command, Connection::Want want,
                                                                  ChannelBudget::Patience patience) {
    for (;;) {
        auto open = co_await connection.open_channel(lease, command, clock_.now() + kOpenDeadline);
        if (open || open.error().kind != ErrorKind::ChannelRefused) {
            co_return std::move(open);
        }
        auto again = co_await connection.lease_again(std::move(lease), want, patience);
        if (!again) {
            co_return std::move(again).error();
        }
        lease = std::move(*again);
    }
}

asio::awaitable<void> RemoteExec::feed(RunPtr run) {
    std::string_view left = run->input;
    while (!left.empty() && !run->over) {
        left.remove_prefix(run->open.channel->try_write(left));
        if (left.empty()) {
            break;
        }
        // At the end of the session the wait ends at once each time, until collect() has seen the end as well.
        const bool writable = co_await run->open.channel->wait_writable();
        if (!writable) {
            co_return;
        }
    }
    if (!run->over) {
        run->open.channel->close_input();
    }
}

asio::awaitable<void> RemoteExec::collect(RunPtr run) {
    using asio::experimental::awaitable_operators::operator&&;
    co_await (run->collect(&Channel::read_output, run->output) && run->collect(&Channel::read_error, run->errors));
    run->status = co_await run->open.channel->exit_status();
    run->over = true;
    run->open.channel->close();
    runs_.erase(run);
    run->changed.notify_all();
}

asio::awaitable<void> RemoteExec::wait(RunPtr run, Instant deadline, const Caller& caller) {
    while (!run->over && !stopping_ && !*caller.gone && clock_.now() < deadline) {
        co_await Event::wait_for_either(run->changed, *caller.gone_event, deadline);
    }
}

asio::awaitable<void> RemoteExec::end_program(RunPtr run, Connection& connection) {
    for (const int number : {SIGTERM, SIGKILL}) {
        const auto sent = co_await send_signal(connection, run->mark, number);
        if (!sent) {
            log_warn(connection.key_text(), "a program was not ended: " + sent.error().message);
        }
        const Instant deadline = clock_.now() + kEndDeadline;
        bool in_time = true;
        while (!run->over && !stopping_ && in_time) {
            in_time = co_await run->changed.wait_until(deadline);
        }
        if (run->over || stopping_) {
            break;
        }
    }
    run->open.channel->close();
}

asio::awaitable<Result<api::Empty>> RemoteExec::signal(api::LeaseSignalParams params, Caller caller) {
    const int number = signal_number(params.signal);
    if (number == 0) {
        co_return Error{.kind = ErrorKind::InvalidParams,
                        .message = "params.signal: " + printable(params.signal) + " is no signal",
                        .hint = "TERM, INT, KILL, … or a number"};
    }
    auto connection = leases_.connection_of(params.lease, caller);
    if (!connection) {
        co_return std::move(connection).error();
    }
    auto sent = co_await send_signal(**connection, std::move(params.lease), number);
    if (!sent) {
        Error error = std::move(sent).error();
        error.server = (*connection)->key_text();
        co_return error;
    }
    co_return api::Empty();
}

// Over tmux where it is there: that costs one round trip, and no channel where the program itself may have the last.
asio::awaitable<Result<void>> RemoteExec::send_signal(Connection& connection, std::string mark, int signal) {
    const std::string script = signal_exec_script(mark, signal);
    const Instant deadline = clock_.now() + kSignalDeadline;
    if (TmuxChannel* const tmux = connection.tmux()) {
        const auto sent = co_await tmux->request(tmux::run_script_command(script), deadline);
        if (sent) {
            co_return Result<void>();
        }
    }
    const auto ran = co_await connection.run(for_any_shell(script), deadline);
    if (!ran) {
        co_return ran.error();
    }
    co_return Result<void>();
}

asio::awaitable<void> RemoteExec::hang_up(std::string mark, ConnectionUse connection,
                                          [[maybe_unused]] Connection::Lease lease) {
    // Where the connection went with the client, there is no way to the program.
    if (!connection->has_master()) {
        co_return;
    }
    const auto sent = co_await send_signal(*connection, std::move(mark), SIGHUP);
    if (!sent) {
        log_warn(connection->key_text(), "a command was not hung up on: " + sent.error().message);
    }
}

void RemoteExec::request_stop() {
    stopping_ = true;
    for (const auto& run : runs_) {
        run->changed.notify_all();
    }
}

asio::awaitable<void> RemoteExec::shut_down() {
    for (const auto& run : runs_) {
        run->open.channel->close();
    }
    co_await tasks_.join_until(Instant::max());
}

}  // namespace cmssh
