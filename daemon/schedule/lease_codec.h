// schedule/lease_codec.h: the daemon's half of the lease protocol, without libprotobuf.
//
// docs/formats/lease.md has the grammar, proto/telemetry/v1/lease.proto the messages. The resident
// process pays for a reader of a few fields instead of a library.
//
// Thread:  any; MessageReader belongs to one connection.
// Limits:  kBodyBytesMax per message, checked on the length before the body is buffered;
//          kRejectedMax ranges and kMutesMax mutes in one outcome; kMemoryBytesMax.
// Fails:   kInvalidArgument: the peer broke the protocol; end the connection.

#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "store/store.h"

namespace telemetryd::schedule {

inline constexpr std::size_t kBodyBytesMax = 16u << 20;
inline constexpr std::size_t kRejectedMax = 100000;
inline constexpr std::size_t kTextBytesMax = 512;
inline constexpr std::size_t kMemoryBytesMax = 1024;
inline constexpr std::size_t kMutesMax = 64;
inline constexpr std::uint32_t kLeaseProtocol = 1;

enum class Verdict : std::uint32_t { kDelivered = 1, kRetry = 2, kHold = 3 };

// What stood in the way of a delivery; proto/telemetry/v1/lease.proto explains each.
enum class Cause : std::uint32_t {
  kUnspecified,
  kConfiguration,
  kNameResolution,
  kConnect,
  kTimeout,
  kConnectionLost,
  kTls,
  kClock,
  kProxy,
  kCaptivePortal,
  kAuthentication,
  kEndpoint,
  kRateLimit,
  kSize,
  kBadRequest,
  kServer,
  kUnexpectedAnswer,
};

// "name_resolution" for kNameResolution; empty for kUnspecified.
std::string_view to_string(Cause cause);

// The upstream wants no events of this app for some time.
struct Mute {
  std::string app;
  std::uint64_t duration_s = 0;
};

enum class Network : std::uint32_t { kUnspecified, kUnmetered, kMetered, kRoaming, kOffline };
enum class Power : std::uint32_t { kUnspecified, kMains, kBattery };

// How the machine stands to the world, as the forwarder sees it.
struct Conditions {
  Network network = Network::kUnspecified;
  Power power = Power::kUnspecified;
  std::uint32_t battery_percent = 100;
};

// A route came or went.
struct RouteChange {};

struct Hello {
  std::uint32_t protocol = 0;
  std::string version;
};

struct Outcome {
  std::uint64_t lease_id = 0;
  Verdict verdict = Verdict::kRetry;
  std::vector<store::Rejected> rejected;
  std::uint64_t retry_after_ms = 0;
  std::string error;
  std::uint32_t status = 0;
  std::uint32_t duplicates = 0;
  std::uint64_t body_bytes = 0;
  Cause cause = Cause::kUnspecified;
  std::optional<std::string> memory;  // to be kept; nothing: as before
  std::vector<Mute> mutes;
  std::uint64_t certificate_expires_unix_s = 0;
};

struct ProbeResult {
  std::uint64_t id = 0;
  bool ok = false;
  std::string detail;
};

using FromForwarder = std::variant<Hello, Outcome, ProbeResult, Conditions, RouteChange>;

// What a lease says besides its rows.
struct LeaseHeader {
  std::uint64_t id = 0;
  std::string_view destination;
  std::uint32_t attempt = 1;
  std::string_view memory;
  bool suspect_events = false;
};

// A row of a lease with what only the daemon knows about it.
struct OutgoingRow {
  const store::LeasedRow* row = nullptr;
  std::string_view machine_id;  // unless the row's context names another machine
};

// Whole messages, length included.
std::string encode_lease(const LeaseHeader& header, std::span<const OutgoingRow> rows);
std::string encode_probe(std::uint64_t id, std::string_view destination);
std::string encode_reload();

// One body. Texts come back cut at kTextBytesMax. Unknown fields are skipped, an unknown or missing
// message is an error.
[[nodiscard]] Result<FromForwarder> decode_from_forwarder(std::string_view body);

// Cuts a stream into bodies.
class MessageReader {
 public:
  void feed(std::span<const std::uint8_t> bytes);
  // The next whole body, nothing when more bytes are needed.
  [[nodiscard]] Result<std::optional<std::string>> next();

 private:
  std::string buffer_;
  std::size_t start_ = 0;
};

}  // namespace telemetryd::schedule
