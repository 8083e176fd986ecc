#include <algorithm>

#include "store/schema.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

constexpr std::uint32_t kDiskLowRetryAfterMs = 5000;
// Pages of room beyond what a commit needs: so that most have nothing to ask for, and for what is
// not ingest, which never asks.
constexpr std::uint64_t kPagesAhead = 128;

// What is worth giving back, how long after the last write, and how much at a time.
constexpr std::uint64_t kGiveBackBytesMin = 8u << 20;
constexpr BootMs kGiveBackRestMs = 60'000;
constexpr std::int64_t kGiveBackPages = 64;

Refusal come_again(std::uint32_t retry_after_ms, std::string text) {
  return {frame::Code::kDiskUnavailable, true, retry_after_ms, std::move(text)};
}

Refusal disk_is_full() {
  return come_again(kDiskLowRetryAfterMs, "the disk is nearly full");
}

}  // namespace

// What new events wait for, apart from the quota.
std::optional<Refusal> SqliteStore::disk_refusal() {
  const BootMs now = clock_.boot_ms();
  if (const BootMs pause = write_pause_.remaining(now); pause > 0) {
    return come_again(static_cast<std::uint32_t>(pause), "the disk refuses writes");
  }
  if (floor_.admits(now)) return std::nullopt;
  return disk_is_full();
}

// Commits go to the WAL, and only a checkpoint makes the database larger. On a disk that somebody
// else fills in between it would fail, the WAL could not be used again, and nothing could be
// removed any more. So the file has blocks for a page before a commit may add it.
Result<std::optional<Refusal>> SqliteStore::growth_refusal(const CommitPlan& plan) {
  const std::uint64_t pages = plan.footprint / (kPageBytes / 2) + plan.rows.size() + 1;
  if (pages <= pages_ahead_) {
    pages_ahead_ -= pages;
    return std::nullopt;
  }
  TELEMETRYD_ASSIGN(const bool grown, grow_file(pages));
  if (grown) return std::nullopt;
  return disk_is_full();
}

// At the quota nothing grows any more: what comes takes the place of what leaves.
Result<bool> SqliteStore::grow_file(std::uint64_t pages) {
  TELEMETRYD_ASSIGN(const std::int64_t all, db_.ask_integer("PRAGMA page_count"));
  TELEMETRYD_ASSIGN(const std::int64_t unused, db_.ask_integer("PRAGMA freelist_count"));
  const std::uint64_t ahead = pages + kPagesAhead;
  const std::uint64_t wanted = std::max(static_cast<std::uint64_t>(all),
                                        std::min(static_cast<std::uint64_t>(all - unused) + ahead,
                                                 quota_.pages + quota_.pages_reserve));
  auto bytes = static_cast<sqlite3_int64>(wanted * kPageBytes);
  const int code = sqlite3_file_control(db_.handle(), "main", SQLITE_FCNTL_SIZE_HINT, &bytes);
  const bool grown = code == SQLITE_OK || code == SQLITE_NOTFOUND;
  pages_ahead_ = grown ? ahead - pages : 0;
  floor_.note_growth(grown);
  return grown;
}

BootMs SqliteStore::give_back_boot_ms() const {
  return written_boot_ms_ + kGiveBackRestMs;
}

// A queue that comes and goes uses its pages again. Only what a long outage has left goes back to
// the file system, and only when nothing has been written for a while.
bool SqliteStore::time_to_give_back(BootMs now) {
  const std::uint64_t freed = books_.freed_bytes();
  if (!giving_back_ && (!freed_seen_ || freed - *freed_seen_ >= kGiveBackBytesMin)) {
    freed_seen_ = freed;
    const auto unused = db_.ask_integer("PRAGMA freelist_count");
    giving_back_ = unused && *unused >= static_cast<std::int64_t>(kGiveBackBytesMin / kPageBytes);
  }
  return giving_back_ && now >= give_back_boot_ms();
}

// One slice; the last one makes the file shorter.
Result<void> SqliteStore::give_back() {
  TELEMETRYD_ASSIGN(const std::int64_t unused, db_.ask_integer("PRAGMA freelist_count"));
  const std::int64_t surplus = unused - static_cast<std::int64_t>(kPagesAhead);
  if (surplus <= 0) {
    giving_back_ = false;
    return checkpoint();
  }
  const std::string slice =
      "PRAGMA incremental_vacuum(" + std::to_string(std::min(surplus, kGiveBackPages)) + ")";
  const BootMs written = written_boot_ms_;
  const auto done = transact([&] { return db_.exec(slice.c_str()); });
  written_boot_ms_ = written;
  const auto left = db_.ask_integer("PRAGMA freelist_count");
  // Until as much is free once more. A database that somebody rewrote with other settings gives
  // nothing back, and says that all went well.
  if (!done || !left || *left >= unused) giving_back_ = false;
  return done;
}

std::vector<Trouble> SqliteStore::troubles() {
  floor_.look(clock_.boot_ms());
  std::vector<Trouble> found;
  for (const auto& trouble : {floor_.trouble(),
                              write_pause_.trouble(),
                              checkpoint_failures_.trouble(),
                              unreadable_.trouble()}) {
    if (trouble) found.push_back(*trouble);
  }
  if (!consent_lost_.empty()) {
    found.push_back({std::string(trouble::kConsentLost),
                     consent_lost_ +
                         ": users who had refused count as undecided; set the policy to opt-in, or "
                         "tell them to run telemetryctl consent disable again",
                     false});
  }
  return found;
}

}  // namespace telemetryd::store
