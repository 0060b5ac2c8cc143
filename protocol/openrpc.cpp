#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "protocol/events.hpp"
#include "protocol/methods.hpp"
#include "protocol/schema.hpp"

namespace cmssh::api {
namespace {

using Errors = std::vector<ErrorKind>;

// A call that needs a server may have to log in there first.
Errors login_errors_and(std::initializer_list<ErrorKind> own) {
    Errors errors = {ErrorKind::UnknownContext, ErrorKind::DnsFailure,     ErrorKind::ConnectRefused,
                     ErrorKind::ConnectTimeout, ErrorKind::ConnectFailed,  ErrorKind::HostKeyUnknown,
                     ErrorKind::HostKeyChanged, ErrorKind::AuthFailed,     ErrorKind::NeedsAuth,
                     ErrorKind::MasterLost,     ErrorKind::ChannelRefused, ErrorKind::Timeout,
                     ErrorKind::Cancelled,      ErrorKind::BadConfig};
    errors.insert(errors.end(), own);
    return errors;
}

Json error_list(Errors errors) {
    // What any call can meet: its own params refused, a limit, the daemon going, or a bug.
    errors.insert(errors.end(),
                  {ErrorKind::InvalidParams, ErrorKind::Limit, ErrorKind::ShuttingDown, ErrorKind::Internal});
    Json list = Json::array();
    for (const ErrorKind kind : errors) {
        list.push_back({{"code", static_cast<int>(kind)}, {"message", error_info(kind).name}});
    }
    return list;
}

// What answers bytes that call no method.
Json errors_of_no_method() {
    Json errors = Json::object();
    for (const ErrorKind kind : {ErrorKind::ParseError, ErrorKind::InvalidRequest, ErrorKind::MethodNotFound}) {
        const std::string name(error_info(kind).name);
        errors[name] = {{"code", static_cast<int>(kind)}, {"message", name}};
    }
    return errors;
}

class Document {
public:
    template <typename Params, typename Outcome>
    void add(const char* name, const char* summary, const Errors& errors) {
        add_method(name, summary, param_list<Params>(schemas_), result_entry<Outcome>(schemas_), errors);
    }

    void add_method(const char* name, const char* summary, Json params, Json result, const Errors& errors) {
        methods_.push_back({{"name", name},
                            {"summary", summary},
                            {"paramStructure", "by-name"},
                            {"params", std::move(params)},
                            {"result", std::move(result)},
                            {"errors", error_list(errors)}});
    }

    // OpenRPC has no word for what comes unasked: an extension of the method that asks for it.
    template <typename Params>
    void add_notification(const char* name, const char* summary) {
        Json entry = result_entry<Params>(schemas_);
        methods_.back()["x-notification"] = {{"name", name}, {"summary", summary}, {"params", entry["schema"]}};
    }

