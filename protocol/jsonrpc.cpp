#include "protocol/jsonrpc.hpp"

#include <cstdint>
#include <limits>
#include <utility>

namespace cmssh {
namespace {

// nlohmann's messages quote the text that was read, which may be megabytes.
constexpr std::size_t kMaxReason = 200;

Error make(ErrorKind kind, std::string message) {
    return Error{.kind = kind, .message = std::move(message)};
}

// "[json.exception.parse_error.101] parse error at line 1, column 2: …; last read: '…'" without both ends.
std::string reason(std::string_view what) {
    if (const std::size_t end = what.find("] "); what.starts_with('[') && end != std::string_view::npos) {
        what.remove_prefix(end + 2);
    }
    what = what.substr(0, what.find("; last read"));
    return std::string(what.substr(0, kMaxReason));
}

struct Limits {
    std::size_t top_items = std::numeric_limits<std::size_t>::max();  // of the outermost array
    std::size_t values = std::numeric_limits<std::size_t>::max();
};

// Builds the value from nlohmann's SAX events, so that what is refused is refused before memory is spent on it.
class Builder {
public:
    explicit Builder(Limits limits) : limits_(limits) {}

    bool null() { return add(nullptr); }
    bool boolean(bool value) { return add(value); }
    bool number_integer(Json::number_integer_t value) { return add(value); }
    bool number_unsigned(Json::number_unsigned_t value) { return add(value); }
    bool number_float(Json::number_float_t value, const std::string& text) {
        // An integer over 64 bits arrives here, rounded: as an id it would not be the one that was sent.
        if (text.find_first_of(".eE") == std::string::npos) {
            return refuse(make(ErrorKind::ParseError, "number out of range: " + text.substr(0, kMaxReason)));
        }
        return add(value);
    }
    bool string(std::string& value) { return add(std::move(value)); }
    bool binary(Json::binary_t&) { return false; }
    bool start_object(std::size_t) { return open(Json::object()); }
    bool start_array(std::size_t) { return open(Json::array()); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }
    bool key(std::string& name) {
        if (!count()) {
            return false;
        }
        auto [place, added] = open_.back()->get_ref<Json::object_t&>().try_emplace(std::move(name));
        if (!added) {
            return refuse(make(ErrorKind::ParseError, "duplicate key: " + place->first.substr(0, kMaxReason)));
        }
        slot_ = &place->second;
        return true;
    }
    bool parse_error(std::size_t, const std::string&, const Json::exception& exception) {
        return refuse(make(ErrorKind::ParseError, reason(exception.what())));
    }

    Json take() { return std::move(root_); }
    Error take_error() { return std::move(error_); }

private:
    bool refuse(Error error) {
        error_ = std::move(error);
        return false;
    }

    bool count() {
        return values_++ < limits_.values ||
               refuse(make(ErrorKind::Limit,
                           "more than " + std::to_string(limits_.values) + " names and values in a message"));
    }

    // Where the next value goes; nullptr: one too many.
    Json* place() {
        if (!count()) {
            return nullptr;
        }
        if (open_.empty()) {
            return &root_;
        }
        if (open_.back()->is_object()) {
            return slot_;
        }
        Json::array_t& array = open_.back()->get_ref<Json::array_t&>();
        if (open_.size() == 1 && array.size() == limits_.top_items) {
            refuse(make(ErrorKind::Limit, "more than " + std::to_string(limits_.top_items) + " requests in a batch"));
            return nullptr;
        }
        return &array.emplace_back();
    }

    bool add(Json value) {
        Json* const target = place();
        if (target == nullptr) {
            return false;
        }
        *target = std::move(value);
        return true;
    }

    bool open(Json container) {
        if (open_.size() == kMaxDepth) {
            return refuse(
                make(ErrorKind::ParseError, "nested more than " + std::to_string(kMaxDepth) + " levels deep"));
        }
        Json* const target = place();
        if (target == nullptr) {
            return false;
        }
        *target = std::move(container);
        open_.push_back(target);
        return true;
    }

    bool close() {
        open_.pop_back();
        return true;
    }

