// What ssh, or whoever writes through it, said when a login failed.
#include "daemon/ssh/ssh_error.hpp"
#include "protocol/names.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace cmssh::fuzz {

void one_input(std::string_view input) {
    for (const bool person : {false, true}) {
        for (const LoginEnd end : {LoginEnd::Exited, LoginEnd::TimedOut}) {
            const LoginFailure failure{.end = end,
                                       .log = input,
                                       .destination = "server-a",
                                       .server = "user@server1:22",
                                       .ssh = {"ssh", "-F", "my config", "server-a"},
                                       .ctx = "server-a",
                                       .person = person};
            const Error error = classify_login_failure(failure);
            expect(!error.message.empty() && printable(error.message) == error.message, "a message is one line");
            expect(printable_lines(error.hint) == error.hint, "a hint is printable");
            expect(!error.ssh_stderr || error.ssh_stderr->size() <= 8192, "what is kept of the log is bounded");
        }
    }
    static_cast<void>(wants_a_person(input));
}

}  // namespace cmssh::fuzz
