// Rules that no compiler checks: which part may include which, and what may be used where.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace cmssh {
namespace {

// Lowest first: a part may include itself and what stands before it.
constexpr std::array<std::string_view, 9> kLayers = {"protocol/",    "daemon/base/", "daemon/ssh/",
                                                     "daemon/tmux/", "daemon/pool/", "daemon/session/",
                                                     "daemon/rpc/",  "daemon/app/",  "daemon/main.cpp"};
constexpr std::array<std::string_view, 3> kClientMayInclude = {"protocol/", "client/", "daemon/base/"};

bool begins_with_any(std::string_view path, const auto& prefixes) {
    return std::any_of(prefixes.begin(), prefixes.end(), [path](std::string_view it) { return path.starts_with(it); });
}

bool may_include(std::string_view path, std::string_view included) {
    if (path.starts_with("client/")) {
        return begins_with_any(included, kClientMayInclude);
    }
    const auto layer_of = [](std::string_view file) {
        return std::find_if(kLayers.begin(), kLayers.end(),
                            [file](std::string_view it) { return file.starts_with(it); });
    };
    const auto layer = layer_of(path);
    const auto below = layer_of(included);
    return layer == kLayers.end() || (below != kLayers.end() && below <= layer);
}

struct Ban {
    std::string name;
    std::string word;  // in every line that the pattern finds: most lines are passed over without it
    std::regex pattern;
};

const std::vector<Ban>& bans_everywhere() {
    static const std::vector<Ban> bans = {
        {"asio::detached", "detached", std::regex(R"(\basio::detached\b)")},
        // g++ 12.2 at -O2 and -O3 ends such a coroutine with an illegal instruction: name the value first.
        {"co_await in a condition", "co_await", std::regex(R"(\b(if|while)\s*\(.*\bco_await\b)")},
        // Throws through its user where the process behind a file of /proc ends: use operator<<(rdbuf()).
        {"std::istreambuf_iterator", "istreambuf_iterator", std::regex(R"(\bistreambuf_iterator\b)")},
        {"popen()", "popen", std::regex(R"((^|[^\w.>])popen\s*\()")},
        {"system()", "system", std::regex(R"((^|[^\w.>])system\s*\()")},
    };
    return bans;
}

// Time and chance come through the seam in daemon/base/, so that tests decide them.
const std::vector<Ban>& bans_outside_base() {
    static const std::vector<Ban> bans = {
        {"asio::steady_timer", "steady_timer", std::regex(R"(\basio::steady_timer\b)")},
        {"a clock's now()", "_clock", std::regex(R"(\bstd::chrono::\w+_clock::now\s*\()")},
        {"std::random_device", "random_device", std::regex(R"(\bstd::random_device\b)")},
    };
    return bans;
}

std::vector<std::string> violations(const std::string& path, const std::string& text) {
    static const std::regex include(R"(^\s*#\s*include\s*"([^"]+)\")");
    std::vector<std::string> found;
    std::istringstream lines(text);
    std::string line;
    for (int number = 1; std::getline(lines, line); ++number) {
        const auto report = [&](const std::string& what) {
            found.push_back(path + ":" + std::to_string(number) + ": " + what);
        };
        std::smatch match;
        if (line.find("include") != std::string::npos && std::regex_search(line, match, include) &&
            !may_include(path, match[1].str())) {
            report("includes " + match[1].str());
        }
        line = line.substr(0, line.find("//"));
        const auto check = [&](const std::vector<Ban>& bans) {
            for (const Ban& ban : bans) {
                if (line.find(ban.word) != std::string::npos && std::regex_search(line, ban.pattern)) {
                    report("uses " + ban.name);
                }
            }
        };
        check(bans_everywhere());
        const bool free_of_the_seam =
            path.starts_with("client/") || path.starts_with("tests/") || path.starts_with("daemon/base/");
        if (!free_of_the_seam) {
            check(bans_outside_base());
        }
    }
    return found;
}

TEST(SourceRules, HoldInTheTree) {
    const std::filesystem::path root = CMSSH_SOURCE_DIR;
    // This file spells out what it bans.
    const std::string self = "tests/unit/source_rules_test.cpp";
    std::size_t files = 0;
    for (const auto* part : {"protocol", "daemon", "client", "tests"}) {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(root / part)) {
            const std::string extension = entry.path().extension();
            const std::string path = std::filesystem::relative(entry.path(), root);
            if (!entry.is_regular_file() || (extension != ".cpp" && extension != ".hpp") || path == self) {
                continue;
            }
            ++files;
            std::ifstream file(entry.path());
            const std::string text{std::istreambuf_iterator<char>(file), {}};
            for (const std::string& violation : violations(path, text)) {
                ADD_FAILURE() << violation;
            }
        }
    }
    EXPECT_GT(files, 10U);
}

TEST(SourceRules, LayersIncludeDownwardsOnly) {
    const auto allowed = [](const std::string& path, const std::string& included) {
        return violations(path, "#include \"" + included + "\"\n").empty();
    };
    EXPECT_TRUE(allowed("daemon/pool/pool.cpp", "daemon/ssh/mux.hpp"));
    EXPECT_TRUE(allowed("daemon/pool/pool.cpp", "daemon/pool/pool.hpp"));
    EXPECT_TRUE(allowed("daemon/main.cpp", "daemon/app/daemon.hpp"));
    EXPECT_TRUE(allowed("tests/unit/pool/pool_test.cpp", "daemon/pool/pool.hpp"));
    EXPECT_TRUE(allowed("client/main.cpp", "daemon/base/control_socket.hpp"));
    EXPECT_TRUE(allowed("client/main.cpp", "daemon/base/clock.hpp"));
    EXPECT_FALSE(allowed("client/main.cpp", "daemon/ssh/ssh_error.hpp"));
    EXPECT_FALSE(allowed("daemon/ssh/mux.cpp", "daemon/pool/pool.hpp"));
    EXPECT_FALSE(allowed("protocol/names.cpp", "daemon/base/clock.hpp"));
    EXPECT_FALSE(allowed("daemon/app/daemon.cpp", "client/rpc.hpp"));
    EXPECT_FALSE(allowed("daemon/app/daemon.cpp", "app.hpp"));
}

TEST(SourceRules, FindWhatIsBanned) {
    const auto clean = [](const std::string& path, const std::string& line) { return violations(path, line).empty(); };
    EXPECT_FALSE(clean("client/a.cpp", "co_spawn(x, y, asio::detached);"));
    EXPECT_FALSE(clean("client/a.cpp", "auto* p = popen(\"x\", \"r\");"));
    EXPECT_FALSE(clean("tests/a.cpp", "std::system(\"x\");"));
    EXPECT_FALSE(clean("tests/a.cpp", "system(\"x\");"));
    EXPECT_FALSE(clean("daemon/pool/a.cpp", "asio::steady_timer timer;"));
    EXPECT_FALSE(clean("daemon/pool/a.cpp", "auto t = std::chrono::steady_clock::now();"));
    EXPECT_FALSE(clean("protocol/a.cpp", "std::random_device device;"));
    EXPECT_TRUE(clean("daemon/base/a.cpp", "asio::steady_timer timer; std::chrono::system_clock::now();"));
    EXPECT_TRUE(clean("client/a.cpp", "std::chrono::steady_clock::now();"));
    EXPECT_TRUE(clean("client/a.cpp", "file_system(x); a.system(x);  // never system()"));
}

}  // namespace
}  // namespace cmssh
