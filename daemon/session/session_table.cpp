#include "daemon/session/session_table.hpp"

#include <algorithm>

#include "protocol/names.hpp"

namespace cmssh {

void SessionTable::add(RecordPtr record) {
    by_id_[record->view.id] = record;
    if (!record->request_id.empty()) {
        by_request_[record->request_id] = record;
    }
    // One that is found on a server may be older than those known already.
    const auto place =
        std::upper_bound(records_.begin(), records_.end(), record,
                         [](const auto& one, const auto& other) { return one->created_ms < other->created_ms; });
    records_.insert(place, std::move(record));
}

void SessionTable::remove(const std::string& id) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) {
        return;
    }
    const RecordPtr record = found->second;
    by_id_.erase(found);
    // Not that of one which was found on the server and is the same start.
    if (by_request(record->request_id) == record) {
        by_request_.erase(record->request_id);
    }
    std::erase(records_, record);
}

std::vector<std::string> SessionTable::forget_ended(std::int64_t before_ms) {
    const auto is_ended = [](const RecordPtr& record) { return api::ended(record->view.state); };
    auto ended = static_cast<std::size_t>(std::count_if(records_.begin(), records_.end(), is_ended));
    std::vector<std::string> forgotten;
    std::erase_if(records_, [&](const RecordPtr& record) {
        if (!is_ended(record) || (record->ended_ms >= before_ms && ended <= kMaxEnded)) {
            return false;
        }
        --ended;
        by_id_.erase(record->view.id);
        by_request_.erase(record->request_id);
        forgotten.push_back(record->view.id);
        return true;
    });
    return forgotten;
}

SessionTable::RecordPtr SessionTable::by_id(std::string_view id) const {
    const auto found = by_id_.find(std::string(id));
    return found == by_id_.end() ? nullptr : found->second;
}

SessionTable::RecordPtr SessionTable::by_request(std::string_view request_id) const {
    const auto found = by_request_.find(std::string(request_id));
    return found == by_request_.end() ? nullptr : found->second;
}

bool SessionTable::name_in_use(std::string_view name) const {
    return std::any_of(records_.begin(), records_.end(), [name](const RecordPtr& record) {
        return record->view.name == name && !api::ended(record->view.state);
    });
}

Result<SessionTable::RecordPtr> SessionTable::find(std::string_view word) const {
    if (auto record = by_id(word)) {
        return record;
    }
    RecordPtr named;
    for (const auto& record : records_) {
        if (record->view.name == word && (named == nullptr || api::ended(named->view.state))) {
            named = record;
        }
    }
    if (named != nullptr) {
        return named;
    }
    std::vector<RecordPtr> matches;
    if (!word.empty()) {
        std::copy_if(records_.begin(), records_.end(), std::back_inserter(matches),
                     [word](const RecordPtr& record) { return record->view.id.starts_with(word); });
    }
    if (matches.size() == 1) {
        return matches.front();
    }
    if (matches.empty()) {
        return Error{.kind = ErrorKind::SessionNotFound,
                     .message = "no session is named " + printable(word),
                     .hint = "cmctl list --all"};
    }
    constexpr std::size_t kShown = 5;
    std::string shown;
    for (std::size_t i = 0; i < std::min(matches.size(), kShown); ++i) {
        shown += (i == 0 ? "" : ", ") + matches[i]->view.id;
    }
    if (matches.size() > kShown) {
        shown += ", …";
    }
    return Error{.kind = ErrorKind::Ambiguous,
                 .message = printable(word) + " names " + std::to_string(matches.size()) + " sessions: " + shown,
                 .hint = "give more of the id"};
}

}  // namespace cmssh