    Json finish(const std::string& version) && {
        return {{"openrpc", "1.3.2"},
                {"info",
                 {{"title", "cmssh"},
                  {"description", "One SSH connection per server, shared by every session"},
                  {"version", version}}},
                {"methods", std::move(methods_)},
                {"components", {{"schemas", std::move(schemas_)}, {"errors", errors_of_no_method()}}}};
    }

private:
    Json methods_ = Json::array();
    Json schemas_ = Json::object();
};

Json build(const std::string& version) {
    Document document;
    document.add<StartParams, StartResult>(
        "start", "Starts a detached command in tmux on a server; answers once tmux has it",
        login_errors_and({ErrorKind::TmuxMissing, ErrorKind::TmuxFailed, ErrorKind::NameTaken, ErrorKind::InvalidName,
                          ErrorKind::BadCwd}));
    document.add<ListParams, ListResult>("list", "The sessions that the daemon knows of; never waits for a server", {});
    document.add<SessionParams, SessionResult>("get", "One session",
                                               {ErrorKind::SessionNotFound, ErrorKind::Ambiguous});
    document.add<KillParams, KillResult>(
        "kill", "Ends a session or sends it a signal; kept for later while its server is unreachable",
        {ErrorKind::SessionNotFound, ErrorKind::Ambiguous, ErrorKind::TmuxFailed, ErrorKind::MasterLost,
         ErrorKind::ChannelRefused, ErrorKind::Timeout, ErrorKind::Cancelled});
    document.add<WaitParams, SessionResult>("wait",
                                            "Answers once the session has ended; logs in where nothing else does",
                                            login_errors_and({ErrorKind::SessionNotFound, ErrorKind::Ambiguous}));
    document.add<LogsParams, LogsResult>(
        "logs", "What a session has printed; for an ended one what it had at its end",
        login_errors_and({ErrorKind::SessionNotFound, ErrorKind::Ambiguous, ErrorKind::TmuxFailed}));
    document.add<AttachParams, AttachResult>(
        "attach", "A lease, and what to exec for a terminal on a session",
        login_errors_and({ErrorKind::SessionNotFound, ErrorKind::Ambiguous, ErrorKind::SessionEnded,
                          ErrorKind::TmuxMissing, ErrorKind::TmuxFailed}));
    document.add<SendParams, Empty>("send", "Types into a session: keys, then text byte for byte, then Enter",
                                    login_errors_and({ErrorKind::SessionNotFound, ErrorKind::Ambiguous,
                                                      ErrorKind::SessionEnded, ErrorKind::TmuxFailed}));
    document.add<AcquireParams, AcquireResult>(
        "acquire", "A lease: a channel on a server's master, for the caller to use", login_errors_and({}));
    document.add<LeaseParams, Empty>("release", "Ends a lease", {});
    document.add<LeaseSignalParams, Empty>(
        "signal", "Sends a signal to the command that has a lease as its mark",
        {ErrorKind::MasterLost, ErrorKind::ChannelRefused, ErrorKind::Timeout, ErrorKind::Cancelled});
    document.add<ExecParams, ExecResult>("exec", "Runs a program on a server to its end",
                                         login_errors_and({ErrorKind::BadCwd}));
    document.add<ForwardAddParams, ForwardResult>(
        "forward.add", "Forwards a port or a socket, for as long as its session, its lease or this daemon lives",
        login_errors_and(
            {ErrorKind::SessionNotFound, ErrorKind::Ambiguous, ErrorKind::SessionEnded, ErrorKind::NameTaken}));
    document.add<ForwardListParams, ForwardListResult>("forward.list", "The forwards, and whether they forward now",
                                                       {});
    document.add<ForwardRemoveParams, Empty>("forward.remove", "Ends a forward; what goes through it goes on", {});
    document.add<Empty, StatsResult>("stats", "Counters of the pool and of the daemon", {});
    document.add<SubscribeParams, SubscribeResult>(
        "subscribe", "What there is now, and from then on an event for each change; ends with the client's socket", {});
    document.add_notification<Event>(
        "event", "One change. Behind `overflow` no more come: subscribe again, and start from its snapshot");
    document.add<UnsubscribeParams, Empty>("unsubscribe", "No more events of a subscription", {});
    document.add<AnswerParams, Empty>("answer", "Answers a prompt of a login that a call with `interactive` waits for",
                                      {});
    document.add<ConnectParams, ConnectResult>("connect", "Connects to a server where no connection is up",
                                               login_errors_and({}));
    document.add<DisconnectParams, ConnectionResult>("disconnect", "Ends the master of a server; its sessions run on",
                                                     {ErrorKind::UnknownContext, ErrorKind::ConnectFailed,
                                                      ErrorKind::BadConfig, ErrorKind::Timeout, ErrorKind::Cancelled});
    document.add<CheckParams, ConnectionsResult>(
        "check", "Probes connections now",
        {ErrorKind::UnknownContext, ErrorKind::ConnectFailed, ErrorKind::BadConfig, ErrorKind::Cancelled});
    document.add<ContextsParams, ContextsResult>("contexts", "The contexts known", {});
    document.add<Empty, Empty>("ping", "Answers", {});
    document.add<Empty, VersionResult>("version", "What this daemon is and can do", {});
    document.add<Empty, Empty>("reload", "Reads the config anew; a bad one changes nothing", {ErrorKind::BadConfig});
    document.add<Empty, Empty>("shutdown", "Stops the daemon; sessions run on", {});
    Json openrpc = {
        {"name", "OpenRPC Schema"},
        {"schema", {{"$ref", "https://raw.githubusercontent.com/open-rpc/meta-schema/master/schema.json"}}}};
    document.add_method("rpc.discover", "This document", Json::array(), std::move(openrpc), {});
    return std::move(document).finish(version);
}

}  // namespace

const Json& openrpc_document(const std::string& version) {
    static std::map<std::string, Json> documents;
    const auto known = documents.find(version);
    return known != documents.end() ? known->second : documents.emplace(version, build(version)).first->second;
}

}  // namespace cmssh::api
