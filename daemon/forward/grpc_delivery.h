// forward/grpc_delivery.h: one lease on its way over gRPC: what to send next, and how it ended.
//
// A plain state machine: next() hands out pieces, at most one per app at a time and at most
// `calls_max` in all; took() says what became of one. Nothing here touches the network.
//
// Owns:    a copy of the lease, into which the pieces point.
// Thread:  one.
// Limits:  `splits_max` times a piece is halved, counted anew for each piece of the first cut. That
//          depends on this row alone, so the same row is cut the same way each time it is sent.

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
  // Fails with kDataLoss when a row cannot be cut.
  [[nodiscard]] static Result<GrpcDelivery> make(v1::Lease lease,
                                                 std::size_t calls_max,
                                                 std::uint32_t splits_max);

  struct Call {
    std::size_t lane = 0;
    Piece piece;
  };

  // The next piece to send; nothing while all that may go is on its way, or none is left.
  std::optional<Call> next();
  void took(const Call& call, GrpcVerdict verdict);

  // Nothing is on its way and nothing will be.
  bool finished() const { return calls_ == 0 && (stopped_ || !work_left()); }

  // finished() only.
  v1::Outcome outcome() const;

 private:
  struct Item {
    Piece piece;
    bool first_cut = true;
  };

  // The rows of one app, in order.
  struct Lane {
    std::string app;
    std::deque<Item> items;
    bool busy = false;
    std::uint32_t splits_left = 0;
  };

  struct Refused {
    Piece piece;
    GrpcVerdict verdict;
  };

  GrpcDelivery() = default;
  Lane& lane_of(const std::string& app);
  bool work_left() const;
  // Puts the halves in the piece's place; false when there is nothing to halve.
  bool split(const Call& call);
  void stop(GrpcVerdict verdict);

  // By pointer: pieces point into it, and a delivery is moved.
  std::unique_ptr<const v1::Lease> lease_;
  std::size_t calls_max_ = 1;
  std::uint32_t splits_max_ = 0;
  std::vector<Lane> lanes_;
  std::size_t calls_ = 0;
  std::uint64_t accepted_ = 0;  // events
  std::uint64_t bytes_ = 0;
  std::vector<Refused> refused_;
  std::optional<GrpcVerdict> stopped_;
};

}  // namespace telemetryd::forward
