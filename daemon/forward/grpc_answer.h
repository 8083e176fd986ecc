// forward/grpc_answer.h: how a unary call ended, in terms that need no gRPC library.
//
// Tests build these by hand; forward/grpc_channel.h makes them of what the library says.
//
// Thread:  any; no state.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

enum class GrpcCode : std::uint32_t {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};

// "UNAVAILABLE"; "code 99" for a number that gRPC does not have.
std::string code_name(GrpcCode code);

struct GrpcAnswer {
  enum class Kind {
    kStatus,    // code and message are the peer's, or the library's about the connection
    kForeign,   // HTTP, but not gRPC: a proxy, a captive portal, another service
    kTls,       // the peer or we did not prove who we are
    kTooLarge,  // the answer was above its bound
    kSetup,     // the call could not be made
  };
  Kind kind = Kind::kStatus;
  GrpcCode code = GrpcCode::kUnknown;
  std::string message;
  bool closed = false;                                   // the connection ended before an answer
  v1::Cause connection = v1::CAUSE_UNSPECIFIED;          // what kept the call from the peer
  long http_status = 0;                                  // kForeign: 0 when it is not even HTTP/2
  std::optional<std::chrono::milliseconds> retry_after;  // RetryInfo, 0 to 1 h
  std::string body;                                      // the message of an OK answer
  std::vector<v1::Mute> mutes;
  std::int64_t certificate_expires_s = 0;  // of ours, since the epoch; 0: none
};

// The answer to a call that ended with `code`, `message` and the bytes of
// grpc-status-details-bin. The library gives faults of TLS and of HTTP as codes with its own words;
// here they become kinds.
GrpcAnswer read_answer(GrpcCode code, std::string message, std::string_view details);

}  // namespace telemetryd::forward
