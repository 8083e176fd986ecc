// The store against a plain map: random operations, and after each few the two must agree.

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "support/seed.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using store::Answer;

constexpr std::uint8_t kClients = 5;
constexpr int kSteps = 1500;
constexpr int kCheckEvery = 20;
// Above the quota of small_store() together.
constexpr int kFloodFrames = 200;
constexpr std::size_t kFloodBytes = 100'000;

struct ModelEvent {
  std::string body;
  std::uint8_t from = 0;
};

struct ModelLease {
  std::vector<store::LeasedRow> rows;
};

class StoreModel : public StoreTest {
 protected:
  StoreModel() : random_(test_seed()) {
    for (std::uint8_t i = 0; i < kClients; ++i) {
      clients_.push_back(client(i, i % 2 == 0 ? "shop" : "mail", 1000 + i % 3));
      high_water_.push_back(0);
    }
  }

  // The next life of a client, with numbers and events of its own.
  void replace_client(std::uint8_t id) {
    auto next = std::make_shared<store::ClientInfo>(*clients_[id]);
    next->key.instance[1] = static_cast<std::uint8_t>(++lives_[id] & 0xFF);
    next->key.instance[2] = static_cast<std::uint8_t>(lives_[id] >> 8);
    clients_[id] = std::move(next);
    high_water_[id] = 0;
    reported_[id].clear();
  }

  std::uint64_t pick(std::uint64_t below) { return random_() % below; }

  // A window of frames, mostly in order, some again, some too early, some refused by ingest.
  void append() {
    std::vector<store::Append> group;
    std::vector<Answer::Kind> expected;
    std::vector<std::uint64_t> water = high_water_;
    const std::uint64_t frames = 1 + pick(12);
    for (std::uint64_t i = 0; i < frames; ++i) {
      const auto id = static_cast<std::uint8_t>(pick(kClients));
      std::uint64_t number = water[id] + 1;
      const std::uint64_t kind = pick(20);
      if (kind == 0 && number > 1) number -= 1 + pick(std::min<std::uint64_t>(number - 1, 3));
      if (kind == 1) number += 1 + pick(3);
      if (kind == 2 || kind == 3) {
        group.push_back(refused_frame(clients_[id], number, kind == 2, 3));
      } else {
        group.push_back(
            frame(clients_[id], number, bodies(id, number), static_cast<event::Class>(pick(3))));
        if (pick(8) == 0) group.back().urgency = event::Urgency::kUrgent;
      }
      expected.push_back(answer(group.back(), id, water));
    }
    const auto answers = commit(group);
    ASSERT_EQ(answers.size(), expected.size());
    for (std::size_t i = 0; i < answers.size(); ++i) ASSERT_EQ(answers[i].kind, expected[i]);
    high_water_ = water;
  }

  // As many big events as the quota does not hold: what waited makes way for them.
  void flood() {
    for (int i = 0; i < kFloodFrames; ++i) {
      const auto id = static_cast<std::uint8_t>(pick(kClients));
      const std::uint64_t number = high_water_[id] + 1;
      const std::string body = std::to_string(id) + "/" + std::to_string(lives_[id]) + "/" +
                               std::to_string(number) + "/flood" + std::string(kFloodBytes, '.');
      const auto answers =
          commit({frame(clients_[id], number, {body}, static_cast<event::Class>(pick(3)))});
      ASSERT_EQ(answers.size(), 1u);
      ASSERT_EQ(answers.front().kind, Answer::Kind::kStored);
      high_water_[id] = number;
      queued_[id].push_back(body);
      ++accepted_;
    }
  }

  // Which events leave is the store's choice; that what is gone is counted is not.
  void notice_eviction() {
    if (store::machine_total(store_->ledger().value()).total("evicted") == evicted_) return;
    std::int64_t gone = parked_ - account("parked");
    parked_ -= gone;
    auto stored = stored_by_client();
    for (auto& [id, queue] : queued_) {
      const std::set<std::string> kept(stored[id].begin(), stored[id].end());
      gone += static_cast<std::int64_t>(
          std::erase_if(queue, [&](const std::string& body) { return !kept.contains(body); }));
    }
    evicted_ += gone;
  }

