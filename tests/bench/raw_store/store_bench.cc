// Commits per second of the real store and of the raw one, in turn, in one process.
//
//   store_bench [folder] [seconds per cell]
//
// Prints key=value lines; ratios are what counts, because the disk drifts.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <string>
#include <unistd.h>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "bench/raw_store/raw_store.h"
#include "store/store.h"

namespace telemetryd::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kEventBytes = 182;

double seconds_since(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

// The shape of a group: so many clients, each with so many frames of so many events.
struct Shape {
  const char* name;
  std::uint32_t clients;
  std::uint32_t frames;
  std::uint32_t events;
};

constexpr Shape kShapes[] = {
    {"single_1x1", 1, 1, 1},
    {"single_1x64", 1, 64, 1},
    {"single_8x64", 8, 64, 1},
    {"batch100_1x1", 1, 1, 100},
    {"batch100_1x16", 1, 16, 100},
    {"batch100_8x16", 8, 16, 100},
    {"batch1000_8x4", 8, 4, 1000},
};

std::string batch(std::uint32_t events) {
  std::string bytes;
  std::uint32_t random = 12345;
  for (std::uint32_t i = 0; i < events; ++i) {
    bytes += '\x0A';
    bytes += static_cast<char>(0x80 | ((kEventBytes - 3) & 0x7F));
    bytes += static_cast<char>((kEventBytes - 3) >> 7);
    for (std::size_t b = 3; b < kEventBytes; ++b) {
      random = random * 1664525u + 1013904223u;
      bytes += static_cast<char>(random >> 24);
    }
  }
  return bytes;
}

class Sender {
 public:
  explicit Sender(const Shape& shape, std::uint8_t salt)
      : shape_(shape), batch_(batch(shape.events)) {
    for (std::uint32_t i = 0; i < shape.clients; ++i) {
      auto client = std::make_shared<store::ClientInfo>();
      client->key.uid = 1000;
      client->key.instance.fill(static_cast<std::uint8_t>(i));
      client->key.instance[0] = salt;
      client->app = "bench";
      client->context = "context";
      clients_.push_back(std::move(client));
    }
  }

  // Every client's next window.
  std::vector<store::Append> group() {
    std::vector<store::Append> frames;
    for (const auto& client : clients_) {
      for (std::uint32_t i = 0; i < shape_.frames; ++i) {
        store::Append frame;
        frame.client = client;
        frame.number = next_ + i;
        frame.summary.count = shape_.events;
        frame.events = batch_;
        frames.push_back(std::move(frame));
      }
    }
    next_ += shape_.frames;
    return frames;
  }

 private:
  Shape shape_;
  std::string batch_;
  std::vector<std::shared_ptr<const store::ClientInfo>> clients_;
  std::uint64_t next_ = 1;
};

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "store_bench: %s\n", what.c_str());
  std::exit(1);
}

// Leases and settles until nothing is queued; events.
std::uint64_t drain(store::Store& store) {
  store::LeaseRequest request;
  request.apps = {"bench"};
  std::uint64_t events = 0;
  for (;;) {
    auto lease = store.lease(request);
    if (!lease) die(lease.error().message());
    if (lease->id == 0) return events;
    events += lease->events;
    if (auto settled = store.settle({lease->id, "none", {}}); !settled) {
      die(settled.error().message());
    }
  }
}

struct Cell {
  double events_per_s = 0;
  double commit_p50_us = 0;
  double drain_per_s = 0;
};

// Only commits and drains are timed, not the making of frames.
Cell measure(store::Store& store, Sender& sender, std::uint32_t events, double seconds) {
  std::vector<double> commits;
  double total = 0;
  double draining = 0;
  std::uint64_t stored = 0;
  std::uint64_t drained = 0;
  while (total < seconds) {
    const auto group = sender.group();
    const auto begin = SteadyClock::now();
    if (auto answers = store.commit(group); !answers) die(answers.error().message());
    const double took = seconds_since(begin);
    total += took;
    commits.push_back(took);
    stored += group.size() * events;
    if (stored - drained > 200'000) {
      const auto drain_begin = SteadyClock::now();
      drained += drain(store);
      draining += seconds_since(drain_begin);
    }
  }
  const auto drain_begin = SteadyClock::now();
  drained += drain(store);
  draining += seconds_since(drain_begin);
  Cell cell;
  cell.events_per_s = static_cast<double>(stored) / total;
  cell.commit_p50_us = median(commits) * 1e6;
  cell.drain_per_s = drained == 0 ? 0 : static_cast<double>(drained) / draining;
  return cell;
}

double fdatasync_p50_us(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "fdatasync";
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  const std::string page(4096, 'x');
  std::vector<double> times;
  for (int i = 0; i < 300; ++i) {
    if (::pwrite(fd.get(), page.data(), page.size(), (i % 64) * 4096) < 0) die("pwrite failed");
    const auto begin = SteadyClock::now();
    if (::fdatasync(fd.get()) != 0) die("fdatasync failed");
    if (i >= 64) times.push_back(seconds_since(begin) * 1e6);
  }
  return median(times);
}

void run(const std::filesystem::path& folder, double seconds) {
  const SystemClock clock;
  store::Options options;
  options.state_dir = folder;
  auto sqlite = store::open_sqlite_store(options, clock);
  if (!sqlite) die(sqlite.error().message());
  auto raw = open_raw_store(folder);
  if (!raw) die(raw.error().message());

  constexpr int kRounds = 3;
  std::uint8_t salt = 0;
  for (const Shape& shape : kShapes) {
    Sender sqlite_sender(shape, ++salt);
    Sender raw_sender(shape, salt);
    std::vector<double> rates, raw_rates, p50, raw_p50, drains, syncs;
    for (int round = 0; round < kRounds; ++round) {
      syncs.push_back(fdatasync_p50_us(folder));
      const Cell cell = measure(**sqlite, sqlite_sender, shape.events, seconds);
      const Cell raw_cell = measure(**raw, raw_sender, shape.events, seconds);
      rates.push_back(cell.events_per_s);
      raw_rates.push_back(raw_cell.events_per_s);
      p50.push_back(cell.commit_p50_us);
      raw_p50.push_back(raw_cell.commit_p50_us);
      drains.push_back(cell.drain_per_s);
    }
    std::printf(
        "shape=%s sqlite_events_per_s=%.0f raw_events_per_s=%.0f ratio=%.2f "
        "sqlite_commit_p50_us=%.0f "
        "raw_commit_p50_us=%.0f drain_events_per_s=%.0f fdatasync_p50_us=%.0f\n",
        shape.name,
        median(rates),
        median(raw_rates),
        median(rates) / median(raw_rates),
        median(p50),
        median(raw_p50),
        median(drains),
        median(syncs));
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace telemetryd::bench

int main(int argc, char** argv) {
  const std::filesystem::path base =
      argc > 1 ? std::filesystem::path(argv[1]) : std::filesystem::temp_directory_path();
  std::string pattern = (base / "store-bench-XXXXXX").native();
  if (mkdtemp(pattern.data()) == nullptr) {
    std::fprintf(stderr, "store_bench: cannot make a folder in %s\n", base.c_str());
    return 1;
  }
  telemetryd::bench::run(pattern, argc > 2 ? std::atof(argv[2]) : 0.5);
  std::filesystem::remove_all(pattern);
  return 0;
}
