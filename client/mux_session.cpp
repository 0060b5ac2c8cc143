#include "client/mux_session.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "client/interrupt.hpp"
#include "daemon/base/control_socket.hpp"
#include "daemon/base/fd_passing.hpp"

namespace cmssh::client {
namespace {

using Deadline = std::chrono::steady_clock::time_point;

constexpr std::uint32_t kAliveRequest = 1;
constexpr std::uint32_t kSessionRequest = 2;

Error master_lost(const std::string& what) {
    return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master " + what};
}

Result<void> wait_for(int fd, short events, Deadline deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd waited{.fd = fd, .events = events, .revents = 0};
        const int ready = ::poll(&waited, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30)));
        if (ready > 0) {
            return {};
        }
        if (interrupted()) {
            return Error{.kind = ErrorKind::Cancelled, .message = "interrupted"};
        }
        if (ready == 0) {
            return Error{.kind = ErrorKind::Timeout, .message = "the server opened no channel in time"};
        }
        if (errno != EINTR) {
            return master_lost("can't be waited for");
        }
    }
}

Result<void> send_all(int fd, std::string_view bytes, Deadline deadline) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        } else if (errno == EAGAIN) {
            if (auto waited = wait_for(fd, POLLOUT, deadline); !waited) {
                return waited;
            }
        } else if (errno != EINTR) {
            return master_lost("closed its control connection");
        }
    }
    return {};
}

// false: end of file.
bool feed(int fd, mux::PacketReader& reader) {
    std::array<char, 4096> bytes{};
    const ssize_t count = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count > 0) {
        reader.feed(std::string_view(bytes.data(), static_cast<std::size_t>(count)));
        return true;
    }
    return count < 0 && (errno == EAGAIN || errno == EINTR);
}

Result<mux::Reply> next_reply(int fd, mux::PacketReader& reader, Deadline deadline) {
    for (;;) {
        auto packet = reader.next();
        if (!packet) {
            return std::move(packet).error();
        }
        if (*packet) {
            return mux::parse_reply(**packet);
        }
        if (auto waited = wait_for(fd, POLLIN, deadline); !waited) {
            return std::move(waited).error();
        }
        if (!feed(fd, reader)) {
            return master_lost("closed its control connection");
        }
    }
}

Result<pid_t> ask_pid(int fd, mux::PacketReader& reader, Deadline deadline) {
    if (auto sent = send_all(fd, mux::hello() + mux::alive_check(kAliveRequest), deadline); !sent) {
        return std::move(sent).error();
    }
    auto hello = next_reply(fd, reader, deadline);
    if (!hello) {
        return std::move(hello).error();
    }
    const auto* version = std::get_if<mux::Hello>(&*hello);
    if (version == nullptr || version->version != mux::kVersion) {
        return master_lost("speaks another version of the mux protocol");
    }
    auto alive = next_reply(fd, reader, deadline);
    if (!alive) {
        return std::move(alive).error();
    }
    const auto* master = std::get_if<mux::Alive>(&*alive);
    if (master == nullptr) {
        return master_lost("gave a wrong answer to an alive check");
    }
    return static_cast<pid_t>(master->pid);
}

}  // namespace

Result<MuxSession> MuxSession::open(const std::string& control_path, const mux::NewSession& session,
                                    std::array<int, 3> descriptors, Deadline deadline) {
    auto socket = open_control_socket(control_path);
    if (socket.state == ControlSocketState::Refused) {
        return Error{.kind = ErrorKind::MasterLost, .message = socket.problem};
    }
    if (socket.state != ControlSocketState::Live) {
        return master_lost("does not listen on its control socket");
    }
    MuxSession opened(std::move(socket.fd), 0);
    const int fd = opened.fd();
    // The pid first: it is asked for on the same connection, and costs no trip to the server.
    const auto master = ask_pid(fd, opened.reader_, deadline);
    if (!master) {
        return master.error();
    }
    opened.master_ = *master;
    const std::string packet = mux::new_session(kSessionRequest, session);
    if (packet.size() > mux::kMaxPacket) {
        return Error{.kind = ErrorKind::Limit, .message = "the command line is too long for ssh"};
    }
    if (auto sent = send_all(fd, packet, deadline); !sent) {
        return std::move(sent).error();
    }
    // Until it has the third descriptor the master serves nobody else (mux.c reads them with poll(-1)).
    for (const int descriptor : descriptors) {
        for (;;) {
            const auto failure = send_descriptor(fd, descriptor);
            if (!failure) {
                break;
            }
            if (failure != std::errc::operation_would_block) {
                return master_lost("did not take a session's descriptors: " + failure.message());
            }
            if (auto waited = wait_for(fd, POLLOUT, deadline); !waited) {
                return std::move(waited).error();
            }
        }
    }
    auto reply = next_reply(fd, opened.reader_, deadline);
    if (!reply) {
        return std::move(reply).error();
    }
    if (const auto* refusal = std::get_if<mux::Refused>(&*reply)) {
        return Error{.kind = ErrorKind::ChannelRefused,
                     .message = "the server refused another channel on this connection: " + refusal->reason,
                     .hint = "raise MaxSessions in the server's sshd_config, or lower pool.max_channels"};
    }
    if (std::get_if<mux::SessionOpened>(&*reply) == nullptr) {
        return master_lost("gave a wrong answer to a session request");
    }
    return opened;
}

void MuxSession::receive() {
    const bool more = feed(fd_.get(), reader_);
    for (;;) {
        auto packet = reader_.next();
        if (!packet || !*packet) {
            ended_ = ended_ || !more || !packet;
            return;
        }
        const auto reply = mux::parse_reply(**packet);
        if (!reply) {
            continue;
        }
        if (const auto* exit = std::get_if<mux::ExitMessage>(&*reply)) {
            exit_status_ = static_cast<int>(exit->exit_value);
        } else if (std::holds_alternative<mux::TtyAllocFail>(*reply)) {
            no_terminal_ = true;
        }
    }
}

bool MuxSession::master_answers(const std::string& control_path, Deadline deadline) const {
    const auto socket = open_control_socket(control_path);
    if (socket.state != ControlSocketState::Live) {
        return false;
    }
    mux::PacketReader reader;
    const auto master = ask_pid(socket.fd.get(), reader, deadline);
    return master && *master == master_;
}

void MuxSession::window_changed() const {
    if (master_ > 1) {
        ::kill(master_, SIGWINCH);
    }
}

}  // namespace cmssh::client
