#include "store/uptime.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/log.h"
#include "store/row_bytes.h"

namespace telemetryd::store {
namespace {

constexpr std::string_view kSumKey = "uptime_ms";
constexpr std::string_view kEpochPrefix = "uptime:";

std::string epoch_key(std::uint64_t epoch) {
  return std::string(kEpochPrefix) + std::to_string(epoch);
}

// The key is in the checksum, so that no entry passes for another.
std::string sealed(std::string_view key, const std::string& numbers) {
  return numbers + " " + std::to_string(content_crc(key, numbers));
}

// What was sealed; nothing when it is not what was written.
std::optional<std::string_view> unsealed(std::string_view key, std::string_view value) {
  const std::size_t end = value.rfind(' ');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view numbers = value.substr(0, end);
  if (value != sealed(key, std::string(numbers))) return std::nullopt;
  return numbers;
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
  TELEMETRYD_ASSIGN(put_, db.prepare("INSERT OR REPLACE INTO meta VALUES(?, ?)"));
  TELEMETRYD_ASSIGN(Statement select,
                    db.prepare("SELECT key, value FROM meta "
                               "WHERE key GLOB 'uptime:*' OR key='uptime_ms'"));
  for (Rows rows = select.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) break;
    load_entry(rows.bytes(0), rows.bytes(1));
  }
  // It was more than that, which makes nothing older than it is.
  for (const auto& [number, epoch] : epochs_) saved_ = std::max(saved_, epoch.began);
  for (const std::string& key : damaged_) {
    log::error("uptime_damaged", {{"key", key}, {"consequence", "queued events may stay longer"}});
  }
  return {};
}

void Uptime::load_entry(std::string_view key, std::string_view value) {
  auto numbers = unsealed(key, value);
  if (numbers && key == kSumKey && take_number(*numbers, saved_)) return;
  std::uint64_t number = 0;
  Epoch epoch;
  std::string_view rest = key.substr(std::min(key.size(), kEpochPrefix.size()));
  if (numbers && key != kSumKey && take_number(rest, number) &&
      take_number(*numbers, epoch.offset) && take_number(*numbers, epoch.began)) {
    epochs_[number] = epoch;
    return;
  }
  damaged_.emplace_back(key);
}

void Uptime::begin(std::uint64_t epoch, BootMs now, bool same_boot) {
  // A boot that is new has lasted for `now`, all of it after what was saved.
  Epoch next{.offset = saved_, .began = saved_ + now};
  // What was saved may have a part of this boot in it already.
  if (same_boot && !damaged_.empty()) next = {.offset = saved_ - now, .began = saved_};
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
  TELEMETRYD_ASSIGN(Statement forget, db.prepare("DELETE FROM meta WHERE key=?"));
  for (const std::string& key : damaged_) TELEMETRYD_TRY(forget.run(std::string_view(key)));
  const std::string key = epoch_key(epoch_);
  const std::string value =
      sealed(key, std::to_string(now.offset) + " " + std::to_string(now.began));
  TELEMETRYD_TRY(put_.run(std::string_view(key), std::string_view(value)));
  return save(now.began - now.offset);
}

Result<void> Uptime::save(BootMs now) {
  saved_ = epochs_[epoch_].offset + now;
  saved_boot_ms_ = now;
  const std::string value = sealed(kSumKey, std::to_string(saved_));
  return put_.run(kSumKey, std::string_view(value));
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
