// forward/sink.h: one kind of upstream; takes a lease, says later what became of it.
//
// Every destination of the configuration gets one Sink by kind. A sink keeps no event between
// leases: what it did not report as delivered comes again, with the same event IDs.
//
// Thread:  the forwarder's only thread.
// Limits:  kTextBytesMax in an outcome's texts.

#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "config/config.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

inline constexpr std::size_t kTextBytesMax = 512;

struct ProbeOutcome {
  bool ok = false;
  std::string detail;
};

class Sink {
 public:
  virtual ~Sink() = default;

  // Calls `done` exactly once, perhaps before returning. lease_id is filled in by the caller.
  virtual void begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) = 0;
  // Tests the connection without sending an event.
  virtual void probe(std::function<void(ProbeOutcome)> done) = 0;
};

class GrpcCalls;
class Http;

// What sinks are made of.
struct SinkContext {
  Http& http;
  GrpcCalls& grpc;
  const Clock& clock;
  std::chrono::seconds request_timeout{30};
};

// The sink for a destination; null when its kind is unknown to this program.
std::shared_ptr<Sink> make_sink(const config::Destination& destination, const SinkContext& context);

// Outcomes in one line. `error` is made printable and cut. What holds before anything was sent is
// most often our own files and settings.
v1::Outcome delivered();
v1::Outcome retry(std::string_view error, v1::Cause cause);
v1::Outcome hold(std::string_view error, v1::Cause cause = v1::CAUSE_CONFIGURATION);

// Adds `count` events of `row`, from the one that is `index` among those in the lease, to those
// that are parked.
void reject(v1::Outcome& outcome,
            const v1::LeasedRow& row,
            std::uint32_t index,
            std::uint32_t count,
            const std::string& reason);

// Text from elsewhere, fit for a log and a terminal: valid UTF-8, no control characters, cut at
// kTextBytesMax.
std::string printable(std::string_view text);

}  // namespace telemetryd::forward
