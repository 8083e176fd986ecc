#include "forward/division.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include <gtest/gtest.h>

#include "forward/sink.h"
#include "telemetry/v1/event.pb.h"

namespace telemetryd::forward {
namespace {

using Items = std::vector<std::size_t>;

constexpr BatchSize::Limits kFormat{1000, 5u << 20};

void add_row(v1::Lease& lease, const std::string& app, std::uint32_t events) {
  ::telemetry::v1::EventBatch batch;
  for (std::uint32_t i = 0; i < events; ++i) batch.add_events()->set_name("e");
  v1::LeasedRow* row = lease.add_rows();
  row->set_seq(static_cast<std::uint64_t>(lease.rows_size()));
  row->set_count(events);
  row->set_app(app);
  row->set_events(batch.SerializeAsString());
}

v1::Lease lease_of(std::uint32_t events, const std::string& app = "tool") {
  v1::Lease lease;
  add_row(lease, app, events);
  return lease;
}

// Which of these events an upstream refuses together; nothing when it takes them.
using Upstream = std::function<std::optional<Refusal>(const Items&)>;

Upstream refuses(Items bad) {
  return [bad = std::move(bad)](const Items& items) -> std::optional<Refusal> {
    const bool found = std::ranges::any_of(
        items, [&](std::size_t item) { return std::ranges::binary_search(bad, item); });
    return found ? std::optional(Refusal::kContent) : std::nullopt;
  };
}

std::optional<Refusal> refuses_everything(const Items&) {
  return Refusal::kContent;
}

class DivisionTest : public ::testing::Test {
 protected:
  // One try: everything that the division wants to send.
  v1::Outcome send(const v1::Lease& lease, const Upstream& upstream) {
    sent_.clear();
    Division division(lease, size_, progress_);
    while (const auto range = division.next()) {
      const Part part = fill(division, *range);
      if (part.items.empty()) continue;
      sent_.push_back(part.items);
      const auto refusal = upstream(part.items);
      if (!refusal) {
        division.took(part, {}, 0, false);
      } else if (!division.refused(
                     part,
                     *refusal,
                     *refusal == Refusal::kServer ? retry("ill", v1::CAUSE_SERVER) : hold("no"))) {
        return division.nothing_taken();
      }
    }
    return division.finish();
  }

  Part fill(Division& division, const ItemRange& range) const {
    Part part;
    std::size_t next = range.begin;
    for (; next < range.end && part.items.size() < size_.events(); ++next) {
      if (!division.settled(next)) part.items.push_back(next);
    }
    part.range = {range.begin, next};
    part.full = next < range.end;
    part.bytes = part.items.size() * 100;
    if (part.full) division.put_back({next, range.end});
    return part;
  }

  static Items rejected(const v1::Outcome& outcome) {
    Items all;
    for (const auto& range : outcome.rejected()) all.push_back(range.first_index());
    return all;
  }

