// A client of the API socket that is as plain as a script's: it shares no code with the product but the JSON library.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "daemon/base/unique_fd.hpp"
#include "tests/support/wait.hpp"

namespace cmssh::test {

using Json = nlohmann::json;

// An error reply where a result was expected, a closed connection, or no answer in time.
class RpcFailure : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

class RpcClient {
public:
    explicit RpcClient(const std::string& socket_path);

    // The result; throws RpcFailure on an error reply.
    Json call(std::string_view method, const Json& params = Json::object(), Deadline deadline = in(kPatience));
    // The error object; throws RpcFailure on a result.
    Json refusal(std::string_view method, const Json& params = Json::object(), Deadline deadline = in(kPatience));

    // The two halves of a call: any number may be under way.
    int send(std::string_view method, const Json& params = Json::object());
    Json reply(int id, Deadline deadline = in(kPatience));
    // Those that came along with the replies so far.
    [[nodiscard]] const std::vector<Json>& notifications() const { return notifications_; }

    void send_bytes(std::string_view bytes);
    // The next line without its end; throws where none comes.
    std::string read_line(Deadline deadline = in(kPatience));
    // Exactly so many bytes.
    std::string read_bytes(std::size_t count, Deadline deadline = in(kPatience));
    // What comes before the daemon closes the connection.
    std::string read_to_end(Deadline deadline = in(kPatience));
    // Says that nothing will be sent any more.
    void close_writing();
    void close() { fd_.reset(); }

private:
    // False at the end of the stream.
    bool receive(Deadline deadline);

    UniqueFd fd_;
    int last_id_ = 0;
    std::string received_;
    std::vector<Json> replies_;
    std::vector<Json> notifications_;
};

}  // namespace cmssh::test
