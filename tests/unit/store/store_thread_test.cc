// The store thread: who is answered, when, and in which order.

#include "store/store_thread.h"

#include <future>
#include <mutex>

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace telemetryd::test
