#include "daemon/ssh/identity.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "protocol/names.hpp"

namespace cmssh {
namespace {

constexpr Duration kLongestUse = std::chrono::minutes(1);
constexpr std::size_t kMaxEntries = 4096;
constexpr std::size_t kMaxDump = 256 * 1024;

std::string cache_key(const SshRoute& route) {
    const auto& destination = route.destination;
    return destination.user.value_or("") + '\n' + destination.host + '\n' +
           std::to_string(destination.port.value_or(0)) + '\n' + route.identity_file.value_or("") + '\n' +
           route.jump.value_or("");
}

}  // namespace

IdentityResolver::IdentityResolver(asio::any_io_executor executor, Clock& clock, ProcessSpawner& spawner,
                                   const Config& config, std::vector<std::string> environment)
    : executor_(std::move(executor)),
      clock_(clock),
      spawner_(spawner),
      config_(config),
      environment_(std::move(environment)) {}

std::string IdentityResolver::config_stamp() const {
    std::vector<std::string> files = {"/etc/ssh/ssh_config"};
    const auto home = std::find_if(environment_.begin(), environment_.end(),
                                   [](const std::string& entry) { return entry.starts_with("HOME="); });
    if (home != environment_.end()) {
        files.push_back(home->substr(5) + "/.ssh/config");
    }
    const auto& options = config_.ssh.options;
    for (std::size_t i = 0; i < options.size(); ++i) {
        if (options[i] == "-F" && i + 1 < options.size()) {
            files.push_back(options[i + 1]);
        } else if (options[i].starts_with("-F")) {
            files.push_back(options[i].substr(2));
        }
    }
    std::string stamp;
    for (const auto& file : files) {
        struct stat status {};
        if (::stat(file.c_str(), &status) == 0) {
            stamp += std::to_string(status.st_mtim.tv_sec) + '.' + std::to_string(status.st_mtim.tv_nsec) + '/' +
                     std::to_string(status.st_ino) + '/' + std::to_string(status.st_size);
        }
        stamp += ';';
    }
    return stamp;
}

bool IdentityResolver::fresh(const Entry& entry) const {
    return entry.answer && entry.answer->ok() && clock_.now() - entry.at < kLongestUse && entry.stamp == config_stamp();
}

const Identity* IdentityResolver::known(const SshRoute& route) const {
    const auto found = entries_.find(cache_key(route));
    return found != entries_.end() && fresh(*found->second) ? &**found->second->answer : nullptr;
}

asio::awaitable<Result<Identity>> IdentityResolver::resolve(SshRoute route, Instant deadline) {
    const std::string key = cache_key(route);
    if (const auto found = entries_.find(key); found != entries_.end()) {
        const auto entry = found->second;
        if (!entry->answer) {
            bool in_time = true;
            while (!entry->answer && in_time) {
                in_time = co_await entry->answered.wait_until(deadline);
            }
            if (!entry->answer) {
                co_return Error{.kind = ErrorKind::Timeout,
                                .message = config_.ssh.program + " -G did not end in time for " +
                                           printable(route.destination.host)};
            }
            co_return *entry->answer;
        }
        if (fresh(*entry)) {
            co_return *entry->answer;
        }
    }
    if (entries_.size() >= kMaxEntries) {
        std::erase_if(entries_, [this](const auto& item) { return item.second->answer && !fresh(*item.second); });
    }
    const auto entry = std::make_shared<Entry>(clock_);
    entry->at = clock_.now();
    entry->stamp = config_stamp();
    entries_[key] = entry;
    auto answer = co_await ask(route, deadline);
    entry->answer = std::move(answer);
    entry->answered.notify_all();
    if (!entry->answer->ok()) {
        if (const auto found = entries_.find(key); found != entries_.end() && found->second == entry) {
            entries_.erase(found);
        }
    }
    co_return *entry->answer;
}

asio::awaitable<Result<Identity>> IdentityResolver::ask(const SshRoute& route, Instant deadline) {
    auto found = co_await dump(route, deadline);
    if (!found) {
        co_return std::move(found).error();
    }
    Identity identity;
    identity.dump = std::move(*found);
    if (!identity.dump.identitiesonly) {
        identity.key = make_server_key(identity.dump, nullptr);
        co_return identity;
    }
    SshRoute bare;
    bare.destination.host = identity.dump.hostname;
    bare.destination.user = identity.dump.user;
    const auto usual = co_await dump(bare, deadline);
    identity.key = make_server_key(identity.dump, usual ? &*usual : nullptr);
    co_return identity;
}

asio::awaitable<Result<SshConfigDump>> IdentityResolver::dump(const SshRoute& route, Instant deadline) {
    auto argv = dump_command(config_.ssh, route);
    auto environment = ssh_environment(environment_, std::nullopt);
    auto output =
        co_await run_captured(executor_, clock_, spawner_, std::move(argv), std::move(environment), deadline, kMaxDump);
    if (!output) {
        co_return std::move(output).error();
    }
    if (output->status.signal != 0 || output->status.code != 0) {
        Error error{.kind = ErrorKind::ConnectFailed,
                    .message = config_.ssh.program + " does not accept the destination " +
                               printable(route.destination.host) + " or its own configuration",
                    .hint = "ssh -G " + printable(route.destination.host)};
        error.ssh_stderr = output->standard_error;
        co_return error;
    }
    co_return parse_ssh_config_dump(output->standard_output);
}

}  // namespace cmssh
