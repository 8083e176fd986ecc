#include "store/uptime.h"

#include <algorithm>
#include <charconv>
#include <string>

namespace telemetryd::store {
namespace {

constexpr std::string_view kKeyPrefix = "uptime:";

std::string epoch_key(std::uint64_t epoch) {
  return std::string(kKeyPrefix) + std::to_string(epoch);
}

template <typename Number>
bool take_number(std::string_view& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with(' ')) text.remove_prefix(1);
  return true;
}

}  // namespace

Result<void> Uptime::load(Database& db) {
  TELEMETRYD_ASSIGN(put_, db.prepare("INSERT OR REPLACE INTO meta VALUES('uptime_ms', ?)"));
  TELEMETRYD_ASSIGN(saved_, db.ask_integer("SELECT value FROM meta WHERE key='uptime_ms'"));
  TELEMETRYD_ASSIGN(Statement select,
                    db.prepare("SELECT key, value FROM meta WHERE key GLOB 'uptime:*'"));
  for (Rows rows = select.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) return {};
    std::string_view key = rows.bytes(0);
    key.remove_prefix(kKeyPrefix.size());
    std::string_view value = rows.bytes(1);
    std::uint64_t number = 0;
    Epoch epoch;
    // One that cannot be read is one that nobody knows: its rows stay longer.
    if (take_number(key, number) && take_number(value, epoch.offset) &&
        take_number(value, epoch.began)) {
      epochs_[number] = epoch;
    }
  }
}

void Uptime::begin(std::uint64_t epoch, BootMs now, bool same_boot) {
  // A boot that is new has lasted for `now`, all of it after what was saved.
  Epoch next{.offset = saved_, .began = saved_ + now};
  if (same_boot && !epochs_.empty()) {
    const std::int64_t offset = epochs_.rbegin()->second.offset;
    if (offset + now >= saved_) next = {.offset = offset, .began = offset + now};
  }
  epoch_ = epoch;
  epochs_[epoch] = next;
}

Result<void> Uptime::write_epoch(Database& db, std::uint64_t oldest) {
  TELEMETRYD_ASSIGN(Statement drop,
                    db.prepare("DELETE FROM meta WHERE key GLOB 'uptime:*' "
                               "AND CAST(substr(key, 8) AS INTEGER) < ?"));
  TELEMETRYD_TRY(drop.run(std::min(oldest, epoch_)));
  std::erase_if(epochs_, [&](const auto& known) { return known.first < std::min(oldest, epoch_); });
  const Epoch& now = epochs_[epoch_];
  TELEMETRYD_ASSIGN(Statement put, db.prepare("INSERT OR REPLACE INTO meta VALUES(?, ?)"));
  const std::string key = epoch_key(epoch_);
  const std::string value = std::to_string(now.offset) + " " + std::to_string(now.began);
  TELEMETRYD_TRY(put.run(std::string_view(key), std::string_view(value)));
  return save(now.began - now.offset);
}

Result<void> Uptime::save(BootMs now) {
  saved_ = epochs_[epoch_].offset + now;
  saved_boot_ms_ = now;
  return put_.run(saved_);
}

BootMs Uptime::age(std::uint64_t epoch, BootMs accepted_boot_ms, BootMs now) const {
  const std::int64_t uptime = epochs_.at(epoch_).offset + now;
  const auto known = epochs_.lower_bound(epoch);
  if (known == epochs_.end()) return 0;
  const Epoch& of = known->second;
  // Of an earlier epoch nothing is known but that it was over when the known one began; and a row
  // of this one cannot be older than its epoch.
  if (known->first != epoch) return std::max<BootMs>(uptime - of.began, 0);
  return std::clamp<BootMs>(
      uptime - (of.offset + accepted_boot_ms), 0, std::max<BootMs>(uptime - of.began, 0));
}

}  // namespace telemetryd::store
