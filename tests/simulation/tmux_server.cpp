#include "tests/simulation/tmux_server.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <stdexcept>
#include <utility>

#include "daemon/tmux/tmux_commands.hpp"

namespace cmssh::sim {
namespace {

using namespace std::chrono_literals;

// A command line as tmux's parser reads it: bare words, '…', and "…" with its escapes.
std::vector<std::string> split_words(std::string_view line) {
    std::vector<std::string> words;
    std::size_t at = 0;
    while (at < line.size()) {
        if (line[at] == ' ') {
            ++at;
            continue;
        }
        std::string word;
        while (at < line.size() && line[at] != ' ') {
            if (line[at] == '\'') {
                const auto end = line.find('\'', at + 1);
                if (end == std::string_view::npos) {
                    throw std::runtime_error("an open ' in " + std::string(line));
                }
                word += line.substr(at + 1, end - at - 1);
                at = end + 1;
            } else if (line[at] == '"') {
                for (++at; at < line.size() && line[at] != '"'; ++at) {
                    if (line[at] != '\\') {
                        std::size_t end = at + 1;
                        while (end < line.size() && line[end] != '\\' && line[end] != '"') {
                            ++end;
                        }
                        word += line.substr(at, end - at);
                        at = end - 1;
                        continue;
                    }
                    ++at;
                    if (at < line.size() && line[at] == 'n') {
                        word += '\n';
                    } else if (at + 2 < line.size() && line[at] >= '0' && line[at] <= '3') {
                        word +=
                            static_cast<char>((line[at] - '0') * 64 + (line[at + 1] - '0') * 8 + line[at + 2] - '0');
                        at += 2;
                    } else if (at < line.size()) {
                        word += line[at];
                    }
                }
                if (at >= line.size()) {
                    throw std::runtime_error("an open \" in " + std::string(line));
                }
                ++at;
            } else if (line[at] == '$' || line[at] == ';' || line[at] == '~' || line[at] == '{') {
                throw std::runtime_error("tmux would expand " + std::string(line));
            } else {
                word += line[at++];
            }
        }
        words.push_back(std::move(word));
    }
    return words;
}

// What stands before the first {, and in each {…}: commands, parted by " ; ".
std::vector<std::vector<std::string>> split_groups(std::string_view line) {
    std::vector<std::vector<std::string>> groups(1);
    groups.back().emplace_back();
    char quoted = 0;
    bool inside = false;
    for (std::size_t at = 0; at < line.size(); ++at) {
        const char c = line[at];
        if (quoted != 0) {
            if (c == '\\' && quoted == '"' && at + 1 < line.size()) {
                groups.back().back() += c;
                groups.back().back() += line[++at];
                continue;
            }
            quoted = c == quoted ? 0 : quoted;
        } else if (c == '"' || c == '\'') {
            quoted = c;
        } else if (c == '{') {
            groups.emplace_back();
            groups.back().emplace_back();
            inside = true;
            continue;
        } else if (c == '}') {
            inside = false;
            continue;
        } else if (c == ';') {
            groups.back().emplace_back();
            continue;
        }
        if (inside || groups.size() == 1) {
            groups.back().back() += c;
        }
    }
    return groups;
}

// The value behind an option that takes one.
const std::string* option(const std::vector<std::string>& words, std::string_view name) {
    for (std::size_t i = 1; i + 1 < words.size() && words[i] != "--"; ++i) {
        if (words[i] == name) {
            return &words[i + 1];
        }
    }
    return nullptr;
}

template <typename Number>
Number to_number(std::string_view text) {
    Number number{};
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failure != std::errc() || end != text.data() + text.size()) {
        throw std::runtime_error("no number: " + std::string(text));
    }
    return number;
}

// The end of what a "#{" opened; `from` is behind it.
std::size_t closing(std::string_view text, std::size_t from) {
    int depth = 1;
    for (std::size_t at = from; at < text.size(); ++at) {
        if (text.substr(at, 2) == "#{") {
            ++depth;
            ++at;
        } else if (text[at] == '}' && --depth == 0) {
            return at;
        }
    }
    throw std::runtime_error("an open #{ in " + std::string(text));
}

// The first comma that is inside no "#{…}".
std::size_t comma(std::string_view text) {
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text.substr(at, 2) == "#{") {
            at = closing(text, at + 2);
        } else if (text[at] == ',') {
            return at;
        }
    }
    throw std::runtime_error("no comma in " + std::string(text));
}

