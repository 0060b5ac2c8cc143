#include <cstdio>
#include <cstdlib>

#include "client/call.hpp"
#include "client/given_context.hpp"
#include "client/interrupt.hpp"
#include "client/login_call.hpp"
#include "client/output.hpp"
#include "client/verbs.hpp"
#include "protocol/forward_spec.hpp"
#include "protocol/names.hpp"

namespace cmssh::client {
namespace {

Json add_params(const ForwardOptions& options, api::ForwardKind kind, const ForwardWords& words) {
    Json params = {{"kind", to_string(kind)}, {"listen", words.listen}};
    const auto put = [&params](const char* name, const std::optional<std::string>& value) {
        if (value) {
            params[name] = *value;
        }
    };
    put("target", words.target);
    put("ctx", options.ctx);
    put("session", options.session);
    if (!options.ctx && !options.session) {
        put("ctx", environment_value("CMSSH_CTX"));
    }
    add_login_params(params);
    return params;
}

std::string kind_text(api::ForwardKind kind) {
    return std::string(to_string(kind));
}

std::string state_of(const api::Forward& forward) {
    return forward.active ? "active" : "not active: " + forward.error.value_or("not yet");
}

int list_forwards(const GlobalOptions& global, const ForwardOptions& options) {
    Json params = Json::object();
    if (options.ctx) {
        params["ctx"] = *options.ctx;
    }
    const auto outcome = call<api::ForwardListResult>(global, "forward.list", params);
    if (const auto code = print_outcome(global, outcome)) {
        return *code;
    }
    const auto& result = std::get<Reply<api::ForwardListResult>>(outcome).value;
    Table table({"ID", "CTX", "KIND", "LISTEN", "TARGET", "OWNER", "STATE"});
    for (const api::Forward& forward : result.forwards) {
        if (global.quiet) {
            print_line(forward.id);
            continue;
        }
        const bool socks = !forward.target;
        table.add({{forward.id},
                   {forward.ctx},
                   {kind_text(forward.kind)},
                   {forward.listen},
                   {socks ? "(socks)" : *forward.target},
                   {forward.session ? *forward.session
                    : forward.lease ? *forward.lease
                                    : "-"},
                   {state_of(forward), forward.active ? Style::Good : Style::Doubtful}});
    }
    if (!table.empty()) {
        table.print(global);
    } else if (!global.quiet) {
        std::fputs("no forwards\n", stderr);
    }
    return exit_code::kOk;
}

int remove_forwards(const GlobalOptions& global, const ForwardOptions& options) {
    const auto deadline = deadline_of(global);
    catch_interrupts();
    auto connected = RpcClient::connect(global, deadline);
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    RpcClient& client = std::get<RpcClient>(connected);
    const auto listed = call<api::ForwardListResult>(client, "forward.list", Json::object(), deadline);
    if (const auto* failure = std::get_if<CallError>(&listed)) {
        return print_error(global, *failure);
    }
    const auto& forwards = std::get<Reply<api::ForwardListResult>>(listed).value.forwards;
    int code = exit_code::kOk;
    for (const std::string& word : options.ids) {
        std::vector<std::string> found;
        for (const api::Forward& forward : forwards) {
            if (forward.id == word || (word.starts_with("fwd-") && forward.id.starts_with(word))) {
                found.push_back(forward.id);
            }
        }
        if (found.size() != 1) {
            print_note(global, "cmctl: forward rm: " + printable(word) +
                                   (found.empty() ? " is no forward" : " is the beginning of several") +
                                   "\nhint: cmctl forward list");
            code = exit_code::kNotFound;
            continue;
        }
        const auto removed = call<api::Empty>(client, "forward.remove", {{"forward", found.front()}}, deadline);
        if (const auto* failure = std::get_if<CallError>(&removed)) {
            return print_error(global, *failure);
        }
        if (!global.json) {
            print_line(found.front());
        }
    }
    if (global.json) {
        print_json(Json::object());
    }
    return code;
}

int add_forwards(const GlobalOptions& global, const ForwardOptions& options) {
    const std::pair<api::ForwardKind, const std::vector<std::string>*> given[] = {
        {api::ForwardKind::Local, &options.local},
        {api::ForwardKind::Remote, &options.remote},
        {api::ForwardKind::Dynamic, &options.dynamic}};
    std::vector<Json> calls;
    for (const auto& [kind, texts] : given) {
        for (const std::string& text : *texts) {
            const auto words = split_forward(kind, text);
            if (!words) {
                return print_error(global, CallError{.error = words.error(), .exit_code = exit_code::kUsage});
            }
            calls.push_back(add_params(options, kind, *words));
        }
    }
    if (calls.empty()) {
        print_note(global,
                   "cmctl: forward add: expected -L, -R or -D\n"
                   "hint: cmctl forward add --ctx C -L 8080:localhost:80");
        return exit_code::kUsage;
    }
    const auto deadline = deadline_of(global);
    catch_interrupts();
    auto connected = RpcClient::connect(global, deadline);
    if (const auto* failure = std::get_if<CallError>(&connected)) {
        return print_error(global, *failure);
    }
    RpcClient& client = std::get<RpcClient>(connected);
    Json added = Json::array();
    for (Json& params : calls) {
        const auto outcome = call_with_login<api::ForwardResult>(client, "forward.add", std::move(params), deadline);
        if (const auto* failure = std::get_if<CallError>(&outcome)) {
            return print_error(global, *failure);
        }
        const auto& [result, json] = std::get<Reply<api::ForwardResult>>(outcome);
        const api::Forward& forward = result.forward;
        added.push_back(json.at("forward"));
        if (!global.json) {
            print_line(forward.id);
        }
        if (!global.json && !global.quiet) {
            std::fprintf(stderr, "%s: %s %s%s\n", printable(forward.ctx).c_str(),
                         forward.kind == api::ForwardKind::Remote ? "listens there on" : "listens here on",
                         printable(forward.listen).c_str(),
                         forward.target ? (", to " + printable(*forward.target)).c_str() : " for SOCKS clients");
        }
    }
    if (global.json) {
        print_json({{"forwards", std::move(added)}});
    }
    return exit_code::kOk;
}

}  // namespace

int forward(const GlobalOptions& global, const ForwardOptions& options) {
    switch (options.action) {
        case ForwardAction::Add:
            return add_forwards(global, options);
        case ForwardAction::List:
            return list_forwards(global, options);
        case ForwardAction::Remove:
            return remove_forwards(global, options);
    }
    return exit_code::kUsage;
}

}  // namespace cmssh::client
