#include "daemon/tmux/tmux_commands.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "daemon/tmux/tmux_scripts.hpp"
#include "protocol/jsonrpc.hpp"
#include "protocol/remote_command.hpp"
#include "protocol/server_key.hpp"
#include "protocol/tmux_control.hpp"

namespace cmssh::tmux {
namespace {

constexpr std::string_view kKeeperPrefix = "cmssh-keeper-";

}  // namespace

std::string keeper_name(const Ownership& ownership) {
    return std::string(kKeeperPrefix) + hex_digest(ownership.owner + ' ' + ownership.server_key, 12);
}

std::string target(std::string_view session_id) {
    return '=' + std::string(session_id) + ':';
}

namespace {

std::string to_hex(std::string_view bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string hex;
    hex.reserve(bytes.size() * 2);
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        hex += kDigits[byte >> 4U];
        hex += kDigits[byte & 0xFU];
    }
    return hex;
}

std::optional<std::string> from_hex(std::string_view hex) {
    if (hex.size() % 2 != 0) {
        return std::nullopt;
    }
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
        unsigned value = 0;
        const auto [end, failure] = std::from_chars(hex.data() + i, hex.data() + i + 2, value, 16);
        if (failure != std::errc() || end != hex.data() + i + 2) {
            return std::nullopt;
        }
        bytes += static_cast<char>(value);
    }
    return bytes;
}

template <typename Number>
bool parse_number(std::string_view text, Number& number) {
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
    return failure == std::errc() && end == text.data() + text.size();
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    for (;;) {
        const auto at = text.find(separator);
        parts.push_back(text.substr(0, at));
        if (at == std::string_view::npos) {
            return parts;
        }
        text.remove_prefix(at + 1);
    }
}

// A metadata value that tmux neither expands nor prints raw line ends for.
std::string encode_note(const SessionNote& note) {
    Json json = {{"name", note.name}, {"ctx", note.ctx}, {"command", note.command}, {"created_ms", note.created_ms}};
    if (note.cwd) {
        json["cwd"] = *note.cwd;
    }
    if (!note.request_id.empty()) {
        json["request_id"] = note.request_id;
    }
    if (note.killed) {
        json["killed"] = true;
    }
    return to_hex(dump_json(json));
}

std::optional<SessionNote> decode_note(std::string_view hex) {
    const auto text = from_hex(hex);
    if (!text) {
        return std::nullopt;
    }
    const auto json = parse_json(*text);
    if (!json || !json->is_object()) {
        return std::nullopt;
    }
    SessionNote note;
    try {
        note.name = json->at("name").get<std::string>();
        note.ctx = json->at("ctx").get<std::string>();
        note.command = json->at("command").get<std::vector<std::string>>();
        const Json& created = json->at("created_ms");
        if (!created.is_number_integer() || created < 0 || created > kLatestTime * 1000) {
            return std::nullopt;
        }
        note.created_ms = created.get<std::int64_t>();
        if (json->contains("cwd")) {
            note.cwd = json->at("cwd").get<std::string>();
        }
        note.request_id = json->value("request_id", "");
        note.killed = json->value("killed", false);
    } catch (const Json::exception&) {
        return std::nullopt;
    }
    return note;
}

// One name for each owner and key: tmux itself sees to it that there are never two.
std::string spare_name(const Ownership& ownership) {
    return "cmssh-spare-" + hex_digest(ownership.owner + ' ' + ownership.server_key, 12);
}

// A place of its own in tmux's global hook, beside those of the user and of other owners and keys.
std::string environment_hook(const Ownership& ownership) {
    const std::string digest = hex_digest(ownership.owner + ' ' + ownership.server_key, 6);
    return quote("after-set-environment[" + std::to_string(std::stoul(digest, nullptr, 16)) + ']');
}