bool is_true(std::string_view text) {
    return !text.empty() && text != "0";
}

Program to_program(const std::vector<std::string>& words) {
    const auto job = std::find(words.begin(), words.end(), "job");
    if (words.end() - job < 6) {
        throw std::runtime_error("no program in a new-session");
    }
    Program program;
    program.tag = job[1];
    program.runs = std::chrono::milliseconds(to_number<std::int64_t>(job[2]));
    program.by_signal = job[3] == "signal";
    program.number = to_number<int>(job[4]);
    program.ignores_hup = job[5] == "ignores-hup";
    return program;
}

}  // namespace

std::vector<std::string> to_words(const Program& program) {
    return {"job",
            program.tag,
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(program.runs).count()),
            program.by_signal ? "signal" : "exit",
            std::to_string(program.number),
            program.ignores_hup ? "ignores-hup" : "plain"};
}

TmuxServer::TmuxServer(Surroundings surroundings, std::int64_t pid)
    : around_(std::move(surroundings)),
      pid_(pid),
      start_time_(around_.wall_seconds()),
      life_(std::to_string(pid_) + ' ' + std::to_string(start_time_)) {}

void TmuxServer::attach(ControlClient* client) {
    if (find('=' + client->keeper + ':') == nullptr) {
        Session keeper;
        keeper.name = client->keeper;
        keeper.pane.id = '%' + std::to_string(next_id_);
        keeper.pane.window = '@' + std::to_string(next_id_++);
        keeper.pane.pid = around_.new_pid();
        sessions_.emplace(client->keeper, std::move(keeper));
    }
    clients_.push_back(client);
    const auto answer = [this](const std::string& text) {
        const std::string numbers =
            std::to_string(around_.wall_seconds()) + ' ' + std::to_string(next_number_++) + " 0\n";
        return "%begin " + numbers + text + "%end " + numbers;
    };
    std::string answers = answer("");
    answers += answer(expand(tmux::kLifeFormat, nullptr) + '\n');
    client->send(answers + "%session-changed $0 " + client->keeper + '\n');
}

void TmuxServer::detach(ControlClient* client) {
    std::erase(clients_, client);
    const Session* keeper = find('=' + client->keeper + ':');
    if (keeper == nullptr || keeper->when_detached.empty()) {
        return;
    }
    const auto commands = split_groups(std::string(keeper->when_detached)).at(0);
    for (const std::string& command : commands) {
        const auto words = split_words(command);
        if (words.at(0) != "if-shell") {
            (void)run(*client, command);
            continue;
        }
        const Session* session = find(*option(words, "-t"));
        if (session != nullptr && is_true(expand(words.at(words.size() - 2), session))) {
            (void)run(*client, words.back());
        }
    }
}

std::string TmuxServer::handle(ControlClient& client, std::string_view line) {
    return line.starts_with("if-shell ") ? run_either(client, line) : block(run(client, line));
}

std::string TmuxServer::run_either(ControlClient& client, std::string_view line) {
    const auto groups = split_groups(line);
    const auto words = split_words(groups.at(0).at(0));
    const std::string& target = *option(words, "-t");
    const Session* session = find(target);
    std::string blocks = block({});
    // Without the session tmux expands for the client's own, which fits no spare one.
    const bool fits = session != nullptr && is_true(expand(words.back(), session));
    for (const std::string& command : groups.at(fits ? 1 : 2)) {
        const Reply reply = run(client, command);
        blocks += block(reply);
        if (!reply.ok) {
            break;
        }
    }
    return blocks;
}

