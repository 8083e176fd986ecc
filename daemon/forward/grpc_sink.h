// forward/grpc_sink.h: kind `grpc`: publishes to the telemetryd-gateway of another machine.
//
// Unary calls, one row in each, or a part of one that is too large. The rows of an app go one after
// the other, because requests of different instances have no order at the relay; different apps go
// side by side on one connection. Whatever was accepted before a failure is recognised by its
// instance when the lease comes again.
//
// Owns:    nothing between leases; connections are Http's.
// Thread:  the forwarder's.
// Limits:  kCallsMax at a time; kSplitsMax per row or part of a row; kUploadBytesPerSecondMin gives
//          slow links time beyond request_timeout.
// Fails:   see forward/grpc_verdict.h. A refused event is parked when anything else of the lease
// was
//          accepted; otherwise the destination is held, for then the fault is not the event's.

#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "base/secret.h"
#include "config/config.h"
#include "forward/http.h"
#include "forward/sink.h"

namespace telemetryd::forward {

class GrpcSink final : public Sink, public std::enable_shared_from_this<GrpcSink> {
 public:
  static constexpr std::size_t kCallsMax = 8;
  static constexpr std::uint32_t kSplitsMax = 64;
  static constexpr std::size_t kUploadBytesPerSecondMin = 16u << 10;
  // curl 7.88 loses an answer that comes before the request has ended, as refusals may; the same
  // request is made again, since its instance lets it count once.
  static constexpr unsigned kTriesMax = 8;

  GrpcSink(config::Destination destination, const SinkContext& context)
      : destination_(std::move(destination)), context_(context) {}

  void begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) override;
  // Asks for the health of the service, then publishes nothing, which passes every check but the
  // last.
  void probe(std::function<void(ProbeOutcome)> done) override;

 private:
  struct Delivery;

  struct Call {
    std::string_view method;
    std::string message;
    unsigned tries = 0;
  };

  [[nodiscard]] Result<Secret> token() const;
  // Url, TLS, bounds and credentials.
  [[nodiscard]] Result<HttpRequest> base_request(const Secret& token) const;
  void start_calls(const std::shared_ptr<Delivery>& delivery);
  // `done` is told how it ended, or kSetup when it could not begin.
  void call(const std::shared_ptr<Call>& what,
            const std::shared_ptr<const Secret>& token,
            std::function<void(const HttpResponse&)> done);

  config::Destination destination_;
  SinkContext context_;
};

}  // namespace telemetryd::forward
