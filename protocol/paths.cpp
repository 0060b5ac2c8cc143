#include "protocol/paths.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

namespace cmssh {
namespace {

std::string without_trailing_slashes(std::string path) {
    while (path.size() > 1 && path.ends_with('/')) {
        path.pop_back();
    }
    return path;
}

std::string join(std::string directory, std::string_view name) {
    directory = without_trailing_slashes(std::move(directory));
    if (!directory.ends_with('/')) {
        directory += '/';
    }
    return directory += name;
}

std::optional<std::string> absolute(const PathEnvironment& environment, std::string_view variable) {
    std::optional<std::string> path = environment.get(variable);
    if (path && !path->starts_with('/')) {
        return std::nullopt;
    }
    return path;
}

std::string home_dir(const PathEnvironment& environment) {
    return absolute(environment, "HOME").value_or("/");
}

std::string run_user_dir(unsigned uid) {
    return "/run/user/" + std::to_string(uid);
}

}  // namespace

PathEnvironment process_environment() {
    PathEnvironment environment;
    environment.uid = ::geteuid();
    environment.get = [uid = environment.uid](std::string_view variable) -> std::optional<std::string> {
        const char* value = std::getenv(std::string(variable).c_str());
        if (value != nullptr && *value != '\0') {
            return value;
        }
        if (variable == "HOME") {
            const struct passwd* entry = ::getpwuid(uid);
            if (entry != nullptr && entry->pw_dir != nullptr && *entry->pw_dir != '\0') {
                return entry->pw_dir;
            }
        }
        return std::nullopt;
    };
    struct stat status {};
    environment.run_user_exists = ::lstat(run_user_dir(environment.uid).c_str(), &status) == 0 &&
                                  S_ISDIR(status.st_mode) && status.st_uid == environment.uid;
    return environment;
}

std::string runtime_dir(const PathEnvironment& environment) {
    if (const std::optional<std::string> xdg = absolute(environment, "XDG_RUNTIME_DIR")) {
        return join(*xdg, "cmssh");
    }
    if (environment.run_user_exists) {
        return join(run_user_dir(environment.uid), "cmssh");
    }
    return "/tmp/cmssh-" + std::to_string(environment.uid);
}

std::string state_dir(const PathEnvironment& environment) {
    const std::optional<std::string> xdg = absolute(environment, "XDG_STATE_HOME");
    return join(xdg ? *xdg : join(home_dir(environment), ".local/state"), "cmssh");
}

std::string socket_path(const PathEnvironment& environment, const std::optional<std::string>& flag) {
    // bind() would take an empty path for "choose an abstract name".
    if (flag && !flag->empty()) {
        return *flag;
    }
    if (const std::optional<std::string> path = environment.get("CMSSH_SOCKET")) {
        return *path;
    }
    return join(runtime_dir(environment), "cmsshd.sock");
}

std::string config_path(const PathEnvironment& environment, const std::optional<std::string>& flag) {
    if (flag && !flag->empty()) {
        return *flag;
    }
    if (const std::optional<std::string> path = environment.get("CMSSH_CONFIG")) {
        return *path;
    }
    const std::optional<std::string> xdg = absolute(environment, "XDG_CONFIG_HOME");
    return join(xdg ? *xdg : join(home_dir(environment), ".config"), "cmssh/config.toml");
}

std::string expand_home(const PathEnvironment& environment, std::string_view path) {
    return expand_home(home_dir(environment), path);
}

std::string expand_home(const std::string& home, std::string_view path) {
    if (path == "~") {
        return without_trailing_slashes(home);
    }
    if (path.starts_with("~/")) {
        return join(home, path.substr(2));
    }
    return std::string(path);
}

}  // namespace cmssh