std::string TmuxServer::block(const Reply& reply) {
    const std::string numbers = std::to_string(around_.wall_seconds()) + ' ' + std::to_string(next_number_++) + " 1\n";
    return "%begin " + numbers + reply.text + (reply.ok ? "%end " : "%error ") + numbers;
}

TmuxServer::Reply TmuxServer::run(ControlClient& client, std::string_view line) {
    if (line == "display-message -p cmssh") {
        return {true, "cmssh\n"};
    }
    const auto words = split_words(line);
    if (words.empty()) {
        throw std::runtime_error("an empty line detaches the client");
    }
    const std::string& name = words[0];
    if (name == "display-message") {
        return display(words);
    }
    if (name == "list-panes") {
        return list_panes(words);
    }
    if (name == "new-session") {
        return new_session(words);
    }
    if (name == "set-option") {
        const std::string* target = option(words, "-t");
        if (target == nullptr) {
            return {};
        }
        Session* session = find(*target);
        if (session == nullptr) {
            return {false, "no such session: " + *target + '\n'};
        }
        if (words.at(1) == "-t") {
            session->options[words.at(3)] = words.at(4);
        } else if (words.at(1) == "-F") {
            session->options[words.at(4)] = expand(words.at(5), session);
        }
        return {};
    }
    if (name == "set-hook" || name == "set-environment") {
        const std::string* target = option(words, "-t");
        if (target == nullptr) {
            return {};
        }
        Session* session = find(*target);
        if (session == nullptr) {
            return {false, "no such session: " + *target + '\n'};
        }
        if (words.at(3) == "client-detached") {
            session->when_detached = words.at(4);
        }
        return {};
    }
    if (name == "rename-session") {
        const Session* session = find(*option(words, "-t"));
        if (session == nullptr) {
            return {false, "can't find session: " + *option(words, "-t") + '\n'};
        }
        if (sessions_.contains(words.back())) {
            return {false, "duplicate session: " + words.back() + '\n'};
        }
        auto node = sessions_.extract(session->name);
        node.key() = words.back();
        node.mapped().name = words.back();
        sessions_.insert(std::move(node));
        return {};
    }
    if (name == "send-keys") {
        return send_keys(words);
    }
    if (name == "switch-client") {
        return find(*option(words, "-t")) != nullptr ? Reply() : Reply{false, "can't find session\n"};
    }
    if (name == "refresh-client") {
        client.subscribed = true;
        dead_panes_changed();
        return {};
    }
    if (name == "capture-pane") {
        const std::string& target = *option(words, "-t");
        const Session* session = find_pane(target);
        if (session == nullptr) {
            return {false, "can't find pane: " + target + '\n'};
        }
        // One line, and the row of the cursor below it.
        return {true, "screen of " + session->name + "\n\n"};
    }
    if (name == "kill-session") {
        Session* session = find(*option(words, "-t"));
        if (session == nullptr) {
            return {false, "can't find session: " + *option(words, "-t") + '\n'};
        }
        remove(std::string(session->name));
        return {};
    }
    if (name == "kill-pane") {
        Session* session = find_pane(*option(words, "-t"));
        if (session == nullptr) {
            return {false, "can't find pane: " + *option(words, "-t") + '\n'};
        }
        remove(std::string(session->name));
        return {};
    }
    if (name == "list-buffers") {
        return {};
    }
    if (name == "run-shell") {
        around_.after(5ms, [this, alive = std::weak_ptr<bool>(alive_)] {
            if (!alive.expired()) {
                collect_all();
            }
        });
        return {};
    }
    throw std::runtime_error("tmux does not know " + std::string(line));
}

