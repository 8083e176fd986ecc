// track_counts: telemetry_track() as an app calls it, through the shared library, for callgrind to
// count. See append_counts.cc for the method.
//
//   track_counts track [TIMES]
//   track_counts slower [TIMES]    the same with a fifth attribute: what counts_test.py must notice

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "bench/track/sample_event.h"
#include "telemetry/telemetry.h"

namespace {

int give_up(const char* why) {
  std::fprintf(stderr, "track_counts: %s\n", why);
  return 1;
}

}  // namespace

// Without a mangled name and never inlined, so that callgrind finds it by its name.
extern "C" [[gnu::noinline]] long counted(telemetry_client_t* client,
                                          const telemetry_event_t* event,
                                          long times) {
  long accepted = 0;
  for (long i = 0; i < times; ++i) accepted += telemetry_track(client, event) == TELEMETRY_OK;
  return accepted;
}

// No daemon listens and the ring has room for all: the sender then waits for its next attempt to
// connect and needs no waking, so every call takes the same path.
int main(int argc, char** argv) {
  const std::string_view part = argc > 1 ? argv[1] : "";
  const long times = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 1000;
  if ((part != "track" && part != "slower") || times < 1 || times > 10'000) {
    std::fprintf(stderr, "usage: track_counts track|slower [TIMES]\n");
    return 2;
  }
  std::string folder = (std::filesystem::temp_directory_path() / "track-counts-XXXXXX").native();
  if (mkdtemp(folder.data()) == nullptr) return give_up("cannot make a folder");
  std::ofstream(folder + "/policy") << "opt-out\n";
  const std::string path = folder + "/ingest.sock";

  telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
  options.app = "track-counts";
  options.socket_path = path.c_str();
  options.queue_bytes_max = 1u << 25;
  options.frame_bytes_target = 1u << 20;
  telemetry_client_t* client = nullptr;
  if (telemetry_client_open(&options, &client) != TELEMETRY_OK) return give_up("cannot open");
  const telemetryd::bench::SampleEvent sample(part == "slower" ? 5 : 4);
  // The dynamic linker resolves and the sender hears of its first event: neither is counted.
  telemetry_track(client, sample.get());
  const long accepted = counted(client, sample.get(), times);
  telemetry_client_close(client, 0, nullptr);
  std::filesystem::remove_all(folder);
  if (accepted != times) return give_up("not every call was accepted");
  std::printf("part=%s times=%ld\n", argv[1], times);
  return 0;
}
