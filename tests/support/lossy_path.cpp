#include "tests/support/lossy_path.hpp"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace cmssh::test {
namespace {

sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    return address;
}

// What a listening socket has, those that it accepts have too.
void drop_packets(int socket, int percent) {
    const auto limit = static_cast<std::uint32_t>(static_cast<std::uint64_t>(percent) * UINT32_MAX / 100);
    std::array<sock_filter, 4> program{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, limit, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    }};
    if (percent == 100) {
        program[1] = BPF_JUMP(BPF_JMP | BPF_JA, 0, 0, 0);
    }
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    if (::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) != 0) {
        throw std::runtime_error("SO_ATTACH_FILTER");
    }
}

// False where the connection is over.
bool carry(int from, int to, std::string& waiting) {
    constexpr std::size_t kMostWaiting = 64 * 1024;
    std::array<char, 16 * 1024> bytes{};
    while (waiting.size() < kMostWaiting) {
        const ssize_t count = ::recv(from, bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (count < 0 && errno == EAGAIN) {
            break;
        }
        if (count <= 0) {
            return false;
        }
        waiting.append(bytes.data(), static_cast<std::size_t>(count));
    }
    while (!waiting.empty()) {
        const ssize_t count = ::send(to, waiting.data(), waiting.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0) {
            return errno == EAGAIN;
        }
        waiting.erase(0, static_cast<std::size_t>(count));
    }
    return true;
}

}  // namespace

LossyPath::LossyPath(int port)
    : server_port_(port),
      listening_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    if (::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        ::listen(listening_.get(), 64) != 0 ||
        ::getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        throw std::runtime_error("a lossy path cannot listen");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
}

LossyPath::~LossyPath() {
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof(one));
    thread_.join();
}

void LossyPath::lose(int percent) {
    const std::lock_guard lock(mutex_);
    percent_ = percent;
    drop_packets(listening_.get(), percent);
    for (const Connection& connection : connections_) {
        drop_packets(connection.client.get(), percent);
        drop_packets(connection.server.get(), percent);
    }
}

void LossyPath::reset() {
    const std::lock_guard lock(mutex_);
    for (const Connection& connection : connections_) {
        for (const int socket : {connection.client.get(), connection.server.get()}) {
            const linger at_once{.l_onoff = 1, .l_linger = 0};
            ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
            // The thread that carries for it finds it closed.
            ::shutdown(socket, SHUT_RD);
        }
    }
}

unsigned LossyPath::lost() {
    const std::lock_guard lock(mutex_);
    unsigned sum = 0;
    for (const Connection& connection : connections_) {
        for (const int socket : {connection.client.get(), connection.server.get()}) {
            std::array<std::uint32_t, SK_MEMINFO_VARS> facts{};
            socklen_t size = sizeof(facts);
            ::getsockopt(socket, SOL_SOCKET, SO_MEMINFO, facts.data(), &size);
            sum += facts[SK_MEMINFO_DROPS];
        }
    }
    return sum;
}

void LossyPath::take_one() {
    Connection connection;
    connection.client.reset(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    connection.server.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in server = loopback(server_port_);
    if (!connection.client ||
        ::connect(connection.server.get(), reinterpret_cast<const sockaddr*>(&server), sizeof(server)) != 0) {
        return;
    }
    ++accepted_;
    const std::lock_guard lock(mutex_);
    drop_packets(connection.client.get(), percent_);
    drop_packets(connection.server.get(), percent_);
    connection.there = {connection.client.get(), connection.server.get(), {}};
    connection.back = {connection.server.get(), connection.client.get(), {}};
    connections_.push_back(std::move(connection));
}

void LossyPath::run() {
    constexpr short kEverything = POLLIN | POLLOUT;
    for (;;) {
        std::vector<pollfd> waits = {{stop_.get(), POLLIN, 0}, {listening_.get(), POLLIN, 0}};
        for (const Connection& connection : connections_) {
            for (const Direction* direction : {&connection.there, &connection.back}) {
                const bool full = !direction->waiting.empty();
                waits.push_back({full ? direction->to : direction->from,
                                 static_cast<short>(kEverything & (full ? POLLOUT : POLLIN)), 0});
            }
        }
        ::poll(waits.data(), waits.size(), -1);
        if (waits[0].revents != 0) {
            return;
        }
        {
            const std::lock_guard lock(mutex_);
            std::erase_if(connections_, [](Connection& it) {
                return !carry(it.there.from, it.there.to, it.there.waiting) ||
                       !carry(it.back.from, it.back.to, it.back.waiting);
            });
        }
        if (waits[1].revents != 0) {
            take_one();
        }
    }
}

}  // namespace cmssh::test
