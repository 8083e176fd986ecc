// forward/grpc_wire.h: gRPC as bytes over HTTP/2: what a unary call sends and what comes back.
//
// curl speaks HTTP/2 and TLS; this is the little that gRPC adds: five bytes before a message, a
// status in the trailers, and RetryInfo inside it. docs/adr/0014 says why no gRPC library is
// linked.
//
// Thread:  any; no state.
// Limits:  those of Http for an answer.
// Fails:   an answer that is no gRPC says so in GrpcAnswer::kind; nothing is guessed.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "forward/http.h"

namespace telemetryd::forward {

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
    kStatus,   // code and message are the peer's
    kForeign,  // HTTP, but not gRPC: a proxy, a captive portal, another service
  };
  Kind kind = Kind::kForeign;
  GrpcCode code = GrpcCode::kUnknown;
  std::string message;                                   // the peer's words, decoded
  std::optional<std::chrono::milliseconds> retry_after;  // RetryInfo, 0 to 1 h
  std::string body;                                      // the one message of an OK answer
};

// `message` behind its prefix, uncompressed. Less than 4 GiB.
std::string grpc_body(std::string_view message);

// Makes `request` a unary call of `method` ("package.Service/Method") below its url.
void make_call(HttpRequest& request, std::string_view method, std::string_view message);

// Reads what `response` says; response.kind is kAnswer.
GrpcAnswer read_answer(const HttpResponse& response);

}  // namespace telemetryd::forward
