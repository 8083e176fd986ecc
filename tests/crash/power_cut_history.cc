#include "crash/power_cut_history.h"

#include <algorithm>
#include <future>
#include <map>
#include <set>
#include <tuple>

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using store::StoreThread;

constexpr std::uint8_t kClients = 3;
constexpr std::uint32_t kListMax = 10'000;
constexpr std::uint32_t kFirstUid = 1000;
constexpr std::string_view kDatabase = "events.db";

std::uint32_t events_in(std::uint8_t from, std::uint64_t number) {
  return static_cast<std::uint32_t>(1 + (from * 7 + number * 5) % 4);
}

// An event says who sent it and when; a few are big enough to need overflow pages.
std::string make_body(std::uint8_t from, std::uint64_t number, std::uint32_t index) {
  std::string text =
      std::to_string(from) + "/" + std::to_string(number) + "/" + std::to_string(index) + " ";
  const std::size_t bytes = number % 11 == 0 ? 9000 : 60 + number % 200;
  while (text.size() < bytes) text += static_cast<char>('a' + (text.size() * number) % 26);
  return text;
}

const std::string& body(std::uint8_t from, std::uint64_t number, std::uint32_t index) {
  static std::map<std::tuple<std::uint8_t, std::uint64_t, std::uint32_t>, std::string> known;
  std::string& text = known[{from, number, index}];
  if (text.empty()) text = make_body(from, number, index);
  return text;
}

store::Append frame_of(const std::shared_ptr<const store::ClientInfo>& from, std::uint64_t number) {
  const std::uint8_t id = from->key.instance[0];
  std::vector<std::string> bodies;
  for (std::uint32_t i = 0; i < events_in(id, number); ++i) bodies.push_back(body(id, number, i));
  return frame(from, number, bodies, number % 5 == 0 ? event::Class::kLow : event::Class::kNormal);
}

void wait(StoreThread& thread, const std::function<void(store::Store&)>& work) {
  std::promise<void> done;
  ASSERT_TRUE(thread.post([&](store::Store& store) {
    work(store);
    done.set_value();
  }));
  done.get_future().wait();
}

}  // namespace

class History::Sink final : public store::AckSink {
 public:
  Sink(RecordingVfs& vfs, std::vector<Acked>& acked, std::uint8_t from)
      : vfs_(vfs), acked_(acked), from_(from) {}

  void acknowledge(std::uint64_t number) noexcept override {
    acked_.push_back({vfs_.position(), from_, number});
  }

  void refuse(std::uint64_t number, const store::Refusal& refusal) noexcept override {
    ADD_FAILURE() << "frame " << number << " refused: " << refusal.text;
  }

  void abandon() noexcept override { ADD_FAILURE() << "abandoned"; }

 private:
  RecordingVfs& vfs_;
  std::vector<Acked>& acked_;
  std::uint8_t from_;
};

History::History(const Plan& plan, std::uint64_t seed) : plan_(plan), random_(seed) {
  for (std::uint8_t i = 0; i < kClients; ++i) {
    clients_.push_back(client(i, i % 2 == 0 ? "shop" : "mail", kFirstUid + i));
    next_.push_back(1);
  }
}

// The store's own clock is the test's; nothing else moves it.
Result<std::unique_ptr<store::Store>> History::open(const std::filesystem::path& folder,
                                                    const std::string& vfs) {
  store::Options options;
  options.state_dir = folder;
  // Small, so that checkpoints come often.
  options.bytes_max = plan_.bytes_max;
  options.wal_pregrow_bytes = 128u << 10;
  options.vfs = vfs;
  return store::open_sqlite_store(options, clock_);
}

void History::run(bool end_cleanly) {
  const std::size_t opening = vfs_.position();
  auto opened = open(dir_.path(), vfs_.name());
  ASSERT_TRUE(opened) << opened.error().message();
  vfs_.note_directory_sync();
  spans_.push_back({opening, vfs_.position(), "open"});
  StoreThread thread(std::move(*opened), {.commit_delay_max = std::chrono::hours(1)}, {});
  for (int group = 1; group <= plan_.groups; ++group) {
    const std::size_t begun = vfs_.position();
    send(thread);
    wait(thread, [this, group, begun](store::Store& store) { after_group(store, group, begun); });
  }
  if (!end_cleanly) return;
  const std::size_t closing = vfs_.position();
  ASSERT_TRUE(thread.stop());
  spans_.push_back({closing, vfs_.position(), "close"});
}

void History::open_once() {
  const std::size_t opening = vfs_.position();
  recover(dir_.path(), vfs_, true);
  vfs_.note_directory_sync();
  spans_.push_back({opening, vfs_.position(), "migration"});
}

