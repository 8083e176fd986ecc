#include "store/store_thread.h"

#include <algorithm>
#include <condition_variable>
#include <optional>
#include <pthread.h>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "store/commit_pace.h"
#include "store/sabotage.h"

namespace telemetryd::store {
namespace {

using SteadyClock = std::chrono::steady_clock;

using Duration = std::chrono::milliseconds;

constexpr std::uint32_t kUnavailableRetryAfterMs = 1000;
// Longer waits are cut, which is one needless call a day.
constexpr Duration kUpkeepMax = std::chrono::hours(24);

// What the store says when it could not write a group, said to each frame.
Refusal refusal_for(const Error& error) {
  const bool full = error.code() == ErrorCode::kResourceExhausted;
  return {full ? frame::Code::kStoreFull : frame::Code::kDiskUnavailable,
          true,
          kUnavailableRetryAfterMs,
          full ? "the store has no room" : "the disk refuses writes"};
}

}  // namespace

class StoreThread::Impl {
 public:
  Impl(std::unique_ptr<Store> store, const StoreThreadOptions& options, Hooks hooks)
      : store_(std::move(store)),
        options_(options),
        hooks_(std::move(hooks)),
        pace_(options.commit_delay_max, options.trickle_delay_max) {
    thread_ = std::thread([this] { run(); });
  }

  ~Impl() {
    if (!thread_.joinable()) return;
    {
      const MutexLock lock(mutex_);
      end_ = End::kAtOnce;
    }
    changed_.notify_one();
    thread_.join();
  }

  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Result<void> submit(Append&& frame, std::shared_ptr<AckSink> sink, Commit when);
  void begin_burst();
  void end_burst();
  void commit_now();
  Result<void> post(std::function<void(Store&)> work);
  Result<void> stop();

 private:
  enum class End { kNo, kWhenDone, kAtOnce };

  // What one turn takes out of the queues.
  struct Batch {
    std::vector<Append> frames;
    std::vector<std::shared_ptr<AckSink>> sinks;  // one per frame
    std::vector<std::function<void(Store&)>> posts;
    bool tell_room = false;
    bool last = false;
  };

  void run();
  void rest();
  bool take(Batch& batch);
  bool due() const TELEMETRYD_REQUIRES(mutex_);
  bool wake_now() TELEMETRYD_REQUIRES(mutex_);
  void note_waiting(const Append& frame, Commit when) TELEMETRYD_REQUIRES(mutex_);
  void commit(const Batch& batch);
  void answer(const Batch& batch, const std::vector<Answer>& answers);
  void acknowledge_all(const Batch& batch);
  void refuse_all(const Batch& batch, const Refusal& refusal);
  void abandon_all(const Batch& batch);
  void fatal(const Error& error);
  void finish();

  std::unique_ptr<Store> store_;
  const StoreThreadOptions options_;
  const Hooks hooks_;
  bool dead_ = false;  // store thread: nothing is acknowledged any more
  Result<void> close_result_;

  Mutex mutex_;
  std::condition_variable changed_;
  Batch waiting_ TELEMETRYD_GUARDED_BY(mutex_);
  std::uint64_t waiting_bytes_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
  std::unordered_map<const ClientInfo*, std::uint32_t> waiting_frames_
      TELEMETRYD_GUARDED_BY(mutex_);
  CommitPace pace_ TELEMETRYD_GUARDED_BY(mutex_);
  std::optional<SteadyClock::time_point> deadline_ TELEMETRYD_GUARDED_BY(mutex_);
  bool due_now_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  unsigned bursts_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
  bool wake_owed_ TELEMETRYD_GUARDED_BY(mutex_) = false;  // at the end of the burst
  bool refused_room_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  bool closed_to_new_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  End end_ TELEMETRYD_GUARDED_BY(mutex_) = End::kNo;

  // Store thread: the store wants to be called then although nothing happened.
  std::optional<SteadyClock::time_point> upkeep_;