// As remove_spare_command(), and no error where there is none: tmux sends the errors of a hook to the client whose
// command it runs behind.
std::string remove_spare_if_there(const Ownership& ownership) {
    const std::string spare = spare_name(ownership);
    return "if-shell -F -t " + quote(target(spare)) + ' ' + quote("#{==:#{session_name}," + spare + "}") + ' ' +
           quote(remove_spare_command(ownership));
}

// tmux itself looks for ends whose status it missed, as collect_status_command() says: the time of an end is that of
// its status. Every two seconds while nobody of ours is there to ask; seldom while a client is, which hears of each
// look and may be out of reach without tmux's knowing. A chain of looks ends with the client that it was begun for, or
// when another was begun.
constexpr int kOften = 2;
constexpr int kSeldom = 30;

std::string look_later(const std::string& keeper, int seconds) {
    return "run-shell -bC -d " + std::to_string(seconds) + " -t " + quote(keeper) + " '#{@cmssh_look}'";
}

std::string look(const std::string& keeper, std::uint64_t chain) {
    return "if-shell -F -t " + quote(keeper) + " '#{==:#{@cmssh_chain}," + std::to_string(chain) +
           "}' { if-shell -F '#{m:*x*,#{S:#{W:#{P:#{?pane_dead,#{?pane_dead_time,,x},}}}}}' { " +
           collect_status_command() + " } ; if-shell -F -t " + quote(keeper) + " '#{session_attached}' { " +
           look_later(keeper, kSeldom) + " } { " + look_later(keeper, kOften) + " } }";
}

// Of every daemon that uses this tmux: it does the same for all of them.
constexpr int kNameHook = 7263;

// What a pane gets from tmux's options when it is made.
constexpr std::string_view kOptionsOfPanes = "#{default-shell} #{default-terminal}";

// For a hook: moves its client to the first of the sessions that is there and has none.
std::string switch_to_first(const std::deque<std::string>& sessions) {
    std::string line;
    for (auto session = sessions.rbegin(); session != sessions.rend(); ++session) {
        const std::string otherwise = line.empty() ? "" : " { " + line + " }";
        line = "if-shell -F -t " + quote(target(*session)) + ' ' +
               quote("#{==:#{session_name} #{session_attached}," + *session + " 0}") + " { switch-client -t " +
               quote('=' + *session) + " }" + otherwise;
    }
    return line.empty() ? line : line + " ; ";
}

constexpr std::string_view kPlaceFormat = "cmssh #{window_id} #{pane_id} #{pane_pid}";
constexpr std::string_view kRowFormat =
    "cmssh #{session_name} #{window_id} #{pane_id} #{pane_pid} #{pane_dead} x#{pane_dead_status} x#{pane_dead_signal} "
    "x#{pane_dead_time} x#{@cmssh_note}";

// tmux takes a microsecond or two for each byte of a line, the waiting shell as long again: what is longer is started
// as fast without a spare session.
constexpr std::size_t kLongestHandOver = 4096;

// Variables whose value a start without a spare session may have from elsewhere: they mean something to the shell that
// sets them (sh may be dash, bash, ksh or busybox), or tmux sets them itself.
bool is_plain_variable(std::string_view name) {
    static constexpr std::array<std::string_view, 5> kFamilies = {"BASH", "CMSSH_SPARE_", "KSH", "TERM", "TMUX"};
    static constexpr std::array<std::string_view, 27> kSingle = {
        "_",      "COLUMNS",  "DIRSTACK", "EGID",      "EPOCHREALTIME",   "EPOCHSECONDS", "ERRNO",
        "EUID",   "FUNCNAME", "GID",      "GROUPS",    "HISTCMD",         "IFS",          "LINENO",
        "LINES",  "OLDPWD",   "OPTARG",   "OPTIND",    "POSIXLY_CORRECT", "PPID",         "PWD",
        "RANDOM", "SECONDS",  "SHELL",    "SHELLOPTS", "SRANDOM",         "UID"};
    return std::none_of(kFamilies.begin(), kFamilies.end(),
                        [name](std::string_view family) { return name.starts_with(family); }) &&
           std::find(kSingle.begin(), kSingle.end(), name) == kSingle.end();
}