void History::recover(const std::filesystem::path& folder,
                      const RecordingVfs& vfs,
                      bool end_cleanly) {
  auto opened = open(folder, vfs.name());
  ASSERT_TRUE(opened) << opened.error().message();
  if (!end_cleanly) return;
  ASSERT_TRUE((*opened)->close());
}

void History::go_back_to_format_1() {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((dir_ / std::string(kDatabase)).c_str(), &db), SQLITE_OK);
  const char* const sql =
      "ALTER TABLE events DROP COLUMN instance;"
      "ALTER TABLE events DROP COLUMN last_frame;"
      "DELETE FROM meta WHERE key='booked_up_to';"
      "UPDATE events SET crc = crc & 4294967295;"
      "PRAGMA user_version=1; PRAGMA wal_checkpoint(TRUNCATE)";
  EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
  sqlite3_close(db);
  vfs_.forget();
  base_ = read_image(dir_.path());
  spans_.clear();
  for (Acked& ack : acked_) ack.position = 0;
  for (Evicted& note : evicted_) note.position = 0;
  for (Removed& gone : removed_) gone.begun = gone.ended = 0;
  for (Decided& decision : decided_) decision.begun = decision.ended = 0;
}

void History::send(StoreThread& thread) {
  for (std::uint8_t id = 0; id < kClients; ++id) {
    const auto sink = std::make_shared<Sink>(vfs_, acked_, id);
    const std::uint64_t count = random_() % 4;
    for (std::uint64_t i = 0; i < count; ++i) {
      ASSERT_TRUE(
          thread.submit(frame_of(clients_[id], next_[id]++), sink, StoreThread::Commit::kMayDelay));
    }
  }
}

void History::after_group(store::Store& store, int group, std::size_t begun) {
  note_eviction(store, begun);
  if (plan_.deliver_every != 0 && group % plan_.deliver_every == 0) deliver(store);
  if (plan_.erase_every != 0 && group % plan_.erase_every == 0) erase(store);
  clock_.advance(std::chrono::milliseconds(400));
}

void History::note_eviction(store::Store& store, std::size_t begun) {
  const auto ledger = store.ledger();
  ASSERT_TRUE(ledger) << ledger.error().message();
  const std::int64_t now = store::machine_total(*ledger).total("evicted");
  if (now > evicted()) spans_.push_back({begun, vfs_.position(), "eviction"});
  evicted_.push_back({vfs_.position(), now});
}

void History::deliver(store::Store& store) {
  const auto lease = store.lease(lease_of({"shop", "mail"}, 7));
  ASSERT_TRUE(lease);
  Removed settled{vfs_.position(), 0, bodies_of(*lease)};
  if (lease->id == 0) return;
  ASSERT_TRUE(store.settle({lease->id, "upstream", {}}));
  settled.ended = vfs_.position();
  spans_.push_back({settled.begun, settled.ended, "settlement"});
  removed_.push_back(std::move(settled));
}

// Half of the users withdraw their consent for good, the others only want their events gone.
void History::erase(store::Store& store) {
  const std::uint32_t uid = kFirstUid + static_cast<std::uint32_t>(random_() % kClients);
  Removed erased;
  const auto listed = store.list({.uid = uid, .limit = kListMax});
  ASSERT_TRUE(listed);
  for (const store::ListedEvent& event : *listed) erased.bodies.push_back(event.event);
  erased.begun = vfs_.position();
  if (random_() % 2 == 0) {
    const auto state = random_() % 4 == 0 ? store::Consent::kEnabled : store::Consent::kDisabled;
    ASSERT_TRUE(store.set_consent({uid, "", state, clock_.unix_ms()}));
    decided_.push_back({erased.begun, vfs_.position(), uid, state});
  }
  ASSERT_TRUE(store.erase(uid, ""));
  erased.ended = vfs_.position();
  // What is left of the pages of before goes in the background.
  ASSERT_TRUE(store.idle());
  spans_.push_back({erased.begun, vfs_.position(), "erasure"});
  removed_.push_back(std::move(erased));
}

std::string_view History::phase(const std::vector<FileOp>& record, std::size_t cut) const {
  const std::size_t last = cut == 0 ? 0 : cut - 1;
  std::string_view found = "commit";
  for (const Span& span : spans_) {
    if (span.begun <= last && last < span.ended) found = span.name;
  }
  // Only a checkpoint writes the database itself.
  const bool in_database = last < record.size() && record[last].file == kDatabase;
  return in_database && found != "open" && found != "migration" ? "checkpoint" : found;
}