TmuxServer::Reply TmuxServer::new_session(const std::vector<std::string>& words) {
    const std::string& name = *option(words, "-s");
    if (sessions_.contains(name)) {
        return {false, "duplicate session: " + name + '\n'};
    }
    Session session;
    session.name = name;
    session.pane.id = '%' + std::to_string(next_id_);
    session.pane.window = '@' + std::to_string(next_id_++);
    session.pane.pid = around_.new_pid();
    const std::string* directory = option(words, "-c");
    session.pane.directory = directory == nullptr ? "/home/sim" : *directory;
    Session& made = sessions_.emplace(name, std::move(session)).first->second;
    tell_all("%sessions-changed\n");
    if (!name.starts_with("cmssh-spare-")) {
        begin(made, to_program(words));
    } else {
        // Its program waits once it has hidden the cursor.
        around_.after(20ms, [this, alive = std::weak_ptr<bool>(alive_), name, id = made.pane.id] {
            if (Session* spare = alive.expired() ? nullptr : find('=' + name + ':'); spare && spare->pane.id == id) {
                spare->pane.waits = true;
            }
        });
    }
    return {true, expand(*option(words, "-F"), &made) + '\n'};
}

void TmuxServer::begin(Session& session, const Program& program) {
    around_.executed(program, session.name, session.pane.pid);
    session.pane.has_run = true;
    session.pane.waits = false;
    around_.after(program.runs, [this, alive = std::weak_ptr<bool>(alive_), pid = session.pane.pid, program] {
        if (!alive.expired()) {
            end_program(pid, program.by_signal, program.number);
        }
    });
}

TmuxServer::Reply TmuxServer::send_keys(const std::vector<std::string>& words) {
    Session* session = find(*option(words, "-t"));
    if (session == nullptr) {
        return {false, "can't find pane\n"};
    }
    if (words.at(1) == "-l") {
        session->pane.typed += words.back();
        return {};
    }
    const std::string typed = std::exchange(session->pane.typed, {});
    const std::string mark = "cmssh-hand-over:";
    if (!session->pane.waits || typed.find(mark) == std::string::npos) {
        throw std::runtime_error("typed to nobody: " + typed);
    }
    around_.note("takes over the spare session", session->name);
    // Its words behind "set --", in single quotes.
    const auto set = typed.find("; set --");
    begin(*session, to_program(split_words(typed.substr(set + 8))));
    return {};
}

TmuxServer::Reply TmuxServer::list_panes(const std::vector<std::string>& words) {
    const std::string* format = option(words, "-F");
    if (const std::string* target = option(words, "-t")) {
        const Session* session = find(*target);
        if (session == nullptr) {
            return {false, "can't find session: " + *target + '\n'};
        }
        return {true, expand(*format, session) + '\n'};
    }
    const std::string* filter = option(words, "-f");
    Reply reply;
    for (const auto& [name, session] : sessions_) {
        if (is_true(expand(*filter, &session))) {
            reply.text += expand(*format, &session);
            reply.text += '\n';
        }
    }
    return reply;
}

TmuxServer::Reply TmuxServer::display(const std::vector<std::string>& words) {
    const Session* session = nullptr;
    if (const std::string* target = option(words, "-t")) {
        session = find_pane(*target);
        if (session == nullptr) {
            return {false, "can't find pane: " + *target + '\n'};
        }
    }
    return {true, expand(words.back(), session) + '\n'};
}

TmuxServer::Session* TmuxServer::find(std::string_view target) {
    if (!target.starts_with('=')) {
        throw std::runtime_error("tmux would match a part of a name: " + std::string(target));
    }
    target.remove_prefix(1);
    if (target.ends_with(':')) {
        target.remove_suffix(1);
    }
    const auto found = sessions_.find(target);
    return found == sessions_.end() ? nullptr : &found->second;
}

