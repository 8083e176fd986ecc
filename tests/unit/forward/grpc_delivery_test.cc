#include "forward/grpc_delivery.h"

#include <cmath>

#include <gtest/gtest.h>

#include "telemetry/v1/event.pb.h"

namespace telemetryd::forward {
namespace {

using namespace std::chrono_literals;
using Fate = GrpcVerdict::Fate;

void add_row(v1::Lease& lease, const std::string& app, std::uint32_t events) {
  ::telemetry::v1::EventBatch batch;
  for (std::uint32_t i = 0; i < events; ++i) batch.add_events()->set_name(std::to_string(i));
  v1::LeasedRow* row = lease.add_rows();
  row->set_seq(static_cast<std::uint64_t>(lease.rows_size()));
  row->set_count(events);
  row->set_app(app);
  row->set_events(batch.SerializeAsString());
}

GrpcDelivery delivery(const v1::Lease& lease) {
  auto made = GrpcDelivery::make(lease, 2);
  EXPECT_TRUE(made);
  return std::move(*made);
}

GrpcVerdict verdict(Fate fate,
                    const std::string& words = "",
                    std::chrono::milliseconds after = 0ms) {
  return {.fate = fate, .retry_after = after, .code = 1, .words = words};
}

// Sends everything; `judge` says what becomes of a piece.
template <typename Judge>
v1::Outcome run(GrpcDelivery& delivery, Judge judge) {
  while (const auto call = delivery.next()) delivery.took(*call, judge(call->piece));
  EXPECT_TRUE(delivery.finished());
  return delivery.outcome();
}

// Refuses every piece that holds the event.
auto refuse_event(const std::string& name) {
  return [name](const Piece& piece) {
    ::telemetry::v1::EventBatch batch;
    EXPECT_TRUE(batch.ParseFromString(std::string(piece.events)));
    for (const auto& event : batch.events()) {
      if (event.name() == name) return verdict(Fate::kInvalid, "INVALID_ARGUMENT: " + name);
    }
    return verdict(Fate::kAccepted);
  };
}

TEST(GrpcDelivery, SendsTheRowsOfAnAppOneAfterTheOther) {
  v1::Lease lease;
  add_row(lease, "a", 1);
  add_row(lease, "a", 1);
  add_row(lease, "b", 1);
  GrpcDelivery sending = delivery(lease);
  const auto first = sending.next();
  const auto other = sending.next();
  ASSERT_TRUE(first && other);
  EXPECT_EQ(first->piece.row->seq(), 1u);
  EXPECT_EQ(other->piece.row->seq(), 3u) << "another app need not wait";
  EXPECT_FALSE(sending.next()) << "row 2 must wait for row 1";
  sending.took(*first, verdict(Fate::kAccepted));
  const auto second = sending.next();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->piece.row->seq(), 2u);
}

TEST(GrpcDelivery, HasABoundOfCallsAtATime) {
  v1::Lease lease;
  for (const char* app : {"a", "b", "c"}) add_row(lease, app, 1);
  GrpcDelivery sending = delivery(lease);
  EXPECT_TRUE(sending.next());
  EXPECT_TRUE(sending.next());
  EXPECT_FALSE(sending.next());
}

TEST(GrpcDelivery, EverythingAcceptedIsDelivered) {
  v1::Lease lease;
  add_row(lease, "a", 3);
  add_row(lease, "b", 2);
  GrpcDelivery sending = delivery(lease);
  const v1::Outcome outcome = run(sending, [](const Piece&) { return verdict(Fate::kAccepted); });
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(outcome.rejected_size(), 0);
  EXPECT_GT(outcome.body_bytes(), 0u);
}

TEST(GrpcDelivery, ALeaseWithoutRowsIsDelivered) {
  GrpcDelivery sending = delivery(v1::Lease());
  EXPECT_TRUE(sending.finished());
  EXPECT_EQ(sending.outcome().verdict(), v1::VERDICT_DELIVERED);
}

TEST(GrpcDelivery, FindsTheOneEventThatIsAtFault) {
  v1::Lease lease;
  add_row(lease, "a", 100);
  GrpcDelivery sending = delivery(lease);
  const v1::Outcome outcome = run(sending, refuse_event("37"));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  ASSERT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(outcome.rejected(0).seq(), 1u);
  EXPECT_EQ(outcome.rejected(0).first_index(), 37u);
  EXPECT_EQ(outcome.rejected(0).count(), 1u);
  EXPECT_EQ(outcome.rejected(0).reason(), "INVALID_ARGUMENT: 37");
}

TEST(GrpcDelivery, WhatRefusesEverythingHoldsTheDestination) {
  v1::Lease lease;
  add_row(lease, "a", 2);
  add_row(lease, "b", 1);
  GrpcDelivery sending = delivery(lease);
  const v1::Outcome outcome =
      run(sending, [](const Piece&) { return verdict(Fate::kInvalid, "bad app"); });
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_EQ(outcome.error(), "bad app");
  EXPECT_EQ(outcome.rejected_size(), 0);
}

TEST(GrpcDelivery, OneBadEventOfAThousandCostsFewRequestsMore) {
  for (std::uint32_t bad = 0; bad < 1000; bad += 37) {
    v1::Lease lease;
    add_row(lease, "a", 1000);
    GrpcDelivery sending = delivery(lease);
    int calls = 0;
    const auto judge = refuse_event(std::to_string(bad));
    const v1::Outcome outcome = run(sending, [&](const Piece& piece) {
      ++calls;
      return judge(piece);
    });
    ASSERT_EQ(outcome.rejected_size(), 1);
    EXPECT_EQ(outcome.rejected(0).first_index(), bad);
    EXPECT_LE(calls - 1, 2 * std::log2(1000) + 1) << bad;
  }
}

TEST(GrpcDelivery, OfManyBadEventsEachIsParkedAndNoOther) {
  v1::Lease lease;
  add_row(lease, "a", 1000);
  GrpcDelivery sending = delivery(lease);
  const v1::Outcome outcome = run(sending, [](const Piece& piece) {
    const bool bad = piece.count > 1 || piece.first_index % 5 == 3;
    return verdict(bad ? Fate::kInvalid : Fate::kAccepted, "no");
  });
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(outcome.rejected_size(), 200);
  for (const auto& range : outcome.rejected()) {
    EXPECT_EQ(range.first_index() % 5, 3u);
    EXPECT_EQ(range.count(), 1u);
  }
}

TEST(GrpcDelivery, ARelayThatRefusesEverythingIsLeftAloneSoon) {
  for (const bool one_row : {true, false}) {
    v1::Lease lease;
    for (int row = 0; row < (one_row ? 1 : 1000); ++row) add_row(lease, "a", one_row ? 1000 : 1);
    GrpcDelivery sending = delivery(lease);
    int calls = 0;
    const v1::Outcome outcome = run(sending, [&](const Piece&) {
      ++calls;
      return verdict(Fate::kInvalid, "no");
    });
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
    EXPECT_EQ(outcome.rejected_size(), 0);
    EXPECT_LE(calls, one_row ? 25 : 8);
  }
}

TEST(GrpcDelivery, WhatIsStillOnItsWayMayShowThatTheRelayTakesEvents) {
  v1::Lease lease;
  for (std::size_t i = 0; i < GrpcDelivery::kRefusedAloneMax; ++i) add_row(lease, "bad", 1);
  add_row(lease, "bad", 1);
  add_row(lease, "good", 1);
  GrpcDelivery sending = delivery(lease);
  auto bad = sending.next();
  const auto good = sending.next();
  for (std::size_t i = 0; i < GrpcDelivery::kRefusedAloneMax; ++i) {
    ASSERT_TRUE(bad) << i;
    sending.took(*bad, verdict(Fate::kInvalid, "no"));
    bad = sending.next();
  }
  EXPECT_FALSE(bad);
  EXPECT_FALSE(sending.finished());
  sending.took(*good, verdict(Fate::kAccepted));
  const v1::Outcome outcome =
      run(sending, [](const Piece&) { return verdict(Fate::kInvalid, "no"); });
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(static_cast<std::size_t>(outcome.rejected_size()), GrpcDelivery::kRefusedAloneMax + 1);
}

TEST(GrpcDelivery, WhatIsTooLargeIsHalvedUntilItPasses) {
  v1::Lease lease;
  add_row(lease, "a", 100);
  GrpcDelivery sending = delivery(lease);
  std::vector<std::uint32_t> order;
  const v1::Outcome outcome = run(sending, [&](const Piece& piece) {
    if (piece.count > 30) return verdict(Fate::kTooLarge, "too large");
    order.push_back(piece.first_index);
    return verdict(Fate::kAccepted);
  });
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(order, (std::vector<std::uint32_t>{0, 25, 50, 75})) << "in order";
}

TEST(GrpcDelivery, ASingleEventThatIsTooLargeIsParkedWhenOthersPass) {
  v1::Lease lease;
  add_row(lease, "a", 2);
  GrpcDelivery sending = delivery(lease);
  const v1::Outcome outcome = run(sending, [](const Piece& piece) {
    return verdict(piece.first_index + piece.count > 1 ? Fate::kTooLarge : Fate::kAccepted,
                   "large");
  });
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  ASSERT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(outcome.rejected(0).first_index(), 1u);
}

TEST(GrpcDelivery, ARelayThatTakesTooLittleIsHeldWithTheKeyToRaise) {
  v1::Lease lease;
  add_row(lease, "a", 1000);
  GrpcDelivery sending = delivery(lease);
  const v1::Outcome outcome =
      run(sending, [](const Piece&) { return verdict(Fate::kTooLarge, "too large"); });
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(outcome.error().find("frame_bytes_max"), std::string::npos) << outcome.error();
}

TEST(GrpcDelivery, AFailureSettlesNothingAndStartsNothingMore) {
  v1::Lease lease;
  add_row(lease, "a", 1);
  add_row(lease, "a", 1);
  add_row(lease, "b", 1);
  GrpcDelivery sending = delivery(lease);
  const auto first = sending.next();
  const auto other = sending.next();
  sending.took(*first, verdict(Fate::kRetry, "later", 5s));
  EXPECT_FALSE(sending.next());
  EXPECT_FALSE(sending.finished()) << "one is still on its way";
  sending.took(*other, verdict(Fate::kAccepted));
  ASSERT_TRUE(sending.finished());
  const v1::Outcome outcome = sending.outcome();
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(outcome.error(), "later");
  EXPECT_EQ(outcome.retry_after_ms(), 5000u);
  EXPECT_EQ(outcome.status(), 1u);
}

TEST(GrpcDelivery, WhatAPersonMustSettleCountsMoreThanWeather) {
  for (const bool hold_first : {false, true}) {
    v1::Lease lease;
    add_row(lease, "a", 1);
    add_row(lease, "b", 1);
    GrpcDelivery sending = delivery(lease);
    const auto first = sending.next();
    const auto second = sending.next();
    sending.took(*first, verdict(hold_first ? Fate::kHold : Fate::kRetry, "first", 1s));
    sending.took(*second, verdict(hold_first ? Fate::kRetry : Fate::kHold, "second", 2s));
    EXPECT_EQ(sending.outcome().verdict(), v1::VERDICT_HOLD);
    EXPECT_EQ(sending.outcome().error(), hold_first ? "first" : "second");
    EXPECT_EQ(sending.outcome().retry_after_ms(), 0u);
  }
}

TEST(GrpcDelivery, ABrokenRowIsSaidBeforeAnythingIsSent) {
  v1::Lease lease;
  add_row(lease, "a", 2);
  lease.mutable_rows(0)->set_count(3);
  const auto made = GrpcDelivery::make(lease, 2);
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message().find("row 1"), std::string::npos);
}

}  // namespace
}  // namespace telemetryd::forward
