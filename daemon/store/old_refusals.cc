#include "store/old_refusals.h"

#include <memory>

#include "store/database.h"

namespace telemetryd::store {
namespace {

struct Close {
  void operator()(sqlite3* db) const { sqlite3_close(db); }
};

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};

// Nobody else has the files, so that no lock is needed; with an exclusive one the index of the log
// stays in memory, and without a checkpoint on closing nothing is written.
constexpr const char* kVfs = "unix-none";
constexpr const char* kPragmas =
    "PRAGMA locking_mode=EXCLUSIVE; PRAGMA trusted_schema=0; PRAGMA cell_size_check=1; "
    "PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY";
constexpr const char* kSelect =
    "SELECT uid, app, state, decided_unix_ms FROM consent WHERE state IN ('disabled', 'local')";

int open_for_reading(const std::filesystem::path& file, std::unique_ptr<sqlite3, Close>& db) {
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  int code = sqlite3_open_v2(file.c_str(), &raw, flags, kVfs);
  db.reset(raw);
  if (code != SQLITE_OK) return code;
  int now = 0;
  code = sqlite3_db_config(raw, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, &now);
  if (code != SQLITE_OK) return code;
  code = sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, &now);
  if (code != SQLITE_OK) return code;
  int persist = 1;
  code = sqlite3_file_control(raw, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
  if (code != SQLITE_OK) return code;
  return sqlite3_exec(raw, kPragmas, nullptr, nullptr, nullptr);
}

std::string text_of(sqlite3_stmt* statement, int column) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
  const auto bytes = static_cast<std::size_t>(sqlite3_column_bytes(statement, column));
  return text == nullptr ? std::string() : std::string(text, bytes);
}

}  // namespace

OldRefusals read_old_refusals(const std::filesystem::path& folder) {
  OldRefusals refusals;
  const std::filesystem::path file = folder / "events.db";
  // SQLite deletes the log and the journal of an empty database, even when it may only read.
  std::error_code absent;
  const std::uintmax_t bytes = std::filesystem::file_size(file, absent);
  if (absent || bytes == 0) {
    refusals.problem = file.native() + " is empty or missing";
    return refusals;
  }
  std::unique_ptr<sqlite3, Close> db;
  int code = open_for_reading(file, db);
  sqlite3_stmt* raw = nullptr;
  if (code == SQLITE_OK) code = sqlite3_prepare_v2(db.get(), kSelect, -1, &raw, nullptr);
  const std::unique_ptr<sqlite3_stmt, Finalize> select(raw);
  while (code == SQLITE_OK && (code = sqlite3_step(raw)) == SQLITE_ROW) {
    if (refusals.records.size() == kOldRefusalsMax) {
      refusals.problem = file.native() + " holds more than can be taken over";
      return refusals;
    }
    refusals.records.push_back({static_cast<std::uint32_t>(sqlite3_column_int64(raw, 0)),
                                text_of(raw, 1),
                                text_of(raw, 2),
                                sqlite3_column_int64(raw, 3)});
    code = SQLITE_OK;
  }
  if (code != SQLITE_DONE) {
    refusals.problem =
        error_from_sqlite(code, db.get(), "reading consent of " + file.native()).message();
  }
  return refusals;
}

}  // namespace telemetryd::store
