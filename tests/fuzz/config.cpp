// The configuration file: whatever is in it is a configuration, or a complaint of one line.
#include "daemon/app/config.hpp"
#include "protocol/names.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {

void one_input(std::string_view input) {
    const auto config = parse_config(input, "config.toml", "/home/user");
    if (!config) {
        const std::string& message = config.error().message;
        expect(config.error().kind == ErrorKind::BadConfig, "a complaint is BadConfig");
        expect(message.find("config.toml") != std::string::npos, "it names the file");
        expect(printable(message) == message, "it is printable");
    }
}

}  // namespace cmssh::fuzz
