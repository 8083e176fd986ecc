// gateway/status.h: how a gRPC call ends, and the few small messages that say it.
//
// The codes are gRPC's; docs/formats/grpc.md has the table. Messages are written by hand: three
// fields of google.rpc and of PublishResponse do not need a protobuf runtime, and the decision what
// to answer stays testable without gRPC.
//
// Thread:  any; values.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "frame/frame.h"

namespace telemetryd::gateway {

enum class StatusCode : int {
  kOk = 0,
  kCancelled = 1,
  kInvalidArgument = 3,
  kNotFound = 5,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kAborted = 10,
  kUnimplemented = 12,
  kUnavailable = 14,
  kUnauthenticated = 16,
};

struct Status {
  StatusCode code = StatusCode::kOk;
  std::string text;
  // Present: the same request may be sent again after this long, and RetryInfo says so.
  std::optional<std::chrono::milliseconds> retry_after;
};

// What the daemon, or the gateway in its place, has against one request.
struct Refusal {
  std::uint64_t number = 0;
  frame::Code code{};
  bool retryable = false;
  std::chrono::milliseconds retry_after{0};
  std::string text;
};

// A sender that is told to come back and not when, comes back after this.
constexpr std::chrono::milliseconds kRetryAfterDefault{1000};

Status invalid(std::string text);
Status unavailable(std::string text, std::chrono::milliseconds retry_after = kRetryAfterDefault);
// What the sender has under way is as much as may be.
Status exhausted(std::string text);

// The end of a call whose one request was refused.
Status status_of(const Refusal& refusal);

// "INVALID_EVENT": the name in docs/formats/frame.md.
std::string code_word(frame::Code code);

// An encoded google.rpc.Status with RetryInfo for the trailer grpc-status-details-bin; empty when
// there is nothing to say.
std::string status_details(const Status& status);

// An encoded PublishResponse. The refusal is absent in Publish.
std::string publish_response(std::uint64_t acknowledged, const Refusal* refusal = nullptr);

}  // namespace telemetryd::gateway
