// What one telemetry_track() costs the app: one line of key=value per row.
//
//   track_bench [calls per thread [plain]]
//
// Bursts with short pauses keep the sender awake and the ring below its limit; a full ring would
// make calls cheaper, so it is reported. The timer's own cost is reported and not subtracted.
//
// So that the call is measured and not the scheduler, sender and peer get the last processor to
// themselves and the calling threads the others; where that is allowed, all run as SCHED_FIFO for
// the second or two that this takes. `plain` leaves both out. A burst in which the thread was
// pre-empted all the same is counted; the clean_* figures leave such bursts out, the others do not.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sched.h>
#include <string>
#include <string_view>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "sample_event.h"
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

struct Row {
  std::vector<double> nanos;
  std::vector<bool> disturbed;  // by burst; empty when nobody looked
  std::uint64_t allocated = 0;
  std::uint64_t not_accepted = 0;
};

double part_of(const std::vector<double>& sorted, double part) {
  if (sorted.empty()) return 0;
  return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1))];
}

std::vector<double> clean_samples(const Row& row) {
  std::vector<double> clean;
  for (std::size_t i = 0; i < row.nanos.size(); ++i) {
    if (row.disturbed.empty() || !row.disturbed[i / kBurst]) clean.push_back(row.nanos[i]);
  }
  std::sort(clean.begin(), clean.end());
  return clean;
}

void print_row(const char* name, int threads, Row& row) {
  const std::vector<double> clean = clean_samples(row);
  const double left_out =
      1 - static_cast<double>(clean.size()) / static_cast<double>(row.nanos.size());
  std::sort(row.nanos.begin(), row.nanos.end());
  std::printf(
      "bench=%s threads=%d calls=%zu p50_ns=%.0f p90_ns=%.0f p99_ns=%.0f p999_ns=%.0f max_ns=%.0f "
      "clean_p99_ns=%.0f clean_p999_ns=%.0f clean_max_ns=%.0f preempted_percent=%.2f "
      "allocations=%llu not_accepted=%llu\n",
      name,
      threads,
      row.nanos.size(),
      part_of(row.nanos, 0.5),
      part_of(row.nanos, 0.9),
      part_of(row.nanos, 0.99),
      part_of(row.nanos, 0.999),
      row.nanos.back(),
      part_of(clean, 0.99),
      part_of(clean, 0.999),
      part_of(clean, 1),
      left_out * 100,
      static_cast<unsigned long long>(row.allocated),
      static_cast<unsigned long long>(row.not_accepted));
}

// Where threads may run. What is not allowed is left as it is, and the output says so.
class Placement {
 public:
  explicit Placement(bool plain) {
    cpu_set_t allowed;
    if (plain || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    std::size_t last = CPU_SETSIZE;
    for (std::size_t i = 0; i < CPU_SETSIZE; ++i) {
      if (!CPU_ISSET(i, &allowed)) continue;
      if (last != CPU_SETSIZE) CPU_SET(last, &callers_);
      last = i;
    }
    if (CPU_COUNT(&callers_) == 0) return;
    CPU_SET(last, &others_);
    pinned_ = true;
    const sched_param priority{.sched_priority = 1};
    fifo_ = sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
  }

  // For this thread and those it starts.
  void as_caller() const {
    if (pinned_) sched_setaffinity(0, sizeof callers_, &callers_);
  }

  void as_other() const {
    if (pinned_) sched_setaffinity(0, sizeof others_, &others_);
  }

  void print() const {
    std::printf("bench=placement pinned=%d fifo=%d caller_cpus=%d\n",
                pinned_ ? 1 : 0,
                fifo_ ? 1 : 0,
                pinned_ ? CPU_COUNT(&callers_) : 0);
  }

 private:
  cpu_set_t callers_{};
  cpu_set_t others_{};
  bool pinned_ = false;
  bool fifo_ = false;
};

long times_preempted() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
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
  const SampleEvent event;
  for (std::size_t first = 0; first < calls; first += kBurst) {
    std::this_thread::sleep_for(kPause);
    const long before = times_preempted();
    for (std::size_t i = first; i < first + kBurst; ++i) {
      const std::uint64_t start = ticks();
      const telemetry_status_t status = telemetry_track(client, event.get());
      row.nanos[i] = static_cast<double>(ticks() - start) * scale;
      if (status != TELEMETRY_OK) ++row.not_accepted;
    }
    row.disturbed[first / kBurst] = times_preempted() != before;
  }
}

Row measure_bursts(telemetry_client_t* client, int threads, std::size_t calls, double scale) {
  std::vector<Row> rows(static_cast<std::size_t>(threads));
  for (Row& row : rows) {
    row.nanos.resize(calls);
    row.disturbed.resize(calls / kBurst);
  }
  std::atomic<int> ready = 0;
  std::atomic<bool> go = false;
  std::vector<std::thread> workers;
  for (Row& row : rows) {
    workers.emplace_back([&] {
      ++ready;
      // Not a loop of yields: with SCHED_FIFO it would keep the others from starting.
      go.wait(false);
      burst_calls(client, calls, scale, row);
    });
  }
  while (ready != threads) std::this_thread::sleep_for(kPause);
  const std::uint64_t before = allocations;
  go = true;
  go.notify_all();
  for (std::thread& worker : workers) worker.join();
  Row all;
  all.allocated = allocations - before;
  for (const Row& row : rows) {
    all.nanos.insert(all.nanos.end(), row.nanos.begin(), row.nanos.end());
    all.disturbed.insert(all.disturbed.end(), row.disturbed.begin(), row.disturbed.end());
    all.not_accepted += row.not_accepted;
  }
  return all;
}

// The sender is asleep at each call, so each pays for a wake-up.
Row measure_sparse(telemetry_client_t* client, double scale) {
  Row row;
  row.nanos.resize(2000);
  const SampleEvent event;
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

int run(std::size_t calls, bool plain) {
  std::string folder = (std::filesystem::temp_directory_path() / "track-bench-XXXXXX").native();
  if (mkdtemp(folder.data()) == nullptr) return 1;
  const std::string path = folder + "/ingest.sock";
  std::ofstream(folder + "/policy") << "opt-out\n";
  const Placement placement(plain);
  placement.print();
  placement.as_other();
  const pid_t sink = start_sink(path);

  telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
  options.app = "track-bench";
  options.socket_path = path.c_str();
  telemetry_client_t* client = nullptr;
  if (telemetry_client_open(&options, &client) != TELEMETRY_OK) return 1;

  placement.as_caller();
  const double scale = nanos_per_tick();
  Row timer = measure_timer(scale);
  print_row("timer", 1, timer);
  // Two laps, so that every page of the ring has been touched.
  Row warm = measure_bursts(client, 1, 80 * kBurst, scale);
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
  using telemetryd::bench::kBurst;
  const std::size_t wanted = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 500'000;
  const bool plain = argc > 2 && std::string_view(argv[2]) == "plain";
  // Whole bursts.
  return telemetryd::bench::run((wanted / kBurst + 1) * kBurst, plain);
}
