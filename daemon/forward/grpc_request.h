// forward/grpc_request.h: leased rows as PublishRequests, cut where they are too large.
//
// A request's instance is derived from what it carries, so the same row delivered twice is the same
// request and the relay stores it once. For that the cuts depend on the row alone: never on what
// other rows went through, or on how a former attempt ended. Stored events are spliced in as they
// are.
//
// Thread:  any; a piece points into its lease.
// Limits:  kEventsBytesMax and kEventsMax in a request, but at least one event.
// Fails:   kDataLoss when a row's bytes are not the events it says it has.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

// What an EVENTS frame of the relay can hold by default: 1 MiB less its own fields.
inline constexpr std::size_t kEventsBytesMax = (1u << 20) - 16;
inline constexpr std::uint32_t kEventsMax = 65535;

// Consecutive events of one row.
struct Piece {
  const v1::LeasedRow* row = nullptr;
  std::uint32_t first_index = 0;
  std::uint32_t count = 0;
  std::string_view events;
};

// The row in pieces that fit, in order.
[[nodiscard]] Result<std::vector<Piece>> cut(const v1::LeasedRow& row);
// Two halves of a piece with more than one event.
[[nodiscard]] Result<std::pair<Piece, Piece>> halve(const Piece& piece);

Bytes16 instance_of(std::string_view destination, const Piece& piece);
// An encoded PublishRequest, number 1.
std::string publish_request(std::string_view destination, const Piece& piece);

}  // namespace telemetryd::forward
