// What one telemetry_track() costs the app: one line of key=value per row.
//
//   track_bench [calls per thread]
//
// Bursts with short pauses keep the sender awake and the ring below its limit; a full ring would
// make calls cheaper, so it is reported. Timer overhead is reported and not subtracted.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "sink.h"
#include "telemetry/telemetry.h"

namespace {

std::atomic<std::uint64_t> allocations = 0;

}  // namespace

extern "C" void* __libc_malloc(std::size_t size);
extern "C" void* __libc_calloc(std::size_t count, std::size_t size);
extern "C" void* __libc_realloc(void* memory, std::size_t size);

extern "C" void* malloc(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}

extern "C" void* calloc(std::size_t count, std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}

extern "C" void* realloc(void* memory, std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(memory, size);
}

namespace telemetryd::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kBurst = 256;
constexpr auto kPause = std::chrono::microseconds(100);

inline std::uint64_t ticks() {
#if defined(__x86_64__)
  unsigned processor = 0;
  return __rdtscp(&processor);
#else
  return static_cast<std::uint64_t>(SteadyClock::now().time_since_epoch().count());
#endif
}

double nanos_per_tick() {
  const auto start = SteadyClock::now();
  const std::uint64_t first = ticks();
  while (SteadyClock::now() - start < std::chrono::milliseconds(100)) continue;
  const std::uint64_t last = ticks();
  const std::chrono::duration<double, std::nano> elapsed = SteadyClock::now() - start;
  return elapsed.count() / static_cast<double>(last - first);
}

class Event {
 public:
  Event() {
    attributes_[0] = {.key = "region", .type = TELEMETRY_VALUE_STRING, .value = {"eu-central"}};
    attributes_[1] = {.key = "cached", .type = TELEMETRY_VALUE_BOOL, .value = {.bool_value = 1}};
    attributes_[2] = {.key = "items", .type = TELEMETRY_VALUE_INT, .value = {.int_value = 12345}};
    attributes_[3] = {
        .key = "ratio", .type = TELEMETRY_VALUE_DOUBLE, .value = {.double_value = 0.5}};
    event_.name = "command_executed";
    event_.category = "usage";
    event_.has = TELEMETRY_HAS_SUCCESS | TELEMETRY_HAS_DURATION;
    event_.success = 1;
    event_.duration_ms = 12.5;
    event_.attributes = attributes_;
    event_.attribute_count = 4;
  }

  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  const telemetry_event_t* get() const { return &event_; }

 private:
  telemetry_attribute_t attributes_[4] = {};
  telemetry_event_t event_ = TELEMETRY_EVENT_INIT;
};

struct Row {
  std::vector<double> nanos;
  std::uint64_t allocated = 0;
  std::uint64_t not_accepted = 0;
};

void print_row(const char* name, int threads, Row& row) {
  std::sort(row.nanos.begin(), row.nanos.end());
  const auto at = [&row](double part) {
    return row.nanos[static_cast<std::size_t>(part * static_cast<double>(row.nanos.size() - 1))];
  };
  std::printf(
      "bench=%s threads=%d calls=%zu p50_ns=%.0f p90_ns=%.0f p99_ns=%.0f p999_ns=%.0f max_ns=%.0f "
      "allocations=%llu not_accepted=%llu\n",
      name,
      threads,
      row.nanos.size(),
      at(0.5),
      at(0.9),
      at(0.99),
      at(0.999),
      row.nanos.back(),
      static_cast<unsigned long long>(row.allocated),
      static_cast<unsigned long long>(row.not_accepted));
}

