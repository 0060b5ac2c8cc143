#include "protocol/jsonrpc.hpp"

#include <set>
#include <utility>

namespace cmssh {
namespace {

Error invalid_request(std::string message) {
    return Error{.kind = ErrorKind::InvalidRequest, .message = std::move(message)};
}

// Counts depth and remembers keys while nlohmann parses; building the value stays with nlohmann's own handler.
class StrictHandler : public nlohmann::json_sax<Json> {
public:
    explicit StrictHandler(Json& result) : builder_(result, false) {}

    bool null() override { return builder_.null(); }
    bool boolean(bool value) override { return builder_.boolean(value); }
    bool number_integer(number_integer_t value) override { return builder_.number_integer(value); }
    bool number_unsigned(number_unsigned_t value) override { return builder_.number_unsigned(value); }
    bool number_float(number_float_t value, const string_t& text) override { return builder_.number_float(value, text); }
    bool string(string_t& value) override { return builder_.string(value); }
    bool binary(binary_t& value) override { return builder_.binary(value); }
    bool start_object(std::size_t size) override {
        keys_.emplace_back();
        return descend() && builder_.start_object(size);
    }
    bool key(string_t& value) override {
        if (!keys_.back().insert(value).second) {
            problem = "a key stands twice in one object: " + value;
            return false;
        }
        return builder_.key(value);
    }
    bool end_object() override {
        keys_.pop_back();
        --depth_;
        return builder_.end_object();
    }
    bool start_array(std::size_t size) override { return descend() && builder_.start_array(size); }
    bool end_array() override {
        --depth_;
        return builder_.end_array();
    }
    bool parse_error(std::size_t position, const std::string& /*token*/, const nlohmann::detail::exception& /*error*/) override {
        problem = "not valid JSON at byte " + std::to_string(position);
        return false;
    }

    std::string problem;

private:
    bool descend() {
        if (++depth_ > kMaxDepth) {
            problem = "nested deeper than " + std::to_string(kMaxDepth);
            return false;
        }
        return true;
    }

    nlohmann::detail::json_sax_dom_parser<Json> builder_;
    std::vector<std::set<std::string>> keys_;
    std::size_t depth_ = 0;
};

bool usable_id(const Json& id) {
    return id.is_string() || id.is_number() || id.is_null();
}

// nullopt: a notification in error, which gets no reply and is not carried out.
std::optional<Incoming> read_request(Json& json) {
    Json id = nullptr;
    if (json.is_object()) {
        if (const auto found = json.find("id"); found != json.end() && usable_id(*found)) {
            id = *found;
        }
    }
    const auto bad = [&id](std::string what) { return BadRequest{.id = id, .error = invalid_request(std::move(what))}; };
    if (!json.is_object()) {
        return bad("a request is an object");
    }
    const auto version = json.find("jsonrpc");
    if (version == json.end() || *version != "2.0") {
        return bad("jsonrpc: expected \"2.0\"");
    }
    const auto method = json.find("method");
    if (method == json.end() || !method->is_string()) {
        return bad("method: expected a string");
    }
    Request request;
    request.method = method->get<std::string>();
    if (const auto given = json.find("id"); given != json.end()) {
        if (!usable_id(*given)) {
            return bad("id: expected a string, a number or null");
        }
        request.id = id;
    }
    if (const auto params = json.find("params"); params != json.end()) {
        if (!params->is_object() && !params->is_array()) {
            return bad("params: expected an object");
        }
        if (params->is_array()) {
            if (!request.id) {
                return std::nullopt;
            }
            return BadRequest{.id = id,
                              .error = {.kind = ErrorKind::InvalidParams,
                                        .message = "params: expected an object, params are by name only"}};
        }
        request.params = std::move(*params);
    }
    return request;
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
    if (text.starts_with("\xEF\xBB\xBF")) {
        return Error{.kind = ErrorKind::ParseError, .message = "not valid JSON: it begins with a byte order mark"};
    }
    Json result;
    StrictHandler handler(result);
    if (!Json::sax_parse(text.begin(), text.end(), &handler)) {
        return Error{.kind = ErrorKind::ParseError, .message = handler.problem};
    }
    return result;
}

std::string dump_json(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Message parse_message(std::string_view text) {
    Message message;
    auto json = parse_json(text);
    if (!json) {
        message.items.emplace_back(BadRequest{.id = nullptr, .error = std::move(json).error()});
        return message;
    }
    if (!json->is_array()) {
        if (auto item = read_request(*json)) {
            message.items.push_back(std::move(*item));
        }
        return message;
    }
    if (json->empty()) {
        message.items.emplace_back(BadRequest{.id = nullptr, .error = invalid_request("the batch is empty")});
        return message;
    }
    if (json->size() > kMaxBatch) {
        message.items.emplace_back(BadRequest{
            .id = nullptr,
            .error = {.kind = ErrorKind::Limit,
                      .message = "a batch holds at most " + std::to_string(kMaxBatch) + " requests"}});
        return message;
    }
    message.batch = true;
    for (auto& item : *json) {
        if (auto request = read_request(item)) {
            message.items.push_back(std::move(*request));
        }
    }
    return message;
}

Json error_to_json(const Error& error) {
    Json data = {{"kind", error_info(error.kind).name}};
    const auto add = [&data](const char* name, const std::optional<std::string>& value) {
        if (value) {
            data[name] = *value;
        }
    };
    add("ctx", error.ctx);
    add("server", error.server);
    add("session", error.session);
    add("ssh_stderr", error.ssh_stderr);
    add("retry_at", error.retry_at);
    if (!error.hint.empty()) {
        data["hint"] = error.hint;
    }
    return {{"code", static_cast<int>(error.kind)}, {"message", error.message}, {"data", std::move(data)}};
}

Error error_from_json(const Json& json) {
    Error error;
    if (!json.is_object()) {
        error.message = "the daemon's error is not understood";
        return error;
    }
    if (const auto code = json.find("code"); code != json.end() && code->is_number_integer()) {
        error.kind = error_kind_from_code(code->get<int>()).value_or(ErrorKind::Internal);
    }
    const auto text = [](const Json& from, const char* name) -> std::optional<std::string> {
        const auto found = from.find(name);
        return found != from.end() && found->is_string() ? std::optional(found->get<std::string>()) : std::nullopt;
    };
    error.message = text(json, "message").value_or("");
    if (const auto data = json.find("data"); data != json.end() && data->is_object()) {
        error.hint = text(*data, "hint").value_or("");
        error.ctx = text(*data, "ctx");
        error.server = text(*data, "server");
        error.session = text(*data, "session");
        error.ssh_stderr = text(*data, "ssh_stderr");
        error.retry_at = text(*data, "retry_at");
    }
    return error;
}

Json make_result(const Json& id, Json result) {
    return {{"jsonrpc", "2.0"}, {"id", id}, {"result", std::move(result)}};
}

Json make_error(const Json& id, const Error& error) {
    return {{"jsonrpc", "2.0"}, {"id", id}, {"error", error_to_json(error)}};
}

Json make_request(const Json& id, std::string_view method, Json params) {
    return {{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", std::move(params)}};
}

Json make_notification(std::string_view method, Json params) {
    return {{"jsonrpc", "2.0"}, {"method", method}, {"params", std::move(params)}};
}

}  // namespace cmssh
