// What a session prints, on standard output line by line as it comes, until it ends: each line once, whatever becomes
// of the connection or of the daemon meanwhile.
#pragma once

#include <optional>

#include "client/options.hpp"
#include "client/patient_client.hpp"
#include "protocol/methods.hpp"

namespace cmssh::client {

// Where to begin: with all, or the last lines, of what is there, and at once; or, for a session that was just started,
// with its first line, whether its server can be reached now or not.
struct FollowFrom {
    std::optional<int> lines;
    bool beginning = false;
};

// nullopt: it has ended. Otherwise why it could not be followed to its end, told already.
[[nodiscard]] std::optional<int> follow(const GlobalOptions& global, PatientClient& client, const api::Session& session,
                                        FollowFrom from, std::optional<Instant> deadline);

}  // namespace cmssh::client
