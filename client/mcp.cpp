#include "client/mcp.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <utility>

#include "client/given_context.hpp"
#include "client/mcp_hint.hpp"
#include "protocol/methods.hpp"

namespace cmssh::client::mcp {
namespace {

// Newest first.
constexpr std::array<std::string_view, 4> kVersions = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};

enum class Effect { Reads, Adds, Destroys };

struct Tool {
    const char* name;
    const char* title;
    const char* text;  // for the model, beyond the method's own summary
    Effect effect;
};

constexpr std::array kTools = {
    Tool{"start", "Start a command",
         "The session runs on without anybody: read it with logs, type into it with send, wait for its end with wait.",
         Effect::Adds},
    Tool{"list", "List sessions", "", Effect::Reads},
    Tool{"get", "Look at a session", "", Effect::Reads},
    Tool{"logs", "Read what a session printed", "Give `lines` for the last ones only: there may be tens of thousands.",
         Effect::Reads},
    Tool{"send", "Type into a session", "", Effect::Adds},
    Tool{"wait", "Wait for a session's end",
         "Give `timeout_ms` to look again after a while; the session runs on in any case.", Effect::Reads},
    Tool{"kill", "End or signal a session", "", Effect::Destroys},
    Tool{"exec", "Run a program to its end",
         "For short commands, whose output is the answer; a long one is better started as a session. No shell is "
         "between: for pipes and patterns the command is [\"sh\", \"-c\", …].",
         Effect::Destroys},
    Tool{"stats", "Connections and counters", "", Effect::Reads},
    Tool{"contexts", "List servers", "The names that are good for `ctx`; any ssh destination is good, too.",
         Effect::Reads},
};

// What is about the caller's person or terminal: no model decides it.
bool is_hidden(std::string_view param) {
    return param == "auth_sock" || param == "interactive" || param == "tell_reuse" || param == "size";
}

constexpr std::string_view kComponents = "#/components/schemas/";
constexpr std::string_view kUriBegin = "cmssh://session/";
constexpr std::string_view kUriEnd = "/logs";
constexpr std::size_t kPage = 100;

const Json& api() {
    return api::openrpc_document(CMSSH_VERSION);
}

const Json& method_named(std::string_view name) {
    const Json& methods = api()["methods"];
    return *std::find_if(methods.begin(), methods.end(), [name](const Json& method) { return method["name"] == name; });
}

// A schema of the OpenRPC document as one that stands alone: what it refers to goes into `definitions`.
Json standalone(const Json& schema, Json& definitions) {
    if (schema.is_array()) {
        Json items = Json::array();
        for (const Json& item : schema) {
            items.push_back(standalone(item, definitions));
        }
        return items;
    }
    if (!schema.is_object()) {
        return schema;
    }
    Json copy = Json::object();
    for (const auto& [key, value] : schema.items()) {
        if (key != "$ref") {
            copy[key] = standalone(value, definitions);
            continue;
        }
        const std::string name = value.get<std::string>().substr(kComponents.size());
        copy[key] = "#/$defs/" + name;
        if (!definitions.contains(name)) {
            definitions[name] = true;  // for one that refers to itself
            definitions[name] = standalone(api()["components"]["schemas"][name], definitions);
        }
    }
    return copy;
}

Json with_definitions(Json schema, Json definitions) {
    if (!definitions.empty()) {
        schema["$defs"] = std::move(definitions);
    }
    return schema;
}

Json input_schema(const Json& method) {
    Json properties = Json::object();
    Json required = Json::array();
    Json definitions = Json::object();
    for (const Json& param : method["params"]) {
        const auto& name = param["name"].get_ref<const std::string&>();
        if (is_hidden(name)) {
            continue;
        }
        properties[name] = standalone(param["schema"], definitions);
        if (param["required"] == true) {
            required.push_back(name);
        }
    }
    return with_definitions({{"type", "object"},
                             {"properties", std::move(properties)},
                             {"required", std::move(required)},
                             {"additionalProperties", false}},
                            std::move(definitions));
}

Json output_schema(const Json& method) {
    const std::string name =
        method["result"]["schema"]["$ref"].get_ref<const std::string&>().substr(kComponents.size());
    Json definitions = Json::object();
    Json schema = standalone(api()["components"]["schemas"][name], definitions);
    return with_definitions(std::move(schema), std::move(definitions));
}

Json tool_entry(const Tool& tool) {
    const Json& method = method_named(tool.name);
    std::string text = method["summary"].get<std::string>() + '.';
    if (*tool.text != '\0') {
        text += ' ' + std::string(tool.text);
    }
    const bool reads = tool.effect == Effect::Reads;
    Json annotations = {{"title", tool.title}, {"readOnlyHint", reads}};
    if (!reads) {
        annotations["destructiveHint"] = tool.effect == Effect::Destroys;
    }
    return {{"name", tool.name},
            {"title", tool.title},
            {"description", std::move(text)},
            {"inputSchema", input_schema(method)},
            {"outputSchema", output_schema(method)},
            {"annotations", std::move(annotations)}};
}

Json text_content(std::string text) {
    return Json::array({{{"type", "text"}, {"text", std::move(text)}}});
}

}  // namespace

std::string negotiated_version(std::string_view asked_for) {
    const bool known = std::find(kVersions.begin(), kVersions.end(), asked_for) != kVersions.end();
    return std::string(known ? asked_for : kVersions.front());
}

