#include "forward/grpc_answer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <utility>

#include "event/wire.h"

namespace telemetryd::forward {
namespace {

using event::Cursor;
using event::kBytes;
using event::kVarint;
using event::tag_of;

constexpr std::string_view kRetryInfo = "type.googleapis.com/google.rpc.RetryInfo";
constexpr std::chrono::seconds kRetryAfterMax{3600};

// Calls `field` with (tag, cursor) for every field; it consumes the value and says whether it
// could.
template <typename Field>
bool each_field(std::string_view message, Field field) {
  Cursor cursor(message);
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag) || !field(tag, cursor)) return false;
  }
  return true;
}

// The last bytes field of that number; nothing when there is none or the message is malformed.
std::optional<std::string_view> bytes_field(std::string_view message, std::uint32_t number) {
  std::optional<std::string_view> found;
  const bool whole = each_field(message, [&](std::uint32_t tag, Cursor& cursor) {
    if (tag != tag_of(number, kBytes)) return cursor.skip(tag);
    return cursor.bytes(found.emplace());
  });
  return whole ? found : std::nullopt;
}

// google.protobuf.Duration, rounded up so that nobody comes a moment early.
std::optional<std::chrono::milliseconds> duration(std::string_view message) {
  std::uint64_t seconds = 0;
  std::uint64_t nanos = 0;
  const bool whole = each_field(message, [&](std::uint32_t tag, Cursor& cursor) {
    if (tag == tag_of(1, kVarint)) return cursor.varint(seconds);
    if (tag == tag_of(2, kVarint)) return cursor.varint(nanos);
    return cursor.skip(tag);
  });
  if (!whole || nanos >= 1'000'000'000) return std::nullopt;
  // A negative one is a large number here.
  if (static_cast<std::int64_t>(seconds) < 0) return std::chrono::milliseconds(0);
  const std::chrono::seconds bounded(
      std::min<std::uint64_t>(seconds, static_cast<std::uint64_t>(kRetryAfterMax.count())));
  const std::chrono::milliseconds exact =
      bounded + std::chrono::milliseconds((nanos + 999'999) / 1'000'000);
  return std::min<std::chrono::milliseconds>(exact, kRetryAfterMax);
}

// google.rpc.Status.details is a list of google.protobuf.Any, one of which may be a RetryInfo.
std::optional<std::chrono::milliseconds> retry_info(std::string_view status) {
  std::optional<std::chrono::milliseconds> found;
  each_field(status, [&](std::uint32_t tag, Cursor& cursor) {
    if (tag != tag_of(3, kBytes)) return cursor.skip(tag);
    std::string_view any;
    if (!cursor.bytes(any)) return false;
    if (bytes_field(any, 1) != kRetryInfo) return true;
    const auto info = bytes_field(any, 2).value_or("");
    found = duration(bytes_field(info, 1).value_or(""));
    return true;
  });
  return found;
}

// libgrpc 1.51 knows no code for TLS and HTTP: a certificate that is refused is UNAVAILABLE, as a
// relay that is down. Only its words tell them apart; unknown words count as weather.
constexpr std::string_view kNotConnected = "failed to connect to all addresses; last error: ";
constexpr std::string_view kHttpStatus = "Received http2 header with status: ";
// So it ends when a channel's certificates or key cannot be used; it says why to its log only.
constexpr std::string_view kNoConnector = "empty address list: ";
constexpr std::array<std::string_view, 2> kTlsFaults = {"SSL_ERROR_SSL", "Peer name "};
constexpr std::array<std::string_view, 3> kOtherProtocols = {
    "missing selected ALPN property", "Failed parsing HTTP/2", "http1.x server"};
constexpr std::array<std::string_view, 2> kClosed = {"Socket closed", "Connection reset by peer"};

constexpr std::array<std::string_view, 1> kProxy = {"HTTP proxy"};
constexpr std::array<std::string_view, 2> kProxyRefused = {"HTTP proxy returned response code 403",
                                                           "HTTP proxy returned response code 407"};
constexpr std::array<std::string_view, 3> kTooLate = {"imeout", "timed out", "keepalive watchdog"};
constexpr std::string_view kNoName = "DNS resolution failed";

bool holds_any(std::string_view text, std::span<const std::string_view> words) {
  return std::ranges::any_of(words, [&](std::string_view word) { return text.contains(word); });
}

// What kept the channel from a connection.
void explain_connection(GrpcAnswer& answer) {
  const std::string cause = answer.message.substr(kNotConnected.size());
  answer.closed = holds_any(cause, kClosed);
  answer.connection = answer.closed                ? v1::CAUSE_CONNECTION_LOST
                      : holds_any(cause, kTooLate) ? v1::CAUSE_TIMEOUT
                                                   : v1::CAUSE_CONNECT;
  if (holds_any(cause, kProxy)) answer.connection = v1::CAUSE_PROXY;
  if (holds_any(cause, kProxyRefused)) answer.kind = GrpcAnswer::Kind::kSetup;
  if (holds_any(cause, kOtherProtocols)) answer.kind = GrpcAnswer::Kind::kForeign;
  if (!holds_any(cause, kTlsFaults)) return;
  answer.kind = GrpcAnswer::Kind::kTls;
  // Before it stands a code, which says UNKNOWN.
  const std::size_t code_end = cause.find(": ");
  answer.message = code_end == std::string::npos ? cause : cause.substr(code_end + 2);
}

void explain(GrpcAnswer& answer) {
  const std::string_view words = answer.message;
  if (words.starts_with(kHttpStatus)) {
    answer.kind = GrpcAnswer::Kind::kForeign;
    const std::string_view digits = words.substr(kHttpStatus.size());
    std::from_chars(digits.data(), digits.data() + digits.size(), answer.http_status);
  } else if (answer.code == GrpcCode::kUnavailable && words.starts_with(kNotConnected)) {
    explain_connection(answer);
  } else if (answer.code == GrpcCode::kUnavailable && words == kNoConnector) {
    answer.kind = GrpcAnswer::Kind::kTls;
    answer.message = "a certificate or the key cannot be used";
  } else if (answer.code == GrpcCode::kUnavailable && words.starts_with(kNoName)) {
    answer.connection = v1::CAUSE_NAME_RESOLUTION;
  } else {
    answer.closed = answer.code == GrpcCode::kUnavailable && holds_any(words, kClosed);
    if (answer.closed) answer.connection = v1::CAUSE_CONNECTION_LOST;
  }
}

}  // namespace

std::string code_name(GrpcCode code) {
  constexpr std::array<std::string_view, 17> kNames = {"OK",
                                                       "CANCELLED",
                                                       "UNKNOWN",
                                                       "INVALID_ARGUMENT",
                                                       "DEADLINE_EXCEEDED",
                                                       "NOT_FOUND",
                                                       "ALREADY_EXISTS",
                                                       "PERMISSION_DENIED",
                                                       "RESOURCE_EXHAUSTED",
                                                       "FAILED_PRECONDITION",
                                                       "ABORTED",
                                                       "OUT_OF_RANGE",
                                                       "UNIMPLEMENTED",
                                                       "INTERNAL",
                                                       "UNAVAILABLE",
                                                       "DATA_LOSS",
                                                       "UNAUTHENTICATED"};
  const auto number = static_cast<std::uint32_t>(code);
  if (number < kNames.size()) return std::string(kNames[number]);
  return "code " + std::to_string(number);
}

GrpcAnswer read_answer(GrpcCode code, std::string message, std::string_view details) {
  GrpcAnswer answer;
  answer.code = code;
  answer.message = std::move(message);
  answer.retry_after = retry_info(details);
  explain(answer);
  return answer;
}

}  // namespace telemetryd::forward
