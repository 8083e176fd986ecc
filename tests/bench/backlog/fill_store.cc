// fill_store: a store with so many events queued, for a start with a backlog.
//
//   fill_store STATE_FOLDER EVENTS BYTES_MAX
//
// The folder must exist. Prints one line of JSON: events, seconds, bytes on disk. A tenth of the
// time that sockets would take: 50 million events are 10 GB and about a minute.

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "base/clock.h"
#include "bench/backlog/frames.h"
#include "store/store.h"

int main(int argc, char** argv) {
  using namespace telemetryd;
  const std::uint64_t wanted = argc == 4 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (wanted == 0) {
    std::fprintf(stderr, "usage: fill_store STATE_FOLDER EVENTS BYTES_MAX\n");
    return 2;
  }
  store::Options options;
  options.state_dir = argv[1];
  options.bytes_max = std::strtoull(argv[3], nullptr, 10);
  options.when_full = store::WhenFull::kRefuse;
  const SystemClock clock;
  const auto give_up = [](const std::string& why) {
    std::fprintf(stderr, "fill_store: %s\n", why.c_str());
    return 1;
  };
  auto opened = store::open_sqlite_store(options, clock);
  if (!opened) return give_up(opened.error().message());
  store::Store& store = **opened;
  bench::Frames frames;
  const auto begun = std::chrono::steady_clock::now();
  std::uint64_t events = 0;
  for (; events < wanted; events += bench::kEventsPerGroup) {
    const auto answers = store.commit(frames.next());
    if (!answers) return give_up(answers.error().message());
    if (answers->back().kind != store::Answer::Kind::kStored) {
      return give_up("BYTES_MAX is reached after " + std::to_string(events) + " events");
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  const auto info = store.info();
  const auto closed = store.close();
  if (!info || !closed) return give_up("the store does not close");
  std::printf("{\"events\":%" PRIu64 ",\"seconds\":%.1f,\"bytes\":%" PRIu64 "}\n",
              events,
              took.count(),
              info->bytes);
  return 0;
}
