#include "store/open_database.h"

#include <algorithm>
#include <string>

#include "base/log.h"
#include "store/sabotage.h"
#include "store/schema.h"
#include "store/space.h"
#include "store/vfs_file.h"

namespace telemetryd::store {
namespace {

constexpr std::uint64_t kWalBytesMax = 32ull << 20;
constexpr std::uint64_t kPagesMin = 64;
constexpr std::uint64_t kReservePagesMax = 128;
// The unix VFS takes no more than 128 KiB less one byte at once.
constexpr std::size_t kZeroBytes = 64u << 10;

// A pragma that is not understood, or not obeyed, is silent; so each is asked back.
Result<void> set_pragma(Database& db, const std::string& name, const std::string& value) {
  const std::string set = "PRAGMA " + name + "=" + value;
  TELEMETRYD_TRY(db.exec(set.c_str()));
  TELEMETRYD_ASSIGN(const std::string now, db.ask("PRAGMA " + name));
  if (now == value) return {};
  return fail(ErrorCode::kInternal,
              "SQLite keeps PRAGMA " + name + " at '" + now + "', needed is '" + value + "'");
}

Result<void> restrict_connection(Database& db) {
  sqlite3* const handle = db.handle();
  int now = 0;
  int code = sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, &now);
  if (code == SQLITE_OK) {
    code = sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, &now);
  }
  int persist = 1;
  if (code == SQLITE_OK) {
    code = sqlite3_file_control(handle, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
  }
  if (code != SQLITE_OK) return fail(error_from_sqlite(code, handle, "configuring SQLite"));
  TELEMETRYD_TRY(set_pragma(db, "trusted_schema", "0"));
  TELEMETRYD_TRY(set_pragma(db, "cell_size_check", "1"));
  TELEMETRYD_TRY(set_pragma(db, "temp_store", "2"));
  // An I/O error inside a mapping would be a signal.
  return db.exec("PRAGMA mmap_size=0");
}

bool read_only(const Database& db) {
  return sqlite3_db_readonly(db.handle(), "main") == 1;
}

// The first read takes the lock that locking_mode promised, so this is where another process with
// the file open is noticed.
Result<std::int64_t> first_read(Database& db, const StateFiles& files) {
  TELEMETRYD_TRY(set_pragma(db, "locking_mode", "exclusive"));
  const bool file_read_only = read_only(db);
  Result<std::int64_t> tables = db.ask_integer("SELECT count(*) FROM sqlite_schema");
  if (!tables && tables.error().message().find("locked") != std::string::npos) {
    return fail(ErrorCode::kFailedPrecondition,
                files.database.native() + " is open in another program; close it first");
  }
  // Nothing but a damaged header makes this question a wrong one ("unsupported file format").
  if (!tables && tables.error().code() == ErrorCode::kInternal) {
    return fail(ErrorCode::kDataLoss, tables.error().message());
  }
  // A file that may be written, and a header with a version that only a later SQLite could write.
  if (tables && !file_read_only && read_only(db)) {
    return fail(ErrorCode::kDataLoss,
                files.database.native() + " has a header that lets nobody write");
  }
  return tables;
}

Result<void> mark_as_ours(Database& db) {
  TELEMETRYD_TRY(set_pragma(db, "page_size", std::to_string(kPageBytes)));
  TELEMETRYD_TRY(set_pragma(db, "auto_vacuum", "2"));
  return set_pragma(db, "application_id", std::to_string(kApplicationId));
}

Result<void> enter_wal(Database& db) {
  TELEMETRYD_ASSIGN(const std::string mode, db.ask("PRAGMA journal_mode=WAL"));
  if (mode == "wal") return {};
  return fail(ErrorCode::kUnavailable, "SQLite stays in journal mode '" + mode + "'");
}

// A store at its quota must open too, also one whose quota has shrunk below what is there.
Result<void> upgrade_within_reserve(Database& db, const Quota& quota) {
  TELEMETRYD_ASSIGN(const std::int64_t pages, db.ask_integer("PRAGMA page_count"));
  const auto base = std::max<std::uint64_t>(quota.pages, static_cast<std::uint64_t>(pages));
  TELEMETRYD_TRY(limit_pages(db, base + quota.pages_reserve));
  const auto upgraded = upgrade_schema(db);
  // The statements are ours and right for a store of format 1; so this is none.
  if (upgraded || upgraded.error().code() != ErrorCode::kInternal) return upgraded;
  return fail(ErrorCode::kDataLoss, upgraded.error().message());
}

}  // namespace

Quota split_quota(const Options& options) {
  Quota quota;
  quota.wal_bytes = std::min(kWalBytesMax, options.bytes_max / 4);
  quota.wal_pregrow_bytes = std::min(options.wal_pregrow_bytes, quota.wal_bytes);
  const std::uint64_t taken = quota.wal_bytes + kGrowthBytes + 4096;
  const std::uint64_t rest = options.bytes_max > taken ? options.bytes_max - taken : 0;
  const std::uint64_t pages = std::max(kPagesMin, rest / kPageBytes);
  quota.pages_reserve = std::min(kReservePagesMax, pages / 16);
  quota.pages = pages - quota.pages_reserve;
  return quota;
}

