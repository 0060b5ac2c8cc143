// A registry whose bytes were changed: it is opened, or said to be unusable or not ours, by no other exception.
// An input is "file:" and a whole file, "wal:" and what lies beside a good one, or changes to a good one of four bytes
// each: two for the place, one for the page, one for the value.
#include "daemon/session/registry_file.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "daemon/base/log.hpp"
#include "protocol/names.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh {

void log(LogLevel, std::string_view subject, std::string_view text) {
    static_cast<void>(printable(subject) + printable(text));
}

namespace fuzz {
namespace {

constexpr std::size_t kPage = 4096;

// Gone with the process; tests/fuzz/run removes what a crash leaves.
class Directory {
public:
    Directory() {
        const char* above = std::getenv("TMPDIR");
        std::string name = std::string(above == nullptr ? "/dev/shm" : above) + "/cmssh-fuzz-XXXXXX";
        expect(::mkdtemp(name.data()) != nullptr, "a directory for the registry");
        path_ = name;
    }
    ~Directory() { std::filesystem::remove_all(path_); }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    [[nodiscard]] std::string file() const { return path_ / "registry.db"; }
    void clear() const {
        for (const auto& entry : std::filesystem::directory_iterator(path_)) {
            std::filesystem::remove(entry.path());
        }
    }

private:
    std::filesystem::path path_;
};

StoredChanges entries() {
    StoredChanges changes;
    for (const std::string id : {"sess-aaaaaaaa", "sess-bbbbbbbb"}) {
        StoredSession session;
        session.view.id = session.view.name = id;
        session.view.ctx = "server-a";
        session.view.server = {.user = "u", .host = "h", .port = 22, .via = std::nullopt, .key = "u@h:22"};
        session.view.command = {"make", "test"};
        session.created_ms = 1000;
        changes.sessions[id] = session;
        changes.screens[id] = std::string(5000, 'x');
    }
    StoredConnection connection;
    connection.key = {.user = "u", .host = "h", .port = 22};
    connection.route.destination.host = "h";
    connection.dump.user = "u";
    connection.dump.hostname = "h";
    connection.control_path = "/run/user/1/cmssh/cm-ssh-u@h:22";
    changes.connections[connection.key.text()] = connection;
    StoredForward forward;
    forward.view.id = "fwd-aaaaaaaa";
    forward.view.ctx = "server-a";
    forward.view.server.key = "u@h:22";
    forward.view.listen = forward.listen = "8080";
    changes.forwards[forward.view.id] = forward;
    return changes;
}

std::string good_file(const Directory& directory) {
    {
        RegistryFile file(directory.file(), "stamp", true);
        file.write(entries());
        file.finish();
    }
    std::ostringstream bytes;
    bytes << std::ifstream(directory.file(), std::ios::binary).rdbuf();
    StoredContents contents;
    RegistryFile(directory.file(), "stamp", true).read(contents);
    expect(contents.sessions.size() == 2 && contents.connections.size() == 1 && contents.forwards.size() == 1,
           "a good file is read");
    return bytes.str();
}

void put(const std::string& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

void lay_out(const Directory& directory, const std::string& good, std::string_view input) {
    directory.clear();
    if (input.starts_with("file:")) {
        put(directory.file(), input.substr(5));
        return;
    }
    if (input.starts_with("wal:")) {
        put(directory.file(), good);
        put(directory.file() + "-wal", input.substr(4));
        return;
    }
    std::string bytes = good;
    for (; input.size() >= 4; input.remove_prefix(4)) {
        const auto byte = [input](std::size_t at) { return static_cast<unsigned char>(input[at]); };
        const std::size_t in_page = (byte(0) * std::size_t{256} + byte(1)) % kPage;
        bytes[(byte(2) * kPage + in_page) % bytes.size()] = input[3];
    }
    put(directory.file(), bytes);
}

template <typename Step>
void attempt(Step&& step) {
    try {
        step();
    } catch (const RegistryFile::NotUsable& error) {
        expect(*error.what() != '\0', "it says why");
    } catch (const RegistryFile::NotOurs& error) {
        expect(!error.kind.empty() && *error.what() != '\0', "it says why");
    }
}

}  // namespace

void one_input(std::string_view input) {
    static const Directory directory;
    static const std::string good = good_file(directory);
    lay_out(directory, good, input);
    attempt([&] {
        StoredContents contents;
        RegistryFile::read_only(directory.file(), contents);
    });
    attempt([&] { static_cast<void>(RegistryFile::read_only_screen(directory.file(), "sess-aaaaaaaa")); });
    attempt([&] {
        RegistryFile file(directory.file(), "stamp", true);
        StoredContents contents;
        file.read(contents);
        static_cast<void>(file.screen("sess-aaaaaaaa"));
        file.write(entries());
        file.finish();
    });
}

}  // namespace fuzz
}  // namespace cmssh
