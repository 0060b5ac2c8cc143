// What `ssh -G` prints, which server that is and where its control socket lies; and what a person calls a server.
#include "protocol/names.hpp"
#include "protocol/server_key.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {
namespace {

void check(const ServerKey& key) {
    const std::string text = key.text();
    expect(!text.empty(), "a key has a text");
    const auto path = control_path(key, "/run/user/1000/cmssh", "");
    if (!path) {
        return;
    }
    expect(path->size() <= kMaxControlPath, "a control path fits sun_path");
    const std::string name = path->substr(path->rfind('/') + 1);
    expect(path->starts_with("/run/user/1000/cmssh/" + name), "a control socket lies in the runtime dir");
    expect(is_control_name(name), "its name is known");
    if (const auto server = server_of_control_name(name)) {
        expect(*server == key, "its name is that of its server");
    }
}

}  // namespace

void one_input(std::string_view input) {
    if (const auto dump = parse_ssh_config_dump(input)) {
        expect(valid_host(dump->hostname) && valid_user(dump->user), "names keep to the allow-lists");
        expect(dump->port > 0 && dump->port < 65536, "a port is one");
        check(make_server_key(*dump, nullptr));
        expect(make_server_key(*dump, &*dump).as.empty(), "identity files count where they differ");
    } else {
        expect(printable(dump.error().message) == dump.error().message, "a message is printable");
    }
    static_cast<void>(server_of_control_name(input));
    if (const auto destination = parse_destination(input)) {
        expect(valid_host(destination->host), "a host keeps to the allow-list");
        expect(!destination->user || valid_user(*destination->user), "a user keeps to the allow-list");
        expect(!destination->port || (*destination->port > 0 && *destination->port < 65536), "a port is one");
    } else {
        expect(printable(destination.error().message) == destination.error().message, "a message is printable");
    }
}

}  // namespace cmssh::fuzz