// =NAME:@WINDOW.%PANE, all of which must fit, or =NAME:
TmuxServer::Session* TmuxServer::find_pane(std::string_view pane) {
    if (pane.starts_with('=')) {
        const auto colon = pane.find(':');
        Session* session = find(pane.substr(0, colon));
        const std::string_view rest = pane.substr(colon + 1);
        const bool fits = session != nullptr && (rest.empty() || rest == session->pane.window + '.' + session->pane.id);
        return fits ? session : nullptr;
    }
    if (!pane.starts_with('%')) {
        throw std::runtime_error("tmux would take the keeper's pane for '" + std::string(pane) + "'");
    }
    for (auto& [name, session] : sessions_) {
        if (session.pane.id == pane) {
            return &session;
        }
    }
    return nullptr;
}

std::string TmuxServer::expand(std::string_view format, const Session* session) const {
    std::string text;
    std::size_t at = 0;
    while (at < format.size()) {
        const auto open = format.find("#{", at);
        text += format.substr(at, open - at);
        if (open == std::string_view::npos) {
            break;
        }
        const auto close = closing(format, open + 2);
        std::string_view inner = format.substr(open + 2, close - open - 2);
        at = close + 1;
        if (inner.starts_with("&&:") || inner.starts_with("==:")) {
            const bool both = inner.front() == '&';
            inner.remove_prefix(3);
            const auto parts = comma(inner);
            const std::string left = expand(inner.substr(0, parts), session);
            if (both && !is_true(left)) {
                text += '0';
                continue;
            }
            const std::string right = expand(inner.substr(parts + 1), session);
            text += (both ? is_true(right) : left == right) ? '1' : '0';
        } else {
            text += variable(inner, session);
        }
    }
    return text;
}

std::string TmuxServer::variable(std::string_view name, const Session* session) const {
    if (name == "pid") {
        return std::to_string(pid_);
    }
    if (name == "start_time") {
        return std::to_string(start_time_);
    }
    if (session == nullptr) {
        throw std::runtime_error("no session for " + std::string(name));
    }
    const Pane& pane = session->pane;
    if (name.starts_with('@')) {
        const auto found = session->options.find(name);
        return found == session->options.end() ? "" : found->second;
    }
    if (name == "session_name") {
        return session->name;
    }
    if (name == "window_id") {
        return pane.window;
    }
    if (name == "pane_id") {
        return pane.id;
    }
    if (name == "pane_pid") {
        return std::to_string(pane.pid);
    }
    if (name == "pane_dead") {
        return pane.dead ? "1" : "0";
    }
    if (name == "pane_dead_status") {
        return pane.collected && pane.signal == 0 ? std::to_string(pane.status) : "";
    }
    if (name == "pane_dead_signal") {
        return pane.collected && pane.signal != 0 ? std::to_string(pane.signal) : "";
    }
    if (name == "pane_dead_time") {
        return pane.collected ? std::to_string(pane.dead_time) : "";
    }
    if (name == "pane_current_path") {
        return pane.directory;
    }
    if (name == "pane_in_mode" || name == "pane_input_off" || name == "alternate_on" || name == "history_size") {
        return "0";
    }
    if (name == "default-shell" || name == "default-terminal") {
        return "as-ever";
    }
    if (name == "cursor_y") {
        return "1";
    }
    if (name == "pane_height") {
        return "2";
    }
    if (name == "pane_width") {
        return "80";
    }
    if (name == "history_limit") {
        return "50000";
    }
    if (name == "cursor_flag") {
        return pane.waits ? "0" : "1";
    }
    if (name == "session_windows" || name == "window_panes") {
        return "1";
    }
    if (name == "session_last_attached") {
        return "";
    }
    if (name == "cursor_x") {
        return "0";
    }
    throw std::runtime_error("no variable " + std::string(name));
}

