#include "server/storage.h"

#include <optional>
#include <string>

#include "base/bytes.h"
#include "server/schema.h"
#include "server/storage_lock.h"

namespace telemetryd::server {
namespace {

// A wrong key would show itself only at the first request, as a refusal nobody understands.
Result<void> check_key(Database& database, const Sealer& sealer, bool may_record) {
  const Digest fingerprint = sealer.fingerprint();
  TELEMETRYD_ASSIGN(Statement select,
                    database.prepare("SELECT value FROM meta WHERE key = 'key_fingerprint'"));
  TELEMETRYD_ASSIGN(const bool row, select.step());
  if (row) {
    if (select.column_blob(0) == as_text(fingerprint)) return {};
    return fail(ErrorCode::kFailedPrecondition,
                "the key file is not the one this database was made with; restore the key that "
                "was backed up with it");
  }
  if (!may_record) return {};
  select.reset();
  TELEMETRYD_ASSIGN(
      Statement insert,
      database.prepare("INSERT INTO meta (key, value) VALUES ('key_fingerprint', ?1)"));
  return insert.bind_blob(1, as_text(fingerprint)).run();
}

// A missing key of a database that has tokens is a loss to report, not a reason to make a new one.
Result<Sealer> open_sealer(Database& database, const std::filesystem::path& path, bool create) {
  TELEMETRYD_ASSIGN(const std::int64_t tokens, database.query_int("SELECT count(*) FROM tokens"));
  if (create && tokens == 0) return Sealer::open_or_create(path);
  return Sealer::open(path);
}

}  // namespace

Result<Storage> open_storage(const std::filesystem::path& path, StorageMode mode) {
  std::optional<StorageLock> lock;
  if (mode == StorageMode::kCreate) {
    TELEMETRYD_ASSIGN(lock, StorageLock::take(path, StorageLock::Kind::kWrite));
  }
  auto opened = Database::open(path,
                               mode == StorageMode::kCreate  ? Database::Mode::kCreate
                               : mode == StorageMode::kWrite ? Database::Mode::kReadWrite
                                                             : Database::Mode::kReadOnly);
  if (!opened && opened.error().code() == ErrorCode::kNotFound) {
    return fail(ErrorCode::kNotFound,
                opened.error().message() + "; create it with `telemetry-server migrate`");
  }
  if (!opened) return fail(opened.error());
  Database database = std::move(*opened);
  if (mode == StorageMode::kCreate) {
    TELEMETRYD_TRY(migrate(database));
  } else {
    TELEMETRYD_TRY(check_schema(database));
  }
  TELEMETRYD_ASSIGN(Sealer sealer, open_sealer(database, path, mode == StorageMode::kCreate));
  TELEMETRYD_TRY(check_key(database, sealer, mode == StorageMode::kCreate));
  return Storage{std::move(database), std::move(sealer)};
}

Result<std::filesystem::path> parse_database(std::string_view text) {
  constexpr std::string_view kScheme = "sqlite:";
  if (text.starts_with("postgres")) {
    return fail(ErrorCode::kInvalidArgument,
                "this telemetry-server stores in SQLite only; use --database sqlite:PATH");
  }
  if (!text.starts_with(kScheme) && !text.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "the database does not begin with sqlite: (as in sqlite:/srv/events.db); correct "
                "--database or TELEMETRY_SERVER_DATABASE");
  }
  if (text.size() <= kScheme.size()) {
    return fail(ErrorCode::kInvalidArgument,
                "say which database: --database sqlite:PATH, or set TELEMETRY_SERVER_DATABASE");
  }
  return std::filesystem::absolute(std::string(text.substr(kScheme.size())));
}

}  // namespace telemetryd::server
