// The store thread: who is answered, when, and in which order.

#include "store/store_thread.h"

#include <future>
#include <mutex>

#include <gtest/gtest.h>

#include "unit/store/scripted_store.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using store::StoreThread;
using enum StoreThread::Commit;

// Writes down what it is told, one word each.
class RecordingSink final : public store::AckSink {
 public:
  void acknowledge(std::uint64_t number) noexcept override { note("ack", number); }

  void refuse(std::uint64_t number, const store::Refusal& refusal) noexcept override {
    note(refusal.retryable ? "retry" : "refuse", number);
  }

  void abandon() noexcept override { note("abandon", 0); }

  std::vector<std::string> heard() {
    const std::lock_guard lock(mutex_);
    return heard_;
  }

 private:
  void note(const char* word, std::uint64_t number) {
    const std::lock_guard lock(mutex_);
    heard_.push_back(std::string(word) + " " + std::to_string(number));
  }

  std::mutex mutex_;
  std::vector<std::string> heard_;
};

using Heard = std::vector<std::string>;

class StoreThreadTest : public testing::Test {
 protected:
  void start(store::StoreThreadOptions options = {}) {
    auto opened = store::open_sqlite_store(small_store(dir_.path()), clock_);
    ASSERT_TRUE(opened) << opened.error().message();
    thread_.emplace(std::move(*opened), options, StoreThread::Hooks{});
  }

  void TearDown() override {
    thread_.reset();
    expect_balanced_in(small_store(dir_.path()), clock_);
  }

  // Returns when everything submitted before has been committed.
  void settle_down() {
    std::promise<void> done;
    ASSERT_TRUE(thread_->post([&](store::Store&) { done.set_value(); }));
    done.get_future().wait();
  }

  TempDir dir_;
  FakeClock clock_;
  std::optional<StoreThread> thread_;
};

TEST_F(StoreThreadTest, OneAckPerSinkAndGroup) {
  start({.commit_delay_max = std::chrono::hours(1)});
  const auto sink = std::make_shared<RecordingSink>();
  const auto app = client(1);
  for (std::uint64_t n = 1; n <= 5; ++n) {
    ASSERT_TRUE(thread_->submit(frame(app, n, {"x"}), sink, kMayDelay));
  }
  settle_down();
  EXPECT_EQ(sink->heard(), (Heard{"ack 5"}));
}

TEST_F(StoreThreadTest, RefusalsAreToldInOrderBeforeTheAckThatCoversThem) {
  start({.commit_delay_max = std::chrono::hours(1)});
  const auto sink = std::make_shared<RecordingSink>();
  const auto app = client(1);
  ASSERT_TRUE(thread_->submit(frame(app, 1, {"x"}), sink, kMayDelay));
  ASSERT_TRUE(thread_->submit(refused_frame(app, 2, false), sink, kMayDelay));
  ASSERT_TRUE(thread_->submit(frame(app, 3, {"x"}), sink, kMayDelay));
  ASSERT_TRUE(thread_->submit(refused_frame(app, 4, true), sink, kMayDelay));
  ASSERT_TRUE(thread_->submit(frame(app, 5, {"x"}), sink, kMayDelay));
  settle_down();
  EXPECT_EQ(sink->heard(), (Heard{"refuse 2", "retry 4", "retry 5", "ack 3"}));
}

// Wakes who waits for the answer to one frame.
class AwaitedSink final : public store::AckSink {
 public:
  explicit AwaitedSink(std::uint64_t awaited) : awaited_(awaited) {}

  void acknowledge(std::uint64_t number) noexcept override {
    ++acks;
    if (number == awaited_) done_.set_value();
  }

  void refuse(std::uint64_t, const store::Refusal&) noexcept override {}

  void abandon() noexcept override {}

  void wait() { done_.get_future().wait(); }

  int acks = 0;

 private:
  const std::uint64_t awaited_;
  std::promise<void> done_;
};

TEST_F(StoreThreadTest, AFlushInABurstCommitsAtItsEnd) {
  start({.commit_delay_max = std::chrono::hours(1)});
  const auto sink = std::make_shared<AwaitedSink>(1);
  {
    const StoreThread::Burst burst(*thread_);
    ASSERT_TRUE(thread_->submit(frame(client(1), 1, {"x"}), sink, kMayDelay));
    thread_->commit_now();
  }
  sink->wait();
}

TEST_F(StoreThreadTest, StopCommitsWhatWaitsAndCloses) {
  start({.commit_delay_max = std::chrono::hours(1)});
  const auto sink = std::make_shared<RecordingSink>();
  ASSERT_TRUE(thread_->submit(frame(client(1), 1, {"x"}), sink, kMayDelay));
  ASSERT_TRUE(thread_->stop());
  EXPECT_EQ(sink->heard(), (Heard{"ack 1"}));
  EXPECT_EQ(thread_->submit(frame(client(1), 2, {"x"}), sink, kNow).error().code(),
            ErrorCode::kCancelled);
  EXPECT_EQ(thread_->post([](store::Store&) {}).error().code(), ErrorCode::kCancelled);
}