  std::vector<std::string> bodies(std::uint8_t id, std::uint64_t number) {
    std::vector<std::string> result;
    const std::uint64_t count = 1 + (number + id) % 6;
    for (std::uint64_t i = 0; i < count; ++i) {
      result.push_back(std::to_string(id) + "/" + std::to_string(lives_[id]) + "/" +
                       std::to_string(number) + "/" + std::to_string(i) +
                       std::string(number * 37 % 400, '.'));
    }
    return result;
  }

  // What frame.md says, on a map.
  Answer::Kind answer(const store::Append& frame,
                      std::uint8_t id,
                      std::vector<std::uint64_t>& water) {
    if (frame.number <= water[id]) return Answer::Kind::kDuplicate;
    if (frame.number > water[id] + 1) return Answer::Kind::kRefused;
    if (frame.refusal && frame.refusal->retryable) return Answer::Kind::kRefused;
    water[id] = frame.number;
    if (frame.refusal) return Answer::Kind::kRefused;
    for (std::string& body : bodies_of(frame.events)) {
      queued_[id].push_back(std::move(body));
      ++accepted_;
    }
    return Answer::Kind::kStored;
  }

  void take_lease() {
    auto request = lease_of({}, static_cast<std::uint32_t>(1 + pick(9)));
    if (pick(2) == 0) request.apps.push_back("shop");
    if (pick(2) == 0) request.apps.push_back("mail");
    if (pick(5) == 0) request.held.insert({1000, pick(2) == 0 ? "" : "shop"});
    request.urgent_only = pick(5) == 0;
    if (pick(5) == 0) request.min_age = std::chrono::milliseconds(pick(20'000));
    auto lent = lease(request);
    store::Seq last = 0;
    for (const store::LeasedRow& row : lent.rows) {
      ASSERT_GT(row.meta.seq, last) << "a lease is out of order";
      last = row.meta.seq;
      ASSERT_TRUE(!request.urgent_only || row.meta.urgency == event::Urgency::kUrgent);
      ASSERT_GE(clock_.boot_ms() - row.meta.accepted_boot_ms, request.min_age.count());
      ASSERT_FALSE(request.held.contains({row.meta.uid, ""}));
      ASSERT_FALSE(request.held.contains({row.meta.uid, row.meta.app}));
      for (const auto& [id, lease] : leases_) {
        for (const store::LeasedRow& other : lease.rows) ASSERT_NE(other.meta.seq, row.meta.seq);
      }
    }
    if (lent.id != 0) leases_[lent.id] = {std::move(lent.rows)};
  }

  // Whatever was asked for before: nothing that waits is passed over for ever.
  void deliver_everything() {
    while (!leases_.empty()) release_one();
    for (;;) {
      const auto lent = lease(lease_of({"shop", "mail"}, 50));
      if (lent.id == 0) break;
      for (const store::LeasedRow& row : lent.rows) delivered_ += row.count;
      settle(lent.id);
    }
    for (auto& [id, queue] : queued_) queue.clear();
  }

  void drop_some_dead() {
    store::DeadQuery query;
    if (pick(2) == 0) query.app = pick(2) == 0 ? "shop" : "mail";
    if (pick(2) == 0) query.uid = static_cast<std::uint32_t>(1000 + pick(3));
    query.limit = static_cast<std::uint32_t>(1 + pick(5));
    const auto found = store_->dead_letters(query);
    ASSERT_TRUE(found);
    const auto moved = store_->drop_dead(query);
    ASSERT_TRUE(moved);
    ASSERT_EQ(moved->events, found->letters.size());
    parked_ -= static_cast<std::int64_t>(moved->events);
    dropped_ += static_cast<std::int64_t>(moved->events);
  }

  std::uint8_t sender_of(const std::string& body) {
    return static_cast<std::uint8_t>(std::stoi(body));
  }

  void settle_one() {
    if (leases_.empty()) return;
    auto it = leases_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(pick(leases_.size())));
    std::vector<store::Rejected> rejected;
    for (const store::LeasedRow& row : it->second.rows) {
      if (pick(6) == 0) {
        rejected.push_back({row.meta.seq,
                            row.first_index + static_cast<std::uint32_t>(pick(row.count)),
                            1,
                            "odd"});
      }
      for (const std::string& body : bodies_of(row.events)) {
        auto& queue = queued_[sender_of(body)];
        const auto place = std::ranges::find(queue, body);
        ASSERT_NE(place, queue.end()) << "delivered but not queued: " << body;
        queue.erase(place);
      }
      delivered_ += row.count;
    }
    delivered_ -= static_cast<std::int64_t>(rejected.size());
    parked_ += static_cast<std::int64_t>(rejected.size());
    settle(it->first, std::move(rejected));
    leases_.erase(it);
  }

  void release_one() {
    if (leases_.empty()) return;
    store_->release(leases_.begin()->first);
    leases_.erase(leases_.begin());
  }

  // Only without leases: when they end, what is gone is up to the store.
  void erase_user() {
    if (!leases_.empty()) return;
    const auto uid = static_cast<std::uint32_t>(1000 + pick(3));
    const std::string app = pick(2) == 0 ? "" : "shop";
    std::uint64_t expected = 0;
    for (std::uint8_t id = 0; id < kClients; ++id) {
      const auto& info = *clients_[id];
      if (info.key.uid != uid || (!app.empty() && info.app != app)) continue;
      expected += queued_[id].size();
      queued_[id].clear();
    }
    const std::int64_t parked_before = account("parked");
    const auto erased = store_->erase(uid, app);
    ASSERT_TRUE(erased);
    const std::int64_t unparked = parked_before - account("parked");
    ASSERT_EQ(*erased, expected + static_cast<std::uint64_t>(unparked));
    parked_ -= unparked;
    erased_ += static_cast<std::int64_t>(*erased);
  }

  // Withdrawing erases too; only without leases, as above.
  void decide() {
    const auto uid = static_cast<std::uint32_t>(1000 + pick(3));
    const std::string app = pick(2) == 0 ? "" : "mail";
    const std::array states = {store::Consent::kUnset,
                               store::Consent::kEnabled,
                               store::Consent::kLocal,
                               store::Consent::kDisabled};
    const store::Consent state = states[pick(leases_.empty() ? 4 : 3)];
    const std::int64_t erased_before = account("erased", "withdrawn");
    ASSERT_TRUE(store_->set_consent({uid, app, state, clock_.unix_ms()}));
    consents_.erase({uid, app});
    if (state != store::Consent::kUnset) consents_[{uid, app}] = state;
    if (state != store::Consent::kDisabled) return;
    std::int64_t expected = parked_ - account("parked");
    parked_ -= expected;
    for (std::uint8_t id = 0; id < kClients; ++id) {
      const auto& info = *clients_[id];
      if (info.key.uid != uid || (!app.empty() && info.app != app)) continue;
      expected += static_cast<std::int64_t>(queued_[id].size());
      queued_[id].clear();
    }
    ASSERT_EQ(account("erased", "withdrawn") - erased_before, expected);
    const auto told = store_->erase(uid, app);
    ASSERT_TRUE(told);
    ASSERT_EQ(*told, static_cast<std::uint64_t>(expected));
    erased_ += expected;
  }

  // A client's own losses, absolute since it began.
  void report() {
    const auto id = static_cast<std::uint8_t>(pick(kClients));
    auto& told = reported_[id];
    const std::string reason = pick(2) == 0 ? "queue_full" : "too_large";
    const std::uint64_t more = pick(5);
    told[reason] += more;
    lost_by_client_ += static_cast<std::int64_t>(more);
    ASSERT_TRUE(store_->report(*clients_[id], told));
  }

  void say_goodbye() {
    const auto id = static_cast<std::uint8_t>(pick(kClients));
    const store::ClientKey key = clients_[id]->key;
    ASSERT_TRUE(store_->forget(key));
    ASSERT_EQ(store_->high_water(key).value(), std::nullopt);
    replace_client(id);
  }

  void save_state() {
    const std::string name = pick(2) == 0 ? "upstream" : "file";
    states_[name] = "{\"attempts\":" + std::to_string(pick(100)) + "}";
    ASSERT_TRUE(store_->save_destination_state(name, states_[name]));
  }

  void restart(bool cleanly) {
    leases_.clear();
    if (cleanly) {
      reopen();
    } else {
      crash_and_reopen();
    }
  }

  void step() {
    clock_.advance(std::chrono::milliseconds(300));
    const std::uint64_t what = pick(1000);
    if (what < 470) return append();
    if (what < 640) return take_lease();
    if (what < 790) return settle_one();
    if (what < 860) return release_one();
    if (what < 880) return erase_user();
    if (what < 900) return decide();
    if (what < 920) return report();
    if (what < 930) return say_goodbye();
    if (what < 935) return drop_some_dead();
    if (what < 950) return save_state();
    if (what < 953) return flood();
    if (what < 980) {
      ASSERT_TRUE(store_->idle());
      return;
    }
    restart(what < 990);
  }

  void compare() {
    expect_balanced();
    EXPECT_EQ(account("accepted"), accepted_);
    EXPECT_EQ(account("delivered"), delivered_);
    EXPECT_EQ(account("parked"), parked_);
    EXPECT_EQ(account("dropped", "dead_letter"), dropped_);
    EXPECT_EQ(account("erased", "withdrawn"), erased_);
    EXPECT_EQ(store::machine_total(store_->ledger().value()).total("evicted"), evicted_);
    EXPECT_EQ(store::machine_total(store_->ledger().value()).total("lost_by_client"),
              lost_by_client_);
    EXPECT_EQ(store_->destination_states().value(), states_);
    EXPECT_EQ(store_->info()->loss, std::nullopt);
    std::map<std::pair<std::uint32_t, std::string>, store::Consent> consents;
    const auto records = store_->consents();
    ASSERT_TRUE(records) << records.error().message();
    for (const auto& record : *records) {
      consents[{record.uid, record.app}] = record.state;
    }
    EXPECT_EQ(consents, consents_);
    auto stored = stored_by_client();
    for (std::uint8_t id = 0; id < kClients; ++id) {
      ASSERT_EQ(stored[id], queued_[id]) << "client " << int{id};
      ASSERT_EQ(store_->high_water(clients_[id]->key)->value_or(0), high_water_[id]);
    }
  }

  std::map<std::uint8_t, std::deque<std::string>> stored_by_client() {
    std::map<std::uint8_t, std::deque<std::string>> stored;
    const auto listed = store_->list({.limit = 10'000});
    EXPECT_TRUE(listed) << listed.error().message();
    for (const auto& event : *listed) stored[sender_of(event.event)].push_back(event.event);
    return stored;
  }

  std::mt19937_64 random_;
  std::vector<std::shared_ptr<const store::ClientInfo>> clients_;
  std::array<std::uint32_t, kClients> lives_{};
  std::array<std::map<std::string, std::uint64_t>, kClients> reported_;
  std::map<std::pair<std::uint32_t, std::string>, store::Consent> consents_;
  std::map<std::string, std::string> states_;
  std::vector<std::uint64_t> high_water_;
  std::map<std::uint8_t, std::deque<std::string>> queued_;
  std::map<store::LeaseId, ModelLease> leases_;
  std::int64_t accepted_ = 0;
  std::int64_t delivered_ = 0;
  std::int64_t parked_ = 0;
  std::int64_t dropped_ = 0;
  std::int64_t erased_ = 0;
  std::int64_t evicted_ = 0;
  std::int64_t lost_by_client_ = 0;
};

TEST_F(StoreModel, BehavesLikeAPlainMap) {
  for (int i = 1; i <= kSteps; ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    ASSERT_NO_FATAL_FAILURE(step());
    notice_eviction();
    if (i % kCheckEvery == 0) compare();
    if (HasFailure()) return;
  }
  // A history without it would not have asked the question.
  flood();
  notice_eviction();
  compare();
  EXPECT_GT(evicted_, 0);
  deliver_everything();
  compare();
}

}  // namespace
}  // namespace telemetryd::test
