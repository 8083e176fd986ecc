// event/event.h: what the daemon knows about the bytes of an event, and nothing more.
//
// Events travel as the client encoded them (proto/telemetry/v1/event.proto); this module checks
// them in one pass, finds their borders, and decodes one when somebody wants to look at it.
//
// Thread:  any; no state.
// Limits:  Limits below and those of docs/formats/frame.md.
// Fails:   kInvalidArgument, with the index of the event and the rule it broke.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/bytes.h"
#include "base/result.h"

namespace telemetryd::event {

enum class Class : std::uint8_t { kNormal = 0, kLow = 1, kCritical = 2 };
enum class Urgency : std::uint8_t { kNormal = 0, kUrgent = 1 };

struct Limits {
  std::uint32_t event_bytes_max = 1u << 16;
};

// What a row remembers about the events in it.
struct BatchSummary {
  std::uint32_t count = 0;
  std::uint64_t id_ms_min = 0;  // smallest and largest UUIDv7 time, so that an event can be found
  std::uint64_t id_ms_max = 0;
};

// Checks an encoded EventBatch whose events must all have class `persistence_class` and `urgency`.
[[nodiscard]] Result<BatchSummary> validate(std::string_view batch,
                                            Class persistence_class,
                                            Urgency urgency,
                                            const Limits& limits);

// Calls `visit(index, event)` for each event of a valid batch, until it returns false. `event` is
// the encoded Event without tag and length and points into `batch`.
[[nodiscard]] Result<void> for_each(
    std::string_view batch, const std::function<bool(std::uint32_t, std::string_view)>& visit);

// The bytes of events [first, first + count) of a valid batch, tags and lengths included: again an
// EventBatch.
[[nodiscard]] Result<std::string_view> slice(std::string_view batch,
                                             std::uint32_t first,
                                             std::uint32_t count);

// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates.
bool utf8_valid(std::string_view text);

// One event as JSON, in the shape of docs/formats/event-json.md, with the members of `context`
// merged in. `context` is an encoded Context; both must be valid or kInvalidArgument comes back.
[[nodiscard]] Result<nlohmann::json> to_json(std::string_view event, std::string_view context);

// The machine where the events of an encoded Context were recorded, when it is not this one: what a
// relay said. Points into `context`; empty when there is none.
std::string_view machine_id_of(std::string_view context);

// The 16 bytes of an event's ID.
[[nodiscard]] Result<Bytes16> id_of(std::string_view event);

}  // namespace telemetryd::event