// The same thread over a store that fails on cue.
class ScriptedThreadTest : public testing::Test {
 protected:
  void start(store::StoreThreadOptions options = {.commit_delay_max = std::chrono::hours(1)}) {
    auto store = std::make_unique<ScriptedStore>();
    store_ = store.get();
    StoreThread::Hooks hooks;
    hooks.on_room = [this] { ++rooms_; };
    hooks.on_fatal = [this](const Error& error) { fatals_.push_back(error.message()); };
    thread_.emplace(std::move(store), options, std::move(hooks));
  }

  // Runs `work` on the store thread, after what was submitted before, and waits for it.
  void on_thread(const std::function<void()>& work) {
    std::promise<void> done;
    ASSERT_TRUE(thread_->post([&](store::Store&) {
      work();
      done.set_value();
    }));
    done.get_future().wait();
  }

  // Holds the store thread until the returned promise is set.
  std::promise<void> hold() {
    std::promise<void> release;
    auto held = std::make_shared<std::promise<void>>();
    auto begun = held->get_future();
    auto released = std::make_shared<std::future<void>>(release.get_future());
    EXPECT_TRUE(thread_->post([held, released](store::Store&) {
      held->set_value();
      released->wait();
    }));
    begun.wait();
    return release;
  }

  Result<void> submit(std::uint64_t number, StoreThread::Commit when = kMayDelay) {
    return thread_->submit(frame(app_, number, {"x"}), sink_, when);
  }

  std::shared_ptr<const store::ClientInfo> app_ = client(1);
  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  int rooms_ = 0;
  std::vector<std::string> fatals_;
  ScriptedStore* store_ = nullptr;
  std::optional<StoreThread> thread_;
};

TEST_F(ScriptedThreadTest, AStoreThatCannotWriteRefusesEveryFrameForNow) {
  start();
  auto release = hold();
  store_->failures = {Error(ErrorCode::kUnavailable, "no disk")};
  ASSERT_TRUE(submit(1));
  ASSERT_TRUE(submit(2));
  release.set_value();
  on_thread([] {});
  ASSERT_TRUE(submit(1));
  on_thread([] {});
  EXPECT_EQ(sink_->heard(), (Heard{"retry 1", "retry 2", "ack 1"}));
  EXPECT_TRUE(fatals_.empty());
}

