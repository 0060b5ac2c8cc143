#include "tests/bench/report.hpp"

#include <filesystem>
#include <iostream>

#include "tests/bench/results.hpp"

namespace bench {

void Report::write(const std::string& text) {
    std::ofstream(file_, std::ios::app) << text;
    std::cout << text << std::flush;
}

void Report::heading(const std::string& text) {
    write("\n| " + text + " | measured | wanted |\n|---|---|---|\n");
}

void Report::paragraph(const std::string& text) {
    write("\n" + text + "\n");
}

void Report::row(const std::string& what, const std::string& measured, const std::string& wanted, bool reached) {
    write("| " + what + " | " + measured + " | " + wanted + (reached ? "" : ", **missed**") + " |\n");
}

void Report::at_most(const std::string& what, const char* pattern, double value, double limit) {
    row(what, format(pattern, value), "at most " + format(pattern, limit), value <= limit);
}

void Report::at_least(const std::string& what, const char* pattern, double value, double limit) {
    row(what, format(pattern, value), "at least " + format(pattern, limit), value >= limit);
}

void Report::plot(const std::string& name, const std::string& title, const std::string& svg) {
    const auto file = std::filesystem::path(file_).replace_filename(name + ".svg");
    std::ofstream(file) << svg;
    write("\n![" + title + "](" + name + ".svg)\n");
}

void Report::note_failure(const std::string& where, const std::string& why) {
    failed_ = true;
    paragraph("**" + where + " was not measured**: " + why);
}

}  // namespace bench
