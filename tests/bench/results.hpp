#pragma once
// Samples by name, and how operations are measured side by side: every round runs each of them once, in a rotating
// order, so that whatever else the machine does falls on all of them.
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/bench/process.hpp"

namespace bench {

struct Samples {
    std::vector<double> ms;
    double at(double share) const;
    double median() const { return at(0.5); }
};

// What was measured, in the order in which the report lists it.
class Results {
public:
    void add(const std::string& name, double ms);
    bool has(const std::string& name) const { return samples_.contains(name); }
    double median(const std::string& name) const { return samples_.at(name).median(); }
    const Samples& of(const std::string& name) const { return samples_.at(name); }
    const Words& names() const { return order_; }

private:
    std::map<std::string, Samples> samples_;
    Words order_;
};

struct Operation {
    std::string name;
    std::function<double()> run;  // gives its time in ms
};

// `clean` ends the sessions that the operations have made: tmux gets slower with every session it has.
void measure(Results& results, const std::vector<Operation>& operations, int rounds,
             const std::function<void()>& clean);

// The mean of a few in a row: after a pause, what is measured of something this short is how fast a CPU wakes up.
double in_a_row(const std::function<double()>& run);

// printf's pattern for one double.
std::string format(const char* pattern, double value);

// Cores, kernel, and how busy the machine was when the report was written.
std::string machine();

}  // namespace bench
