#include "server/database.h"

#include <cerrno>
#include <fcntl.h>
#include <utility>

#include <sqlite3.h>

#include "base/io.h"
#include "base/unique_fd.h"

namespace telemetryd::server {
namespace {

constexpr int kBusyMs = 5000;

ErrorCode code_of(int sqlite_code) {
  switch (sqlite_code & 0xff) {
    case SQLITE_FULL: return ErrorCode::kResourceExhausted;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ErrorCode::kDataLoss;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH: return ErrorCode::kPermissionDenied;
    case SQLITE_CONSTRAINT: return ErrorCode::kFailedPrecondition;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: return ErrorCode::kUnavailable;
    default: return ErrorCode::kInternal;
  }
}

Error error_of(sqlite3* database, int sqlite_code) {
  return {code_of(sqlite_code), std::string("sqlite: ") + sqlite3_errmsg(database)};
}

// SQLite would make the file with the process's umask; events are nobody else's business.
Result<void> make_private_file(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail(error_from_errno(errno, path.native()));
  return {};
}

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : database_(other.database_), statement_(std::exchange(other.statement_, nullptr)) {}

Statement& Statement::operator=(Statement&& other) noexcept {
  std::swap(database_, other.database_);
  std::swap(statement_, other.statement_);
  return *this;
}

Statement::~Statement() {
  sqlite3_finalize(statement_);
}

// A failed bind shows itself in the next step, because the constraint or the comparison then meets
// a null; the only causes are a wrong index, which every test would hit, and memory.
Statement& Statement::bind(int index, std::int64_t value) {
  sqlite3_bind_int64(statement_, index, value);
  return *this;
}

Statement& Statement::bind_text(int index, std::string_view value) {
  const char* data = value.data() == nullptr ? "" : value.data();
  sqlite3_bind_text64(statement_, index, data, value.size(), nullptr, SQLITE_UTF8);
  return *this;
}

Statement& Statement::bind_blob(int index, std::string_view value) {
  const char* data = value.data() == nullptr ? "" : value.data();
  sqlite3_bind_blob64(statement_, index, data, value.size(), nullptr);
  return *this;
}

Statement& Statement::bind_null(int index) {
  sqlite3_bind_null(statement_, index);
  return *this;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const Error error = error_of(database_, code);
  sqlite3_reset(statement_);
  return fail(error);
}

Result<void> Statement::run() {
  for (;;) {
    TELEMETRYD_ASSIGN(const bool row, step());
    if (!row) break;
  }
  reset();
  return {};
}

void Statement::reset() {
  sqlite3_reset(statement_);
}

std::int64_t Statement::column_int(int column) const {
  return sqlite3_column_int64(statement_, column);
}

std::string Statement::column_text(int column) const {
  return column_blob(column);
}

std::string Statement::column_blob(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (data == nullptr) return {};
  return {static_cast<const char*>(data), static_cast<std::size_t>(size)};
}

bool Statement::column_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

Database::Database(Database&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

Database& Database::operator=(Database&& other) noexcept {
  std::swap(database_, other.database_);
  return *this;
}

Database::~Database() {
  sqlite3_close_v2(database_);
}

Result<Database> Database::open(const std::filesystem::path& path, Mode mode) {
  if (mode == Mode::kCreate) TELEMETRYD_TRY(make_private_file(path));
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return fail(ErrorCode::kNotFound, "no database at " + path.native());
  }
  sqlite3* handle = nullptr;
  const int flags = (mode == Mode::kReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) |
                    SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  Database database(handle);
  if (code != SQLITE_OK) return fail(error_of(handle, code).with_context(path.native()));
  sqlite3_busy_timeout(handle, kBusyMs);
  // Checkpoints are made by the serving process alone, see storage_lock.h.
  sqlite3_wal_autocheckpoint(handle, 0);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  TELEMETRYD_TRY(
      database.execute("PRAGMA foreign_keys=ON; PRAGMA synchronous=FULL; "
                       "PRAGMA fullfsync=ON; PRAGMA cache_size=-32768"));
  return database;
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database_,
                                      sql.data(),
                                      static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT,
                                      &statement,
                                      nullptr);
  if (code != SQLITE_OK) return fail(error_of(database_, code));
  return Statement(database_, statement);
}

Result<void> Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(database_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return fail(error_of(database_, code));
  return {};
}

Result<std::int64_t> Database::query_int(std::string_view sql) {
  TELEMETRYD_ASSIGN(Statement statement, prepare(sql));
  TELEMETRYD_ASSIGN(const bool row, statement.step());
  if (!row) return fail(ErrorCode::kNotFound, "no row");
  return statement.column_int(0);
}

std::int64_t Database::last_row_id() const {
  return sqlite3_last_insert_rowid(database_);
}

int Database::changes() const {
  return sqlite3_changes(database_);
}

bool Database::in_transaction() const {
  return sqlite3_get_autocommit(database_) == 0;
}

std::int64_t Database::pages_written() const {
  int current = 0;
  int highest = 0;
  sqlite3_db_status(database_, SQLITE_DBSTATUS_CACHE_WRITE, &current, &highest, 0);
  return current;
}

Result<void> Database::checkpoint() {
  int current = 0;
  int highest = 0;
  sqlite3_db_status(database_, SQLITE_DBSTATUS_CACHE_WRITE, &current, &highest, 1);
  const int code =
      sqlite3_wal_checkpoint_v2(database_, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  if (code != SQLITE_OK) return fail(error_of(database_, code));
  return {};
}

Result<Transaction> Transaction::begin(Database& database) {
  TELEMETRYD_TRY(database.execute("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Result<Transaction> Transaction::begin_read(Database& database) {
  TELEMETRYD_TRY(database.execute("BEGIN"));
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ == nullptr || !database_->in_transaction()) return;
  // Nothing is left to do about a rollback that fails: closing the connection makes the same one.
  if (!database_->execute("ROLLBACK")) return;
}

Result<void> Transaction::commit() {
  TELEMETRYD_TRY(database_->execute("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace telemetryd::server
