// What a trickle costs the disk, counted at SQLite's file system in hours of a played clock.

#include <gtest/gtest.h>

#include "store/commit_pace.h"
#include "store/store_thread.h"
#include "support/recording_vfs.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;

class WriteBudget : public StoreTest {
 protected:
  void SetUp() override {
    store::Options options;
    options.state_dir = dir_.path();
    options.vfs = vfs_.name();
    open(options);
  }

  void TearDown() override {
    StoreTest::TearDown();
    store_.reset();  // before its file system
  }

  // What the store thread does with one event a second, and what the scheduler does meanwhile on a
  // machine without a network: a try in five minutes, whose failure is kept.
  void pass(std::chrono::seconds length, store::CommitPace& pace) {
    for (std::chrono::seconds passed{}; passed < length; passed += 1s) {
      if (!waiting_.empty() && due_ <= now_) commit_waiting(pace);
      if (waiting_.empty()) due_ = pace.deadline(now_);
      waiting_.push_back(frame(app_, ++number_, {std::string(kEventBytes, 'x')}));
      if (++seconds_ % 300 == 0) {
        commit_waiting(pace);
        ASSERT_TRUE(store_->save_destination_state("default", std::string(500, 's')));
        store_->idle();
      }
      now_ += 1s;
      clock_.advance(1s);
    }
  }

  std::uint64_t take_written() {
    std::uint64_t bytes = 0;
    for (const FileOp& op : vfs_.record()) bytes += op.bytes.size();
    vfs_.forget();
    return bytes;
  }

  // As the client encodes one with four attributes.
  static constexpr std::size_t kEventBytes = 130;

 private:
  void commit_waiting(store::CommitPace& pace) {
    pace.committed(now_);
    commit(std::move(waiting_));
    waiting_.clear();
    store_->idle();
  }

  RecordingVfs vfs_;
  std::shared_ptr<const store::ClientInfo> app_ = client(1);
  std::vector<store::Append> waiting_;
  store::CommitPace::TimePoint now_{1h};
  store::CommitPace::TimePoint due_{};
  std::uint64_t number_ = 0;
  int seconds_ = 0;
};

TEST_F(WriteBudget, OneEventASecondWritesNoMoreThanFiveMegabytesAnHour) {
  const store::StoreThreadOptions options;
  store::CommitPace pace(options.commit_delay_max, options.trickle_delay_max);
  pass(1h, pace);
  take_written();
  // Long enough for checkpoints to have their share.
  constexpr int kHours = 12;
  pass(kHours * 1h, pace);
  const std::uint64_t an_hour = take_written() / kHours;
  RecordProperty("bytes_an_hour", std::to_string(an_hour));
  EXPECT_LE(an_hour, 5'000'000u);
  EXPECT_GT(an_hour, 3600 * kEventBytes);
}

}  // namespace
}  // namespace telemetryd::test
