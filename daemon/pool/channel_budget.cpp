#include "daemon/pool/channel_budget.hpp"

#include <algorithm>

namespace cmssh {
namespace {

Error no_channel_left() {
    return {.kind = ErrorKind::Timeout,
            .message =
                "the server gave no channel until the deadline: what was begun before this daemon has them all, "
                "or its MaxSessions is 1",
            .hint = "cmctl disconnect --force ends that, or raise MaxSessions in the server's sshd_config"};
}

}  // namespace

ChannelBudget::Slot& ChannelBudget::Slot::operator=(Slot&& other) noexcept {
    if (this != &other) {
        const Slot released = std::move(*this);
        budget_ = std::exchange(other.budget_, nullptr);
        ticket_ = other.ticket_;
        refusals_ = std::exchange(other.refusals_, 0);
    }
    return *this;
}

ChannelBudget::Slot::~Slot() {
    if (budget_ != nullptr) {
        --budget_->taken_;
        budget_->one_worked_ = budget_->one_worked_ || refusals_ == 0;
        budget_->changed_.notify_all();
        budget_->tell();
    }
}

int ChannelBudget::limit() const {
    return clock_.now() < learnt_until_ ? std::min(learnt_, configured_) : configured_;
}

asio::awaitable<Result<ChannelBudget::Slot>> ChannelBudget::take(std::shared_ptr<ChannelBudget> budget, Turn turn,
                                                                 Patience patience) {
    const std::uint64_t ticket = turn == Turn::First ? 0 : ++budget->last_ticket_;
    return take(std::move(budget), ticket, patience);
}

asio::awaitable<Result<ChannelBudget::Slot>> ChannelBudget::take(std::shared_ptr<ChannelBudget> budget,
                                                                 std::uint64_t ticket, Patience patience) {
    struct Place {
        Place(ChannelBudget& of, std::uint64_t ticket) : budget(of) {
            const auto behind = std::find_if(budget.queue_.begin(), budget.queue_.end(),
                                             [ticket](const Waiting& it) { return it.ticket > ticket; });
            budget.queue_.insert(behind, Waiting{.ticket = ticket, .who = this});
            budget.tell();
        }
        ~Place() {
            std::erase_if(budget.queue_, [this](const Waiting& it) { return it.who == this; });
            budget.changed_.notify_all();
            budget.tell();
        }
        Place(const Place&) = delete;
        Place& operator=(const Place&) = delete;
        ChannelBudget& budget;
    };
    const Place place(*budget, ticket);
    for (;;) {
        if (budget->closed_) {
            co_return Error{.kind = ErrorKind::MasterLost, .message = "the ssh master was lost"};
        }
        if (budget->limit() <= kOwn) {
            co_return Error{.kind = ErrorKind::ChannelRefused,
                            .message = "the server allows one channel on a connection, which the sessions need",
                            .hint = "raise MaxSessions in the server's sshd_config"};
        }
        if (budget->queue_.front().who == &place && budget->taken_ + kOwn < budget->limit()) {
            ++budget->taken_;
            co_return Slot(budget, ticket);
        }
        if (patience.is_gone()) {
            co_return Error{.kind = ErrorKind::Cancelled, .message = "the caller is gone"};
        }
        const bool learnt = budget->clock_.now() < budget->learnt_until_;
        co_await budget->wait(learnt ? budget->learnt_until_ : Instant::max(), patience);
        if (budget->clock_.now() >= patience.deadline) {
            co_return budget->timed_out();
        }
    }
}

Error ChannelBudget::timed_out() const {
    return {.kind = ErrorKind::Timeout,
            .message = "all " + std::to_string(limit()) + " channels of the connection were in use until the deadline",
            .hint = "cmctl stats shows who uses and waits"};
}

asio::awaitable<void> ChannelBudget::wait(Instant until, const Patience& patience) {
    until = std::min(until, patience.deadline);
    if (patience.gone_event == nullptr) {
        co_await changed_.wait_until(until);
    } else {
        co_await Event::wait_for_either(changed_, *patience.gone_event, until);
    }
}

asio::awaitable<Result<ChannelBudget::Slot>> ChannelBudget::refused(Slot slot, Patience patience) {
    const auto budget = slot.budget_;
    const bool waits_for_leftover = budget->taken_ == 1 && budget->has_leftovers();
    if (budget->clock_.now() < patience.deadline && (slot.refusals_ < kRetries || waits_for_leftover)) {
        const Instant again = budget->clock_.now() + kFirstPause * (1 << std::min(slot.refusals_, kRetries));
        ++slot.refusals_;
        while (!budget->closed_ && !patience.is_gone() && budget->clock_.now() < std::min(again, patience.deadline)) {
            co_await budget->wait(again, patience);
        }
        co_return std::move(slot);
    }
    if (waits_for_leftover) {
        co_return budget->one_worked_ ? budget->timed_out() : no_channel_left();
    }
    budget->learn(budget->open_but_one());
    const std::uint64_t ticket = slot.ticket_;
    slot = Slot();
    co_return co_await take(budget, ticket, patience);
}

void ChannelBudget::given_up(Slot slot) {
    slot.refusals_ = std::max(slot.refusals_, 1);
    if (slot.budget_->taken_ > 1) {
        slot.budget_->learn(slot.budget_->open_but_one());
    }
}

int ChannelBudget::open_but_one() const {
    return (own_open_ ? kOwn : 0) + taken_ - 1;
}

void ChannelBudget::own_refused() {
    // Whoever holds one of those that are left gives it back, and nobody else gets it.
    if (taken_ > 1 || (taken_ == 1 && !has_leftovers())) {
        learn(taken_);
    }
}

void ChannelBudget::learn(int limit) {
    learnt_ = std::max(limit, kOwn);
    learnt_until_ = clock_.now() + kLearntFor;
    tell();
}

void ChannelBudget::close() {
    closed_ = true;
    changed_.notify_all();
}

}  // namespace cmssh