void History::verify(const PowerCut::Image& image, std::size_t position) {
  const TempDir folder;
  write_image(image, folder.path());
  auto opened = open(folder.path(), {});
  ASSERT_TRUE(opened) << opened.error().message();
  store::Store& store = **opened;
  const auto info = store.info();
  ASSERT_TRUE(info) << info.error().message();
  EXPECT_EQ(info->loss, std::nullopt);
  // The start would set books right that a commit left wrong.
  EXPECT_EQ(info->ledger_corrections, 0u);
  const auto check = store.check_ledger();
  ASSERT_TRUE(check) << check.error().message();
  for (const std::string& problem : check->problems) ADD_FAILURE() << problem;
  EXPECT_TRUE(check->balanced);
  verify_consents(store, position);
  verify_events(store, position);
}

// The last decision that was on disk, or one that was under way.
void History::verify_consents(store::Store& store, std::size_t position) {
  const auto records = store.consents();
  ASSERT_TRUE(records);
  for (std::uint32_t uid = kFirstUid; uid < kFirstUid + kClients; ++uid) {
    store::Consent stored = store::Consent::kUnset;
    for (const store::ConsentRecord& record : *records) {
      if (record.uid == uid) stored = record.state;
    }
    std::set<store::Consent> allowed = {store::Consent::kUnset};
    for (const Decided& decision : decided_) {
      if (decision.uid != uid || decision.begun > position) continue;
      if (decision.ended <= position) allowed.clear();
      allowed.insert(decision.state);
    }
    EXPECT_TRUE(allowed.contains(stored)) << "consent of uid " << uid;
  }
}

std::int64_t History::evicted_at_least(std::size_t position) const {
  std::int64_t count = 0;
  for (const Evicted& note : evicted_) {
    if (note.position <= position) count = note.count;
  }
  return count;
}

std::int64_t History::evicted_at_most(std::size_t position) const {
  for (const Evicted& note : evicted_) {
    if (note.position > position) return note.count;
  }
  return evicted();
}

void History::verify_events(store::Store& store, std::size_t position) {
  std::vector<std::uint64_t> acked(kClients, 0);
  for (const Acked& ack : acked_) {
    if (ack.position <= position) acked[ack.from] = std::max(acked[ack.from], ack.number);
  }
  std::set<std::string_view> may_be_gone;
  std::set<std::string_view> must_be_gone;
  for (const Removed& removed : removed_) {
    for (const std::string& event : removed.bodies) {
      if (removed.begun <= position) may_be_gone.insert(event);
      if (removed.ended <= position) must_be_gone.insert(event);
    }
  }

  std::multiset<std::string_view> present;
  const auto listed = store.list({.limit = kListMax});
  ASSERT_TRUE(listed) << listed.error().message();
  for (const store::ListedEvent& event : *listed) present.insert(event.event);
  const std::int64_t evicted = store::machine_total(store.ledger().value()).total("evicted");
  EXPECT_GE(evicted, evicted_at_least(position));
  EXPECT_LE(evicted, evicted_at_most(position));

  std::int64_t accepted = 0;
  std::int64_t missing = 0;
  std::size_t known = 0;
  std::string first_missing;
  for (std::uint8_t id = 0; id < kClients; ++id) {
    const auto high_water = store.high_water(clients_[id]->key);
    ASSERT_TRUE(high_water);
    const std::uint64_t settled_up_to = high_water->value_or(0);
    EXPECT_GE(settled_up_to, acked[id]) << "an acknowledged frame is not remembered";
    for (std::uint64_t number = 1; number <= settled_up_to; ++number) {
      for (std::uint32_t i = 0; i < events_in(id, number); ++i) {
        const std::string& event = body(id, number, i);
        const std::size_t copies = present.count(event);
        known += copies;
        ++accepted;
        EXPECT_LE(copies, 1u) << "twice: " << event.substr(0, 20);
        if (must_be_gone.contains(event)) {
          EXPECT_EQ(copies, 0u) << "removed but back: " << event.substr(0, 20);
        } else if (copies == 0 && !may_be_gone.contains(event)) {
          if (missing++ == 0) first_missing = event.substr(0, 20);
        }
      }
    }
    const auto answers = store.commit(std::vector{frame_of(clients_[id], settled_up_to + 1)});
    ASSERT_TRUE(answers) << answers.error().message();
    EXPECT_EQ(answers->front().kind, store::Answer::Kind::kStored);
    accepted += events_in(id, settled_up_to + 1);
  }
  EXPECT_LE(missing, evicted) << "lost, the first is " << first_missing;
  // What was under way may have been evicted instead; otherwise the count is exact.
  if (may_be_gone.size() == must_be_gone.size()) {
    EXPECT_EQ(missing, evicted);
  }
  EXPECT_EQ(known, present.size()) << "events that nobody remembers sending";
  EXPECT_EQ(store::machine_total(store.ledger().value()).get("accepted"), accepted);
}

}  // namespace telemetryd::test