void TmuxServer::end_program(std::int64_t pid, bool by_signal, int number) {
    for (auto& [name, session] : sessions_) {
        Pane& pane = session.pane;
        if (pane.pid != pid || pane.dead || !pane.has_run) {
            continue;
        }
        Run& run = around_.run(pid);
        run.end = by_signal ? Run::End::Signalled : Run::End::Exited;
        (by_signal ? run.signal : run.code) = number;
        run.ended = around_.now();
        around_.note("the program ends", name);
        pane.dead = true;
        pane.dead_time = around_.wall_seconds();
        (by_signal ? pane.signal : pane.status) = number;
        // tmux with libutempter misses a SIGCHLD now and then; each other child's collects all.
        if (around_.unit() < 0.2) {
            pane.collected = false;
        } else {
            collect_all();
        }
        if (around_.announces_dead_windows) {
            around_.after(100ms, [this, alive = std::weak_ptr<bool>(alive_), window = pane.window] {
                if (!alive.expired()) {
                    tell_all("%unlinked-window-renamed " + window + " dead\n");
                }
            });
        }
        dead_panes_changed();
        return;
    }
}

void TmuxServer::collect_all() {
    bool news = false;
    for (auto& [name, session] : sessions_) {
        news = news || (session.pane.dead && !session.pane.collected);
        session.pane.collected = session.pane.dead;
    }
    if (news) {
        dead_panes_changed();
    }
}

bool TmuxServer::kill_session_by_person(const std::string& name) {
    const auto found = sessions_.find(name);
    if (found == sessions_.end() || found->second.pane.dead || !found->second.pane.has_run) {
        return false;
    }
    around_.run(found->second.pane.pid).by_person = true;
    remove(name);
    return true;
}

void TmuxServer::remove(const std::string& name) {
    const auto found = sessions_.find(name);
    const Pane pane = found->second.pane;
    sessions_.erase(found);
    if (pane.has_run) {
        Run& run = around_.run(pane.pid);
        run.in_tmux = false;
        if (run.end == Run::End::None) {
            run.end = Run::End::HungUp;
            run.ended = around_.now();
        }
        around_.note("gone from tmux", name);
    }
    tell_all("%unlinked-window-close " + pane.window + '\n');
    tell_all("%sessions-changed\n");
    dead_panes_changed();
}

void TmuxServer::die(Run::End how) {
    for (auto& [name, session] : sessions_) {
        if (!session.pane.has_run) {
            continue;
        }
        Run& run = around_.run(session.pane.pid);
        run.in_tmux = false;
        if (run.end == Run::End::None) {
            run.end = how;
            run.ended = around_.now();
        }
    }
    sessions_.clear();
    alive_.reset();
    for (ControlClient* client : std::exchange(clients_, {})) {
        client->exit("server exited unexpectedly");
    }
}

std::size_t TmuxServer::dead_panes() const {
    return static_cast<std::size_t>(
        std::count_if(sessions_.begin(), sessions_.end(), [](const auto& it) { return it.second.pane.dead; }));
}

void TmuxServer::tell_all(const std::string& line) {
    for (ControlClient* client : std::vector<ControlClient*>(clients_)) {
        client->send(line);
    }
}

std::string TmuxServer::dead_list() const {
    std::string list;
    for (const auto& [name, session] : sessions_) {
        if (session.pane.dead) {
            list += session.pane.id + ' ' + (session.pane.collected ? std::to_string(session.pane.status) : "") + ' ';
        }
    }
    return list;
}

// A subscription is told once a second at most.
void TmuxServer::dead_panes_changed() {
    if (std::exchange(telling_later_, true)) {
        return;
    }
    around_.after(1s, [this, alive = std::weak_ptr<bool>(alive_)] {
        if (alive.expired()) {
            return;
        }
        telling_later_ = false;
        const std::string list = dead_list();
        for (ControlClient* client : std::vector<ControlClient*>(clients_)) {
            if (client->subscribed && client->told != list) {
                client->told = list;
                client->send("%subscription-changed dead $0 - - - : " + list + '\n');
            }
        }
    });
}

}  // namespace cmssh::sim
