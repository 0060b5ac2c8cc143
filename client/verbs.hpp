// One function per verb: each gives cmctl's exit code.
#pragma once

#include "client/options.hpp"

namespace cmssh::client {

int start(const GlobalOptions& global, StartOptions options);
int wait(const GlobalOptions& global, const std::string& session);
int list(const GlobalOptions& global, const ListOptions& options);
int watch_list(const GlobalOptions& global, const ListOptions& options);
int top(const GlobalOptions& global);
int events(const GlobalOptions& global, const EventsOptions& options);
int kill(const GlobalOptions& global, const KillOptions& options);
int logs(const GlobalOptions& global, const LogsOptions& options);
int attach(const GlobalOptions& global, const AttachOptions& options);
int exec(const GlobalOptions& global, ExecOptions options);
int send(const GlobalOptions& global, const SendOptions& options);

int forward(const GlobalOptions& global, const ForwardOptions& options);
int cp(const GlobalOptions& global, const CpOptions& options);

int stats(const GlobalOptions& global);
int stats_openmetrics(const GlobalOptions& global);
int status(const GlobalOptions& global);
int check(const GlobalOptions& global, const std::optional<std::string>& ctx);
int doctor(const GlobalOptions& global, const std::optional<std::string>& ctx);
int connect(const GlobalOptions& global, const std::string& ctx);
int disconnect(const GlobalOptions& global, const std::string& ctx, bool force);
int contexts(const GlobalOptions& global);
int ssh_config(const GlobalOptions& global);
// For the `Match exec` of what ssh_config() prints: kOk where the ssh that runs it has a name of a master in
// `directory`.
int ssh_lease(const GlobalOptions& global, const std::string& directory);

int daemon_start(const GlobalOptions& global);
int daemon_stop(const GlobalOptions& global);
int daemon_status(const GlobalOptions& global);
int daemon_reload(const GlobalOptions& global);
// The end of a command line that is being typed: never fails, starts nothing, takes half a second at most.
int complete(const std::vector<std::string>& words);
int rpc(const GlobalOptions& global, const RpcOptions& options);
int version(const GlobalOptions& global);
int proxy(const GlobalOptions& global);
int mcp_server(const GlobalOptions& global);

}  // namespace cmssh::client
