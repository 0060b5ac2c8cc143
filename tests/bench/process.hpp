#pragma once
// What both drivers need to run programs, and to look at those that run. All times are milliseconds; a failure, and a
// step that takes longer than kStepLimitMs, is a std::runtime_error with what the program printed.
#include <chrono>
#include <string>
#include <vector>

namespace bench {

using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

constexpr int kStepLimitMs = 60'000;  // no single step takes a second; more than this is a hang

double ms_since(Clock::time_point from);

// Lets the shell that the last operation has left starting up in a session get out of the next one's way.
void settle(std::chrono::milliseconds pause = std::chrono::milliseconds(60));

std::string joined(const Words& words);
std::string contents(const std::string& file);
// As exec wants them, with the null at the end; they lead into the words.
std::vector<char*> pointers_to(const Words& words);

// Runs a program to its end and gives its time; its output goes to the file `dir`/output, looked at only where the
// program failed.
double run(const std::string& dir, const Words& words, const Words& extra_environment = {});

// Runs a program on a terminal of its own and gives the time until it prints the text; then hangs up.
double run_on_terminal(const Words& words, const std::string& text);

// Until the machine is idle for half a second; gives how busy it was in the last one, 0 to 1.
double settle_until_idle(std::chrono::milliseconds longest);

// Of all threads of a process that live, so far: how long they ran, and how long they could have and had no core.
struct SchedStat {
    double ran_ms = 0, waited_ms = 0;
};
SchedStat sched_stat(int pid);
double cpu_ms(int pid);  // ran_ms

// A field of a file under /proc that has lines as "VmRSS:  1234 kB"; 0 where there is none.
double proc_field(const std::string& file, const std::string& field);

}  // namespace bench
