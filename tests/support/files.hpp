// Files and directories of the integration tests.
#pragma once

#include <string>
#include <string_view>

namespace cmssh::test {

// Removed with everything in it. Its path is short: a control socket's has to fit into 90 bytes.
class TempDir {
public:
    TempDir();
    ~TempDir();
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    // A path in it.
    [[nodiscard]] std::string operator/(std::string_view name) const { return path_ + '/' + std::string(name); }

private:
    std::string path_;
};

// These throw on failure.
void write_file(const std::string& path, std::string_view text);
[[nodiscard]] std::string read_file(const std::string& path);
// With its parents, for the owner only.
void make_dirs(const std::string& path);
[[nodiscard]] bool exists(const std::string& path);

}  // namespace cmssh::test
