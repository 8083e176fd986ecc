// store/uptime.h: the age of rows, by a clock that nobody can set.
//
// A wall clock leaps: at boot without a battery, by NTP, by hand. So age is the time that the
// machine has been up, suspend included, added up over its boots. What it was off for is not
// counted: nothing can tell that from a leap, and a row that stays longer is not lost.
//
// A wrong sum would remove everything at once, so each entry carries a checksum. One that fails is
// nobody's word: the sum goes on from the newest epoch that is known, which is less than it was,
// and rows of an epoch that is not known stay longer.
//
// Owns:    of `meta`: 'uptime_ms', and 'uptime:N' for each epoch N that a row may be of.
// Thread:  store thread.
// Limits:  one entry per epoch from the oldest row's on; see epochs in docs/formats/store.md.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "store/database.h"

namespace telemetryd::store {

class Uptime {
 public:
  // Entries that are damaged are said to the log.
  [[nodiscard]] Result<void> load(Database& db);

  // A start of the daemon. `same_boot`: the machine has not been off since the last one.
  void begin(std::uint64_t epoch, BootMs now, bool same_boot);
  // In the caller's transaction: the new epoch; those below `oldest` are forgotten.
  [[nodiscard]] Result<void> write_epoch(Database& db, std::uint64_t oldest);

  // Worth writing down with the next transaction: after a power cut time goes on from there.
  bool unsaved(BootMs now) const { return now - saved_boot_ms_ >= kSaveIntervalMs; }

  // In the caller's transaction.
  [[nodiscard]] Result<void> save(BootMs now);

  // How long ago a row was accepted; of an epoch that nobody knows, at least.
  BootMs age(std::uint64_t epoch, BootMs accepted_boot_ms, BootMs now) const;

 private:
  static constexpr BootMs kSaveIntervalMs = 60'000;

  struct Epoch {
    std::int64_t offset = 0;  // uptime - boot time
    std::int64_t began = 0;   // uptime
  };

  void load_entry(std::string_view key, std::string_view value);

  std::map<std::uint64_t, Epoch> epochs_;
  std::vector<std::string> damaged_;  // keys of entries
  std::uint64_t epoch_ = 0;
  std::int64_t saved_ = 0;
  BootMs saved_boot_ms_ = 0;
  Statement put_;
};

}  // namespace telemetryd::store
