// forward/mutes.h: an upstream's word that it wants no events of some apps for some time.
//
// `app-name;s=3600, "my app";s=60`: a list of RFC 8941, over HTTP as the header `Telemetry-Mute`,
// over gRPC as trailing metadata of that name. What is malformed is left out, entry by entry: a
// typing error at the upstream must not cost an event, nor what stands beside it. No seconds end
// what was said before.
//
// Thread:  any; no state.
// Limits:  kMutesMax entries of at most kMuteMax each; kMuteAppBytesMax per name;
//          kMuteListBytesMax are read.

#pragma once

#include <chrono>
#include <cstddef>
#include <string_view>
#include <vector>

#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

inline constexpr std::size_t kMutesMax = 64;
inline constexpr std::chrono::hours kMuteMax{24};
inline constexpr std::size_t kMuteAppBytesMax = 64;
inline constexpr std::size_t kMuteListBytesMax = 16u << 10;

std::vector<v1::Mute> parse_mutes(std::string_view list);

// Several answers may belong to one outcome; of one app the last word counts.
void add_mutes(const std::vector<v1::Mute>& mutes, v1::Outcome& outcome);

}  // namespace telemetryd::forward
