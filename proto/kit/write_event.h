// kit/write_event.h: an event of ours in the words of telemetry-kit; docs/formats/ingest.md has the
// table.
//
// The reference server refuses empty texts and keeps events in columns of PostgreSQL, where a text
// that is too long or holds a zero byte fails for ever. Here nothing leaves that could not be kept.
//
// Thread:  any; no state.
// Limits:  kTypeMax and its neighbours, in characters.
// Fails:   kInvalidArgument for bytes that are no event.

#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace telemetryd::kit {

inline constexpr std::string_view kSchemaVersion = "1.0.0";

// Widths of the reference server's columns.
inline constexpr std::size_t kServiceNameMax = 255;
inline constexpr std::size_t kServiceVersionMax = 100;
inline constexpr std::size_t kServiceLanguageMax = 50;
inline constexpr std::size_t kUserIdMax = 255;
inline constexpr std::size_t kTypeMax = 100;
inline constexpr std::size_t kCategoryMax = 50;

// The machine and the program that send.
struct Sender {
  std::string os;       // "linux"
  std::string arch;     // "x86_64"
  std::string program;  // "telemetryd/0.1.0"
};

struct WrittenEvent {
  std::string id;    // as in the JSON, so that answers that name it find it
  std::string json;  // one object without `metadata`, which is the same for a whole request
};

// `context` is an encoded Context; its machine ID, where a relay gave one, comes before
// `machine_id`.
[[nodiscard]] Result<WrittenEvent> write_event(std::string_view event,
                                               std::string_view context,
                                               std::string_view machine_id,
                                               const Sender& sender);

struct Transmission {
  UnixMs time_unix_ms = 0;
  std::uint32_t retry_count = 0;
  std::string_view program;
};

// {"events":[…]}, each with its `metadata`.
std::string write_batch(std::span<const WrittenEvent> events, const Transmission& transmission);

// `user_id` when it is in one of telemetry-kit's forms, else the machine's.
std::string user_id_of(std::string_view user_id, std::string_view machine_id);

}  // namespace telemetryd::kit
