// The whole terminal by ncurses: lines on it, keys from it. The only place that knows curses.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "client/top_screen.hpp"

namespace cmssh::client {

enum class Key { None, Up, Down, PageUp, PageDown, First, Last, Tab, Enter, Other };

struct KeyPress {
    Key key = Key::None;
    int character = 0;  // with Key::Other
};

class CursesScreen {
public:
    // The terminal on standard input and output, from here to the destructor. The text: why it cannot be had.
    [[nodiscard]] static std::variant<std::unique_ptr<CursesScreen>, std::string> open(bool color);
    ~CursesScreen();
    CursesScreen(const CursesScreen&) = delete;
    CursesScreen& operator=(const CursesScreen&) = delete;

    [[nodiscard]] std::size_t columns() const;
    [[nodiscard]] std::size_t rows() const;
    // The terminal has another size now.
    void resize();
    void draw(const std::vector<ScreenLine>& lines);
    // Without waiting: Key::None where nothing is typed.
    [[nodiscard]] KeyPress read_key();
    // The terminal as it was before, for another program; and back.
    void suspend();
    void resume();

private:
    struct Curses;
    explicit CursesScreen(std::unique_ptr<Curses> curses);
    std::unique_ptr<Curses> curses_;
};

}  // namespace cmssh::client