bool needs_escapes(std::string_view value) {
    return std::any_of(value.begin(), value.end(), [](unsigned char c) { return c < ' ' || c >= 0x7F; });
}

// The second and third argument of run_script(), quoted by `quote`.
std::string variables_for_script(const std::map<std::string, std::string>& env,
                                 std::string (*quote)(std::string_view)) {
    std::string names;
    std::string words;
    for (const auto& [name, value] : env) {
        if (is_plain_variable(name)) {
            names += names.empty() ? "" : " ";
            names += needs_escapes(value) ? "%" + name : name;
        } else {
            words += words.empty() ? "" : " ";
            words += sh_quote(name + '=' + value);
        }
    }
    return quote(names) + ' ' + quote(words);
}

}  // namespace

std::vector<std::string> setup_commands(const SessionsConfig& config, const Ownership& ownership, std::uint64_t chain) {
    const std::string keeper = target(keeper_name(ownership));
    return {
        "set-option -s exit-empty off",
        "set-option -s exit-unattached off",
        "set-option -g destroy-unattached off",
        "set-option -g detach-on-destroy on",
        "set-option -g default-command ''",
        "set-option -g history-limit " + std::to_string(config.scrollback),
        "set-option -wg remain-on-exit on",
        // tmux 3.3 writes "Pane is dead" into the pane, where it would be taken for output. 3.2 has no such option.
        "set-option -wg remain-on-exit-format ''",
        // The name of a window whose program ended changes, which tmux 3.2 and 3.3 announce within half a second.
        "set-option -wg automatic-rename on",
        "set-option -wg automatic-rename-format '#{?pane_dead,dead,#{session_name}}'",
        "set-option -t " + quote(keeper) + " @cmssh_owner " + quote(ownership.owner),
        // A spare session is of no use to anybody else: whatever ends our client, tmux lets go of it.
        remove_spare_command(ownership),
        // A session's name is its id, whatever a person on it calls it.
        "set-hook -g " + quote("session-renamed[" + std::to_string(kNameHook) + ']') + ' ' +
            quote("if-shell -F '#{&&:#{@cmssh_id},#{!=:#{session_name},#{@cmssh_id}}}' { rename-session '#{@cmssh_id}' "
                  "}"),
        "set-option -t " + quote(keeper) + " @cmssh_look " + quote(look(keeper, chain)),
        "set-option -t " + quote(keeper) + " @cmssh_chain " + std::to_string(chain),
        look_later(keeper, kSeldom),
        "set-hook -t " + quote(keeper) + " client-detached " +
            quote(remove_spare_if_there(ownership) + " ; set-hook -gu " + environment_hook(ownership) + " ; " +
                  look_later(keeper, kOften)),
        // It has the environment of when it was made.
        "set-hook -g " + environment_hook(ownership) + ' ' + quote(remove_spare_if_there(ownership)),
        // One line a second at most, and only when the set of dead panes changed.
        "refresh-client -B " + quote("dead::#{S:#{W:#{P:#{?pane_dead,#{pane_id} #{pane_dead_status},}}}}"),
    };
}

namespace {

// The pipe that has tmux before 3.7 read a program's output to its end.
std::string pipe_command(std::string_view target) {
    return "pipe-pane -t " + quote(target) + " 'exec cat >/dev/null'";
}

}  // namespace

int blocks_behind_start(const NewSession& session) {
    return session.tmux < kReadsToTheEnd ? 1 : 0;
}

