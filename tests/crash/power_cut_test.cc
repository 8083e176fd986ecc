// Power cuts: whatever part of the unsynced writes a disk kept, nothing acknowledged is missing.
//
// A store runs on the recording VFS through commits, leases, checkpoints, a clean reopen and a
// kill. Then the record is cut at random places; from each cut come random legal disk images, and a
// real store is opened on each. TELEMETRYD_POWER_CUT_IMAGES says how many different ones.

#include <algorithm>
#include <cstdlib>
#include <future>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_set>

#include <gtest/gtest.h>

#include "store/store_thread.h"
#include "support/recording_vfs.h"
#include "support/seed.h"
#include "unit/store/store_helpers.h"

namespace telemetryd::test {
namespace {

using store::StoreThread;

// The disk of this test is the record, so its files may lie in memory: a thousand stores are
// opened.
const bool kFilesInMemory = [] {
  const char* const memory = "/dev/shm";
  return std::getenv("TMPDIR") == nullptr && std::filesystem::is_directory(memory) &&
         ::setenv("TMPDIR", memory, 0) == 0;
}();

constexpr std::uint8_t kClients = 3;
constexpr int kRuns = 4;
constexpr int kGroupsPerRun = 40;
constexpr std::uint64_t kImagesDefault = 1200;
constexpr std::uint32_t kListMax = 10'000;

store::Options options_for(const std::filesystem::path& folder) {
  store::Options options;
  options.state_dir = folder;
  // Small, so that checkpoints come often.
  options.bytes_max = 4u << 20;
  options.wal_pregrow_bytes = 128u << 10;
  return options;
}

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

// What happened, and where in the record it was over.
struct Acked {
  std::size_t position = 0;
  std::uint8_t from = 0;
  std::uint64_t number = 0;
};

struct Settled {
  std::size_t begun = 0;
  std::size_t ended = 0;
  std::vector<std::string> bodies;
};

class Sink final : public store::AckSink {
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

class PowerCutTest : public testing::Test {
 protected:
  PowerCutTest() : random_(test_seed()) {
    for (std::uint8_t i = 0; i < kClients; ++i) {
      clients_.push_back(client(i, i % 2 == 0 ? "shop" : "mail"));
      next_.push_back(1);
    }
  }

  void run(bool end_cleanly) {
    auto opened = open(dir_.path(), vfs_.name());
    ASSERT_TRUE(opened) << opened.error().message();
    vfs_.note_directory_sync();
    StoreThread thread(std::move(*opened), {.commit_delay_max = std::chrono::hours(1)}, {});
    for (int group = 0; group < kGroupsPerRun; ++group) {
      send(thread);
      wait(thread, [this, group](store::Store& store) {
        if (group % 3 == 2) deliver(store);
        clock_.advance(std::chrono::milliseconds(400));
      });
    }
    if (!end_cleanly) return;
    ASSERT_TRUE(thread.stop());
  }

  // The store's own clock is the test's; nothing else moves it.
  Result<std::unique_ptr<store::Store>> open(const std::filesystem::path& folder,
                                             const std::string& vfs) {
    store::Options options = options_for(folder);
    options.vfs = vfs;
    return store::open_sqlite_store(options, clock_);
  }

  void send(StoreThread& thread) {
    for (std::uint8_t id = 0; id < kClients; ++id) {
      const auto sink = std::make_shared<Sink>(vfs_, acked_, id);
      const std::uint64_t count = random_() % 4;
      for (std::uint64_t i = 0; i < count; ++i) {
        ASSERT_TRUE(thread.submit(
            frame_of(clients_[id], next_[id]++), sink, StoreThread::Commit::kMayDelay));
      }
    }
  }

  void wait(StoreThread& thread, const std::function<void(store::Store&)>& work) {
    std::promise<void> done;
    ASSERT_TRUE(thread.post([&](store::Store& store) {
      work(store);
      done.set_value();
    }));
    done.get_future().wait();
  }

  void deliver(store::Store& store) {
    const auto lease = store.lease(lease_of({"shop", "mail"}, 7));
    ASSERT_TRUE(lease);
    Settled settled{vfs_.position(), 0, bodies_of(*lease)};
    if (lease->id == 0) return;
    ASSERT_TRUE(store.settle({lease->id, "upstream", {}}));
    settled.ended = vfs_.position();
    settled_.push_back(std::move(settled));
  }

