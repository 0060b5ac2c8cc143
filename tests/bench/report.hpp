#pragma once
// The load driver's report: markdown, written row by row, so that what was measured is there after an error too.
#include <fstream>
#include <string>

namespace bench {

class Report {
public:
    // Adds to `file`; the plots go beside it.
    explicit Report(std::string file) : file_(std::move(file)) {}

    void heading(const std::string& text);
    void paragraph(const std::string& text);
    void row(const std::string& what, const std::string& measured, const std::string& wanted = "", bool reached = true);
    // "at most LIMIT", or at least, of a value printed by `pattern`.
    void at_most(const std::string& what, const char* pattern, double value, double limit);
    void at_least(const std::string& what, const char* pattern, double value, double limit);
    // The file `name`.svg beside the report, and a line that shows it.
    void plot(const std::string& name, const std::string& title, const std::string& svg);
    void note_failure(const std::string& where, const std::string& why);
    bool failed() const { return failed_; }

private:
    void write(const std::string& text);

    std::string file_;
    bool failed_ = false;
};

}  // namespace bench
