// server/database.h: a thin wrapper of SQLite that returns results and finalises what it prepares.
//
// The server cannot use the daemon's store: that one owns its file alone, this one is shared with
// the command line while it serves. WAL with synchronous=FULL, so a committed transaction is on
// stable storage.
//
// Owns:    the connection and its statements.
// Thread:  one at a time; each thread opens its own or holds a lock around it.
// Limits:  waits 5 s for another writer, then kUnavailable.
// Fails:   kUnavailable for a busy or unreadable file, kResourceExhausted for a full disk,
//          kDataLoss for a damaged file, kInternal for everything that is our mistake.

#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace telemetryd::server {

class Statement {
 public:
  Statement() = default;

  Statement(sqlite3* database, sqlite3_stmt* statement)
      : database_(database), statement_(statement) {}

  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  // Binds by position from 1. Text and blobs are not copied and must outlive the step.
  Statement& bind(int index, std::int64_t value);
  Statement& bind_text(int index, std::string_view value);
  Statement& bind_blob(int index, std::string_view value);
  Statement& bind_null(int index);

  // True while there is a row.
  [[nodiscard]] Result<bool> step();
  // Runs a statement without rows to its end and makes it ready again.
  [[nodiscard]] Result<void> run();
  void reset();

  std::int64_t column_int(int column) const;
  std::string column_text(int column) const;
  std::string column_blob(int column) const;
  bool column_null(int column) const;

 private:
  sqlite3* database_ = nullptr;
  sqlite3_stmt* statement_ = nullptr;
};

class Database {
 public:
  enum class Mode { kReadOnly, kReadWrite, kCreate };

  Database() = default;
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  // Opens without reading the schema. A new file is made with mode 0600.
  [[nodiscard]] static Result<Database> open(const std::filesystem::path& path, Mode mode);

  [[nodiscard]] Result<Statement> prepare(std::string_view sql);
  // One or more statements without parameters or rows.
  [[nodiscard]] Result<void> execute(const std::string& sql);
  // The first column of the first row.
  [[nodiscard]] Result<std::int64_t> query_int(std::string_view sql);

  std::int64_t last_row_id() const;
  // Rows changed by the last statement.
  int changes() const;
  // False once an error has rolled the transaction back by itself.
  bool in_transaction() const;
  // Pages written since the last checkpoint of this connection.
  std::int64_t pages_written() const;
  // Moves finished pages from the log into the file, as far as readers allow.
  [[nodiscard]] Result<void> checkpoint();

 private:
  explicit Database(sqlite3* database) : database_(database) {}

  sqlite3* database_ = nullptr;
};

// Rolls back when it goes out of scope without a commit.
class Transaction {
 public:
  [[nodiscard]] static Result<Transaction> begin(Database& database);
  [[nodiscard]] static Result<Transaction> begin_read(Database& database);

  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}

  Transaction& operator=(Transaction&&) = delete;
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();

  [[nodiscard]] Result<void> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}

  Database* database_;
};

}  // namespace telemetryd::server