std::vector<std::string> start_commands(const SessionsConfig& config, const Ownership& ownership,
                                        const NewSession& session) {
    std::string line = "new-session -d -P -F " + quote(kPlaceFormat) + " -s " + quote(session.id);
    if (session.size) {
        line += " -x " + std::to_string(session.size->cols) + " -y " + std::to_string(session.size->rows);
    }
    if (!session.directory.empty()) {
        line += " -c " + quote_literal_format(session.directory);
    }
    const auto variable = [&line](const std::string& name, const std::string& value) {
        line += " -e " + quote(name + '=' + value);
    };
    variable("CMSSH_SESSION", session.id);
    variable("CMSSH_SESSION_CTX", session.note.ctx);
    for (const auto& [name, value] : session.env) {
        variable(name, value);
    }
    // Two or more words: tmux executes them without a shell.
    line += " -- /bin/sh -c " + quote(run_script(config.shell)) + " sh " + quote(session.directory) + ' ' +
            variables_for_script(session.env, quote);
    for (const auto& argument : session.note.command) {
        line += ' ';
        line += quote(argument);
    }
    const std::string option = "set-option -t " + quote(target(session.id)) + ' ';
    if (blocks_behind_start(session) > 0) {
        // In one line: between two, tmux may hear of the end of a short program.
        line += " ; " + pipe_command(target(session.id));
    }
    return {
        std::move(line),
        option + "@cmssh_owner " + quote(ownership.owner),
        option + "@cmssh_server " + quote(to_hex(ownership.server_key)),
        option + "@cmssh_note " + quote(encode_note(session.note)),
        option + "@cmssh_id " + session.id,
    };
}

std::vector<std::string> make_spare_commands(const SessionsConfig& config, const Ownership& ownership,
                                             const std::deque<std::string>& newest, Version version) {
    const std::string name = spare_name(ownership);
    const std::string here = "-t " + quote(target(name)) + ' ';
    std::vector<std::string> commands = {
        remove_spare_command(ownership),
        "new-session -d -P -F " + quote(kPlaceFormat) + " -s " + quote(name) + " -- /bin/sh -c " +
            quote(spare_script()) + " sh " + quote(run_script(config.shell)),
        "set-option " + here + "@cmssh_owner " + quote(ownership.owner),
        "set-option " + here + "@cmssh_server " + quote(to_hex(ownership.server_key)),
        "set-option -F " + here + "@cmssh_made_with " + quote(kOptionsOfPanes),
        "set-option -w " + here + "remain-on-exit off",
        // Where none of the newest is there: tmux 3.2 to 3.4 choose the oldest one that is not attached, later ones the
        // newest.
        "set-option " + here + "detach-on-destroy no-detached",
        "set-hook " + here + "client-session-changed " +
            quote(switch_to_first(newest) + remove_spare_command(ownership)),
    };
    if (version < kReadsToTheEnd) {
        commands.push_back(pipe_command(target(name)));
    }
    return commands;
}

std::optional<std::int64_t> parse_spare(const std::vector<Result<std::vector<std::string>>>& replies) {
    for (std::size_t i = 1; i < replies.size(); ++i) {
        if (!replies[i]) {
            return std::nullopt;
        }
    }
    const auto started = parse_started(*replies[1]);
    return started ? std::optional(started->pane_pid) : std::nullopt;
}

std::string remove_spare_command(const Ownership& ownership) {
    return kill_session_command(spare_name(ownership));
}

