#pragma once
// A line chart as SVG: both axes linear from 0, a point where one was measured, the legend at the top.
#include <string>
#include <utility>
#include <vector>

namespace bench {

struct Series {
    std::string name;
    std::vector<std::pair<double, double>> points;
};

struct Axes {
    std::string title, x, y;
};

std::string line_chart(const Axes& axes, const std::vector<Series>& series);

}  // namespace bench