Result<void> limit_pages(Database& db, std::uint64_t pages_max) {
  TELEMETRYD_ASSIGN(const std::int64_t pages, db.ask_integer("PRAGMA page_count"));
  TELEMETRYD_ASSIGN(const std::int64_t limit,
                    db.ask_integer("PRAGMA max_page_count=" + std::to_string(pages_max)));
  // A limit below what is there already stays at what is there: nothing grows, and eviction and
  // delivery make room below it.
  const auto expected = std::max(pages, static_cast<std::int64_t>(pages_max));
  if (limit == expected) return {};
  return fail(ErrorCode::kInternal,
              "SQLite keeps max_page_count at " + std::to_string(limit) + ", needed is " +
                  std::to_string(expected));
}

Result<void> pregrow_wal(const std::string& wal, const std::string& vfs, std::uint64_t bytes) {
  if (bytes == 0) return {};
  TELEMETRYD_ASSIGN(VfsFile file, VfsFile::open(wal, vfs));
  TELEMETRYD_ASSIGN(const std::uint64_t size, file.size());
  if (size != 0) return {};
  // If SQLite has just cut it to nothing, that must be on disk first: zeros that get there alone
  // would leave a beginning of the old log, which is older than the database by now.
  TELEMETRYD_TRY(file.sync());
  const std::string zeros(std::min<std::uint64_t>(kZeroBytes, bytes), '\0');
  for (std::uint64_t offset = 0; offset < bytes; offset += zeros.size()) {
    const std::uint64_t step = std::min<std::uint64_t>(zeros.size(), bytes - offset);
    TELEMETRYD_TRY(file.write(offset, std::string_view(zeros).substr(0, step)));
  }
  return file.sync();
}

Result<Database> open_database(const Options& options,
                               const StateFiles& files,
                               const Clock& clock) {
  TELEMETRYD_ASSIGN(Database db, Database::open(files.database.native(), options.vfs));
  TELEMETRYD_TRY(restrict_connection(db));
  TELEMETRYD_ASSIGN(const std::int64_t tables, first_read(db, files));
  const std::string synchronous = sabotage::kSynchronousOff ? "0" : "2";
  TELEMETRYD_TRY(set_pragma(db, "synchronous", synchronous));
  TELEMETRYD_ASSIGN(const std::int64_t id, db.ask_integer("PRAGMA application_id"));
  TELEMETRYD_ASSIGN(const std::int64_t version, db.ask_integer("PRAGMA user_version"));
  const bool fresh = tables == 0 && version == 0 && (id == 0 || id == kApplicationId);
  if (!fresh) {
    TELEMETRYD_TRY(judge_identity(
        static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(version), files.database));
  } else if (id == 0) {
    TELEMETRYD_TRY(mark_as_ours(db));
  }

  const Quota quota = split_quota(options);
  const std::uint64_t pregrow =
      affordable(options.state_dir, options.free_disk_bytes_min, quota.wal_pregrow_bytes);
  if (auto grown = pregrow_wal(files.wal.native(), options.vfs, pregrow); !grown) {
    // Without the zeros commits are slower, not less safe; a full disk must not keep us from
    // delivering what is there.
    log::warn("wal_pregrow_failed", {{"cause", grown.error().message()}});
  }
  TELEMETRYD_TRY(enter_wal(db));
  TELEMETRYD_TRY(set_pragma(db, "synchronous", synchronous));
  TELEMETRYD_TRY(set_pragma(db, "wal_autocheckpoint", "0"));
  TELEMETRYD_TRY(set_pragma(db, "journal_size_limit", "-1"));
  TELEMETRYD_TRY(db.exec("PRAGMA secure_delete=FAST"));
  TELEMETRYD_ASSIGN(const std::int64_t secure, db.ask_integer("PRAGMA secure_delete"));
  if (secure != 2) return fail(ErrorCode::kInternal, "SQLite refuses secure_delete=FAST");
  if (!fresh && version < kUserVersion) TELEMETRYD_TRY(upgrade_within_reserve(db, quota));
  TELEMETRYD_TRY(limit_pages(db, quota.pages));
  if (fresh) {
    TELEMETRYD_TRY(create_schema(db, clock));
    // The UUID must not live in the WAL alone: a store that lost its WAL would pass for a new one.
    TELEMETRYD_TRY(db.exec("PRAGMA wal_checkpoint(PASSIVE)"));
  }
  TELEMETRYD_TRY(check_schema(db));
  TELEMETRYD_ASSIGN(const std::int64_t page_size, db.ask_integer("PRAGMA page_size"));
  if (page_size != kPageBytes) {
    return fail(ErrorCode::kFailedPrecondition,
                files.database.native() + " has pages of " + std::to_string(page_size) +
                    " bytes, not " + std::to_string(kPageBytes));
  }
  return db;
}

}  // namespace telemetryd::store