  std::thread thread_;
};

template <typename Element>
void make_room(std::vector<Element>& elements) {
  constexpr std::size_t kFirst = 16;
  if (elements.size() < elements.capacity()) return;
  elements.reserve(std::max(kFirst, 2 * elements.size()));
}

// Whoever wakes the thread does it without the lock: the thread would only run into it.
Result<void> StoreThread::Impl::submit(Append&& frame, std::shared_ptr<AckSink> sink, Commit when) {
  bool full = false;
  bool wake = false;
  {
    const MutexLock lock(mutex_);
    if (closed_to_new_ || end_ != End::kNo) {
      return fail(ErrorCode::kCancelled, "the store is stopping");
    }
    const std::uint64_t bytes = frame.events.size();
    full = waiting_.frames.size() >= options_.queue_frames_max ||
           (waiting_bytes_ > 0 && waiting_bytes_ + bytes > options_.queue_bytes_max);
    if (full) {
      refused_room_ = true;
      due_now_ = true;
      wake = true;
    } else {
      const bool was_due = due_now_;
      const bool was_empty = waiting_.frames.empty();
      // A frame without its sink would give all behind it somebody else's answers.
      make_room(waiting_.frames);
      make_room(waiting_.sinks);
      note_waiting(frame, when);
      waiting_.frames.push_back(std::move(frame));
      waiting_.sinks.push_back(std::move(sink));
      // The thread sleeps until the first frame's deadline, so it has to hear of that one, and of
      // whatever ends the delay; not of every frame.
      wake = (was_empty || (due_now_ && !was_due)) && wake_now();
    }
  }
  if (wake) changed_.notify_one();
  if (full) return fail(ErrorCode::kResourceExhausted, "the store's queue is full");
  return {};
}

// False when the burst under way will do it.
bool StoreThread::Impl::wake_now() {
  wake_owed_ |= bursts_ > 0;
  return bursts_ == 0;
}

void StoreThread::Impl::begin_burst() {
  const MutexLock lock(mutex_);
  ++bursts_;
}

void StoreThread::Impl::end_burst() {
  bool wake = false;
  {
    const MutexLock lock(mutex_);
    wake = --bursts_ == 0 && std::exchange(wake_owed_, false);
  }
  if (wake) changed_.notify_one();
}

void StoreThread::Impl::note_waiting(const Append& frame, Commit when) {
  const std::uint64_t bytes = waiting_bytes_ + frame.events.size();
  // First what may want memory: if it fails nothing has changed.
  const bool due = due_now_ || when == Commit::kNow || bytes >= options_.commit_bytes ||
                   ++waiting_frames_[frame.client.get()] >= options_.commit_frames_per_client;
  waiting_bytes_ = bytes;
  if (!deadline_) deadline_ = pace_.deadline(SteadyClock::now());
  due_now_ = due;
}

void StoreThread::Impl::commit_now() {
  {
    const MutexLock lock(mutex_);
    if (waiting_.frames.empty()) return;
    due_now_ = true;
    if (!wake_now()) return;
  }
  changed_.notify_one();
}

Result<void> StoreThread::Impl::post(std::function<void(Store&)> work) {
  {
    const MutexLock lock(mutex_);
    if (end_ != End::kNo) return fail(ErrorCode::kCancelled, "the store is stopping");
    if (waiting_.posts.size() >= options_.posts_max) {
      // What fills the queue has woken the thread already; its next turn tells.
      refused_room_ = true;
      return fail(ErrorCode::kResourceExhausted, "too much work waits for the store");
    }
    waiting_.posts.push_back(std::move(work));
  }
  changed_.notify_one();
  return {};
}

Result<void> StoreThread::Impl::stop() {
  {
    const MutexLock lock(mutex_);
    if (end_ == End::kNo) end_ = End::kWhenDone;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
  return close_result_;
}

bool StoreThread::Impl::due() const {
  if (end_ != End::kNo || !waiting_.posts.empty()) return true;
  if (upkeep_ && SteadyClock::now() >= *upkeep_) return true;
  if (waiting_.frames.empty()) return false;
  return due_now_ || SteadyClock::now() >= *deadline_;
}

// Waits until something is due and takes everything that waits. False at the end.
bool StoreThread::Impl::take(Batch& batch) {
  MutexLock lock(mutex_);
  while (!due()) {
    if (deadline_ || upkeep_) {
      const auto never = SteadyClock::time_point::max();
      changed_.wait_until(lock.native(),
                          std::min(deadline_.value_or(never), upkeep_.value_or(never)));
    } else {
      changed_.wait(lock.native());
    }
  }
  if (end_ == End::kAtOnce) return false;
  batch.frames.swap(waiting_.frames);
  batch.sinks.swap(waiting_.sinks);
  batch.posts.swap(waiting_.posts);
  batch.tell_room = std::exchange(refused_room_, false);
  batch.last = end_ == End::kWhenDone;
  if (!batch.frames.empty()) pace_.committed(SteadyClock::now());
  waiting_bytes_ = 0;
  waiting_frames_.clear();
  deadline_.reset();
  due_now_ = false;
  wake_owed_ = false;
  return true;
}

void StoreThread::Impl::run() {
  pthread_setname_np(pthread_self(), "tlm-store");
  Batch batch;
  for (;;) {
    if (!take(batch)) return;
    if (batch.tell_room && hooks_.on_room) hooks_.on_room();
    if (!batch.frames.empty()) commit(batch);
    for (auto& work : batch.posts) work(*store_);
    const bool last = batch.last;
    batch.frames.clear();
    batch.sinks.clear();
    batch.posts.clear();
    if (last) break;
    bool nothing_waits = false;
    {
      const MutexLock lock(mutex_);
      nothing_waits = waiting_.frames.empty() && waiting_.posts.empty();
    }
    if (nothing_waits && !dead_) rest();
  }
  finish();
}

void StoreThread::Impl::rest() {
  upkeep_.reset();
  const auto rested = store_->idle();
  if (rested) {
    if (*rested) upkeep_ = SteadyClock::now() + std::min<Duration>(**rested, kUpkeepMax);
  } else if (rested.error().code() == ErrorCode::kUnknownOutcome) {
    fatal(rested.error());
  } else {
    // Not at once again: the next work brings it.
    log::warn("store_upkeep_failed", {{"cause", rested.error().message()}});
  }
}

void StoreThread::Impl::finish() {
  close_result_ = dead_ ? fail(ErrorCode::kUnknownOutcome, "an earlier commit's outcome is unknown")
                        : store_->close();
}

void StoreThread::Impl::commit(const Batch& batch) {
  if (dead_) {
    abandon_all(batch);
    return;
  }
  if constexpr (sabotage::kAckBeforeCommit) acknowledge_all(batch);
  const auto answers = store_->commit(batch.frames);
  if (answers) {
    answer(batch, *answers);
    return;
  }
  if (answers.error().code() == ErrorCode::kUnknownOutcome) {
    abandon_all(batch);
    fatal(answers.error());
    return;
  }
  log::warn("commit_refused",
            {{"frames", batch.frames.size()}, {"cause", answers.error().message()}});
  refuse_all(batch, refusal_for(answers.error()));
}

// Refusals in their order, then one ACK per sink: an ACK is cumulative, and a client that heard it
// first would take the refused frames for stored.
void StoreThread::Impl::answer(const Batch& batch, const std::vector<Answer>& answers) {
  std::vector<std::pair<AckSink*, std::uint64_t>> highest;
  std::unordered_map<AckSink*, std::size_t> places;
  AckSink* last = nullptr;
  std::size_t place = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    AckSink* const sink = batch.sinks[i].get();
    if (answers[i].kind == Answer::Kind::kRefused) {
      sink->refuse(batch.frames[i].number, answers[i].refusal);
      continue;
    }
    if (sink != last) {
      const auto [found, added] = places.try_emplace(sink, highest.size());
      if (added) highest.emplace_back(sink, 0);
      place = found->second;
      last = sink;
    }
    highest[place].second = std::max(highest[place].second, batch.frames[i].number);
  }
  for (const auto& [sink, number] : highest) sink->acknowledge(number);
}

void StoreThread::Impl::acknowledge_all(const Batch& batch) {
  for (std::size_t i = 0; i < batch.frames.size(); ++i) {
    batch.sinks[i]->acknowledge(batch.frames[i].number);
  }
}

void StoreThread::Impl::refuse_all(const Batch& batch, const Refusal& refusal) {
  for (std::size_t i = 0; i < batch.frames.size(); ++i) {
    batch.sinks[i]->refuse(batch.frames[i].number, refusal);
  }
}

void StoreThread::Impl::abandon_all(const Batch& batch) {
  std::unordered_map<AckSink*, bool> told;
  for (const auto& sink : batch.sinks) {
    if (told.try_emplace(sink.get(), true).second) sink->abandon();
  }
}

void StoreThread::Impl::fatal(const Error& error) {
  dead_ = true;
  upkeep_.reset();
  Batch rest;
  {
    const MutexLock lock(mutex_);
    closed_to_new_ = true;
    rest.frames.swap(waiting_.frames);
    rest.sinks.swap(waiting_.sinks);
    waiting_bytes_ = 0;
    waiting_frames_.clear();
    deadline_.reset();
  }
  abandon_all(rest);
  log::error("commit_outcome_unknown", {{"cause", error.message()}});
  if (hooks_.on_fatal) hooks_.on_fatal(error);
}

StoreThread::StoreThread(std::unique_ptr<Store> store,
                         const StoreThreadOptions& options,
                         Hooks hooks)
    : impl_(std::make_unique<Impl>(std::move(store), options, std::move(hooks))) {}

StoreThread::~StoreThread() = default;

Result<void> StoreThread::submit(Append&& frame, std::shared_ptr<AckSink> sink, Commit when) {
  return impl_->submit(std::move(frame), std::move(sink), when);
}

StoreThread::Burst::Burst(StoreThread& thread) : thread_(thread) {
  thread_.impl_->begin_burst();
}

StoreThread::Burst::~Burst() {
  thread_.impl_->end_burst();
}

void StoreThread::commit_now() {
  impl_->commit_now();
}

Result<void> StoreThread::post(std::function<void(Store&)> work) {
  return impl_->post(std::move(work));
}

Result<void> StoreThread::stop() {
  return impl_->stop();
}

}  // namespace telemetryd::store
