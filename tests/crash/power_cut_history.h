// crash/power_cut_history.h: what a store on a recording VFS did and promised, and where.
//
// A History drives a store through commits, leases, erasures and restarts, and notes beside the
// record which promises had been made at which place of it. verify() then opens a real store on the
// image of a power cut and compares.
//
// Owns:    one state folder and its recording VFS.
// Thread:  the test's; notes are taken on the store thread while it waits.

#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "store/store_thread.h"
#include "support/fake_clock.h"
#include "support/recording_vfs.h"
#include "support/temp_dir.h"

namespace telemetryd::test {

class History {
 public:
  struct Plan {
    std::uint64_t bytes_max = 4u << 20;
    int groups = 40;
    // Every so many groups; 0: never.
    int deliver_every = 3;
    int erase_every = 0;
  };

  History(const Plan& plan, std::uint64_t seed);

  // Opens the store, sends groups of frames and closes it, or lets it fall as a kill does.
  void run(bool end_cleanly);
  // The disk becomes that of a store of format 1, and everything promised so far was promised long
  // ago.
  void go_back_to_format_1();
  // Opens and closes the store once.
  void open_once();

  const std::vector<FileOp> record() const { return vfs_.record(); }

  // The disk before the record began.
  const PowerCut::Image& base() const { return base_; }

  // What the store was busy with when the record was cut.
  std::string_view phase(const std::vector<FileOp>& record, std::size_t cut) const;

  // Opens a real store on the image and compares it with what had been promised at `position`.
  void verify(const PowerCut::Image& image, std::size_t position);
  // Recovers from the image on `vfs`, for its record; closed cleanly or not.
  void recover(const std::filesystem::path& folder, const RecordingVfs& vfs, bool end_cleanly);

  std::size_t acks() const { return acked_.size(); }

  std::int64_t evicted() const { return evicted_.empty() ? 0 : evicted_.back().count; }

 private:
  class Sink;

  // What happened, and where in the record it was over.
  struct Acked {
    std::size_t position = 0;
    std::uint8_t from = 0;
    std::uint64_t number = 0;
  };

  struct Removed {
    std::size_t begun = 0;
    std::size_t ended = 0;
    std::vector<std::string> bodies;
  };

  struct Evicted {
    std::size_t position = 0;
    std::int64_t count = 0;
  };

  struct Decided {
    std::size_t begun = 0;
    std::size_t ended = 0;
    std::uint32_t uid = 0;
    store::Consent state{};
  };

  struct Span {
    std::size_t begun = 0;
    std::size_t ended = 0;
    std::string_view name;
  };

  Result<std::unique_ptr<store::Store>> open(const std::filesystem::path& folder,
                                             const std::string& vfs);
  void send(store::StoreThread& thread);
  void after_group(store::Store& store, int group, std::size_t begun);
  void deliver(store::Store& store);
  void erase(store::Store& store);
  void note_eviction(store::Store& store, std::size_t begun);
  void verify_events(store::Store& store, std::size_t position);
  void verify_consents(store::Store& store, std::size_t position);
  std::int64_t evicted_at_least(std::size_t position) const;
  std::int64_t evicted_at_most(std::size_t position) const;

  Plan plan_;
  TempDir dir_;
  FakeClock clock_;
  RecordingVfs vfs_;
  PowerCut::Image base_;
  std::mt19937_64 random_;
  std::vector<std::shared_ptr<const store::ClientInfo>> clients_;
  std::vector<std::uint64_t> next_;
  std::vector<Acked> acked_;  // store thread while it runs
  std::vector<Removed> removed_;
  std::vector<Evicted> evicted_;
  std::vector<Decided> decided_;
  std::vector<Span> spans_;
};

}  // namespace telemetryd::test
