#include "client/curses_screen.hpp"

#define NCURSES_NOMACROS 1
#include <curses.h>
#include <langinfo.h>
#include <locale.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace cmssh::client {
namespace {

// How long an Esc waits for the rest of a key's sequence, which a terminal sends at once.
constexpr int kEscapeDelayMilliseconds = 25;

// Output is UTF-8 everywhere, whatever the locale says.
void set_locale() {
    if (::setlocale(LC_CTYPE, "") == nullptr || std::string_view(::nl_langinfo(CODESET)) != "UTF-8") {
        ::setlocale(LC_CTYPE, "C.UTF-8");
    }
}

short color_of(Style style) {
    switch (style) {
        case Style::Good:
            return COLOR_GREEN;
        case Style::Doubtful:
            return COLOR_YELLOW;
        case Style::Bad:
            return COLOR_RED;
        case Style::Plain:
        case Style::Faint:
            return -1;
    }
    return -1;
}

}  // namespace

struct CursesScreen::Curses {
    SCREEN* screen = nullptr;
    bool color = false;

    [[nodiscard]] attr_t attributes(const Span& span) const {
        attr_t attributes = A_NORMAL;
        if (span.reverse) {
            attributes |= A_REVERSE;
        }
        if (span.bold) {
            attributes |= A_BOLD;
        }
        if (span.style == Style::Faint) {
            attributes |= A_DIM;
        }
        return attributes;
    }
    // Numbered by the colour, 0 for the terminal's own.
    [[nodiscard]] short pair(const Span& span) const {
        const short wanted = color_of(span.style);
        return color && wanted > 0 ? wanted : static_cast<short>(0);
    }
};

std::variant<std::unique_ptr<CursesScreen>, std::string> CursesScreen::open(bool color) {
    set_locale();
    auto curses = std::make_unique<Curses>();
    curses->screen = ::newterm(nullptr, stdout, stdin);
    if (curses->screen == nullptr) {
        const char* terminal = std::getenv("TERM");
        return "the terminal type '" + std::string(terminal == nullptr ? "" : terminal) + "' is not known here";
    }
    ::set_escdelay(kEscapeDelayMilliseconds);
    ::cbreak();
    ::noecho();
    ::nonl();
    ::keypad(stdscr, true);
    ::nodelay(stdscr, true);
    ::curs_set(0);
    if (color && ::has_colors() && ::start_color() == OK) {
        curses->color = true;
        ::use_default_colors();
        for (const Style style : {Style::Good, Style::Doubtful, Style::Bad}) {
            ::init_pair(color_of(style), color_of(style), -1);
        }
    }
    return std::unique_ptr<CursesScreen>(new CursesScreen(std::move(curses)));
}

CursesScreen::CursesScreen(std::unique_ptr<Curses> curses) : curses_(std::move(curses)) {}

CursesScreen::~CursesScreen() {
    ::endwin();
    ::delscreen(curses_->screen);
}

std::size_t CursesScreen::columns() const {
    return static_cast<std::size_t>(::getmaxx(stdscr));
}

std::size_t CursesScreen::rows() const {
    return static_cast<std::size_t>(::getmaxy(stdscr));
}

void CursesScreen::resize() {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
        ::resizeterm(size.ws_row, size.ws_col);
    }
}

void CursesScreen::draw(const std::vector<ScreenLine>& lines) {
    ::werase(stdscr);
    int row = 0;
    for (const ScreenLine& line : lines) {
        ::wmove(stdscr, row++, 0);
        for (const Span& span : line) {
            ::wattr_set(stdscr, curses_->attributes(span), curses_->pair(span), nullptr);
            ::waddnstr(stdscr, span.text.c_str(), -1);
        }
        ::wattr_set(stdscr, A_NORMAL, 0, nullptr);
    }
    ::wrefresh(stdscr);
}

KeyPress CursesScreen::read_key() {
    int key = ::wgetch(stdscr);
    while (key == KEY_RESIZE) {
        key = ::wgetch(stdscr);  // of our own resize()
    }
    switch (key) {
        case ERR:
            return {};
        case KEY_UP:
            return {.key = Key::Up};
        case KEY_DOWN:
            return {.key = Key::Down};
        case KEY_PPAGE:
            return {.key = Key::PageUp};
        case KEY_NPAGE:
            return {.key = Key::PageDown};
        case KEY_HOME:
            return {.key = Key::First};
        case KEY_END:
            return {.key = Key::Last};
        case '\t':
        case KEY_BTAB:
            return {.key = Key::Tab};
        case '\r':
        case '\n':
        case KEY_ENTER:
            return {.key = Key::Enter};
        default:
            return {.key = Key::Other, .character = key};
    }
}

void CursesScreen::suspend() {
    ::endwin();
}

void CursesScreen::resume() {
    // What the other program left is not what curses thinks.
    ::clearok(curscr, true);
    resize();
    ::wrefresh(stdscr);
}

}  // namespace cmssh::client