  // Opens a real store on the image and compares it with what had been promised at `position`.
  void verify(const PowerCut::Image& image, std::size_t position) {
    const TempDir folder;
    write_image(image, folder.path());
    auto opened = open(folder.path(), {});
    ASSERT_TRUE(opened) << opened.error().message();
    store::Store& store = **opened;
    EXPECT_EQ(store.info()->loss, std::nullopt);
    const auto check = store.check_ledger();
    ASSERT_TRUE(check) << check.error().message();
    for (const std::string& problem : check->problems) ADD_FAILURE() << problem;

    std::vector<std::uint64_t> acked(kClients, 0);
    for (const Acked& ack : acked_) {
      if (ack.position <= position) acked[ack.from] = std::max(acked[ack.from], ack.number);
    }
    std::set<std::string_view> may_be_gone;
    std::set<std::string_view> must_be_gone;
    for (const Settled& settled : settled_) {
      for (const std::string& event : settled.bodies) {
        if (settled.begun <= position) may_be_gone.insert(event);
        if (settled.ended <= position) must_be_gone.insert(event);
      }
    }

    std::multiset<std::string_view> present;
    const auto listed = store.list({.limit = kListMax});
    ASSERT_TRUE(listed) << listed.error().message();
    for (const store::ListedEvent& event : *listed) present.insert(event.event);

    std::int64_t accepted = 0;
    std::size_t known = 0;
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
          if (!may_be_gone.contains(event)) {
            EXPECT_EQ(copies, 1u) << "lost: " << event.substr(0, 20);
          }
          if (must_be_gone.contains(event)) {
            EXPECT_EQ(copies, 0u) << "settled but back: " << event.substr(0, 20);
          }
        }
      }
      const auto answers = store.commit(std::vector{frame_of(clients_[id], settled_up_to + 1)});
      ASSERT_TRUE(answers) << answers.error().message();
      EXPECT_EQ(answers->front().kind, store::Answer::Kind::kStored);
      accepted += events_in(id, settled_up_to + 1);
    }
    EXPECT_EQ(known, present.size()) << "events that nobody remembers sending";
    EXPECT_EQ(store::machine_total(store.ledger().value()).get("accepted"), accepted);
  }

  TempDir dir_;
  FakeClock clock_;
  RecordingVfs vfs_;
  std::mt19937_64 random_;
  std::vector<std::shared_ptr<const store::ClientInfo>> clients_;
  std::vector<std::uint64_t> next_;
  std::vector<Acked> acked_;  // store thread while it runs
  std::vector<Settled> settled_;
};

std::uint64_t images_wanted() {
  const char* const given = std::getenv("TELEMETRYD_POWER_CUT_IMAGES");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : kImagesDefault;
}

using PowerCutProof = PowerCutTest;

TEST_F(PowerCutProof, NoAcknowledgedEventIsLostOrDoubledOnAnyImage) {
  for (int i = 0; i < kRuns; ++i) ASSERT_NO_FATAL_FAILURE(run(i % 2 == 0));
  const std::vector<FileOp> record = vfs_.record();
  const auto database_writes = std::ranges::count_if(record, [](const FileOp& op) {
    return op.kind == FileOp::Kind::kWrite && op.file == "events.db";
  });
  ASSERT_GT(database_writes, 20) << "no checkpoint was recorded";

  const std::uint64_t wanted = images_wanted();
  std::unordered_set<std::uint64_t> seen;
  std::uint64_t made = 0;
  while (seen.size() < wanted && made < 4 * wanted && !HasFailure()) {
    std::multiset<std::size_t> cuts;
    for (std::uint64_t i = seen.size(); i < wanted; ++i)
      cuts.insert(random_() % (record.size() + 1));
    PowerCut disk;
    std::size_t position = 0;
    for (const std::size_t cut : cuts) {
      while (position < cut) disk.apply(record[position++]);
      const PowerCut::Image image = disk.image(random_);
      ++made;
      if (!seen.insert(hash_of(image)).second) continue;
      SCOPED_TRACE("cut at operation " + std::to_string(cut));
      ASSERT_NO_FATAL_FAILURE(verify(image, cut));
      if (HasFailure()) break;
    }
  }
  std::printf("operations=%zu acks=%zu leases=%zu images=%zu distinct=%zu in_memory=%d\n",
              record.size(),
              acked_.size(),
              settled_.size(),
              static_cast<std::size_t>(made),
              seen.size(),
              kFilesInMemory ? 1 : 0);
  EXPECT_GE(seen.size(), wanted);
}

}  // namespace
}  // namespace telemetryd::test
