// forward/grpc_delivery.h: one lease on its way over gRPC: what to send next, and how it ended.
//
// A plain state machine: next() hands out pieces, at most one per app at a time and at most
// `calls_max` in all; took() says what became of one. Nothing here touches the network.
//
// A piece that is refused for good is halved, down to single events. That depends on this row
// alone, so the same row is cut the same way each time it is sent. A refused event is parked only
// when anything else of the lease was accepted: otherwise the fault is not the event's.
//
// Owns:    a copy of the lease, into which the pieces point.
// Thread:  one.
// Limits:  kRefusedAloneMax events refused alone before anything is accepted; then nothing more is
//          sent.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "forward/grpc_request.h"
#include "forward/grpc_verdict.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

class GrpcDelivery {
 public:
  // As Division's: room for several bad events, and not for asking on and on.
  static constexpr std::size_t kRefusedAloneMax = 8;

  // Fails with kDataLoss when a row cannot be cut.
  [[nodiscard]] static Result<GrpcDelivery> make(v1::Lease lease, std::size_t calls_max);

  struct Call {
    std::size_t lane = 0;
    Piece piece;
  };

  // The next piece to send; nothing while all that may go is on its way, or none is left.
  std::optional<Call> next();
  void took(const Call& call, GrpcVerdict verdict);

  // Nothing is on its way and nothing will be.
  bool finished() const { return calls_ == 0 && (stopped_ || given_up() || !work_left()); }

  // finished() only.
  v1::Outcome outcome() const;

 private:
  // The rows of one app, in order.
  struct Lane {
    std::string app;
    std::deque<Piece> pieces;
    bool busy = false;
  };

  struct Refused {
    Piece piece;
    GrpcVerdict verdict;
  };

  GrpcDelivery() = default;
  Lane& lane_of(const std::string& app);
  bool work_left() const;

  // Nothing was accepted, and there is no reason to ask on.
  bool given_up() const { return accepted_ == 0 && refused_.size() >= kRefusedAloneMax; }

  // Puts the halves in the piece's place; false when there is nothing to halve.
  bool split(const Call& call);
  // What stands against the whole lease; null when nothing does.
  const GrpcVerdict* against() const;
  void stop(GrpcVerdict verdict);

  // By pointer: pieces point into it, and a delivery is moved.
  std::unique_ptr<const v1::Lease> lease_;
  std::size_t calls_max_ = 1;
  std::vector<Lane> lanes_;
  std::size_t calls_ = 0;
  std::uint64_t accepted_ = 0;  // events
  std::uint64_t bytes_ = 0;
  std::vector<Refused> refused_;
  std::optional<GrpcVerdict> stopped_;
};

}  // namespace telemetryd::forward
