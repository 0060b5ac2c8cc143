#include <algorithm>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/base/random.hpp"
#include "daemon/pool/connection.hpp"

namespace cmssh {

OwnMaster::~OwnMaster() {
    if (connection_ != nullptr) {
        connection_->give_back(*master_);
    }
}

OwnMaster& OwnMaster::operator=(OwnMaster&& other) noexcept {
    std::swap(connection_, other.connection_);
    std::swap(master_, other.master_);
    return *this;
}

asio::awaitable<Result<Connection::Lease>> Connection::lease_own_master(Want want, ChannelBudget::Patience patience) {
    auto lease = co_await lease_without_channel(want);
    if (!lease) {
        co_return std::move(lease).error();
    }
    if (!only_shared_) {
        const auto own = co_await log_in_beside(want, *lease);
        if (own) {
            co_return lease;
        }
        if (shutting_down_) {
            co_return stopping();
        }
        log_info(key_text_, "no second login beside the shared one: " + own.error().message);
        only_shared_ = true;
    }
    co_return co_await this->lease(std::move(want), patience);
}

asio::awaitable<Result<void>> Connection::log_in_beside(const Want& want, Lease& lease) {
    const auto login = std::make_shared<Login>();
    login->auth_sock = good_auth_sock_ ? good_auth_sock_ : want.auth_sock;
    Own own;
    own.control_path = own_control_path(services_.runtime_dir, random_bits());
    auto hop = co_await reach_hop(login);
    if (!hop) {
        co_return std::move(hop).error();
    }
    own.hop = std::move(*hop);
    const auto slot = co_await services_.slots.acquire();
    if (shutting_down_) {
        co_return stopping();
    }
    if (want.progress) {
        want.progress("connecting");
    }
    LaunchRequest request = launch_request();
    request.control_path = own.control_path;
    request.own = true;
    request.auth_sock = login->auth_sock;
    if (own.hop) {
        request.hop = hop_socket(*own.hop);
    }
    auto launched = co_await services_.launcher.launch(std::move(request));
    if (!launched) {
        co_return std::move(launched).error();
    }
    own.master = std::move(*launched);
    if (shutting_down_) {
        own.master->release();
        co_return stopping();
    }
    ++own_logins_;
    lease.control_path = own.control_path;
    lease.reused = false;
    lease.own = OwnMaster(*this, own.master);
    tasks_.spawn(key_text_, watch_own(own.master));
    own_masters_.push_back(std::move(own));
    changed_.notify_all();
    co_return Result<void>();
}

asio::awaitable<void> Connection::watch_own(std::shared_ptr<Master> master) {
    co_await master->wait_for_death();
    forget_own(*master);
}

void Connection::give_back(const Master& master) {
    const auto found = std::find_if(own_masters_.begin(), own_masters_.end(),
                                    [&master](const Own& own) { return own.master.get() == &master; });
    if (found != own_masters_.end() && !shutting_down_) {
        tasks_.spawn(key_text_, end_own(found->master));
    }
}

asio::awaitable<void> Connection::end_own(std::shared_ptr<Master> master) {
    co_await master->end(services_.clock.now() + kEndGrace);
    if (!master->dead()) {
        log_error(key_text_, "the ssh master " + std::to_string(master->pid()) + " does not end");
        master->release();
    }
    forget_own(*master);
}

void Connection::end_all_own() {
    for (const Own& own : own_masters_) {
        tasks_.spawn(key_text_, end_own(own.master));
    }
}

// What goes over them goes on: each ends with the last of it.
void Connection::leave_own() {
    for (const Own& own : own_masters_) {
        own.master->release();
    }
    own_masters_.clear();
}

void Connection::forget_own(const Master& master) {
    std::erase_if(own_masters_, [&master](const Own& own) { return own.master.get() == &master; });
    changed_.notify_all();
}

}  // namespace cmssh
