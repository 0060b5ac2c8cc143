#include "tests/soak/job.hpp"

#include <algorithm>
#include <sstream>

#include "tests/soak/servers.hpp"
#include "tests/support/files.hpp"

namespace cmssh::test {
namespace {

int any(std::mt19937& random, int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random);
}

}  // namespace

Job Job::make(const std::string& dir, const std::string& number, int server, std::mt19937& random) {
    constexpr int kLongestMs = 8000;
    Job job;
    job.kind = static_cast<Kind>(std::discrete_distribution<int>({5, 4, 1, 2, 3})(random));
    job.server = server;
    job.code = any(random, 0, 120);
    job.number = number;
    job.file = dir + '/' + number;
    job.text = "line " + number + " of $HOME; it's \"typed\" \\ #{pid}";
    std::string script = R"(echo "start $CMSSH_SESSION" >>"$0"; )";
    std::string argument;
    switch (job.kind) {
        case Kind::Quick:
            break;
        case Kind::Timed: {
            const int ms = any(random, 100, kLongestMs);
            argument = std::to_string(ms / 1000) + '.' + std::to_string(1000 + ms % 1000).substr(1);
            script += R"(sleep "$2"; )";
            break;
        }
        case Kind::Signalled:
            script += R"(echo end >>"$0"; kill -TERM $$; )";
            break;
        case Kind::Reader:
            script += R"(IFS= read -r line; printf '%s\n' "$line" >"$0.typed"; )";
            break;
        case Kind::Endless:
            script += R"(exec sleep 5000; )";
            break;
    }
    script += R"(echo end >>"$0"; exit "$1")";
    job.command = {"sh", "-c", script, job.file, std::to_string(job.code), argument};
    return job;
}

bool Job::has_begun() const {
    return exists(file) && read_file(file).ends_with('\n');
}

Json Job::start_params() const {
    return {{"ctx", Servers::name(server)}, {"command", command}, {"request_id", number}};
}

std::string Job::fault() const {
    const std::string text_of_file = exists(file) ? read_file(file) : "";
    const std::string told = number + " (" + id + ", kind " + std::to_string(static_cast<int>(kind)) + "): ";
    const std::string facts = "; its file: " + text_of_file + "; the session: " + ended.dump();
    std::istringstream lines(text_of_file);
    int starts = 0;
    int ends = 0;
    for (std::string line; std::getline(lines, line);) {
        starts += line == "start " + id ? 1 : 0;
        ends += line == "end" ? 1 : 0;
        if (line != "end" && line != "start " + id) {
            return told + "another session ran it" + facts;
        }
    }
    if (id.empty() || ended.is_null()) {
        return told + "never answered or never ended" + facts;
    }
    if (starts != 1) {
        return told + "ran " + std::to_string(starts) + " times" + facts;
    }
    const std::string state = ended.at("state");
    if (state == "killed" && kill_asked) {
        return "";
    }
    const bool by_signal = kind == Kind::Signalled;
    const bool true_end = by_signal ? ended.at("signal") == "TERM" && ended.at("exit_code").is_null()
                                    : ended.at("exit_code") == code && ended.at("signal").is_null();
    if (state != "exited" || !true_end || ends != 1) {
        return told + "its end is not the true one" + facts;
    }
    if (kind == Kind::Reader && read_file(file + ".typed") != text + '\n') {
        return told + "what it read is not what was typed: " + read_file(file + ".typed");
    }
    return "";
}

}  // namespace cmssh::test
