#include <fcntl.h>
#include <unistd.h>

#include "client/options.hpp"
#include "client/scp_channel.hpp"

namespace {

// A standard descriptor that the caller closed would be given to the next file or socket that is opened, and what is
// printed would go there. It is opened the wrong way round, so that using it fails as on a closed one.
void keep_standard_descriptors() {
    for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(descriptor, F_GETFD) == -1) {
            (void)::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    keep_standard_descriptors();
    if (const auto code = cmssh::client::run_as_scp_channel(argc, argv)) {
        return *code;
    }
    return cmssh::client::run_command_line(argc, argv);
}
