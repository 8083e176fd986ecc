#include "server/sqlite_store.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "server/event_table.h"
#include "server/storage_lock.h"

namespace telemetryd::server {
namespace {

constexpr BootMs kProbeLifeMs = 1000;

// The sender's to retry, whatever went wrong here.
Error to_unavailable(const Error& error) {
  return {ErrorCode::kUnavailable, error.message()};
}

Result<std::vector<Stored>> store_all(EventTable& table,
                                      const std::vector<Submission>& submissions,
                                      UnixMs now) {
  TELEMETRYD_ASSIGN(Transaction transaction, table.begin());
  std::vector<Stored> stored;
  for (const Submission& submission : submissions) {
    TELEMETRYD_ASSIGN(const Stored one, table.insert(submission));
    stored.push_back(one);
  }
  TELEMETRYD_TRY(table.forget_nonces(now / 1000));
  TELEMETRYD_TRY(transaction.commit());
  return stored;
}

Result<void> store_touch(EventTable& table, UnixMs now) {
  TELEMETRYD_ASSIGN(Transaction transaction, table.begin());
  TELEMETRYD_TRY(table.touch(now));
  return transaction.commit();
}

}  // namespace

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const std::filesystem::path& path,
                                                       const Clock& clock,
                                                       NonceMemory& nonces,
                                                       Limits limits) {
  TELEMETRYD_ASSIGN(std::unique_ptr<EventTable> table, EventTable::open(path));
  TELEMETRYD_TRY(table->restore_nonces(nonces, clock.unix_ms() / 1000));
  std::unique_ptr<SqliteStore> store(new SqliteStore(path, clock, limits, std::move(table)));
  store->thread_ = std::thread([raw = store.get()] { raw->run(); });
  return store;
}

SqliteStore::SqliteStore(std::filesystem::path path,
                         const Clock& clock,
                         Limits limits,
                         std::unique_ptr<EventTable> table)
    : path_(std::move(path)), clock_(clock), limits_(limits), table_(std::move(table)) {}

SqliteStore::~SqliteStore() {
  stop();
}

void SqliteStore::submit(Submission submission) {
  ErrorCode refusal = ErrorCode::kCancelled;
  {
    const MutexLock lock(mutex_);
    if (!stopping_ && queue_.size() < limits_.queued_submissions_max) {
      queue_.push_back(std::move(submission));
      wake_.notify_one();
      return;
    }
    if (!stopping_) refusal = ErrorCode::kResourceExhausted;
  }
  submission.done(fail(refusal, "the storage takes no more at the moment"));
}

void SqliteStore::probe(std::function<void(bool)> done) {
  {
    const MutexLock lock(mutex_);
    if (!stopping_ && probes_.size() < limits_.queued_submissions_max) {
      probes_.push_back(std::move(done));
      wake_.notify_one();
      return;
    }
  }
  done(false);
}

void SqliteStore::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void SqliteStore::run() {
  for (;;) {
    std::vector<Submission> submissions;
    std::vector<std::function<void(bool)>> probes;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && probes_.empty() && !stopping_) wake_.wait(lock.native());
      if (queue_.empty() && probes_.empty()) return;
      submissions = take();
      probes.swap(probes_);
    }
    if (!submissions.empty()) write(std::move(submissions));
    if (!probes.empty()) answer_probes(std::move(probes));
    checkpoint_when_due();
  }
}

std::vector<Submission> SqliteStore::take() {
  std::size_t events = 0;
  std::size_t count = 0;
  while (count < queue_.size() && events < limits_.events_per_commit_max) {
    events += queue_[count++].events.size();
  }
  const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<Submission> taken(std::make_move_iterator(queue_.begin()),
                                std::make_move_iterator(end));
  queue_.erase(queue_.begin(), end);
  return taken;
}

void SqliteStore::write(std::vector<Submission> submissions) {
  const auto stored = store_all(*table_, submissions, clock_.unix_ms());
  healthy_ = stored.has_value();
  if (healthy_) {
    probed_ = clock_.boot_ms();
  } else {
    log::error("commit_failed",
               {{"requests", submissions.size()}, {"reason", stored.error().message()}});
  }
  for (std::size_t i = 0; i < submissions.size(); ++i) {
    if (stored) {
      submissions[i].done((*stored)[i]);
    } else {
      submissions[i].done(fail(to_unavailable(stored.error())));
    }
  }
}

void SqliteStore::answer_probes(std::vector<std::function<void(bool)>> probes) {
  const BootMs now = clock_.boot_ms();
  // A write costs a flush, and anybody may ask: one a second answers all.
  if (!healthy_ || probed_ < 0 || now - probed_ >= kProbeLifeMs) {
    const auto touched = store_touch(*table_, clock_.unix_ms());
    healthy_ = touched.has_value();
    probed_ = now;
    if (!healthy_) log::error("probe_failed", {{"reason", touched.error().message()}});
  }
  for (auto& done : probes) done(healthy_);
}

void SqliteStore::checkpoint_when_due() {
  if (table_->pages_logged() < limits_.wal_pages_max) return;
  const auto lock = StorageLock::try_take(path_, StorageLock::Kind::kWrite);
  // The command line writes at this moment; the log waits until the next commit.
  if (!lock) return;
  if (const auto done = table_->checkpoint(); !done) {
    log::warn("server_checkpoint_failed", {{"reason", done.error().message()}});
  }
}

}  // namespace telemetryd::server
