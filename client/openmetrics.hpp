// `stats` as Prometheus reads it: OpenMetrics 1.0 text, of types that the older text format has, too, because
// node_exporter's textfile collector knows that one only. Pure.
#pragma once

#include <string>

#include "protocol/methods.hpp"

namespace cmssh::client {

[[nodiscard]] std::string openmetrics(const api::StatsResult& stats);

}  // namespace cmssh::client
