// The Model Context Protocol (https://modelcontextprotocol.io/specification/2025-06-18), as far as it is data: what
// tools and resources there are, and what their calls and answers mean in our API. Pure; client/mcp_server.cpp has the
// I/O.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "client/rpc_client.hpp"
#include "protocol/jsonrpc.hpp"
#include "protocol/result.hpp"

namespace cmssh::client::mcp {

// The version that both sides speak from here on: the one that was asked for, or the newest that we know.
[[nodiscard]] std::string negotiated_version(std::string_view asked_for);
// The result of `initialize`.
[[nodiscard]] Json greeting(std::string_view asked_for);

// The result of tools/list.
[[nodiscard]] Json tools();
[[nodiscard]] bool is_tool(std::string_view name);
// The params of the daemon's method that has the tool's name. InvalidParams for an argument that the tool has not.
[[nodiscard]] Result<Json> tool_params(std::string_view name, Json arguments);
// With a hint that a model can follow (see client/mcp_hint.hpp).
[[nodiscard]] Error for_model(Error error);
// The results of tools/call. An error of the daemon's is one that the model reads, with a hint for it: no error of the
// protocol.
[[nodiscard]] Json tool_result(Json result);
[[nodiscard]] Json tool_failure(const Error& error);

// The result of resources/list from that of our `list`, newest session first, a page at a time. nullopt: no such
// cursor.
[[nodiscard]] std::optional<Json> resources(const Json& sessions, const std::string& cursor);
[[nodiscard]] Json resource_templates();
// cmssh://session/ID/logs → ID
[[nodiscard]] std::optional<std::string> session_of_uri(std::string_view uri);
// The result of resources/read from that of our `logs`.
[[nodiscard]] Json resource(const std::string& uri, const Json& logs);

}  // namespace cmssh::client::mcp
