#include "store/disk_faults.h"

#include <algorithm>
#include <iterator>

#include "base/log.h"

namespace telemetryd::store {
namespace {

// For programs; see store/trouble.h.
constexpr std::string_view kRowsUnreadable = "rows_unreadable";
constexpr std::string_view kCheckpointFailing = "checkpoint_failing";

}  // namespace

std::optional<Seq> UnreadableRows::end_after(Seq seq) const {
  const auto after = ranges_.upper_bound(seq);
  if (after == ranges_.begin() || seq >= std::prev(after)->second) return std::nullopt;
  return std::prev(after)->second;
}

void UnreadableRows::note(Seq from, Seq to, BootMs now, const Error& cause) {
  if (ranges_.size() >= kRangesMax) return;
  if (ranges_.empty()) retry_boot_ms_ = now + pause_ms_;
  const auto [range, added] = ranges_.try_emplace(from, to);
  range->second = std::max(range->second, to);
  if (!added) return;
  log::error("rows_unreadable", {{"from", from}, {"to", to}, {"cause", cause.message()}});
}

std::optional<Seq> UnreadableRows::forget_due(BootMs now) {
  if (ranges_.empty() || now < retry_boot_ms_) return std::nullopt;
  const Seq first = ranges_.begin()->first;
  ranges_.clear();
  pause_ms_ = std::min(2 * pause_ms_, kPauseMaxMs);
  return first;
}

std::optional<Trouble> UnreadableRows::trouble() const {
  if (ranges_.empty()) return std::nullopt;
  return Trouble{std::string(kRowsUnreadable),
                 "in " + std::to_string(ranges_.size()) +
                     " places the disk does not give queued events back; the others are "
                     "delivered, and these are tried again from time to time. Look at the "
                     "kernel's log: the disk may be failing"};
}

void CheckpointFailures::failed(BootMs now, const Error& cause) {
  ++in_a_row_;
  retry_boot_ms_ = now + kRetryMs;
  cause_ = cause.message();
}

std::optional<Trouble> CheckpointFailures::trouble() const {
  if (in_a_row_ == 0) return std::nullopt;
  return Trouble{std::string(kCheckpointFailing),
                 "the database file cannot be written (" + cause_ +
                     "); events are kept in its log meanwhile. Look at the kernel's log: the disk "
                     "may be failing"};
}

}  // namespace telemetryd::store