std::optional<std::string> take_over_command(const Ownership& ownership, std::int64_t spare_pid,
                                             const NewSession& session) {
    if (session.size || !session.directory.empty()) {
        return std::nullopt;
    }
    auto environment = session.env;
    environment.emplace("CMSSH_SESSION", session.id);
    environment.emplace("CMSSH_SESSION_CTX", session.note.ctx);
    const std::string here = "-t " + quote(target(session.id)) + ' ';
    std::string windows;  // what windows made in this session later have in their environment
    std::string script = "export";
    for (const auto& [name, value] : environment) {
        if (!is_plain_variable(name)) {
            return std::nullopt;
        }
        windows += "set-environment " + here + name + ' ' + quote(value) + " ; ";
        script += ' ' + name + '=' + sh_quote(value);
    }
    script += "; set -- " + variables_for_script(session.env, sh_quote);
    for (const auto& argument : session.note.command) {
        script += ' ' + sh_quote(argument);
    }
    const std::string text = std::string(kHandOverMark) + octal_escaped(script, "");
    if (text.size() > kLongestHandOver) {
        return std::nullopt;
    }
    const std::string spare = spare_name(ownership);
    const std::string keeper = keeper_name(ownership);
    // Its program waits, nobody has looked at it or put anything beside it, and it is the one that was made for us.
    const std::string fit =
        "#{==:#{pane_dead}#{pane_in_mode}#{pane_input_off}#{cursor_flag}#{session_windows}#{window_panes}"
        "#{session_last_attached} #{pane_pid} #{@cmssh_made_with},000011 " +
        std::to_string(spare_pid) + ' ' + std::string(kOptionsOfPanes) + "}";
    return "if-shell -F -t " + quote(target(spare)) + ' ' + quote(fit) +                  //
           " { rename-session -t " + quote('=' + spare) + ' ' + quote(session.id) +       //
           " ; set-hook -u " + here + "client-session-changed" +                          //
           " ; set-option -u " + here + "detach-on-destroy" +                             //
           " ; set-option -u " + here + "@cmssh_made_with" +                              //
           " ; set-option -wu " + here + "remain-on-exit" +                               //
           " ; set-option " + here + "@cmssh_note " + quote(encode_note(session.note)) +  //
           " ; set-option " + here + "@cmssh_id " + session.id + " ; " + windows + "send-keys -l " + here +
           quote(text) + " ; send-keys " + here + "Enter" +
           // Its time of activity, by which `tmux attach` chooses, is now.
           " ; switch-client -E -t " + quote('=' + session.id) + " ; switch-client -E -t " + quote('=' + keeper) +
           " ; display-message -p " + here + quote(kPlaceFormat) + " } { display-message -p " +
           quote(std::string(kRowMark) + "no-spare") + " }";
}

Result<Started> parse_started(const std::vector<std::string>& lines) {
    for (const auto& line : lines) {
        const auto words = split(line, ' ');
        Started started;
        if (words.size() == 4 && words[0] == "cmssh" && words[1].starts_with('@') && words[2].starts_with('%') &&
            parse_number(words[3], started.pane_pid)) {
            started.window_id = words[1];
            started.pane_id = words[2];
            return started;
        }
    }
    return Error{.kind = ErrorKind::TmuxFailed, .message = "tmux on the server gave an answer that is not understood"};
}

std::string set_note_command(std::string_view session_id, const SessionNote& note) {
    return "set-option -t " + quote(target(session_id)) + " @cmssh_note " + quote(encode_note(note));
}

std::string pane_directory_command(std::string_view session_id) {
    return "display-message -p -t " + quote(target(session_id)) + " '#{pane_current_path}'";
}

std::string list_command(const Ownership& ownership, bool dead_only) {
    std::string filter = "#{&&:#{==:#{@cmssh_owner}," + ownership.owner + "},#{==:#{@cmssh_server}," +
                         to_hex(ownership.server_key) + "}}";
    if (dead_only) {
        filter = "#{&&:#{pane_dead}," + filter + "}";
    }
    return "list-panes -a -f " + quote(filter) + " -F " + quote(kRowFormat);
}

std::string show_command(std::string_view session_id) {
    return "list-panes -s -t " + quote(target(session_id)) + " -F " + quote(kRowFormat);
}

