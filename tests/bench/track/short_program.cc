// short_program SOCKET DEADLINE_MS: what a program that lives for one event pays for telemetry.
//
// Opens a client, records one event, closes with the deadline and prints how long the three took:
// one line, microseconds and whether the event was acknowledged.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "sample_event.h"
#include "telemetry/telemetry.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: short_program SOCKET DEADLINE_MS\n");
    return 2;
  }
  telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
  options.app = "short-program";
  options.socket_path = argv[1];
  const telemetryd::bench::SampleEvent event;
  const auto deadline_ms = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10));

  const auto start = std::chrono::steady_clock::now();
  telemetry_client_t* client = nullptr;
  if (telemetry_client_open(&options, &client) != TELEMETRY_OK) return 1;
  const telemetry_status_t tracked = telemetry_track(client, event.get());
  telemetry_stats_t stats = TELEMETRY_STATS_INIT;
  telemetry_client_close(client, deadline_ms, &stats);
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;

  std::printf("us=%.0f tracked=%d acknowledged=%llu\n",
              took.count(),
              tracked == TELEMETRY_OK ? 1 : 0,
              static_cast<unsigned long long>(stats.acknowledged));
  return 0;
}
