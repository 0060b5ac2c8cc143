#include <unistd.h>

#include <array>
#include <cstdio>
#include <ctime>

#include "client/event_stream.hpp"
#include "client/event_text.hpp"
#include "client/interrupt.hpp"
#include "client/output.hpp"
#include "client/verbs.hpp"

namespace cmssh::client {
namespace {

// false: nobody reads it.
bool print_event(const GlobalOptions& global, const Json& json) {
    if (global.json) {
        std::fputs((json.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n").c_str(), stdout);
    } else if (const auto event = api::read<api::Event>(json)) {
        if (!global.quiet) {
            std::fputs((event_line(*event, use_color(global)) + "\n").c_str(), stdout);
        } else if (event->type != api::EventType::Overflow) {
            print_line(subject_of(*event));
        }
    }
    return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

}  // namespace

int events(const GlobalOptions& global, const EventsOptions& options) {
    const auto deadline = deadline_of(global);
    catch_interrupts();
    EventStream stream(global, options.types);
    if (const auto opened = stream.open(deadline); const auto* failure = std::get_if<CallError>(&opened)) {
        return print_error(global, *failure);
    }
    if (!global.quiet && ::isatty(STDERR_FILENO) != 0) {
        std::fputs("waiting for events, Ctrl-C ends\n", stderr);
    }
    for (;;) {
        const auto woken = stream.wait(deadline);
        if (const auto* failure = std::get_if<CallError>(&woken)) {
            CallError lost = *failure;
            lost.error.message = "the daemon is gone";
            return print_error(global, lost);
        }
        switch (std::get<EventStream::Woken>(woken)) {
            case EventStream::Woken::Interrupted:
                return exit_code::kOk;
            case EventStream::Woken::Time:
                return exit_code::kTimeout;
            case EventStream::Woken::OutputClosed:
                return exit_code::kFailed;
            case EventStream::Woken::Resized:
            case EventStream::Woken::Input:
                continue;
            case EventStream::Woken::Events:
                break;
        }
        bool overflowed = false;
        for (const Json& event : stream.take()) {
            if (!print_event(global, event)) {
                return exit_code::kFailed;
            }
            overflowed = overflowed || event.value("type", "") == to_string(api::EventType::Overflow);
        }
        if (overflowed) {
            const auto again = stream.open(deadline);
            if (const auto* failure = std::get_if<CallError>(&again)) {
                return print_error(global, *failure);
            }
        }
    }
}

}  // namespace cmssh::client
