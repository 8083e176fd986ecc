// server/event_table.h: the statements of the writer, prepared once.
//
// Owns:    the writing connection.
// Thread:  one.

#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "base/clock.h"
#include "base/result.h"
#include "server/database.h"
#include "server/event_store.h"
#include "server/nonce_memory.h"

namespace telemetryd::server {

class EventTable {
 public:
  [[nodiscard]] static Result<std::unique_ptr<EventTable>> open(const std::filesystem::path& path);

  [[nodiscard]] Result<void> restore_nonces(NonceMemory& nonces, std::int64_t now_s);

  [[nodiscard]] Result<Transaction> begin() { return Transaction::begin(database_); }

  // Rows, ledger and nonce of one request, inside the transaction; of one that asked not to be
  // tracked the nonce and a count.
  [[nodiscard]] Result<Stored> insert(const Submission& submission);
  // At most a bounded number, so that no commit waits for it.
  [[nodiscard]] Result<void> forget_nonces(std::int64_t now_s);
  // A small write, to see whether writing works.
  [[nodiscard]] Result<void> touch(UnixMs now);

  // Pages that went to the log since the last checkpoint.
  std::int64_t pages_logged() { return database_.pages_written(); }

  [[nodiscard]] Result<void> checkpoint();

 private:
  explicit EventTable(Database database) : database_(std::move(database)) {}

  [[nodiscard]] Result<void> prepare();
  [[nodiscard]] Result<Stored> insert_events(const Submission& submission);

  // The stored event of this ID says what this one says.
  [[nodiscard]] Result<bool> is_known(const Submission& submission, const NewEvent& event);

  Database database_;
  Statement insert_event_;
  Statement select_known_;
  Statement insert_nonce_;
  Statement delete_nonces_;
  Statement count_;
  Statement count_withheld_;
  Statement use_token_;
  Statement touch_;
  Statement next_row_;
};

}  // namespace telemetryd::server
