// What the tests of daemon/app share: a directory of their own, and environment variables that come back.
#pragma once

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace cmssh {

class ScratchDir {
public:
    // In /tmp, whatever TMPDIR says: a socket's path has to be short.
    explicit ScratchDir(const std::string& parent = "/tmp") : path_(parent + "/cmssh-unit-XXXXXX") {
        if (::mkdtemp(path_.data()) == nullptr) {
            std::abort();
        }
    }
    ScratchDir(const ScratchDir&) = delete;
    ScratchDir& operator=(const ScratchDir&) = delete;
    ~ScratchDir() { std::filesystem::remove_all(path_); }

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::string operator/(std::string_view name) const { return path_ + '/' + std::string(name); }
    [[nodiscard]] std::string write(std::string_view name, std::string_view text) const {
        const std::string file = *this / name;
        std::ofstream(file) << text;
        return file;
    }

private:
    std::string path_;
};

class ScopedVariable {
public:
    ScopedVariable(const char* name, const std::string& value) : name_(name) {
        if (const char* before = std::getenv(name)) {
            before_ = before;
        }
        ::setenv(name, value.c_str(), 1);
    }
    ScopedVariable(const ScopedVariable&) = delete;
    ScopedVariable& operator=(const ScopedVariable&) = delete;
    ~ScopedVariable() {
        if (before_) {
            ::setenv(name_, before_->c_str(), 1);
        } else {
            ::unsetenv(name_);
        }
    }

private:
    const char* name_;
    std::optional<std::string> before_;
};

}  // namespace cmssh
