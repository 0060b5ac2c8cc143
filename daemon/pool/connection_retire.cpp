#include <algorithm>
#include <utility>

#include "daemon/base/log.hpp"
#include "daemon/pool/connection.hpp"

namespace cmssh {

void Connection::retire_master() {
    Retired retired;
    retired.master = std::exchange(master_, nullptr);
    retired.generation = generation_++;
    retired.leases = std::exchange(present_leases_, 0);
    retired.hop = std::exchange(hop_, std::nullopt);
    channels_->close();
    log_info(key_text_, "the ssh master " + std::to_string(retired.master->pid()) + " steps aside with " +
                            std::to_string(retired.leases) + " lease(s)");
    tasks_.spawn(key_text_, retire(retired.master));
    retired_.push_back(std::move(retired));
    master_since_.reset();
    drop_tmux();
    services_.observer.on_unreachable(*this);
    feed(ConnectionMachine::RefsChanged{.refs = refs(), .leases = present_leases_});
}

asio::awaitable<void> Connection::retire(std::shared_ptr<Master> master) {
    const auto stopped = co_await master->stop_listening(services_.clock.now() + services_.config.pool.health_timeout);
    auto* retired = find_retired(*master);
    if (retired == nullptr) {
        co_return;
    }
    if (!stopped) {
        log_warn(key_text_, stopped.error().message);
        co_await end_retired(master, kKillGrace);
        co_return;
    }
    retired->listens = false;
    changed_.notify_all();
    if (retired->leases == 0) {
        co_await end_retired(master, kEndGrace);
    }
}

void Connection::change_leases(std::uint64_t generation, int by) {
    if (generation == generation_) {
        present_leases_ += by;
        return;
    }
    // Where it is not found, that master has died under its leases.
    const auto found = std::find_if(retired_.begin(), retired_.end(),
                                    [generation](const Retired& it) { return it.generation == generation; });
    if (found == retired_.end()) {
        return;
    }
    found->leases += by;
    if (found->leases == 0 && !found->listens) {
        tasks_.spawn(key_text_, end_retired(found->master, kEndGrace));
    }
}

asio::awaitable<void> Connection::end_retired(std::shared_ptr<Master> master, Duration grace) {
    co_await master->end(services_.clock.now() + grace);
    if (!master->dead() && find_retired(*master) != nullptr) {
        log_error(key_text_, "the ssh master " + std::to_string(master->pid()) + " does not end");
        master->release();
        forget_retired(*master);
    }
}

void Connection::end_all_retired() {
    for (const Retired& retired : retired_) {
        tasks_.spawn(key_text_, end_retired(retired.master, kEndGrace));
    }
}

void Connection::leave_retired() {
    for (const Retired& retired : retired_) {
        if (retired.leases > 0) {
            retired.master->release();
        } else {
            tasks_.spawn(key_text_, end_retired(retired.master, kEndGrace));
        }
    }
    std::erase_if(retired_, [](const Retired& it) { return it.leases > 0; });
    for (Retired& retired : retired_) {
        retired.hop.reset();
    }
}

Connection::Retired* Connection::find_retired(const Master& master) {
    const auto found = std::find_if(retired_.begin(), retired_.end(),
                                    [&master](const Retired& it) { return it.master.get() == &master; });
    return found == retired_.end() ? nullptr : &*found;
}

void Connection::forget_retired(const Master& master) {
    std::erase_if(retired_, [&master](const Retired& it) { return it.master.get() == &master; });
    changed_.notify_all();
}

}  // namespace cmssh
