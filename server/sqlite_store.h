// server/sqlite_store.h: events into SQLite, many requests per commit.
//
// One thread writes. While it commits, requests queue up; the next transaction takes all that wait,
// so a slow disk makes commits larger instead of requests slower. Nothing is answered before its
// commit is on stable storage. A commit that fails has an unknown outcome: its senders are told to
// come again, and the unique event ID makes coming again harmless.
//
// Owns:    the writing connection and its thread; the only one that checkpoints.
// Thread:  submit and probe from any; callbacks run on the writer's thread and must not wait.
// Limits:  Limits below; beyond them submit() refuses.
// Fails:   through `done`: kResourceExhausted (queue full), kUnavailable (storage), kCancelled.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "server/event_store.h"
#include "server/nonce_memory.h"

namespace telemetryd::server {

class EventTable;

class SqliteStore final : public EventStore {
 public:
  struct Limits {
    std::size_t queued_submissions_max = 1024;
    std::size_t events_per_commit_max = 50'000;
    std::int64_t wal_pages_max = 2000;  // 16 MiB, then a checkpoint
  };

  // The file must be migrated. Loads remembered nonces into `nonces`.
  [[nodiscard]] static Result<std::unique_ptr<SqliteStore>> open(const std::filesystem::path& path,
                                                                 const Clock& clock,
                                                                 NonceMemory& nonces,
                                                                 Limits limits);
  ~SqliteStore() override;

  void submit(Submission submission) override;
  void probe(std::function<void(bool)> done) override;

  // Writes what is queued, then ends the thread. Later submissions get kCancelled.
  void stop();

 private:
  SqliteStore(std::filesystem::path path,
              const Clock& clock,
              Limits limits,
              std::unique_ptr<EventTable> table);

  void run();
  // What one transaction takes from the queue.
  std::vector<Submission> take() TELEMETRYD_REQUIRES(mutex_);
  void write(std::vector<Submission> submissions);
  void checkpoint_when_due();
  void answer_probes(std::vector<std::function<void(bool)>> probes);

  const std::filesystem::path path_;
  const Clock& clock_;
  const Limits limits_;
  std::unique_ptr<EventTable> table_;  // the writer's thread only, after open
  bool healthy_ = true;                // as above: did the last transaction succeed
  BootMs probed_ = -1;                 // as above: when a write last proved it

  Mutex mutex_;
  std::condition_variable wake_;
  std::vector<Submission> queue_ TELEMETRYD_GUARDED_BY(mutex_);
  std::vector<std::function<void(bool)>> probes_ TELEMETRYD_GUARDED_BY(mutex_);
  bool stopping_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace telemetryd::server