std::vector<PaneRow> parse_panes(const std::vector<std::string>& lines) {
    std::vector<PaneRow> rows;
    for (const auto& line : lines) {
        const auto words = split(line, ' ');
        if (words.size() != 10 || words[0] != "cmssh" || !words[6].starts_with('x') || !words[7].starts_with('x') ||
            !words[8].starts_with('x') || !words[9].starts_with('x')) {
            continue;
        }
        PaneRow row;
        row.session_id = words[1];
        row.place.window_id = words[2];
        row.place.pane_id = words[3];
        row.dead = words[5] == "1";
        if (!parse_number(words[4], row.place.pane_pid)) {
            continue;
        }
        if (int status = 0; parse_number(words[6].substr(1), status)) {
            row.exit_status = status;
        }
        // tmux 3.2 knows neither.
        if (int signal = 0; parse_number(words[7].substr(1), signal) && signal > 0) {
            row.signal = signal;
        }
        if (std::int64_t time = 0; parse_number(words[8].substr(1), time) && time > 0 && time <= kLatestTime) {
            row.dead_time = time;
        }
        auto note = decode_note(words[9].substr(1));
        if (!note) {
            continue;
        }
        row.note = std::move(*note);
        rows.push_back(std::move(row));
    }
    return rows;
}

std::optional<std::string> parse_life(const std::vector<std::string>& lines) {
    constexpr std::string_view kWord = kLifeFormat.substr(0, kLifeFormat.find('#'));
    if (lines.size() != 1 || !lines.front().starts_with(kWord)) {
        return std::nullopt;
    }
    return lines.front().substr(kWord.size());
}

std::string pane_target(std::string_view session_id, const Started& place) {
    return place.pane_id.empty() ? target(session_id) : target(session_id) + place.window_id + '.' + place.pane_id;
}

std::string capture_command(std::string_view pane) {
    return capture_command(pane, std::nullopt, Escapes::Kept);
}

std::string capture_command(std::string_view pane, std::optional<std::int64_t> first, Escapes escapes) {
    return "capture-pane -p" + std::string(escapes == Escapes::Kept ? " -e" : "") + " -J -S " +
           (first ? std::to_string(*first) : "-") + " -t " + quote(pane);
}

std::string rows_command(std::string_view pane, std::int64_t first, Version version) {
    // Newer ones fill rows up with blanks that the lines do not have. 0.0 is not known, and new.
    const bool fills_up = version == Version{} || version >= Version{3, 4};
    return "capture-pane -p -N" + std::string(fills_up ? " -T" : "") + " -S " + std::to_string(first) + " -t " +
           quote(pane);
}

std::string pane_state_command(std::string_view pane) {
    return "display-message -p -t " + quote(pane) +
           " '#{pane_dead} #{alternate_on} #{cursor_x} #{cursor_y} #{pane_width} #{pane_height} #{history_size} "
           "#{history_limit}'";
}

std::optional<PaneState> parse_pane_state(const std::vector<std::string>& lines) {
    if (lines.size() != 1) {
        return std::nullopt;
    }
    const auto words = split(lines.front(), ' ');
    PaneState state;
    if (words.size() != 8 || !parse_number(words[2], state.cursor_column) ||
        !parse_number(words[3], state.cursor_row) || !parse_number(words[4], state.width) ||
        !parse_number(words[5], state.height) || !parse_number(words[6], state.history) ||
        !parse_number(words[7], state.history_limit)) {
        return std::nullopt;
    }
    // Ours to reckon with: what a server says may be anything.
    constexpr std::int64_t kMost = 1'000'000'000;
    const auto sane = [](std::int64_t number) { return number >= 0 && number <= kMost; };
    if (!sane(state.cursor_column) || !sane(state.cursor_row) || !sane(state.width) || !sane(state.height) ||
        !sane(state.history) || !sane(state.history_limit)) {
        return std::nullopt;
    }
    state.dead = words[0] == "1";
    state.alternate = words[1] == "1";
    return state;
}

std::string send_buffer_prefix(const Ownership& ownership) {
    return "cmssh-send-" + hex_digest(ownership.owner + ' ' + ownership.server_key, 12) + '-';
}

