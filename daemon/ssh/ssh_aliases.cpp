#include "daemon/ssh/ssh_aliases.hpp"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "daemon/base/unique_fd.hpp"
#include "protocol/server_key.hpp"

namespace cmssh {
namespace {

constexpr int kMaxDepth = 16;  // OpenSSH 9.2 readconf.c READCONF_MAX_DEPTH
constexpr std::size_t kMaxFile = 1024 * 1024;
constexpr std::size_t kMaxAliases = 10000;
constexpr int kMaxFiles = 256;  // files that include each other by patterns would be read for ever

bool is_blank(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\f';
}

// The words of a line as readconf.c parts them: blanks, one '=' after the keyword, double quotes.
std::vector<std::string> words_of(std::string_view line) {
    std::vector<std::string> words;
    std::size_t at = 0;
    while (at < line.size()) {
        while (at < line.size() && (is_blank(line[at]) || (line[at] == '=' && words.size() == 1))) {
            ++at;
        }
        if (at == line.size() || line[at] == '#') {
            break;
        }
        std::string word;
        bool quoted = false;
        for (; at < line.size() && (quoted || !is_blank(line[at])); ++at) {
            if (line[at] == '"') {
                quoted = !quoted;
            } else if (words.empty() && line[at] == '=') {
                break;
            } else {
                word += line[at];
            }
        }
        words.push_back(std::move(word));
    }
    return words;
}

bool is_keyword(std::string_view word, std::string_view keyword) {
    return std::equal(word.begin(), word.end(), keyword.begin(), keyword.end(),
                      [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + ('a' - 'A') : a) == b; });
}

// Empty where it is no plain file that can be read.
std::string read_file(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
        return {};
    }
    std::string text(std::min(static_cast<std::size_t>(status.st_size), kMaxFile), '\0');
    const ssize_t count = ::read(fd.get(), text.data(), text.size());
    text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return text;
}

struct Collector {
    std::string home;
    std::string base;  // what a relative Include is relative to
    std::set<std::string> seen = {};
    std::vector<std::string> aliases = {};
    int files = 0;

    void add_file(const std::string& path, int depth) {
        if (++files > kMaxFiles) {
            return;
        }
        const SshAliases found = parse_ssh_aliases(read_file(path));
        for (const std::string& host : found.hosts) {
            if (aliases.size() < kMaxAliases && seen.insert(host).second) {
                aliases.push_back(host);
            }
        }
        if (depth == kMaxDepth) {
            return;
        }
        for (std::string include : found.includes) {
            if (include.starts_with("~/")) {
                include.replace(0, 1, home);
            } else if (!include.starts_with('/')) {
                include.insert(0, base + '/');
            }
            glob_t matches{};
            if (::glob(include.c_str(), GLOB_NOSORT, nullptr, &matches) == 0) {
                for (std::size_t i = 0; i < matches.gl_pathc; ++i) {
                    add_file(matches.gl_pathv[i], depth + 1);
                }
            }
            ::globfree(&matches);
        }
    }
};

}  // namespace

SshAliases parse_ssh_aliases(std::string_view text) {
    SshAliases found;
    while (!text.empty()) {
        const auto end = text.find('\n');
        auto words = words_of(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (words.size() < 2) {
            continue;
        }
        const bool host = is_keyword(words.front(), "host");
        if (host || is_keyword(words.front(), "include")) {
            words.erase(words.begin());
            std::copy_if(words.begin(), words.end(), std::back_inserter(host ? found.hosts : found.includes),
                         [host](const std::string& word) { return !host || valid_host(word); });
        }
    }
    return found;
}

std::vector<std::string> ssh_aliases(const std::vector<std::string>& ssh_options, const std::string& home) {
    Collector collector{.home = home, .base = home + "/.ssh"};
    std::string file = collector.base + "/config";
    for (std::size_t i = 0; i < ssh_options.size(); ++i) {
        if (ssh_options[i] == "-F" && i + 1 < ssh_options.size()) {
            file = ssh_options[i + 1];
        } else if (ssh_options[i].starts_with("-F")) {
            file = ssh_options[i].substr(2);
        }
    }
    collector.add_file(file, 0);
    return std::move(collector.aliases);
}

}  // namespace cmssh
