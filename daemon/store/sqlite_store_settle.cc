#include <algorithm>

#include "base/log.h"
#include "store/row_bytes.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

constexpr std::size_t kReasonBytesMax = 512;

}  // namespace

Result<void> SqliteStore::delete_row(Seq seq) {
  TELEMETRYD_TRY(sql_.delete_row.run(seq));
  if (!next_indexes_.contains(seq)) return {};
  return sql_.delete_next_index.run(seq);
}

// Copies the rejected events of a part to the dead letters, one each.
Result<std::uint32_t> SqliteStore::park(const LeasedPart& part,
                                        const Settlement& settlement,
                                        std::uint64_t& footprint) {
  std::uint32_t parked = 0;
  std::optional<StoredRow> row;
  for (const Rejected& rejected : settlement.rejected) {
    if (rejected.seq != part.seq || rejected.count == 0) continue;
    if (!row) {
      TELEMETRYD_ASSIGN(row, load_row(part.seq));
      if (!row) return fail(ErrorCode::kDataLoss, "a leased row is gone");
    }
    const std::string_view reason = std::string_view(rejected.reason).substr(0, kReasonBytesMax);
    auto rest = cut_events(row->blob, rejected.first_index, rejected.count);
    if (!rest) return fail(ErrorCode::kDataLoss, "a leased row changed on disk");
    for (std::uint32_t i = 0; i < rejected.count; ++i) {
      const auto event = take_event(*rest);
      footprint += row->context.size() + event->size() + kRowOverheadBytes;
      TELEMETRYD_TRY(sql_.insert_dead.run(part.seq,
                                          rejected.first_index + i,
                                          part.uid,
                                          part.app,
                                          std::string_view(settlement.destination),
                                          clock_.unix_ms(),
                                          reason,
                                          Blob{row->context},
                                          Blob{event_body(*event)}));
    }
    parked += rejected.count;
  }
  return parked;
}

Result<void> SqliteStore::settle_part(const LeasedPart& part,
                                      const Settlement& settlement,
                                      Moves& moves,
                                      std::uint64_t& footprint) {
  std::uint32_t parked = 0;
  if (!settlement.rejected.empty()) {
    TELEMETRYD_ASSIGN(parked, park(part, settlement, footprint));
  }
  moves.add(part.app, account::kQueued, reason::kNone, -static_cast<std::int64_t>(part.count));
  moves.add(part.app, account::kDelivered, reason::kNone, part.count - parked);
  moves.add(part.app, account::kParked, reason::kNone, parked);
  if (!part.ends_row()) {
    return sql_.put_next_index.run(part.seq, part.first_index + part.count);
  }
  moves.add(
      part.app, account::kQueuedBytes, reason::kNone, -static_cast<std::int64_t>(part.row_bytes));
  return delete_row(part.seq);
}

namespace {

// Ranges must lie within what was lent, and no event can be rejected twice.
bool rejections_fit(const std::map<Seq, std::pair<std::uint32_t, std::uint32_t>>& lent,
                    std::vector<Rejected> rejected) {
  std::ranges::sort(
      rejected, {}, [](const Rejected& r) { return std::pair(r.seq, r.first_index); });
  Seq seq = 0;
  std::uint64_t free_from = 0;
  for (const Rejected& range : rejected) {
    const auto part = lent.find(range.seq);
    if (part == lent.end()) return false;
    const auto& [first, count] = part->second;
    if (range.seq != seq) free_from = first;
    seq = range.seq;
    const std::uint64_t end = std::uint64_t{range.first_index} + range.count;
    if (range.first_index < free_from || end > std::uint64_t{first} + count) return false;
    free_from = end;
  }
  return true;
}

}  // namespace

Result<void> SqliteStore::settle(const Settlement& settlement) {
  TELEMETRYD_TRY(usable());
  const auto lease = leases_.find(settlement.lease);
  if (lease == leases_.end()) return fail(ErrorCode::kNotFound, "no such lease");
  std::map<Seq, std::pair<std::uint32_t, std::uint32_t>> lent;
  for (const LeasedPart& part : lease->second) lent[part.seq] = {part.first_index, part.count};
  if (!rejections_fit(lent, settlement.rejected)) {
    return fail(ErrorCode::kInvalidArgument, "a rejected event was not in the lease");
  }
  const std::vector<LeasedPart> parts = lease->second;
  TELEMETRYD_TRY(settle_now(settlement, parts));
  // What has left cannot become due again.
  std::erase_if(lease->second, [this](const LeasedPart& part) {
    if (part.ends_row()) leased_.erase(part.seq);
    return part.ends_row();
  });
  release(settlement.lease);
  return {};
}

// Parking takes room that the row's end gives back only afterwards. When the reserve is used up,
// older dead letters make way: a settlement that fails would be delivered again and again.
Result<void> SqliteStore::write_settlement(const Settlement& settlement,
                                           const std::vector<LeasedPart>& parts) {
  std::uint64_t evict_bytes = 0;
  for (int attempt = 0;; ++attempt) {
    Moves moves;
    std::uint64_t footprint = 0;  // of what was parked until there was no more room
    Eviction eviction;
    TELEMETRYD_TRY(choose_dead(evict_bytes, eviction));
    const auto written = transact([&]() -> Result<void> {
      moves = Moves();
      footprint = 0;
      TELEMETRYD_TRY(write_eviction(eviction));
      for (const LeasedPart& part : parts) {
        TELEMETRYD_TRY(settle_part(part, settlement, moves, footprint));
      }
      return books_.write(moves);
    });
    if (written) {
      apply_eviction(eviction);
      books_.apply(moves);
      return {};
    }
    const bool full = written.error().code() == ErrorCode::kResourceExhausted;
    const bool nothing_left = evict_bytes > 0 && eviction.empty();
    if (!full || nothing_left || attempt == kEvictAttemptsMax) return written;
    TELEMETRYD_ASSIGN(const bool by_quota, at_page_limit(footprint));
    if (!by_quota) return written;
    evict_bytes = std::max(kEvictBytesMin, evict_bytes * 2);
  }
}

Result<void> SqliteStore::settle_now(const Settlement& settlement,
                                     const std::vector<LeasedPart>& parts) {
  TELEMETRYD_TRY(write_settlement(settlement, parts));
  for (const LeasedPart& part : parts) {
    if (part.ends_row()) {
      next_indexes_.erase(part.seq);
      leave_share(part.seq, {part.uid, part.app, part.persistence_class}, part.row_bytes);
    } else {
      next_indexes_[part.seq] = part.first_index + part.count;
    }
  }
  return {};
}

void SqliteStore::end_lease(LeaseId id) {
  const auto lease = leases_.find(id);
  if (lease == leases_.end()) return;
  for (const LeasedPart& part : lease->second) {
    leased_.erase(part.seq);
    cursors_[part.app].back_to(part.seq, part.urgent);
  }
  leases_.erase(lease);
}

void SqliteStore::release(LeaseId lease) {
  end_lease(lease);
  if (closed_ || outcome_unknown_) return;
  if (auto done = finish_erasures(); !done) {
    // The request stays in meta and is tried again with the next lease's end or start.
    log::warn("erasure_delayed", {{"cause", done.error().message()}});
  }
}

}  // namespace telemetryd::store
