#include "client/options.hpp"

int main(int argc, char** argv) {
    return cmssh::client::run_command_line(argc, argv);
}
