// schedule/lease_codec.h: the daemon's half of the lease protocol, without libprotobuf.
//
// docs/formats/lease.md has the grammar, proto/telemetry/v1/lease.proto the messages. The resident
// process pays for a reader of a few fields instead of a library.
//
// Thread:  any; MessageReader belongs to one connection.
// Limits:  kBodyBytesMax per message, checked on the length before the body is buffered;
//          kRejectedMax ranges in one outcome.
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
inline constexpr std::uint32_t kLeaseProtocol = 1;

enum class Verdict : std::uint32_t { kDelivered = 1, kRetry = 2, kHold = 3 };

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
};

struct ProbeResult {
  std::uint64_t id = 0;
  bool ok = false;
  std::string detail;
};

using FromForwarder = std::variant<Hello, Outcome, ProbeResult>;

// A row of a lease with what only the daemon knows about it.
struct OutgoingRow {
  const store::LeasedRow* row = nullptr;
  std::string_view machine_id;  // unless the row's context names another machine
};

// Whole messages, length included.
std::string encode_lease(std::uint64_t id,
                         std::string_view destination,
                         std::uint32_t attempt,
                         std::span<const OutgoingRow> rows);
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