  BatchSize size_{kFormat};
  LeaseProgress progress_;
  std::vector<Items> sent_;
};

TEST_F(DivisionTest, OneBadEventOfAThousandIsFoundWhereverItIsWithFewRequestsMore) {
  for (std::size_t bad = 0; bad < 1000; ++bad) {
    const v1::Outcome outcome = send(lease_of(1000), refuses({bad}));
    ASSERT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << bad;
    ASSERT_EQ(rejected(outcome), Items{bad});
    ASSERT_LE(static_cast<double>(sent_.size() - 1), 2 * std::log2(1000) + 1) << bad;
  }
}

TEST_F(DivisionTest, SeveralBadEventsAreParkedAndNoOther) {
  for (const Items& bad : {Items{0, 1},
                           Items{0, 999},
                           Items{499, 500},
                           Items{998, 999},
                           Items{0, 1, 2, 3, 4, 5, 6},
                           Items{3, 77, 500, 501, 998}}) {
    const v1::Outcome outcome = send(lease_of(1000), refuses(bad));
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
    EXPECT_EQ(rejected(outcome), bad);
  }
}

TEST_F(DivisionTest, EventsAreTakenInOrder) {
  Items order;
  const Upstream upstream = refuses({3, 500, 998});
  send(lease_of(1000), [&](const Items& items) {
    const auto refusal = upstream(items);
    if (!refusal) order.insert(order.end(), items.begin(), items.end());
    return refusal;
  });
  EXPECT_EQ(order.size(), 997u);
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST_F(DivisionTest, AnUpstreamThatRefusesEverythingIsHeldSoonAndNothingIsParked) {
  const v1::Outcome outcome = send(lease_of(1000), refuses_everything);
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_EQ(outcome.rejected_size(), 0);
  EXPECT_EQ(outcome.error(), "none of 1000 events was accepted: no");
  EXPECT_LE(static_cast<double>(sent_.size()), std::log2(1000) + Division::kRefusedAloneMax + 2);
}

TEST_F(DivisionTest, AnUpstreamThatRefusesEverythingFromSomeTimeOnHasNothingParked) {
  size_ = BatchSize({100, 5u << 20});
  for (std::size_t works = 1; works < 45; ++works) {
    progress_.clear();
    std::size_t requests = 0;
    const Upstream bad = refuses({333});
    const v1::Outcome outcome = send(lease_of(1000), [&](const Items& items) {
      return ++requests > works ? std::optional(Refusal::kContent) : bad(items);
    });
    if (outcome.verdict() == v1::VERDICT_DELIVERED) {
      EXPECT_EQ(rejected(outcome), Items{333}) << works;
    } else {
      EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
      EXPECT_EQ(outcome.rejected_size(), 0) << works;
      EXPECT_TRUE(outcome.error().starts_with("it refuses everything now")) << outcome.error();
      EXPECT_LE(requests, works + 30);
    }
  }
}

TEST_F(DivisionTest, ABadEventAtTheEndIsParkedOnlyWhenTheUpstreamStillTakesOthers) {
  size_ = BatchSize({10, 5u << 20});
  const v1::Outcome parked = send(lease_of(101), refuses({100}));
  EXPECT_EQ(rejected(parked), Items{100});
  EXPECT_EQ(sent_.size(), 12u) << "one that was taken is asked for again";
  EXPECT_EQ(sent_.back(), Items{0});

  std::size_t requests = 0;
  const v1::Outcome held = send(lease_of(101), [&](const Items&) {
    return ++requests > 10 ? std::optional(Refusal::kContent) : std::nullopt;
  });
  EXPECT_EQ(held.verdict(), v1::VERDICT_HOLD);
  EXPECT_EQ(held.rejected_size(), 0);
}

TEST_F(DivisionTest, TheSameRowsAreNotDividedInEveryTryForNothing) {
  const auto requests = [&](const v1::Lease& lease) {
    EXPECT_EQ(send(lease, refuses_everything).verdict(), v1::VERDICT_HOLD);
    return sent_.size();
  };
  const std::size_t whole_search = requests(lease_of(1000));
  EXPECT_GT(whole_search, 10u);
  for (std::uint32_t i = 0; i < Division::kRestTries; ++i) {
    EXPECT_EQ(requests(lease_of(1000)), 1u);
  }
  EXPECT_EQ(requests(lease_of(1000)), whole_search);

  v1::Lease more = lease_of(1000);
  add_row(more, "tool", 1);
  EXPECT_EQ(rejected(send(more, refuses({0}))), Items{0}) << "other rows may be another matter";
}

TEST_F(DivisionTest, WhenItTakesSomethingAgainASearchIsWorthIt) {
  EXPECT_EQ(send(lease_of(1000), refuses_everything).verdict(), v1::VERDICT_HOLD);
  EXPECT_EQ(send(lease_of(1000), refuses({})).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(rejected(send(lease_of(1000), refuses({5}))), Items{5});
}

TEST_F(DivisionTest, AServerThatFailsAtEverythingIsAskedAgainLater) {
  const v1::Outcome outcome =
      send(lease_of(1000), [](const Items&) { return std::optional(Refusal::kServer); });
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(outcome.error(), "none of 1000 events was accepted: ill");
  EXPECT_EQ(outcome.rejected_size(), 0);
}

TEST_F(DivisionTest, WhatAPersonMustSettleCountsMoreThanWhatTimeHeals) {
  for (const std::size_t bad : {0u, 1u}) {
    progress_.clear();
    const v1::Outcome outcome = send(lease_of(2), [&](const Items& items) {
      return std::optional(items == Items{bad} ? Refusal::kContent : Refusal::kServer);
    });
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
    EXPECT_EQ(outcome.error(), "none of 2 events was accepted: no");
  }
}

TEST_F(DivisionTest, WhenFewEventsAreAllRefusedNothingIsParked) {
  for (std::uint32_t events = 1; events < Division::kRefusedAloneMax; ++events) {
    progress_.clear();
    const v1::Outcome outcome = send(lease_of(events), refuses_everything);
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
    EXPECT_EQ(outcome.rejected_size(), 0);
  }
}

TEST_F(DivisionTest, AnAppThatSendsOnlyBadEventsDoesNotKeepTheOthers) {
  v1::Lease lease = lease_of(300, "bad");
  add_row(lease, "good", 10);
  Items bad(300);
  for (std::size_t i = 0; i < bad.size(); ++i) bad[i] = i;
  const v1::Outcome outcome = send(lease, refuses(bad));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(rejected(outcome), bad);
}

TEST_F(DivisionTest, OfManyAppsThatAreRefusedEachIsAskedForOnce) {
  v1::Lease lease;
  for (int i = 0; i < 100; ++i) add_row(lease, "app" + std::to_string(i), 10);
  EXPECT_EQ(send(lease, refuses_everything).verdict(), v1::VERDICT_HOLD);
  const auto alone =
      std::ranges::count_if(sent_, [](const Items& items) { return items.size() == 1; });
  EXPECT_EQ(static_cast<std::size_t>(alone), Division::kRefusedAloneMax);
  EXPECT_EQ(sent_.back(), Items{60}) << "two of the first app, one of each other";
}

TEST_F(DivisionTest, ManyBadEventsOfOneAppAtTheHeadDoNotKeepTheOthers) {
  for (const std::size_t count : {8u, 10u, 100u, 499u, 999u}) {
    Items bad(count);
    std::iota(bad.begin(), bad.end(), 0u);
    const v1::Outcome outcome = send(lease_of(1000), refuses(bad));
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << count;
    EXPECT_EQ(rejected(outcome), bad);
  }
}

TEST_F(DivisionTest, NorDoManyAtBothEndsOrInEveryAppsFirstRows) {
  Items ends;
  for (std::size_t i = 0; i < 20; ++i) ends.push_back(i);
  for (std::size_t i = 980; i < 1000; ++i) ends.push_back(i);
  EXPECT_EQ(rejected(send(lease_of(1000), refuses(ends))), ends);

  v1::Lease two = lease_of(500, "one");
  add_row(two, "other", 500);
  Items firsts;
  for (std::size_t i = 0; i < 20; ++i) firsts.push_back(i);
  for (std::size_t i = 500; i < 520; ++i) firsts.push_back(i);
  const v1::Outcome outcome = send(two, refuses(firsts));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(outcome.rejected_size(), 40);
}

TEST_F(DivisionTest, WhileAllOfOneAppIsRefusedThoseFarFromItAreAskedForOneByOne) {
  EXPECT_EQ(send(lease_of(1024), refuses_everything).verdict(), v1::VERDICT_HOLD);
  std::vector<std::size_t> alone;
  for (const Items& items : sent_) {
    if (items.size() == 1) alone.push_back(items.front());
  }
  EXPECT_EQ(alone, (std::vector<std::size_t>{0, 1, 1023, 512, 256, 767, 384, 895}));
}

TEST_F(DivisionTest, WhatIsTooLargeIsHalvedAndTheSizeIsKept) {
  const Upstream small = [](const Items& items) {
    return items.size() > 30 ? std::optional(Refusal::kSize) : std::nullopt;
  };
  EXPECT_EQ(send(lease_of(100), small).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(size_.events(), 25u);
  EXPECT_EQ(send(lease_of(50), small).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(sent_.size(), 2u);
}

TEST_F(DivisionTest, ABadEventAndALimitAreToldApart) {
  const Upstream upstream = [](const Items& items) -> std::optional<Refusal> {
    if (items.size() > 200) return Refusal::kSize;
    return refuses({137})(items);
  };
  const v1::Outcome outcome = send(lease_of(1000), upstream);
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(rejected(outcome), Items{137});
  EXPECT_EQ(size_.events(), 125u);
}

TEST_F(DivisionTest, OneEventThatIsTooLargeIsParkedAndTeachesNothing) {
  const Upstream upstream = [](const Items& items) {
    return refuses({137})(items) ? std::optional(Refusal::kSize) : std::nullopt;
  };
  EXPECT_EQ(rejected(send(lease_of(1000), upstream)), Items{137});
  EXPECT_EQ(size_.events(), kFormat.events);
}

TEST_F(DivisionTest, WhatNothingCouldBeSentOfTeachesNothing) {
  const Upstream upstream = [](const Items&) { return std::optional(Refusal::kSize); };
  EXPECT_EQ(send(lease_of(1000), upstream).verdict(), v1::VERDICT_HOLD);
  EXPECT_EQ(size_.events(), kFormat.events);
}

TEST_F(DivisionTest, AnEventThatCannotBeSentIsParkedWhateverBecomesOfTheOthers) {
  Division division(lease_of(2), size_, progress_);
  division.unsendable(0, "invalid_event: no name");
  const Part part = fill(division, *division.next());
  EXPECT_EQ(part.items, Items{1});
  division.took(part, {}, 0, false);
  EXPECT_FALSE(division.next());
  const v1::Outcome outcome = division.finish();
  EXPECT_EQ(rejected(outcome), Items{0});
  EXPECT_EQ(outcome.rejected(0).reason(), "invalid_event: no name");
}

TEST_F(DivisionTest, WhatIsRefusedForCertainNeedsNoOtherThatIsTaken) {
  for (const bool certain : {true, false}) {
    Division division(lease_of(1), size_, progress_);
    const Part part = fill(division, *division.next());
    division.took(part, std::vector<RefusedEvent>{{0, "bad"}}, 0, certain);
    EXPECT_FALSE(division.next());
    EXPECT_EQ(division.finish().verdict(), certain ? v1::VERDICT_DELIVERED : v1::VERDICT_HOLD);
  }
}

TEST_F(DivisionTest, ARowThatCannotBeReadIsParked) {
  v1::Lease lease = lease_of(2);
  add_row(lease, "tool", 3);
  lease.mutable_rows(1)->set_events("not an event");
  const v1::Outcome outcome = send(lease, refuses({}));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED);
  ASSERT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(outcome.rejected(0).seq(), 2u);
  EXPECT_EQ(outcome.rejected(0).count(), 3u);
}

}  // namespace
}  // namespace telemetryd::forward