    Limits limits_;
    std::size_t values_ = 0;
    Json root_;
    std::vector<Json*> open_;  // a parent is not touched while its last child is open: the pointers stay good
    Json* slot_ = nullptr;     // the value of the key just read
    Error error_;
};

Result<Json> parse(std::string_view text, Limits limits) {
    // nlohmann takes a NUL for the end of the text and passes over a byte order mark.
    if (text.find('\0') != std::string_view::npos) {
        return make(ErrorKind::ParseError, "a NUL byte in JSON");
    }
    if (text.starts_with("\xEF\xBB\xBF")) {
        return make(ErrorKind::ParseError, "a byte order mark before JSON");
    }
    Builder builder(limits);
    if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
        return builder.take_error();
    }
    return builder.take();
}

BadRequest invalid_request(Json id, std::string message) {
    return BadRequest{std::move(id), make(ErrorKind::InvalidRequest, std::move(message))};
}

// nullopt: a notification in error.
std::optional<Incoming> parse_item(Json& item) {
    if (!item.is_object()) {
        return invalid_request(nullptr, "a request must be an object");
    }
    Request request;
    if (const auto id = item.find("id"); id != item.end()) {
        if (!id->is_string() && !id->is_number() && !id->is_null()) {
            return invalid_request(nullptr, "id: expected a string, a number or null");
        }
        request.id = std::move(*id);
    }
    const Json reply_id = request.id.value_or(nullptr);
    if (const auto version = item.find("jsonrpc"); version == item.end() || *version != "2.0") {
        return invalid_request(reply_id, "jsonrpc: expected \"2.0\"");
    }
    const auto method = item.find("method");
    if (method == item.end() || !method->is_string()) {
        return invalid_request(reply_id, "method: expected a string");
    }
    request.method = std::move(method->get_ref<std::string&>());
    if (const auto params = item.find("params"); params != item.end()) {
        if (params->is_array()) {
            if (!request.id) {
                return std::nullopt;
            }
            return BadRequest{reply_id,
                              make(ErrorKind::InvalidParams, "params: expected an object: params by name only")};
        }
        if (!params->is_object()) {
            return invalid_request(reply_id, "params: expected an object");
        }
        request.params = std::move(*params);
    }
    return request;
}

std::string string_or(const Json& object, const char* name, std::string otherwise) {
    const auto value = object.find(name);
    return value != object.end() && value->is_string() ? value->get<std::string>() : std::move(otherwise);
}

std::optional<std::string> optional_string(const Json& object, const char* name) {
    const auto value = object.find(name);
    if (value == object.end() || !value->is_string()) {
        return std::nullopt;
    }
    return value->get<std::string>();
}

// A request that is wrong in itself has one next step, whatever is wrong.
std::string hint_of(const Error& error) {
    if (!error.hint.empty()) {
        return error.hint;
    }
    switch (error.kind) {
        case ErrorKind::ParseError:
        case ErrorKind::InvalidRequest:
        case ErrorKind::MethodNotFound:
        case ErrorKind::InvalidParams:
            return "cmctl rpc rpc.discover  # describes every method";
        case ErrorKind::Timeout:
        case ErrorKind::MasterLost:
            return error.ctx ? "cmctl check " + *error.ctx : "cmctl check";
        case ErrorKind::Limit:
            return "smaller parts, or fewer at once";
        default:
            return "";
    }
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
    return parse(text, Limits());
}

std::string dump_json(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Message parse_message(std::string_view text) {
    Message message;
    Result<Json> parsed = parse(text, {.top_items = kMaxBatch, .values = kMaxValues});
    if (!parsed) {
        message.items.push_back(BadRequest{nullptr, std::move(parsed).error()});
        return message;
    }
    if (parsed->is_array() && parsed->empty()) {
        message.items.push_back(invalid_request(nullptr, "an empty batch"));
        return message;
    }
    message.batch = parsed->is_array();
    const auto take = [&message](Json& item) {
        if (std::optional<Incoming> incoming = parse_item(item)) {
            message.items.push_back(std::move(*incoming));
        }
    };
    if (message.batch) {
        for (Json& item : *parsed) {
            take(item);
        }
    } else {
        take(*parsed);
    }
    return message;
}

Json error_to_json(const Error& error) {
    Json data = {{"kind", error_info(error.kind).name}};
    const auto put = [&data](const char* name, const std::optional<std::string>& value) {
        if (value) {
            data[name] = *value;
        }
    };
    put("ctx", error.ctx);
    put("server", error.server);
    put("session", error.session);
    put("ssh_stderr", error.ssh_stderr);
    put("retry_at", error.retry_at);
    if (const std::string hint = hint_of(error); !hint.empty()) {
        data["hint"] = hint;
    }
    return {{"code", static_cast<int>(error.kind)}, {"message", error.message}, {"data", std::move(data)}};
}

Error error_from_json(const Json& json) {
    Error error;
    if (!json.is_object()) {
        error.message = "an error reply that is not an object";
        return error;
    }
    error.message = string_or(json, "message", "an error reply without a message");
    if (const auto code = json.find("code"); code != json.end() && code->is_number_integer()) {
        const auto wide = code->get<std::int64_t>();
        if (!code->is_number_unsigned() && std::in_range<int>(wide)) {
            error.kind = error_kind_from_code(static_cast<int>(wide)).value_or(ErrorKind::Internal);
        }
    }
    if (const auto data = json.find("data"); data != json.end() && data->is_object()) {
        error.hint = string_or(*data, "hint", "");
        error.ctx = optional_string(*data, "ctx");
        error.server = optional_string(*data, "server");
        error.session = optional_string(*data, "session");
        error.ssh_stderr = optional_string(*data, "ssh_stderr");
        error.retry_at = optional_string(*data, "retry_at");
    }
    return error;
}

Json make_result(const Json& id, Json result) {
    return {{"jsonrpc", "2.0"}, {"id", id}, {"result", std::move(result)}};
}

JsonText result_text(const Json& id, JsonText result) {
    // In its place: a list of sessions is long.
    result.text.insert(0, R"({"jsonrpc":"2.0","id":)" + dump_json(id) + R"(,"result":)");
    result.text += '}';
    return result;
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

JsonText notification_text(std::string_view method, const JsonText& params) {
    return {R"({"jsonrpc":"2.0","method":)" + dump_json(method) + R"(,"params":)" + params.text + '}'};
}

}  // namespace cmssh
