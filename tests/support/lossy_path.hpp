// A way to a server that loses packets, as a network does: TCP on both sides has to send them again, or waits in vain.
// In between it is a proxy, whose sockets' kernel drops what arrives before TCP has seen it (a socket filter), also the
// first packet of a new connection. Needs no privilege.
#pragma once

#include <atomic>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/base/unique_fd.hpp"

namespace cmssh::test {

class LossyPath {
public:
    // port: of a server on 127.0.0.1, to which this leads. Loses nothing yet.
    explicit LossyPath(int port);
    ~LossyPath();
    LossyPath(const LossyPath&) = delete;
    LossyPath& operator=(const LossyPath&) = delete;

    [[nodiscard]] int port() const { return port_; }
    // Of a hundred packets that arrive from now on, from either side.
    void lose(int percent);
    // Both sides of each connection are told by TCP that there is none.
    void reset();
    // Packets of the connections that there are.
    [[nodiscard]] unsigned lost();
    // Of those that have come through; a loss may have kept others from it.
    [[nodiscard]] int connections() const { return accepted_; }

private:
    struct Direction {
        int from = -1;
        int to = -1;
        std::string waiting;  // read, not yet written
    };
    struct Connection {
        UniqueFd client;
        UniqueFd server;
        Direction there;
        Direction back;
    };

    void run();
    void take_one();

    int server_port_;
    int port_ = 0;
    UniqueFd listening_;
    UniqueFd stop_;
    std::mutex mutex_;  // of what the thread and the calls share: the list, and the percentage
    std::list<Connection> connections_;
    int percent_ = 0;
    std::atomic<int> accepted_ = 0;
    std::thread thread_;
};

}  // namespace cmssh::test
