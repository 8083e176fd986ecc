// Power cuts: whatever part of the unsynced writes a disk kept, nothing acknowledged is missing.
//
// Stores run on the recording VFS through all that they do. Then each record is cut at random
// places; from each cut come random legal disk images, and a real store is opened on each. Some
// images are recovered on a recording VFS too and cut again: a power cut during the recovery from a
// power cut. TELEMETRYD_POWER_CUT_IMAGES says how many different images.

#include <algorithm>
#include <cstdlib>
#include <map>
#include <unordered_set>

#include <gtest/gtest.h>

#include "crash/power_cut_history.h"
#include "support/seed.h"

namespace telemetryd::test {
namespace {

// The disk of this test is the record, so its files may lie in memory: a thousand stores are
// opened.
const bool kFilesInMemory = [] {
  const char* const memory = "/dev/shm";
  return std::getenv("TMPDIR") == nullptr && std::filesystem::is_directory(memory) &&
         ::setenv("TMPDIR", memory, 0) == 0;
}();

constexpr std::uint64_t kImagesDefault = 1200;
constexpr std::uint64_t kImagesPerRecovery = 12;

std::uint64_t images_wanted() {
  const char* const given = std::getenv("TELEMETRYD_POWER_CUT_IMAGES");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : kImagesDefault;
}

class PowerCutProof : public testing::Test {
 protected:
  PowerCutProof() : seed_(test_seed()), random_(seed_) {}

  // Cuts places of all phases alike, however short they are.
  std::vector<std::size_t> cuts_of(const History& history,
                                   const std::vector<FileOp>& record,
                                   std::uint64_t count) {
    std::map<std::string_view, std::vector<std::size_t>> by_phase;
    for (std::size_t cut = 0; cut <= record.size(); ++cut) {
      by_phase[history.phase(record, cut)].push_back(cut);
    }
    std::vector<std::size_t> cuts;
    while (cuts.size() < count) {
      for (const auto& [phase, places] : by_phase)
        cuts.push_back(places[random_() % places.size()]);
    }
    cuts.resize(count);
    std::ranges::sort(cuts);
    return cuts;
  }

  bool is_new(const PowerCut::Image& image, std::string_view phase) {
    ++made_;
    if (!seen_.insert(hash_of(image)).second) return false;
    ++distinct_[phase];
    return true;
  }

  // Until `wanted` more images were different from all before. A short record has only so many.
  void cut(History& history, std::uint64_t wanted) {
    const std::vector<FileOp> record = history.record();
    const std::uint64_t goal = seen_.size() + wanted;
    const std::uint64_t patience = made_ + 4 * wanted;
    while (seen_.size() < goal && made_ < patience) {
      PowerCut disk(history.base());
      std::size_t position = 0;
      for (const std::size_t cut : cuts_of(history, record, goal - seen_.size())) {
        while (position < cut) disk.apply(record[position++]);
        const PowerCut::Image image = disk.image(random_);
        const std::string_view phase = history.phase(record, cut);
        if (!is_new(image, phase)) continue;
        SCOPED_TRACE(std::string(phase) + ", cut at operation " + std::to_string(cut));
        ASSERT_NO_FATAL_FAILURE(history.verify(image, cut));
        if (HasFailure()) return tell(record, cut);
      }
    }
  }

  // What led to a failure: nobody can record the same history again.
  static void tell(const std::vector<FileOp>& record, std::size_t cut) {
    constexpr std::size_t kToldOps = 80;
    for (std::size_t i = cut < kToldOps ? 0 : cut - kToldOps; i < cut; ++i) {
      const FileOp& op = record[i];
      std::printf("op %zu kind=%d file=%s offset=%llu bytes=%zu\n",
                  i,
                  static_cast<int>(op.kind),
                  op.file.c_str(),
                  static_cast<unsigned long long>(op.offset),
                  op.bytes.size());
    }
  }

  // The second cut of the power comes while the store recovers from the first.
  void cut_recoveries(History& history, std::uint64_t wanted) {
    const std::vector<FileOp> record = history.record();
    const std::uint64_t goal = seen_.size() + wanted;
    const std::uint64_t recoveries = 2 + wanted / kImagesPerRecovery;
    PowerCut disk(history.base());
    std::size_t position = 0;
    for (const std::size_t cut : cuts_of(history, record, recoveries)) {
      while (position < cut) disk.apply(record[position++]);
      const PowerCut::Image first = disk.image(random_);
      const TempDir folder;
      write_image(first, folder.path());
      RecordingVfs vfs;
      history.recover(folder.path(), vfs, random_() % 2 == 0);
      SCOPED_TRACE("recovery from a cut at operation " + std::to_string(cut));
      ASSERT_NO_FATAL_FAILURE(cut_recovery(history, first, vfs.record(), cut));
      if (HasFailure() || seen_.size() >= goal) return;
    }
  }

