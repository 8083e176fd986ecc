// proof_producer: hands numbered events to telemetryd through the public C interface and keeps what
// it was told in a file that the proof maps, so that the proof sees the client's counters even
// while the daemon is stopped or dead.
//
// Each event carries its number as attribute `n`; the IDs follow from index and number (rig.py
// makes the same ones), so that what arrives upstream can be checked one by one.

#include <array>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <telemetry/telemetry.h>
#include <thread>
#include <unistd.h>

namespace {

constexpr std::uint64_t kIdEpochMs = 1'700'000'000'000;
constexpr std::uint32_t kWaitMs = 1000;
constexpr int kPatienceS = 300;

struct Options {
  std::string socket;
  std::string app;
  std::string counters;
  std::uint64_t index = 0;
  std::uint64_t first = 0;
  std::uint64_t events = 0;
  std::uint64_t rate = 0;  // events per second; 0: as fast as they are taken
  std::uint64_t frame_bytes = 4096;
  std::uint64_t pad_bytes = 0;  // of one more attribute, to make events large
  bool flush_each = false;
};

struct Counters {
  std::atomic<std::uint64_t> accepted, acknowledged, refused, queued, frames_sent, frames_resent,
      reconnects, done;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--flush-each") {
      options.flush_each = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const char* value = argv[++i];
    const std::uint64_t number = std::strtoull(value, nullptr, 10);
    if (flag == "--socket")
      options.socket = value;
    else if (flag == "--app")
      options.app = value;
    else if (flag == "--counters")
      options.counters = value;
    else if (flag == "--index")
      options.index = number;
    else if (flag == "--first")
      options.first = number;
    else if (flag == "--events")
      options.events = number;
    else if (flag == "--rate")
      options.rate = number;
    else if (flag == "--frame-bytes")
      options.frame_bytes = number;
    else if (flag == "--pad-bytes")
      options.pad_bytes = number;
    else
      return false;
  }
  return !options.socket.empty() && !options.app.empty() && !options.counters.empty();
}

std::array<std::uint8_t, 16> event_id(std::uint64_t index, std::uint64_t number) {
  std::array<std::uint8_t, 16> id{};
  const std::uint64_t ms = kIdEpochMs + number;
  for (unsigned i = 0; i < 6; ++i) id[i] = static_cast<std::uint8_t>(ms >> (8 * (5 - i)));
  id[6] = 0x70;
  id[7] = static_cast<std::uint8_t>(index);
  id[8] = 0x80;
  for (unsigned i = 0; i < 7; ++i) id[9 + i] = static_cast<std::uint8_t>(number >> (8 * (6 - i)));
  return id;
}

Counters* map_counters(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* memory = mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return memory == MAP_FAILED ? nullptr : static_cast<Counters*>(memory);
}

void publish(const telemetry_stats_t& stats, Counters& counters) {
  counters.accepted = stats.accepted;
  counters.acknowledged = stats.acknowledged;
  counters.refused = stats.refused;
  counters.queued = stats.queued;
  counters.frames_sent = stats.frames_sent;
  counters.frames_resent = stats.frames_resent;
  counters.reconnects = stats.reconnects;
}

using SteadyTime = std::chrono::steady_clock::time_point;

bool out_of_patience(SteadyTime started) {
  return std::chrono::steady_clock::now() - started > std::chrono::seconds(kPatienceS);
}

bool produce(telemetry_client_t* client, const Options& options) {
  const auto started = std::chrono::steady_clock::now();
  const std::string padding(options.pad_bytes, 'x');
  std::array<telemetry_attribute_t, 2> attributes{};
  telemetry_attribute_t& number = attributes[0];
  number.key = "n";
  number.type = TELEMETRY_VALUE_INT;
  attributes[1].key = "padding";
  attributes[1].type = TELEMETRY_VALUE_STRING;
  attributes[1].value.string_value = padding.c_str();
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = "proof";
  event.attributes = attributes.data();
  event.attribute_count = padding.empty() ? 1 : 2;
  for (std::uint64_t n = 0; n < options.events; ++n) {
    if (options.rate != 0) {
      std::this_thread::sleep_until(started +
                                    std::chrono::nanoseconds(n * 1'000'000'000 / options.rate));
    }
    const auto id = event_id(options.index, options.first + n);
    number.value.int_value = static_cast<std::int64_t>(options.first + n);
    event.id = id.data();
    telemetry_status_t status{};
    while ((status = telemetry_send(client, &event, kWaitMs)) == TELEMETRY_TIMEOUT) {
      if (out_of_patience(started)) return false;
    }
    if (status != TELEMETRY_OK) {
      std::fprintf(stderr, "event %" PRIu64 ": status %d\n", options.first + n, status);
      return false;
    }
    while (options.flush_each && telemetry_flush(client, kWaitMs) == TELEMETRY_TIMEOUT) {
      if (out_of_patience(started)) return false;
    }
  }
  while (telemetry_flush(client, kWaitMs) == TELEMETRY_TIMEOUT) {
    if (out_of_patience(started)) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: proof_producer --socket S --app A --counters FILE --index I --events N "
                 "[--first N] [--rate N] [--frame-bytes N] [--pad-bytes N] [--flush-each]\n");
    return 2;
  }
  Counters* counters = map_counters(options.counters);
  telemetry_options_t open_options = TELEMETRY_OPTIONS_INIT;
  open_options.app = options.app.c_str();
  open_options.app_version = "1.0";
  open_options.socket_path = options.socket.c_str();
  // Small frames make many of them: a frame in flight is what a kill should hit.
  open_options.frame_bytes_target = static_cast<std::uint32_t>(options.frame_bytes);
  telemetry_client_t* client = nullptr;
  if (counters == nullptr || telemetry_client_open(&open_options, &client) != TELEMETRY_OK) {
    std::fprintf(stderr, "cannot map the counters or open the client\n");
    return 1;
  }

  std::atomic<bool> over = false;
  std::thread reporter([&] {
    while (!over) {
      telemetry_stats_t stats = TELEMETRY_STATS_INIT;
      if (telemetry_client_stats(client, &stats) == TELEMETRY_OK) publish(stats, *counters);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  const bool complete = produce(client, options);
  over = true;
  reporter.join();

  telemetry_stats_t last = TELEMETRY_STATS_INIT;
  telemetry_client_close(client, kWaitMs, &last);
  publish(last, *counters);
  counters->done = 1;
  std::printf("{\"accepted\":%" PRIu64 ",\"acknowledged\":%" PRIu64 ",\"refused\":%" PRIu64
              ",\"lost\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"frames_resent\":%" PRIu64 "}\n",
              last.accepted,
              last.acknowledged,
              last.refused,
              last.lost_shutdown,
              last.dropped_queue_full + last.dropped_too_large + last.dropped_invalid +
                  last.dropped_disabled,
              last.frames_resent);
  return complete ? 0 : 1;
}
