// ssh's questions of a login that a call waits for, put to the person at the terminal: a password, a passphrase, a
// one-time code, whether a host key is the right one.
#pragma once

namespace cmssh::client {

class RpcClient;
class StatusLine;

// What `interactive` of a call says: we have a terminal, and it is us who may read from it.
[[nodiscard]] bool person_is_there();

// From here on questions that come while a call of this client waits are asked on /dev/tty, and answered. Ctrl-D gives
// the login up, as the end of the call does. The terminal has its modes back after each question, also where a signal
// ends us. line, where there is one, is cleared first and not drawn meanwhile; it outlives the calls, or
// client.set_questioner(nullptr).
void answer_prompts(RpcClient& client, StatusLine* line = nullptr);

}  // namespace cmssh::client
