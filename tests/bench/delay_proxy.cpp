#include "tests/bench/delay_proxy.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

sockaddr_in address_of(const std::string& host, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
        throw std::runtime_error("delay proxy: not an address: " + host);
    }
    return address;
}

void no_delay(int fd) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// Closes with the last of the four threads that use it.
struct Socket {
    explicit Socket(int descriptor) : fd(descriptor) {}
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    ~Socket() { close(fd); }
    const int fd;
};
using SharedSocket = std::shared_ptr<Socket>;

struct Line {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::pair<Clock::time_point, std::vector<char>>> chunks;  // an empty chunk is the end
};

bool write_all(int fd, const std::vector<char>& bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t n = send(fd, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        done += static_cast<std::size_t>(n);
    }
    return true;
}

// One direction: a thread that stamps what it reads, and one that writes it when it is due.
void carry(const SharedSocket& from, const SharedSocket& to, Clock::time_point open_at, Clock::duration one_way) {
    auto line = std::make_shared<Line>();  // shared by the two threads, whichever ends last
    std::thread([=] {
        std::vector<char> buffer(65536);
        for (;;) {
            const ssize_t n = recv(from->fd, buffer.data(), buffer.size(), 0);
            const auto due = std::max(Clock::now(), open_at) + one_way;
            const std::lock_guard lock(line->mutex);
            line->chunks.emplace_back(due, std::vector<char>(buffer.begin(), buffer.begin() + std::max<ssize_t>(n, 0)));
            line->changed.notify_one();
            if (n <= 0) {
                return;
            }
        }
    }).detach();
    std::thread([=] {
        for (;;) {
            std::unique_lock lock(line->mutex);
            line->changed.wait(lock, [&] { return !line->chunks.empty(); });
            auto [due, bytes] = std::move(line->chunks.front());
            line->chunks.pop_front();
            lock.unlock();
            std::this_thread::sleep_until(due);
            if (bytes.empty() || !write_all(to->fd, bytes)) {
                shutdown(to->fd, SHUT_WR);
                shutdown(from->fd, SHUT_RD);
                return;
            }
        }
    }).detach();
}

void serve(const SharedSocket& client, const sockaddr_in& server_address, Clock::duration round_trip) {
    // The client's connect() has returned already, where a real one returns a round trip after the SYN; the server
    // sees the connection half a round trip after that.
    const auto established = Clock::now() + round_trip;
    std::this_thread::sleep_until(established + round_trip / 2);
    auto server = std::make_shared<Socket>(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(server->fd, reinterpret_cast<const sockaddr*>(&server_address), sizeof server_address) != 0) {
        return;
    }
    no_delay(server->fd);
    carry(client, server, established, round_trip / 2);
    carry(server, client, established, round_trip / 2);
}

}  // namespace

DelayProxy::DelayProxy(std::string host, std::uint16_t to_port, std::chrono::microseconds round_trip) {
    const sockaddr_in server = address_of(host, to_port);
    sockaddr_in own = address_of("127.0.0.1", 0);
    socklen_t size = sizeof own;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&own), sizeof own) != 0 ||
        listen(listener, 64) != 0 || getsockname(listener, reinterpret_cast<sockaddr*>(&own), &size) != 0) {
        throw std::runtime_error("delay proxy: cannot listen");
    }
    port_ = ntohs(own.sin_port);
    std::thread([=] {
        // Inherited by the threads made here: the kernel's default lets a sleep end 50 us late.
        prctl(PR_SET_TIMERSLACK, 1000UL);
        for (;;) {
            const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) {
                return;
            }
            no_delay(fd);
            std::thread(serve, std::make_shared<Socket>(fd), server, round_trip).detach();
        }
    }).detach();
}

}  // namespace bench
