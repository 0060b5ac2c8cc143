// JSON-RPC 2.0: parsing of requests, strict where nlohmann/json is lax (nesting, duplicate keys), and building of
// replies. Pure. Reference: https://www.jsonrpc.org/specification.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "protocol/result.hpp"

namespace cmssh {

using Json = nlohmann::json;

// nlohmann/json 3.11 recurses when it copies or dumps: 100,000 nested arrays end the process.
inline constexpr std::size_t kMaxDepth = 64;
inline constexpr std::size_t kMaxBatch = 100;
// Of a message in all, names of fields among them: one of a few bytes of text takes 60 and more in memory, and up to
// half a microsecond of everybody's time.
inline constexpr std::size_t kMaxValues = 40'000;

// Parses one JSON text. Refuses nesting over kMaxDepth, duplicate keys, invalid UTF-8 and anything after the text.
[[nodiscard]] Result<Json> parse_json(std::string_view text);
// Never throws: invalid UTF-8 becomes U+FFFD.
[[nodiscard]] std::string dump_json(const Json& json);

// A JSON value that is text already: what the daemon says is written once, without a tree of it.
struct JsonText {
    std::string text;
};

struct Request {
    std::optional<Json> id;  // nullopt: a notification; otherwise string, number or null
    std::string method;
    Json params = Json::object();  // always an object: by-position params are an InvalidParams error
};

// What stands at one place of a message: a request to carry out, or the error reply that it gets (id null where it
// could not be read). A notification in error is dropped, as the specification says.
struct BadRequest {
    Json id;
    Error error;
};
using Incoming = std::variant<Request, BadRequest>;

struct Message {
    bool batch = false;
    std::vector<Incoming> items;
};

// Never fails as a whole: unparsable text is one BadRequest with ParseError.
[[nodiscard]] Message parse_message(std::string_view text);

[[nodiscard]] Json error_to_json(const Error& error);   // {code, message, data:{kind, …}}
[[nodiscard]] Error error_from_json(const Json& json);  // tolerant: for clients
[[nodiscard]] Json make_result(const Json& id, Json result);
[[nodiscard]] JsonText result_text(const Json& id, JsonText result);
[[nodiscard]] Json make_error(const Json& id, const Error& error);
[[nodiscard]] Json make_request(const Json& id, std::string_view method, Json params);
[[nodiscard]] Json make_notification(std::string_view method, Json params);
[[nodiscard]] JsonText notification_text(std::string_view method, const JsonText& params);

}  // namespace cmssh
