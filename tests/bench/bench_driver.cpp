// Times cmssh and what people use without it, side by side. Started by tests/bench/run.
#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "tests/bench/bench.hpp"
#include "tests/bench/delay_proxy.hpp"

int main(int argc, char** argv) {
    if (argc != 6) {
        std::cerr << "started by tests/bench/run\n";
        return 2;
    }
    try {
        bench::Setup setup;
        setup.dir = argv[1];
        setup.port = argv[2];
        setup.rounds = std::stoi(argv[3]);
        setup.peers_only = std::string(argv[4]) == "peers";
        setup.user = getpwuid(getuid())->pw_name;
        const bench::DelayProxy proxy("127.0.0.3", static_cast<std::uint16_t>(std::stoi(setup.port)),
                                      bench::kRoundTrip);
        setup.far_port = std::to_string(proxy.port());
        bench::Bench all(setup);
        all.all();
        const std::string report = all.report();
        std::ofstream(argv[5]) << report;
        std::cout << report << std::flush;
        // the proxy's threads wait for connections that are gone
        std::_Exit(0);
    } catch (const std::exception& error) {
        std::cerr << "bench: " << error.what() << "\n";
        std::_Exit(1);
    }
}
