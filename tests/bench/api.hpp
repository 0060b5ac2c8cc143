#pragma once
// A client of the daemon's API, blocking, one JSON text per line. Failures are std::runtime_error.
#include <nlohmann/json.hpp>
#include <string>

namespace bench {

class Api {
public:
    explicit Api(const std::string& path);
    Api(const Api&) = delete;
    Api& operator=(const Api&) = delete;
    ~Api();

    // `took`: milliseconds from the request's first byte to the reply's last.
    nlohmann::json call(const std::string& method, const nlohmann::json& params = nlohmann::json::object(),
                        double* took = nullptr);
    double timed(const std::string& method, const nlohmann::json& params = nlohmann::json::object());

    // For many requests in flight: each post() is followed, whenever, by one take(), which gives the result of
    // whichever call is answered first and its number in `id`.
    int post(const std::string& method, const nlohmann::json& params = nlohmann::json::object());
    nlohmann::json take(int* id = nullptr);

    int fd() const { return fd_; }

private:
    std::string read_line(const std::string& method);

    int fd_ = -1;
    int last_id_ = 0;
    std::size_t read_ = 0;  // of buffer_
    std::string buffer_;
};

}  // namespace bench