Row measure_timer(double scale) {
  Row row;
  row.nanos.resize(100'000);
  for (double& nanos : row.nanos) {
    const std::uint64_t start = ticks();
    nanos = static_cast<double>(ticks() - start) * scale;
  }
  return row;
}

void burst_calls(telemetry_client_t* client, std::size_t calls, double scale, Row& row) {
  // The default slack of 50 us would let the sender fall asleep in some of the pauses.
  prctl(PR_SET_TIMERSLACK, 1000);
  const Event event;
  for (std::size_t i = 0; i < calls; ++i) {
    if (i % kBurst == 0) std::this_thread::sleep_for(kPause);
    const std::uint64_t start = ticks();
    const telemetry_status_t status = telemetry_track(client, event.get());
    row.nanos[i] = static_cast<double>(ticks() - start) * scale;
    if (status != TELEMETRY_OK) ++row.not_accepted;
  }
}

Row measure_bursts(telemetry_client_t* client, int threads, std::size_t calls, double scale) {
  std::vector<Row> rows(static_cast<std::size_t>(threads));
  for (Row& row : rows) row.nanos.resize(calls);
  std::atomic<int> ready = 0;
  std::atomic<bool> go = false;
  std::vector<std::thread> workers;
  for (Row& row : rows) {
    workers.emplace_back([&] {
      ++ready;
      while (!go) std::this_thread::yield();
      burst_calls(client, calls, scale, row);
    });
  }
  while (ready != threads) std::this_thread::yield();
  const std::uint64_t before = allocations;
  go = true;
  for (std::thread& worker : workers) worker.join();
  Row all;
  all.allocated = allocations - before;
  for (const Row& row : rows) {
    all.nanos.insert(all.nanos.end(), row.nanos.begin(), row.nanos.end());
    all.not_accepted += row.not_accepted;
  }
  return all;
}

// The sender is asleep at each call, so each pays for a wake-up.
Row measure_sparse(telemetry_client_t* client, double scale) {
  Row row;
  row.nanos.resize(2000);
  const Event event;
  const std::uint64_t before = allocations;
  for (double& nanos : row.nanos) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    const std::uint64_t start = ticks();
    const telemetry_status_t status = telemetry_track(client, event.get());
    nanos = static_cast<double>(ticks() - start) * scale;
    if (status != TELEMETRY_OK) ++row.not_accepted;
  }
  row.allocated = allocations - before;
  return row;
}

int run(std::size_t calls) {
  std::string folder = (std::filesystem::temp_directory_path() / "track-bench-XXXXXX").native();
  if (mkdtemp(folder.data()) == nullptr) return 1;
  const std::string path = folder + "/ingest.sock";
  std::ofstream(folder + "/policy") << "opt-out\n";
  const pid_t sink = start_sink(path);

  telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
  options.app = "track-bench";
  options.socket_path = path.c_str();
  telemetry_client_t* client = nullptr;
  if (telemetry_client_open(&options, &client) != TELEMETRY_OK) return 1;

  const double scale = nanos_per_tick();
  Row timer = measure_timer(scale);
  print_row("timer", 1, timer);
  // Two laps, so that every page of the ring has been touched.
  Row warm = measure_bursts(client, 1, 20'000, scale);
  for (const int threads : {1, 4}) {
    Row row = measure_bursts(client, threads, calls, scale);
    print_row("track", threads, row);
    if (telemetry_flush(client, 10'000) != TELEMETRY_OK) std::printf("error=flush\n");
  }
  Row sparse = measure_sparse(client, scale);
  print_row("track_sparse", 1, sparse);
  telemetry_stats_t stats = TELEMETRY_STATS_INIT;
  const telemetry_status_t closed = telemetry_client_close(client, 10'000, &stats);
  std::printf(
      "bench=totals accepted=%llu acknowledged=%llu queue_full=%llu frames=%llu closed=%d\n",
      static_cast<unsigned long long>(stats.accepted),
      static_cast<unsigned long long>(stats.acknowledged),
      static_cast<unsigned long long>(stats.dropped_queue_full),
      static_cast<unsigned long long>(stats.frames_sent),
      static_cast<int>(closed));
  stop_sink(sink);
  std::filesystem::remove_all(folder);
  return 0;
}

}  // namespace
}  // namespace telemetryd::bench

int main(int argc, char** argv) {
  const std::size_t calls = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000;
  return telemetryd::bench::run(calls);
}
