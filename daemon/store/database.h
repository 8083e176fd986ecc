// store/database.h: SQLite's connection and statements as values that clean up after themselves.
//
// Owns:    the connection; a Statement must not outlive it.
// Thread:  store thread.
// Fails:   kResourceExhausted  SQLITE_FULL: the page limit or the disk.
//          kDataLoss           the file is not a database, or a page of it is wrong.
//          kUnavailable        everything else the disk or a lock can do.

#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <sqlite3.h>

#include "base/result.h"

namespace telemetryd::store {

// Binds as a blob. The bytes must stay until the statement has run.
struct Blob {
  std::string_view bytes;
};

Error error_from_sqlite(int code, sqlite3* db, std::string_view what);

// The rows of a running statement; gives the statement back when it goes.
class Rows {
 public:
  Rows(sqlite3_stmt* statement, std::string* damage) : statement_(statement), damage_(damage) {}

  Rows(Rows&& other) noexcept
      : statement_(std::exchange(other.statement_, nullptr)), damage_(other.damage_) {}

  Rows& operator=(Rows&&) = delete;

  ~Rows() {
    if (statement_ != nullptr) sqlite3_reset(statement_);
  }

  // False after the last row.
  [[nodiscard]] Result<bool> next();

  // Columns of the current row; views live until the next call of next().
  std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }

  std::string_view bytes(int column) const;

  std::string text(int column) const { return std::string(bytes(column)); }

 private:
  sqlite3_stmt* statement_;
  std::string* damage_;
};

class Statement {
 public:
  Statement() = default;

  // Runs to the end with these values; for statements without rows.
  template <typename... Values>
  [[nodiscard]] Result<void> run(const Values&... values) {
    bind_all(values...);
    return finish();
  }

  template <typename... Values>
  [[nodiscard]] Rows query(const Values&... values) {
    bind_all(values...);
    return Rows(statement_.get(), damage_);
  }

 private:
  friend class Database;

  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };

  template <typename... Values>
  void bind_all(const Values&... values) {
    [[maybe_unused]] int index = 0;
    (bind(++index, values), ...);
  }

  template <std::integral Integer>
  void bind(int index, Integer value) {
    note(sqlite3_bind_int64(statement_.get(), index, static_cast<sqlite3_int64>(value)));
  }

  void bind(int index, std::string_view text);
  void bind(int index, const Blob& blob);

  void note(int code) {
    if (bind_code_ == SQLITE_OK) bind_code_ = code;
  }

  Result<void> finish();

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  std::string* damage_ = nullptr;
  int bind_code_ = SQLITE_OK;
};

class Database {
 public:
  // `file` exists. `vfs` empty: the platform's.
  [[nodiscard]] static Result<Database> open(const std::string& file, const std::string& vfs);

  [[nodiscard]] Result<Statement> prepare(std::string_view sql);
  // One statement without values and rows.
  [[nodiscard]] Result<void> exec(const char* sql);
  // The first column of the first row, as text; empty when there is no row.
  [[nodiscard]] Result<std::string> ask(const std::string& sql);
  [[nodiscard]] Result<std::int64_t> ask_integer(const std::string& sql);

  // How much the file grows by at a time.
  [[nodiscard]] Result<void> grow_in_steps_of(int bytes);

  bool in_transaction() const { return sqlite3_get_autocommit(db_.get()) == 0; }

  sqlite3* handle() const { return db_.get(); }

  // The first error that said that a page is wrong; empty: none did. Wherever it was met and
  // whatever became of it, it stays here.
  const std::string& damage() const { return *damage_; }

  void note_damage(std::string_view what) {
    if (damage_->empty()) *damage_ = what;
  }

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };

  Error error(int code, std::string_view what) const;

  // Statements point to it.
  std::unique_ptr<std::string> damage_ = std::make_unique<std::string>();
  std::unique_ptr<sqlite3, Close> db_;
};

}  // namespace telemetryd::store
