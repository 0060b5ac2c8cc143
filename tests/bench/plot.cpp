#include "tests/bench/plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include "tests/bench/results.hpp"

namespace bench {
namespace {

constexpr double kWidth = 720, kHeight = 400, kLeft = 70, kRight = 20, kTop = 70, kBottom = 50;
constexpr std::array<const char*, 4> kColours = {"#1f6feb", "#d1242f", "#1a7f37", "#8250df"};

// The step of 1, 2 or 5 times a power of ten that gives about five ticks.
double tick(double most) {
    const double rough = most / 5, power = std::pow(10, std::floor(std::log10(rough)));
    for (const double factor : {1.0, 2.0, 5.0}) {
        if (factor * power >= rough) {
            return factor * power;
        }
    }
    return 10 * power;
}

class Chart {
public:
    Chart(double most_x, double most_y)
        : tick_x_(tick(most_x)),
          tick_y_(tick(most_y)),
          most_x_(std::ceil(most_x / tick_x_) * tick_x_),
          most_y_(std::ceil(most_y / tick_y_) * tick_y_) {}

    std::string axes(const Axes& axes) const {
        std::ostringstream out;
        out << text(kLeft, 22, "start", 16, axes.title)
            << text((kLeft + kWidth - kRight) / 2, kHeight - 10, "middle", 13, axes.x)
            << text(kLeft - 50, kTop - 12, "start", 13, axes.y);
        for (double x = 0; x <= most_x_ * 1.001; x += tick_x_) {
            out << line(x, 0, x, most_y_) << text(at_x(x), kHeight - kBottom + 18, "middle", 12, format("%g", x));
        }
        for (double y = 0; y <= most_y_ * 1.001; y += tick_y_) {
            out << line(0, y, most_x_, y) << text(kLeft - 8, at_y(y) + 4, "end", 12, format("%g", y));
        }
        return out.str();
    }

    std::string series(const Series& series, std::size_t number) const {
        const std::string colour = kColours[number % kColours.size()];
        std::ostringstream path, points;
        for (const auto& [x, y] : series.points) {
            path << format("%.1f,", at_x(x)) << format("%.1f ", at_y(y));
            points << "<circle cx=\"" << format("%.1f", at_x(x)) << "\" cy=\"" << format("%.1f", at_y(y))
                   << "\" r=\"3\" fill=\"" << colour << "\"/>\n";
        }
        const double legend = kLeft + 200.0 * static_cast<double>(number);
        return "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" + colour + "\" points=\"" + path.str() +
               "\"/>\n" + points.str() + "<circle cx=\"" + format("%.0f", legend + 5) + "\" cy=\"38\" r=\"5\" fill=\"" +
               colour + "\"/>\n" + text(legend + 16, 42, "start", 13, series.name);
    }

private:
    double at_x(double x) const { return kLeft + x / most_x_ * (kWidth - kLeft - kRight); }
    double at_y(double y) const { return kHeight - kBottom - y / most_y_ * (kHeight - kTop - kBottom); }

    std::string line(double x1, double y1, double x2, double y2) const {
        return "<line stroke=\"#d0d7de\" x1=\"" + format("%.1f", at_x(x1)) + "\" y1=\"" + format("%.1f", at_y(y1)) +
               "\" x2=\"" + format("%.1f", at_x(x2)) + "\" y2=\"" + format("%.1f", at_y(y2)) + "\"/>\n";
    }
    static std::string text(double x, double y, const std::string& anchor, double size, const std::string& words) {
        return "<text x=\"" + format("%.1f", x) + "\" y=\"" + format("%.1f", y) + "\" text-anchor=\"" + anchor +
               "\" font-size=\"" + format("%.0f", size) + "\">" + words + "</text>\n";
    }

    double tick_x_, tick_y_, most_x_, most_y_;
};

}  // namespace

std::string line_chart(const Axes& axes, const std::vector<Series>& series) {
    double most_x = 1e-9, most_y = 1e-9;
    for (const auto& one : series) {
        for (const auto& [x, y] : one.points) {
            most_x = std::max(most_x, x);
            most_y = std::max(most_y, y);
        }
    }
    const Chart chart(most_x, most_y);
    std::string lines;
    for (std::size_t i = 0; i < series.size(); ++i) {
        lines += chart.series(series[i], i);
    }
    const std::string size = "width=\"" + format("%.0f", kWidth) + "\" height=\"" + format("%.0f", kHeight) + "\"";
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" " + size + " font-family=\"sans-serif\">\n<rect " + size +
           " fill=\"white\"/>\n" + chart.axes(axes) + lines + "</svg>\n";
}

}  // namespace bench