std::string list_buffers_command(const Ownership& ownership) {
    return "list-buffers -F '#{buffer_name}' -f " + quote("#{m:" + send_buffer_prefix(ownership) + "*,#{buffer_name}}");
}

std::string delete_buffer_command(std::string_view buffer) {
    return "delete-buffer -b " + quote(buffer);
}

std::vector<std::string> buffer_commands(const Input& input) {
    // Quoted four times as long at most: well within the line of 1 MB that every version takes.
    constexpr std::size_t kChunk = 64 * 1024;
    std::vector<std::string> commands;
    std::string_view rest = input.text;
    while (!rest.empty()) {
        std::size_t size = std::min(rest.size(), kChunk);
        // tmux reads whole characters.
        while (size < rest.size() && (static_cast<unsigned char>(rest[size]) & 0xC0U) == 0x80U) {
            --size;
        }
        commands.push_back("set-buffer " + std::string(commands.empty() ? "" : "-a ") + "-b " + quote(input.buffer) +
                           " -- " + quote(rest.substr(0, size)));
        rest.remove_prefix(size);
    }
    return commands;
}

std::string type_command(const Input& input) {
    const std::string here = "-t " + quote(input.pane) + ' ';
    const std::string fit = "#{==:#{session_name} #{pane_dead}#{pane_input_off}," + input.session_id + " 00}";
    // A person who scrolls is in a mode that would take the keys, and hides whether the program wants pastes marked.
    std::string commands = "copy-mode -q " + here + "; ";
    if (!input.keys.empty()) {
        commands += "send-keys " + here + "--";
        for (const auto& key : input.keys) {
            commands += ' ' + quote(key);
        }
        commands += " ; ";
    }
    if (!input.text.empty()) {
        // tmux 3.7 makes control characters visible unless it is told not to.
        const bool sanitizes = input.tmux == Version{} || input.tmux >= Version{3, 7};
        commands += "paste-buffer -p -r -d " + std::string(sanitizes ? "-S " : "") + "-b " + quote(input.buffer) + ' ' +
                    here + "; ";
    }
    if (input.enter) {
        commands += "send-keys " + here + "Enter ; ";
    }
    return "if-shell -F " + here + quote(fit) + " { " + commands + "display-message -p " +
           quote(std::string(kRowMark) + "typed") + " } { display-message -p " + here +
           quote(std::string(kRowMark) + "#{session_name} #{pane_dead}#{pane_input_off}") + " }";
}

Typed parse_typed(const std::vector<std::string>& lines) {
    for (const auto& line : lines) {
        if (!line.starts_with(kRowMark)) {
            continue;
        }
        if (line.substr(kRowMark.size()) == "typed") {
            return Typed::All;
        }
        if (line.ends_with(" 10") || line.ends_with(" 11")) {
            return Typed::Ended;
        }
        if (line.ends_with(" 01")) {
            return Typed::Closed;
        }
    }
    return Typed::NoPane;
}

std::string collect_status_command() {
    return "run-shell -b :";
}

std::string kill_session_command(std::string_view session_id) {
    return "kill-session -t " + quote('=' + std::string(session_id));
}

std::string kill_pane_command(std::string_view pane) {
    return "kill-pane -t " + quote(pane);
}

std::string run_script_command(std::string_view script) {
    return "run-shell -b " + quote_literal_format(for_any_shell(script));
}

std::string try_directory_of_command(std::string_view session_id, std::string_view directory) {
    const std::string outcome = "set-option -t " + quote(target(session_id)) + " @cmssh_entered ";
    return "if-shell -b -t " + quote(target(session_id)) + ' ' +
           quote_literal_format(try_directory_command(directory)) + " { " + outcome + "yes } { " + outcome + "no }";
}

std::string entered_command(std::string_view session_id) {
    return "display-message -p -t " + quote(target(session_id)) + " '#{@cmssh_entered}'";
}

}  // namespace cmssh::tmux
