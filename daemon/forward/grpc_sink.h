// forward/grpc_sink.h: kind `grpc`: publishes to the telemetryd-gateway of another machine.
//
// Unary calls, one row in each, or a part of one that is too large. The rows of an app go one after
// the other, because requests of different instances have no order at the relay; different apps go
// side by side on one connection. Whatever was accepted before a failure is recognised by its
// instance when the lease comes again.
//
// Owns:    nothing between leases. A channel lives as long as a lease that uses it, so certificates
//          that were renewed count from the next lease on.
// Thread:  the forwarder's.
// Limits:  kCallsMax at a time; kUploadBytesPerSecondMin gives slow links time beyond
//          request_timeout.
// Fails:   see forward/grpc_verdict.h, and forward/grpc_delivery.h for what is refused.

#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "base/secret.h"
#include "config/config.h"
#include "forward/grpc_channel.h"
#include "forward/grpc_verdict.h"
#include "forward/sink.h"

namespace telemetryd::forward {

class GrpcSink final : public Sink, public std::enable_shared_from_this<GrpcSink> {
 public:
  static constexpr std::size_t kCallsMax = 8;
  static constexpr std::size_t kUploadBytesPerSecondMin = 16u << 10;

  GrpcSink(config::Destination destination, const SinkContext& context)
      : destination_(std::move(destination)), context_(context) {}

  void begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) override;
  // Asks for the health of the service, then publishes nothing, which passes every check but the
  // last.
  void probe(std::function<void(ProbeOutcome)> done) override;

 private:
  struct Delivery;

  // Readable by gRPC, which takes printable ASCII only.
  [[nodiscard]] Result<Secret> token() const;
  // Shared with the leases that are out; a new one otherwise.
  [[nodiscard]] Result<std::shared_ptr<GrpcChannel>> channel();
  // What our certificate may have to do with a connection that failed.
  void look_at_certificate(const GrpcAnswer& answer, GrpcVerdict& verdict) const;
  std::string_view on_closed() const;
  void start_calls(const std::shared_ptr<Delivery>& delivery);
  void call(const std::shared_ptr<GrpcChannel>& channel,
            std::string_view method,
            std::string message,
            const Secret& token,
            std::function<void(const GrpcAnswer&)> done) const;

  config::Destination destination_;
  SinkContext context_;
  std::weak_ptr<GrpcChannel> channel_;
};

}  // namespace telemetryd::forward
