#include "forward/grpc_delivery.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "forward/sink.h"

namespace telemetryd::forward {

using Fate = GrpcVerdict::Fate;

Result<GrpcDelivery> GrpcDelivery::make(v1::Lease lease, std::size_t calls_max) {
  GrpcDelivery delivery;
  delivery.lease_ = std::make_unique<const v1::Lease>(std::move(lease));
  delivery.calls_max_ = calls_max;
  for (const v1::LeasedRow& row : delivery.lease_->rows()) {
    TELEMETRYD_ASSIGN(const std::vector<Piece> pieces, cut(row));
    Lane& lane = delivery.lane_of(row.app());
    lane.pieces.insert(lane.pieces.end(), pieces.begin(), pieces.end());
  }
  return delivery;
}

GrpcDelivery::Lane& GrpcDelivery::lane_of(const std::string& app) {
  const auto found = std::ranges::find(lanes_, app, &Lane::app);
  if (found != lanes_.end()) return *found;
  lanes_.push_back({.app = app});
  return lanes_.back();
}

std::optional<GrpcDelivery::Call> GrpcDelivery::next() {
  if (stopped_ || given_up() || calls_ >= calls_max_) return std::nullopt;
  const auto found = std::ranges::find_if(
      lanes_, [](const Lane& lane) { return !lane.busy && !lane.pieces.empty(); });
  if (found == lanes_.end()) return std::nullopt;
  const Piece piece = found->pieces.front();
  found->pieces.pop_front();
  found->busy = true;
  ++calls_;
  return Call{static_cast<std::size_t>(found - lanes_.begin()), piece};
}

void GrpcDelivery::took(const Call& call, GrpcVerdict verdict) {
  TELEMETRYD_CHECK(calls_ > 0);
  --calls_;
  lanes_[call.lane].busy = false;
  switch (verdict.fate) {
    case Fate::kAccepted:
      accepted_ += call.piece.count;
      bytes_ += call.piece.events.size();
      return;
    case Fate::kInvalid:
    case Fate::kTooLarge:
      if (!split(call)) refused_.push_back({call.piece, std::move(verdict)});
      return;
    case Fate::kRetry:
    case Fate::kHold: return stop(std::move(verdict));
  }
}

bool GrpcDelivery::work_left() const {
  return std::ranges::any_of(lanes_, [](const Lane& lane) { return !lane.pieces.empty(); });
}

bool GrpcDelivery::split(const Call& call) {
  Lane& lane = lanes_[call.lane];
  if (call.piece.count < 2) return false;
  const auto halves = halve(call.piece);
  if (!halves) return false;
  lane.pieces.push_front(halves->second);
  lane.pieces.push_front(halves->first);
  return true;
}

void GrpcDelivery::stop(GrpcVerdict verdict) {
  if (!stopped_ || (stopped_->fate == Fate::kRetry && verdict.fate != Fate::kRetry)) {
    stopped_ = std::move(verdict);
  } else {
    stopped_->retry_after = std::max(stopped_->retry_after, verdict.retry_after);
  }
}

const GrpcVerdict* GrpcDelivery::against() const {
  if (stopped_) return &*stopped_;
  // What refuses everything finds fault with us, not with an event.
  return accepted_ == 0 && !refused_.empty() ? &refused_[0].verdict : nullptr;
}

v1::Outcome GrpcDelivery::outcome() const {
  TELEMETRYD_CHECK(finished());
  v1::Outcome outcome = delivered();
  if (const GrpcVerdict* against = this->against()) {
    const bool later = against->fate == Fate::kRetry;
    outcome = later ? retry(against->words, against->cause) : hold(against->words, against->cause);
    if (later) outcome.set_retry_after_ms(static_cast<std::uint64_t>(against->retry_after.count()));
    outcome.set_status(against->code);
    if (against->fate == Fate::kTooLarge) {
      outcome.set_error(
          printable("single events are too large for the relay, raise its [ingest] "
                    "frame_bytes_max: " +
                    against->words));
    }
    return outcome;
  }
  for (const Refused& refused : refused_) {
    v1::RejectedEvents* rejected = outcome.add_rejected();
    rejected->set_seq(refused.piece.row->seq());
    rejected->set_first_index(refused.piece.first_index);
    rejected->set_count(refused.piece.count);
    rejected->set_reason(printable(refused.verdict.words));
  }
  outcome.set_body_bytes(bytes_);
  return outcome;
}

}  // namespace telemetryd::forward
