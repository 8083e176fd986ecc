// ctl/import_line.h: one line of JSON becomes one encoded event, or a sentence that says why not.
//
// The shape is docs/formats/event-json.md. The client library's encoder takes the C struct, which
// has no place for a session or a source of its own; an import must not lose them, so the line is
// encoded here.
//
// Thread:  any; no state.
// Fails:   kInvalidArgument with the reason in words.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "event/event.h"

namespace telemetryd::ctl {

struct ImportedEvent {
  std::string bytes;  // Event, without tag and length
  event::Class persistence_class = event::Class::kNormal;
  event::Urgency urgency = event::Urgency::kNormal;
};

// What an event without an ID or a time gets instead.
struct LineDefaults {
  std::uint64_t now_unix_nano = 0;
  // How many identical lines came before: makes the ID of a repeated line another one, and the same
  // one when the file is imported again.
  std::uint32_t occurrence = 0;
};

[[nodiscard]] Result<ImportedEvent> parse_line(std::string_view line, const LineDefaults& defaults);

// A UUIDv7 with the milliseconds of the time and bits of SHA-256(line, occurrence). Without a time
// of its own an event has none in its ID either, so that importing again changes nothing.
Bytes16 derived_id(std::string_view line, std::uint32_t occurrence, std::uint64_t time_unix_nano);

}  // namespace telemetryd::ctl
