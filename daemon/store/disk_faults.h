// store/disk_faults.h: rows and checkpoints that the disk refuses, remembered until it does not.
//
// Thread:  store thread.
// Limits:  kRangesMax ranges of rows; further ones are tried again each time.

#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "store/store.h"

namespace telemetryd::store {

// Rows that cannot be read. They stay where they are and in the ledger as queued, and are tried
// again after a pause, which doubles each time.
class UnreadableRows {
 public:
  static constexpr std::size_t kRangesMax = 1024;

  bool contains(Seq seq) const { return end_after(seq).has_value(); }

  // Where the range with `seq` ends; nothing when it is in none.
  std::optional<Seq> end_after(Seq seq) const;
  void note(Seq from, Seq to, BootMs now, const Error& cause);
  // After the pause all are forgotten; the first of them.
  std::optional<Seq> forget_due(BootMs now);
  std::optional<Trouble> trouble() const;

 private:
  static constexpr BootMs kPauseMs = 60'000;
  static constexpr BootMs kPauseMaxMs = 3'600'000;

  std::map<Seq, Seq> ranges_;  // from, to
  BootMs pause_ms_ = kPauseMs;
  BootMs retry_boot_ms_ = 0;
};

// The WAL still has everything when a checkpoint fails, so that is no loss.
class CheckpointFailures {
 public:
  void failed(BootMs now, const Error& cause);

  void worked() { *this = CheckpointFailures(); }

  bool waits(BootMs now) const { return now < retry_boot_ms_; }

  // So many in a row, each after a pause, that this process will not bring it about.
  bool hopeless() const { return in_a_row_ >= kInARowMax; }

  std::optional<Trouble> trouble() const;

 private:
  static constexpr int kInARowMax = 6;
  static constexpr BootMs kRetryMs = 10'000;

  int in_a_row_ = 0;
  BootMs retry_boot_ms_ = 0;
  std::string cause_;
};

}  // namespace telemetryd::store
