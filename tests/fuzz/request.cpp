// JSON-RPC requests, up to the params of the method that they name, and what a client reads of replies.
#include "protocol/events.hpp"
#include "protocol/jsonrpc.hpp"
#include "protocol/methods.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {
namespace {

template <typename T>
void read(const Json& json) {
    const Result<T> value = api::read<T>(json);
    if (!value) {
        expect(!value.error().message.empty(), "a refusal says why");
        static_cast<void>(dump_json(make_error(1, value.error())));
        return;
    }
    const std::string written = api::write(*value).text;
    const Result<Json> parsed = parse_json(written);
    expect(parsed.ok(), "what is written is JSON");
    const Result<T> again = api::read<T>(*parsed);
    expect(again.ok() && api::write(*again).text == written, "what was read is written and read again");
}

struct Method {
    std::string_view name;
    void (*params)(const Json&);
};
// As daemon/rpc/handlers.cpp has them; the last four are results, by their own names.
constexpr Method kMethods[] = {
    {"start", read<api::StartParams>},
    {"list", read<api::ListParams>},
    {"get", read<api::SessionParams>},
    {"kill", read<api::KillParams>},
    {"wait", read<api::WaitParams>},
    {"logs", read<api::LogsParams>},
    {"attach", read<api::AttachParams>},
    {"send", read<api::SendParams>},
    {"acquire", read<api::AcquireParams>},
    {"release", read<api::LeaseParams>},
    {"signal", read<api::LeaseSignalParams>},
    {"exec", read<api::ExecParams>},
    {"forward.add", read<api::ForwardAddParams>},
    {"forward.list", read<api::ForwardListParams>},
    {"forward.remove", read<api::ForwardRemoveParams>},
    {"subscribe", read<api::SubscribeParams>},
    {"unsubscribe", read<api::UnsubscribeParams>},
    {"answer", read<api::AnswerParams>},
    {"askpass", read<api::AskpassParams>},
    {"connect", read<api::ConnectParams>},
    {"disconnect", read<api::DisconnectParams>},
    {"check", read<api::CheckParams>},
    {"contexts", read<api::ContextsParams>},
    {"ping", read<api::Empty>},
    {"Session", read<api::Session>},
    {"Connection", read<api::Connection>},
    {"Event", read<api::Event>},
    {"Stats", read<api::StatsResult>},
};

void take(const Incoming& incoming) {
    if (const auto* bad = std::get_if<BadRequest>(&incoming)) {
        const auto reply = parse_json(dump_json(make_error(bad->id, bad->error)));
        expect(reply.ok(), "an error reply is JSON");
        expect(error_from_json((*reply)["error"]).kind == bad->error.kind, "its kind survives");
        return;
    }
    const auto& request = std::get<Request>(incoming);
    expect(request.params.is_object(), "params are an object");
    for (const Method& method : kMethods) {
        if (request.method == method.name) {
            method.params(request.params);
        }
    }
}

}  // namespace

void one_input(std::string_view input) {
    const Message message = parse_message(input);
    expect(message.items.size() <= kMaxBatch, "a batch is bounded");
    for (const Incoming& item : message.items) {
        take(item);
    }
    if (const auto json = parse_json(input)) {
        const auto again = parse_json(dump_json(*json));
        expect(again.ok() && *again == *json, "JSON is written and read again");
        static_cast<void>(error_from_json(*json));
    }
}

}  // namespace cmssh::fuzz