TEST_F(ScriptedThreadTest, AnUnknownOutcomeIsNeverAnsweredAndEndsEverything) {
  start();
  auto release = hold();
  store_->failures = {Error(ErrorCode::kUnknownOutcome, "sync failed")};
  ASSERT_TRUE(submit(1));
  ASSERT_TRUE(submit(2));
  release.set_value();
  on_thread([] {});
  EXPECT_EQ(sink_->heard(), (Heard{"abandon 0"}));
  EXPECT_EQ(fatals_, (std::vector<std::string>{"sync failed"}));
  EXPECT_EQ(submit(3).error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(thread_->stop().error().code(), ErrorCode::kUnknownOutcome);
  EXPECT_EQ(sink_->heard(), (Heard{"abandon 0"}));
}

TEST_F(ScriptedThreadTest, AStoreThatWantsToBeCalledAgainIsWithoutNewWork) {
  start();
  std::promise<void> thrice;
  on_thread([&] {
    store_->idles = 0;
    store_->rest = std::chrono::milliseconds(0);
    store_->on_idle = [&] {
      if (store_->idles == 1) store_->rest = std::chrono::milliseconds(1);
      if (store_->idles == 2) store_->rest = std::chrono::milliseconds(0);
      if (store_->idles == 3) thrice.set_value();
    };
  });
  thrice.get_future().wait();
  on_thread([&] { store_->on_idle = [] {}; });
}

// Only the last frame of each burst makes the group due, so the thread cannot come in between.
TEST_F(ScriptedThreadTest, WhatABurstBringsIsOneGroupAndItsEndWakesTheThread) {
  start();
  const std::uint64_t due = store::StoreThreadOptions().commit_frames_per_client;
  std::uint64_t number = 0;
  for (const std::uint64_t frames : {due, std::uint64_t{1}, due}) {
    const auto sink = std::make_shared<AwaitedSink>(number + frames);
    {
      const StoreThread::Burst burst(*thread_);
      for (std::uint64_t i = 0; i < frames; ++i) {
        const auto when = frames == 1 ? kNow : kMayDelay;
        ASSERT_TRUE(thread_->submit(frame(app_, ++number, {"x"}), sink, when));
      }
    }
    sink->wait();
    EXPECT_EQ(sink->acks, 1);
    EXPECT_EQ(store_->groups.back(), frames);
  }
}

TEST_F(ScriptedThreadTest, AFullQueueRefusesTheFrameUntouchedAndCallsWhenThereIsRoom) {
  start({.queue_frames_max = 2, .commit_delay_max = std::chrono::hours(1)});
  auto release = hold();
  ASSERT_TRUE(submit(1));
  ASSERT_TRUE(submit(2));
  auto third = frame(app_, 3, {"x"});
  const auto refused = thread_->submit(std::move(third), sink_, kMayDelay);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_FALSE(third.events.empty());  // NOLINT(bugprone-use-after-move): that is the promise
  release.set_value();
  on_thread([] {});
  EXPECT_EQ(rooms_, 1);
  EXPECT_TRUE(submit(3));
}

TEST_F(ScriptedThreadTest, QueuedBytesAreBounded) {
  start({.queue_bytes_max = 100, .commit_delay_max = std::chrono::hours(1)});
  auto release = hold();
  ASSERT_TRUE(thread_->submit(frame(app_, 1, {std::string(90, 'x')}), sink_, kMayDelay));
  EXPECT_FALSE(thread_->submit(frame(app_, 2, {std::string(20, 'x')}), sink_, kMayDelay));
  release.set_value();
  on_thread([] {});
  // One frame bigger than the queue still gets through when nothing else waits.
  EXPECT_TRUE(thread_->submit(frame(app_, 2, {std::string(200, 'x')}), sink_, kMayDelay));
}

TEST_F(ScriptedThreadTest, PostsAreBounded) {
  start({.posts_max = 1});
  auto release = hold();
  EXPECT_TRUE(thread_->post([](store::Store&) {}));
  EXPECT_EQ(thread_->post([](store::Store&) {}).error().code(), ErrorCode::kResourceExhausted);
  release.set_value();
}

TEST_F(ScriptedThreadTest, ARefusedPostHearsWhenThereIsRoom) {
  start({.posts_max = 1});
  auto release = hold();
  std::promise<void> ran;
  ASSERT_TRUE(thread_->post([&](store::Store&) { ran.set_value(); }));
  ASSERT_FALSE(thread_->post([](store::Store&) {}));
  release.set_value();
  ran.get_future().wait();
  EXPECT_EQ(rooms_, 1);
  on_thread([] {});
  EXPECT_EQ(rooms_, 1);
}

// Waits for an ACK without a post, which would end the delay itself.
class AckWaiter final : public store::AckSink {
 public:
  void acknowledge(std::uint64_t number) noexcept override {
    if (number == 1) acked_.set_value();
  }

  void refuse(std::uint64_t, const store::Refusal&) noexcept override {}

  void abandon() noexcept override {}

  void wait() { acked_.get_future().wait(); }

 private:
  std::promise<void> acked_;
};

TEST_F(ScriptedThreadTest, SomebodyWhoWaitsEndsTheDelay) {
  start();
  const auto waiter = std::make_shared<AckWaiter>();
  ASSERT_TRUE(thread_->submit(frame(app_, 1, {"x"}), waiter, kNow));
  waiter->wait();
}

TEST_F(ScriptedThreadTest, AFlushEndsTheDelay) {
  start();
  const auto waiter = std::make_shared<AckWaiter>();
  ASSERT_TRUE(thread_->submit(frame(app_, 1, {"x"}), waiter, kMayDelay));
  thread_->commit_now();
  waiter->wait();
}

TEST_F(ScriptedThreadTest, AFullWindowEndsTheDelay) {
  start({.commit_delay_max = std::chrono::hours(1), .commit_frames_per_client = 1});
  const auto waiter = std::make_shared<AckWaiter>();
  ASSERT_TRUE(thread_->submit(frame(app_, 1, {"x"}), waiter, kMayDelay));
  waiter->wait();
}

TEST_F(ScriptedThreadTest, ManyBytesEndTheDelay) {
  start({.commit_delay_max = std::chrono::hours(1), .commit_bytes = 1});
  const auto waiter = std::make_shared<AckWaiter>();
  ASSERT_TRUE(thread_->submit(frame(app_, 1, {"x"}), waiter, kMayDelay));
  waiter->wait();
}

TEST_F(ScriptedThreadTest, FramesSubmittedBeforeAPostAreCommittedBeforeIt) {
  start();
  auto release = hold();
  ASSERT_TRUE(submit(1));
  std::vector<std::size_t> groups;
  std::promise<void> done;
  ASSERT_TRUE(thread_->post([&](store::Store&) {
    groups = store_->groups;
    done.set_value();
  }));
  ASSERT_TRUE(submit(2));
  release.set_value();
  done.get_future().wait();
  EXPECT_EQ(groups, (std::vector<std::size_t>{2}));
}

}  // namespace
}  // namespace telemetryd::test
