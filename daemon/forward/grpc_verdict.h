// forward/grpc_verdict.h: what the answer to one PublishRequest means.
//
// The table of docs/formats/grpc.md, read from the sender's side. A code that says "later" is
// retried, one that says "this request" is looked at closer, and everything that a person must
// settle holds the destination with the peer's words and the next step.
//
// Thread:  any; no state.

#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "forward/grpc_answer.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

struct GrpcVerdict {
  enum class Fate {
    kAccepted,
    kTooLarge,  // fewer events at a time may pass
    kInvalid,   // an event is at fault, or the request as a whole
    kRetry,
    kHold,
  };
  Fate fate = Fate::kHold;
  std::chrono::milliseconds retry_after{0};  // 0: the peer named none
  std::uint32_t code = 0;                    // gRPC's; 0 without a status
  std::string words;                         // empty when accepted
  v1::Cause cause = v1::CAUSE_UNSPECIFIED;   // unless accepted
};

GrpcVerdict judge_publish(const GrpcAnswer& answer);

// What an answer says beside its verdict: who is muted, and when our certificate expires.
void note(const GrpcAnswer& answer, v1::Outcome& outcome);

// Whether grpc.health.v1.Health/Check said SERVING; otherwise what it said.
Result<void> judge_health(const GrpcAnswer& answer);
// Whether a Publish without events got through to the point where events are asked for.
Result<void> judge_empty_publish(const GrpcAnswer& answer);

}  // namespace telemetryd::forward
