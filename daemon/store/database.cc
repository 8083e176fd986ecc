#include "store/database.h"

#include <utility>

namespace telemetryd::store {
namespace {

Error noted(Error error, std::string* damage) {
  const bool wrong = error.code() == ErrorCode::kDataLoss;
  if (wrong && damage != nullptr && damage->empty()) *damage = error.message();
  return error;
}

}  // namespace

Error error_from_sqlite(int code, sqlite3* db, std::string_view what) {
  ErrorCode kind = ErrorCode::kUnavailable;
  switch (code & 0xFF) {
    case SQLITE_FULL:
    case SQLITE_TOOBIG: kind = ErrorCode::kResourceExhausted; break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: kind = ErrorCode::kDataLoss; break;
    case SQLITE_ERROR:
    case SQLITE_MISUSE:
    case SQLITE_RANGE: kind = ErrorCode::kInternal; break;
    // No statement of ours breaks a rule of a table that is whole. A trigger is nobody's but a
    // test's.
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
      kind = code == SQLITE_CONSTRAINT_TRIGGER ? ErrorCode::kInternal : ErrorCode::kDataLoss;
      break;
    default: break;
  }
  std::string message(what);
  message += ": ";
  message += db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  message += " (" + std::to_string(code) + ")";
  return {kind, std::move(message)};
}

Result<bool> Rows::next() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return fail(noted(error_from_sqlite(code, sqlite3_db_handle(statement_), sqlite3_sql(statement_)),
                    damage_));
}

std::string_view Rows::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (data == nullptr) return {};
  return {static_cast<const char*>(data), static_cast<std::size_t>(size)};
}

void Statement::bind(int index, std::string_view text) {
  note(sqlite3_bind_text64(
      statement_.get(), index, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8));
}

void Statement::bind(int index, const Blob& blob) {
  const char* data = blob.bytes.data() != nullptr ? blob.bytes.data() : "";
  note(sqlite3_bind_blob64(statement_.get(), index, data, blob.bytes.size(), SQLITE_STATIC));
}

Result<void> Statement::finish() {
  sqlite3_stmt* const statement = statement_.get();
  int code = std::exchange(bind_code_, SQLITE_OK);
  if (code == SQLITE_OK) code = sqlite3_step(statement);
  if (code == SQLITE_DONE || code == SQLITE_ROW) {
    sqlite3_reset(statement);
    return {};
  }
  Error error =
      noted(error_from_sqlite(code, sqlite3_db_handle(statement), sqlite3_sql(statement)), damage_);
  sqlite3_reset(statement);
  return fail(std::move(error));
}

Result<Database> Database::open(const std::string& file, const std::string& vfs) {
  Database database;
  sqlite3* db = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(file.c_str(), &db, flags, vfs.empty() ? nullptr : vfs.c_str());
  database.db_.reset(db);
  if (code != SQLITE_OK) return fail(error_from_sqlite(code, db, "opening " + file));
  return database;
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v3(db_.get(),
                                      sql.data(),
                                      static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT,
                                      &raw,
                                      nullptr);
  Statement statement;
  statement.statement_.reset(raw);
  statement.damage_ = damage_.get();
  if (code != SQLITE_OK) return fail(error(code, sql));
  return statement;
}

Result<void> Database::exec(const char* sql) {
  const int code = sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return fail(error(code, sql));
  return {};
}

Error Database::error(int code, std::string_view what) const {
  return noted(error_from_sqlite(code, db_.get(), what), damage_.get());
}

Result<void> Database::grow_in_steps_of(int bytes) {
  const int code = sqlite3_file_control(db_.get(), "main", SQLITE_FCNTL_CHUNK_SIZE, &bytes);
  // A VFS need not know it.
  if (code == SQLITE_OK || code == SQLITE_NOTFOUND) return {};
  return fail(error(code, "setting the growth of the database"));
}

Result<std::string> Database::ask(const std::string& sql) {
  TELEMETRYD_ASSIGN(Statement statement, prepare(sql));
  Rows rows = statement.query();
  TELEMETRYD_ASSIGN(const bool found, rows.next());
  return found ? rows.text(0) : std::string();
}

Result<std::int64_t> Database::ask_integer(const std::string& sql) {
  TELEMETRYD_ASSIGN(Statement statement, prepare(sql));
  Rows rows = statement.query();
  TELEMETRYD_ASSIGN(const bool found, rows.next());
  return found ? rows.integer(0) : 0;
}

}  // namespace telemetryd::store
