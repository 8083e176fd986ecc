#include "gateway/status.h"

#include <algorithm>
#include <cctype>

#include <protozero/pbf_writer.hpp>

namespace telemetryd::gateway {
namespace {

// google/rpc/status.proto, google/rpc/error_details.proto, google/protobuf/duration.proto and
// any.proto: the numbers of the fields used here.
enum : protozero::pbf_tag_type {
  kStatusCode = 1,
  kStatusMessage = 2,
  kStatusDetails = 3,
  kAnyTypeUrl = 1,
  kAnyValue = 2,
  kRetryDelay = 1,
  kDurationSeconds = 1,
  kDurationNanos = 2,
};

// telemetry/v1/ingest.proto.
enum : protozero::pbf_tag_type {
  kAcknowledged = 1,
  kRefused = 2,
  kRefusalNumber = 1,
  kRefusalCode = 2,
  kRefusalRetryable = 3,
  kRefusalRetryAfterMs = 4,
  kRefusalMessage = 5,
};

constexpr const char* kRetryInfoUrl = "type.googleapis.com/google.rpc.RetryInfo";

StatusCode code_of(frame::Code code) {
  switch (code) {
    case frame::Code::kInvalidEvent: return StatusCode::kInvalidArgument;
    case frame::Code::kFrameTooLarge:
    case frame::Code::kStoreFull: return StatusCode::kResourceExhausted;
    case frame::Code::kCollectionOff: return StatusCode::kPermissionDenied;
    case frame::Code::kOutOfOrder: return StatusCode::kAborted;
    // What is wrong between us and the daemon is nothing the sender can repair.
    case frame::Code::kDiskUnavailable:
    case frame::Code::kStopping:
    case frame::Code::kProtocol:
    case frame::Code::kVersionUnsupported:
    case frame::Code::kTooManyConnections:
    case frame::Code::kDeadline:
    case frame::Code::kUnknownOutcome: break;
  }
  return StatusCode::kUnavailable;
}

std::string retry_info(std::chrono::milliseconds delay) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(delay);
  const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(delay - seconds);
  std::string info;
  protozero::pbf_writer writer(info);
  protozero::pbf_writer duration(writer, kRetryDelay);
  if (seconds.count() != 0) duration.add_int64(kDurationSeconds, seconds.count());
  if (nanos.count() != 0) {
    duration.add_int32(kDurationNanos, static_cast<std::int32_t>(nanos.count()));
  }
  return info;
}

}  // namespace

Status invalid(std::string text) {
  return {.code = StatusCode::kInvalidArgument, .text = std::move(text), .retry_after = {}};
}

Status unavailable(std::string text, std::chrono::milliseconds retry_after) {
  return {.code = StatusCode::kUnavailable, .text = std::move(text), .retry_after = retry_after};
}

Status exhausted(std::string text) {
  return {.code = StatusCode::kResourceExhausted,
          .text = std::move(text),
          .retry_after = kRetryAfterDefault};
}

Status status_of(const Refusal& refusal) {
  Status status{.code = code_of(refusal.code), .text = refusal.text, .retry_after = {}};
  if (status.text.empty()) status.text = code_word(refusal.code);
  // Nothing arrives by waiting when the code says that the request itself is wrong.
  if (refusal.retryable || status.code == StatusCode::kUnavailable) {
    status.retry_after = refusal.retry_after.count() > 0 ? refusal.retry_after : kRetryAfterDefault;
  }
  return status;
}

std::string code_word(frame::Code code) {
  std::string word = frame::code_name(code);
  std::ranges::transform(word, word.begin(), [](unsigned char letter) {
    return static_cast<char>(std::toupper(letter));
  });
  return word;
}

std::string status_details(const Status& status) {
  std::string details;
  if (!status.retry_after) return details;
  protozero::pbf_writer writer(details);
  writer.add_int32(kStatusCode, static_cast<std::int32_t>(status.code));
  writer.add_string(kStatusMessage, status.text);
  protozero::pbf_writer any(writer, kStatusDetails);
  any.add_string(kAnyTypeUrl, kRetryInfoUrl);
  any.add_bytes(kAnyValue, retry_info(*status.retry_after));
  return details;
}

std::string publish_response(std::uint64_t acknowledged, const Refusal* refusal) {
  std::string response;
  protozero::pbf_writer writer(response);
  if (acknowledged != 0) writer.add_uint64(kAcknowledged, acknowledged);
  if (refusal == nullptr) return response;
  protozero::pbf_writer refused(writer, kRefused);
  refused.add_uint64(kRefusalNumber, refusal->number);
  refused.add_string(kRefusalCode, code_word(refusal->code));
  if (refusal->retryable) {
    refused.add_bool(kRefusalRetryable, true);
    refused.add_uint32(kRefusalRetryAfterMs,
                       static_cast<std::uint32_t>(refusal->retry_after.count()));
  }
  refused.add_string(kRefusalMessage, refusal->text);
  return response;
}

}  // namespace telemetryd::gateway
