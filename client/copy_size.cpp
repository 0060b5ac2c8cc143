#include "client/copy_size.hpp"

#include <charconv>
#include <filesystem>
#include <string_view>

#include "client/login_call.hpp"

namespace cmssh::client {
namespace {

constexpr int kMostFiles = 10'000;
constexpr int kCountMilliseconds = 2000;
constexpr std::uint64_t kKilobyte = 1024;

}  // namespace

std::uint64_t local_copy_size(const std::string& path) {
    namespace fs = std::filesystem;
    std::error_code failure;
    if (!fs::is_directory(path, failure)) {
        const auto size = fs::file_size(path, failure);
        return failure ? 0 : size;
    }
    std::uint64_t sum = 0;
    int files = 0;
    const auto options = fs::directory_options::skip_permission_denied;
    for (auto at = fs::recursive_directory_iterator(path, options, failure);
         !failure && at != fs::recursive_directory_iterator(); at.increment(failure)) {
        if (++files > kMostFiles || sum >= kBigCopy) {
            return kBigCopy;
        }
        std::error_code unreadable;
        if (at->is_regular_file(unreadable)) {
            const auto size = at->file_size(unreadable);
            sum += unreadable ? 0 : size;
        }
    }
    return sum;
}

bool remote_copy_is_big(RpcClient& client, const std::string& ctx, const std::vector<CpOperand>& sources,
                        std::optional<Instant> deadline) {
    // As scp finds them: links followed, patterns expanded, which is all that happens to $@ without quotes and IFS.
    // --apparent-size is GNU's.
    Json command = {"sh", "-c", "cd && IFS= && { du -skLc --apparent-size -- $@ || du -skLc -- $@; }", "sh"};
    for (const CpOperand& source : sources) {
        const bool at_home = source.path.starts_with("~/");
        const std::string path = at_home ? source.path.substr(2) : source.path;
        command.push_back(path.empty() ? "." : path);
    }
    Json params = {{"ctx", ctx}, {"command", std::move(command)}, {"timeout_ms", kCountMilliseconds}};
    add_login_params(params);
    const auto outcome = call_with_login<api::ExecResult>(client, "exec", std::move(params), deadline);
    if (const auto* failure = std::get_if<CallError>(&outcome)) {
        return failure->error.kind == ErrorKind::Timeout;
    }
    const api::ExecResult& counted = std::get<Reply<api::ExecResult>>(outcome).value;
    // The last line is the total.
    std::string_view text = counted.standard_output;
    text.remove_suffix(text.ends_with('\n') ? 1 : 0);
    text.remove_prefix(text.find_last_of('\n') == std::string_view::npos ? 0 : text.find_last_of('\n') + 1);
    std::uint64_t kilobytes = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), kilobytes);
    return error == std::errc() && end != text.data() && kilobytes >= kBigCopy / kKilobyte;
}

}  // namespace cmssh::client