  void cut_recovery(History& history,
                    const PowerCut::Image& first,
                    const std::vector<FileOp>& record,
                    std::size_t promised) {
    ASSERT_FALSE(record.empty());
    for (std::uint64_t i = 0; i < kImagesPerRecovery; ++i) {
      const std::size_t cut = 1 + random_() % record.size();
      PowerCut disk(first);
      for (std::size_t position = 0; position < cut; ++position) disk.apply(record[position]);
      const PowerCut::Image second = disk.image(random_);
      if (!is_new(second, "recovery")) continue;
      SCOPED_TRACE("cut again at operation " + std::to_string(cut));
      ASSERT_NO_FATAL_FAILURE(history.verify(second, promised));
      if (HasFailure()) return;
    }
  }

  void TearDown() override {
    std::string phases;
    for (const auto& [phase, count] : distinct_) {
      phases += " " + std::string(phase) + "=" + std::to_string(count);
    }
    // Once more: of a failure in a long run only the last lines are kept.
    std::printf("images=%llu distinct=%zu in_memory=%d%s seed=%llu\n",
                static_cast<unsigned long long>(made_),
                seen_.size(),
                kFilesInMemory ? 1 : 0,
                phases.c_str(),
                static_cast<unsigned long long>(seed_));
  }

  const std::uint64_t seed_;
  std::mt19937_64 random_;
  std::unordered_set<std::uint64_t> seen_;
  std::map<std::string_view, std::uint64_t> distinct_;
  std::uint64_t made_ = 0;
};

TEST_F(PowerCutProof, NoAcknowledgedEventIsLostOrDoubledOnAnyImage) {
  const std::uint64_t wanted = images_wanted();
  History daily({.erase_every = 0}, random_());
  for (int i = 0; i < 4; ++i) ASSERT_NO_FATAL_FAILURE(daily.run(i % 2 == 0));
  ASSERT_GT(daily.acks(), 0u);
  ASSERT_NO_FATAL_FAILURE(cut(daily, wanted * 30 / 100));
  ASSERT_NO_FATAL_FAILURE(cut_recoveries(daily, wanted * 15 / 100));

  History erasing({.erase_every = 7}, random_());
  for (int i = 0; i < 2; ++i) ASSERT_NO_FATAL_FAILURE(erasing.run(i % 2 == 0));
  ASSERT_NO_FATAL_FAILURE(cut(erasing, wanted * 15 / 100));
  ASSERT_NO_FATAL_FAILURE(cut_recoveries(erasing, wanted * 5 / 100));

  History full({.bytes_max = 1u << 20, .groups = 120, .deliver_every = 20}, random_());
  for (int i = 0; i < 2; ++i) ASSERT_NO_FATAL_FAILURE(full.run(i % 2 == 0));
  ASSERT_GT(full.evicted(), 0) << "the store never was full";
  ASSERT_NO_FATAL_FAILURE(cut(full, wanted * 20 / 100));
  ASSERT_NO_FATAL_FAILURE(cut_recoveries(full, wanted * 5 / 100));

  History old({.groups = 20}, random_());
  ASSERT_NO_FATAL_FAILURE(old.run(true));
  ASSERT_NO_FATAL_FAILURE(old.go_back_to_format_1());
  ASSERT_NO_FATAL_FAILURE(old.open_once());
  ASSERT_NO_FATAL_FAILURE(cut(old, wanted / 10));

  // Whatever the short records did not have.
  while (seen_.size() < wanted && made_ < 4 * wanted && !HasFailure()) {
    ASSERT_NO_FATAL_FAILURE(cut(daily, wanted - seen_.size()));
  }
  EXPECT_GE(seen_.size(), wanted) << "too few different images";
  for (const char* phase : {"open",
                            "commit",
                            "settlement",
                            "checkpoint",
                            "eviction",
                            "erasure",
                            "migration",
                            "recovery",
                            "close"}) {
    EXPECT_GT(distinct_[phase], 0u) << "no image of " << phase;
  }
}

// The log is cut to nothing and grown with zeros again. A disk may have done the second and not the
// first, and then the old log's beginning must not be taken for a log.
TEST_F(PowerCutProof, EmptyingTheLogAfterAnErasureLosesNothing) {
  constexpr int kImagesPerCut = 60;
  History erasing({.groups = 12, .erase_every = 4}, random_());
  ASSERT_NO_FATAL_FAILURE(erasing.run(true));
  const std::vector<FileOp> record = erasing.record();
  PowerCut disk(erasing.base());
  for (std::size_t cut = 0; cut < record.size(); ++cut) {
    disk.apply(record[cut]);
    if (erasing.phase(record, cut + 1) != "close") continue;
    for (int i = 0; i < kImagesPerCut; ++i) {
      const PowerCut::Image image = disk.image(random_);
      if (!is_new(image, "close")) continue;
      SCOPED_TRACE("cut at operation " + std::to_string(cut + 1));
      ASSERT_NO_FATAL_FAILURE(erasing.verify(image, cut + 1));
      if (HasFailure()) return tell(record, cut + 1);
    }
  }
  EXPECT_GE(distinct_["close"], 8u);
}

}  // namespace
}  // namespace telemetryd::test
