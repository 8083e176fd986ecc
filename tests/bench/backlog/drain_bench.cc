// drain_bench: what delivery costs the store, and what it costs ingest.
//
//   drain_bench [FOLDER] [SECONDS per cell] [EVENTS per lease]
//
// One thread does both, as in the daemon: after each group that is committed, as many events are
// leased and settled, in leases of the size that a destination asks for. The same groups without
// the draining stand beside it, in turn. Prints key=value: events per second of time spent in
// commit() alone and with draining, of time spent in lease() and settle(), and of both together.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "bench/backlog/frames.h"
#include "store/store.h"

namespace telemetryd::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr int kRounds = 5;
constexpr std::uint64_t kBacklog = 20 * kEventsPerGroup;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "drain_bench: %s\n", why.c_str());
  std::exit(1);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

// Adds the time that `work` takes.
template <typename Work>
auto timed(double& seconds, Work work) {
  const auto begun = SteadyClock::now();
  auto result = work();
  seconds += std::chrono::duration<double>(SteadyClock::now() - begun).count();
  return result;
}

class Bench {
 public:
  explicit Bench(const std::filesystem::path& folder, std::uint32_t events_per_lease)
      : folder_(folder) {
    request_.apps = {"bench"};
    request_.events_max = events_per_lease;
  }

  struct Cell {
    double ingest = 0;  // events per second of commit()
    double drain = 0;   // of lease() and settle()
    double both = 0;    // of all of it
  };

  // A store of its own, so that no cell inherits another's free pages.
  Cell measure(bool draining, double seconds) {
    const std::filesystem::path state = folder_ / (draining ? "with" : "without");
    std::filesystem::create_directory(state);
    store::Options options;
    options.state_dir = state;
    options.bytes_max = 4ull << 30;
    auto opened = store::open_sqlite_store(options, clock_);
    if (!opened) give_up(opened.error().message());
    store_ = std::move(*opened);
    Frames frames;
    double unmeasured = 0;
    for (std::uint64_t events = 0; events < kBacklog; events += kEventsPerGroup) {
      commit(frames.next(), unmeasured);
    }
    double committing = 0;
    double settling = 0;
    std::uint64_t stored = 0;
    std::uint64_t drained = 0;
    while (committing + settling < seconds) {
      commit(frames.next(), committing);
      stored += kEventsPerGroup;
      while (draining && drained < stored) drained += drain_one(settling);
    }
    store_.reset();
    std::filesystem::remove_all(state);
    return {static_cast<double>(stored) / committing,
            settling > 0 ? static_cast<double>(drained) / settling : 0,
            static_cast<double>(stored) / (committing + settling)};
  }

 private:
  void commit(const std::vector<store::Append>& group, double& seconds) {
    const auto answers = timed(seconds, [&] { return store_->commit(group); });
    if (!answers) give_up(answers.error().message());
    if (answers->back().kind != store::Answer::Kind::kStored) give_up("a frame was not stored");
  }

  std::uint64_t drain_one(double& seconds) {
    auto lease = timed(seconds, [&] { return store_->lease(request_); });
    if (!lease || lease->id == 0) give_up("nothing to lease");
    const auto settled = timed(seconds, [&] { return store_->settle({lease->id, "none", {}}); });
    if (!settled) give_up(settled.error().message());
    return lease->events;
  }

  const SystemClock clock_;
  std::filesystem::path folder_;
  store::LeaseRequest request_;
  std::unique_ptr<store::Store> store_;
};

void run(const std::filesystem::path& folder, double seconds, std::uint32_t events_per_lease) {
  Bench bench(folder, events_per_lease);
  std::vector<double> alone, with, drain, both, ratios;
  for (int round = 0; round < kRounds; ++round) {
    Bench::Cell cells[2];
    // Who goes first changes, because the disk drifts.
    for (const bool draining : {round % 2 == 0, round % 2 != 0}) {
      cells[draining ? 1 : 0] = bench.measure(draining, seconds);
    }
    alone.push_back(cells[0].ingest);
    with.push_back(cells[1].ingest);
    drain.push_back(cells[1].drain);
    both.push_back(cells[1].both);
    ratios.push_back(cells[1].ingest / cells[0].ingest);
  }
  std::printf(
      "bench=drain events_per_lease=%u ingest_alone_per_s=%.0f ingest_draining_per_s=%.0f "
      "ingest_ratio=%.2f drain_per_s=%.0f both_per_s=%.0f\n",
      events_per_lease,
      median(alone),
      median(with),
      median(ratios),
      median(drain),
      median(both));
}

}  // namespace
}  // namespace telemetryd::bench

int main(int argc, char** argv) {
  const std::filesystem::path base =
      argc > 1 ? std::filesystem::path(argv[1]) : std::filesystem::temp_directory_path();
  const double seconds = argc > 2 ? std::strtod(argv[2], nullptr) : 0.5;
  const auto events = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 1000ul;
  std::string pattern = (base / "drain-bench-XXXXXX").native();
  if (mkdtemp(pattern.data()) == nullptr) {
    std::fprintf(stderr, "drain_bench: cannot make a folder in %s\n", base.c_str());
    return 1;
  }
  telemetryd::bench::run(pattern, seconds, static_cast<std::uint32_t>(events));
  std::filesystem::remove_all(pattern);
  return 0;
}