Json greeting(std::string_view asked_for) {
    return {{"protocolVersion", negotiated_version(asked_for)},
            {"capabilities", {{"tools", Json::object()}, {"resources", Json::object()}}},
            {"serverInfo", {{"name", "cmssh"}, {"title", "cmssh"}, {"version", CMSSH_VERSION}}},
            {"instructions",
             "Runs commands on the user's servers over shared ssh connections. `contexts` tells the servers; `start` "
             "runs a long command in a session that outlives connections, `exec` a short one. Where an error's hint "
             "is for the user, ask them to do it: a login, above all, is theirs, in a terminal of their own."}};
}

Json tools() {
    Json list = Json::array();
    for (const Tool& tool : kTools) {
        list.push_back(tool_entry(tool));
    }
    return {{"tools", std::move(list)}};
}

bool is_tool(std::string_view name) {
    return std::any_of(kTools.begin(), kTools.end(), [name](const Tool& tool) { return tool.name == name; });
}

Result<Json> tool_params(std::string_view name, Json arguments) {
    if (arguments.is_null()) {
        arguments = Json::object();
    }
    if (!arguments.is_object()) {
        return Error{.kind = ErrorKind::InvalidParams,
                     .message = "arguments: expected an object",
                     .hint = "tools/list describes them"};
    }
    std::set<std::string> known;
    for (const Json& param : method_named(name)["params"]) {
        known.insert(param["name"].get<std::string>());
    }
    for (const auto& [key, value] : arguments.items()) {
        if (is_hidden(key) || !known.contains(key)) {
            return Error{.kind = ErrorKind::InvalidParams,
                         .message = "arguments: " + key + ": there is no such argument",
                         .hint = "tools/list describes them"};
        }
    }
    const auto fill_in = [&](const char* param, const char* variable) {
        if (const auto value = environment_value(variable); value && known.contains(param)) {
            arguments.emplace(param, *value);
        }
    };
    // As cmctl's own verbs; but whoever is at a terminal here is asked nothing on a model's behalf.
    fill_in("auth_sock", "SSH_AUTH_SOCK");
    if (name == "start") {
        fill_in("ctx", "CMSSH_CTX");
    }
    return arguments;
}

Json tool_result(Json result) {
    // For clients that do not read structuredContent, as the specification asks.
    std::string text = dump_json(result);
    return {{"content", text_content(std::move(text))}, {"structuredContent", std::move(result)}, {"isError", false}};
}

Error for_model(Error error) {
    error.hint = hint_for_model(error.hint);
    return error;
}

Json tool_failure(const Error& failed) {
    const Error error = for_model(failed);
    const Json json = error_to_json(error);
    std::string text = std::string(error_info(error.kind).name) + ": " + error.message;
    if (error.ssh_stderr) {
        text += '\n' + *error.ssh_stderr;
    }
    if (!error.hint.empty()) {
        text += "\nhint: " + error.hint;
    }
    return {{"content", text_content(std::move(text))}, {"isError", true}, {"_meta", {{"cmssh/error", json}}}};
}

std::optional<Json> resources(const Json& sessions, const std::string& cursor) {
    std::size_t begin = 0;
    const auto [end, error] = std::from_chars(cursor.data(), cursor.data() + cursor.size(), begin);
    if (!cursor.empty() && (error != std::errc() || end != cursor.data() + cursor.size())) {
        return std::nullopt;
    }
    Json list = Json::array();
    const std::size_t count = sessions.size();
    begin = std::min(begin, count);
    const std::size_t stop = std::min(count, begin + kPage);
    for (std::size_t i = begin; i < stop; ++i) {
        const Json& session = sessions[count - 1 - i];
        const std::string id = session["id"].get<std::string>();
        std::string command;
        for (const Json& word : session["command"]) {
            command += (command.empty() ? "" : " ") + word.get<std::string>();
        }
        list.push_back({{"uri", std::string(kUriBegin) + id + std::string(kUriEnd)},
                        {"name", session["name"]},
                        {"title", "Logs of " + session["name"].get<std::string>()},
                        {"description", session["ctx"].get<std::string>() + ": " + command + " (" +
                                            session["state"].get<std::string>() + ")"},
                        {"mimeType", "text/plain"}});
    }
    Json page = {{"resources", std::move(list)}};
    if (stop < count) {
        page["nextCursor"] = std::to_string(stop);
    }
    return page;
}

Json resource_templates() {
    return {{"resourceTemplates",
             Json::array({{{"uriTemplate", std::string(kUriBegin) + "{session}" + std::string(kUriEnd)},
                           {"name", "logs"},
                           {"title", "Logs of a session"},
                           {"description", "What a session has printed; its id, a unique beginning of it, or its name"},
                           {"mimeType", "text/plain"}}})}};
}

std::optional<std::string> session_of_uri(std::string_view uri) {
    if (!uri.starts_with(kUriBegin) || !uri.ends_with(kUriEnd) || uri.size() <= kUriBegin.size() + kUriEnd.size()) {
        return std::nullopt;
    }
    std::string session(uri.substr(kUriBegin.size(), uri.size() - kUriBegin.size() - kUriEnd.size()));
    constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return session.find_first_not_of(kAllowed) == std::string::npos ? std::optional(session) : std::nullopt;
}

Json resource(const std::string& uri, const Json& logs) {
    return {{"contents", Json::array({{{"uri", uri}, {"mimeType", "text/plain"}, {"text", logs["text"]}}})}};
}

}  // namespace cmssh::client::mcp
