// What a laptop goes through in weeks without a network, by the hands of the clock: nights asleep,
// a wall clock that leaps, restarts of the daemon.

#include <gtest/gtest.h>

#include "integration/forward/daemon_rig.h"

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;

class WeeksOffline : public DaemonRig {
 protected:
  static constexpr int kDays = 21;

  // While there is no network every try fails as it would then.
  std::optional<v1::FromForwarder> answer(const v1::ToForwarder& message) const {
    if (online_) return deliver(message);
    auto reply = answer_with(message, v1::VERDICT_RETRY, "network is unreachable");
    reply->mutable_outcome()->set_cause(v1::CAUSE_CONNECT);
    return reply;
  }

  void keep_for(std::chrono::milliseconds age_max) {
    stop_daemon();
    event_age_max_ = age_max;
    open_store();
  }

  void stop_daemon() {
    scheduler_.reset();
    ASSERT_TRUE(store_->stop());
    store_.reset();
    settle_loop();
  }

  void restart_daemon() {
    stop_daemon();
    open_store();
    start_scheduler();
  }

  // One event an hour while somebody is there, a third of the day asleep: both clocks go on then,
  // and nothing runs.
  void pass_a_day(int day) {
    for (int hour = 0; hour < 16; ++hour) {
      append("tool", 1, hour % 5 == 0);
      ++sent_;
      clock_.advance(1h);
      if (day == 3 && hour == 7) clock_.jump(-1h);
      if (day == 9 && hour == 2) clock_.jump(10 * 365 * 24h);
      if (day == 15 && hour == 11) clock_.jump(-10 * 365 * 24h);
    }
    clock_.advance(8h);
    if (day % 5 == 4) restart_daemon();
  }

  std::atomic<bool> online_ = false;
  int sent_ = 0;
};

TEST_F(WeeksOffline, NothingIsLostOrExpiresAndTheOrderHoldsWhateverTheClockDoes) {
  keep_for(30 * 24h);
  ScriptedForwarder forwarder(socket_path(), [&](const auto& message) { return answer(message); });
  start_scheduler();
  for (int day = 0; day < kDays; ++day) pass_a_day(day);
  EXPECT_EQ(account("tool", store::account::kQueued), sent_);
  EXPECT_EQ(account("tool", store::account::kExpired), 0);
  const schedule::DestinationStatus offline = status();
  EXPECT_EQ(offline.cause, "connect");
  EXPECT_GT(offline.attempts, 20u);
  const std::size_t tries = forwarder.seen().size();

  online_ = true;
  clock_.advance(6min);
  append("tool", 1, true);
  run_until([&] { return account("tool", store::account::kDelivered) == sent_ + 1; });
  for (const auto place : {store::account::kExpired,
                           store::account::kEvicted,
                           store::account::kLost,
                           store::account::kParked}) {
    EXPECT_EQ(account("tool", place), 0) << place;
  }
  // The row that is urgent may go past the others, once.
  std::uint64_t last = 0;
  int past = 0;
  const auto seen = forwarder.seen();
  for (std::size_t i = tries; i < seen.size(); ++i) {
    for (const v1::LeasedRow& row : seen[i].lease().rows()) {
      past += row.seq() < last;
      last = row.seq();
    }
  }
  EXPECT_LE(past, 1);
  EXPECT_EQ(status().last_error, "");
}

TEST_F(WeeksOffline, WhatIsTooOldExpiresByTheTimeThatPassedAndNotByTheWallClock) {
  keep_for(14 * 24h);
  ScriptedForwarder forwarder(socket_path(), [&](const auto& message) { return answer(message); });
  start_scheduler();
  for (int day = 0; day < kDays; ++day) pass_a_day(day);
  // Those of the first seven days, and the eighth's first, which is as old to the millisecond; the
  // leaps of the wall clock had no say.
  constexpr int kTooOld = 7 * 16 + 1;
  append("tool", 1, true);
  EXPECT_EQ(account("tool", store::account::kExpired), kTooOld);
  EXPECT_EQ(account("tool", store::account::kQueued), sent_ + 1 - kTooOld);
}

}  // namespace
}  // namespace telemetryd::test
