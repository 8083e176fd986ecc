// append_counts: work of the frame path whose instructions callgrind can count.
//
//   valgrind --tool=callgrind --callgrind-out-file=OUT --toggle-collect=counted
//     append_counts validate|append [TIMES]
//
// `validate` checks a frame's worth of one event TIMES times; `append` stores TIMES frames of one
// event, one commit each, in a store of its own that is removed afterwards. Only the function
// `counted` is between callgrind's brackets: opening the store, making events and what the first
// commit of a client costs more than a later one stay outside. Instructions are the same on a busy
// machine, so a gate may compare them where it could not compare times.
//
// Prints `part=... times=...`; the `summary:` line of OUT divided by times is the figure.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "bench/event_bytes.h"
#include "event/event.h"
#include "store/store.h"

namespace {

using namespace telemetryd;

constexpr std::uint32_t kWarmUp = 16;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "append_counts: %s\n", why.c_str());
  std::exit(1);
}

// An EventBatch of one event, as the load generator's.
std::string make_batch() {
  constexpr std::uint64_t kTime = 0x1807060504030201;
  std::string batch;
  bench::put_bytes(
      batch,
      1,
      bench::make_event({"\1\2\3\4\5\6\x71\x08\x81\x0a\x0b\x0c\x0d\x0e\x0f\x10", 16}, kTime));
  return batch;
}

event::BatchSummary validated(const std::string& batch) {
  auto summary = event::validate(batch, event::Class::kNormal, event::Urgency::kNormal, {});
  if (!summary) give_up(summary.error().message());
  return *summary;
}

class Store {
 public:
  explicit Store(const std::string& batch) : summary_(validated(batch)), batch_(batch) {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "append-counts-XXXXXX").native();
    if (mkdtemp(pattern.data()) == nullptr) give_up("cannot make the folder " + pattern);
    folder_ = pattern;
    store::Options options;
    options.state_dir = folder_;
    auto opened = store::open_sqlite_store(options, clock_);
    if (!opened) give_up(opened.error().message());
    store_ = std::move(*opened);
    store::ClientInfo client;
    client.key.uid = 1000;
    client.key.instance.fill(7);
    client.app = "bench";
    client.context = "\n\5bench";
    client_ = std::make_shared<const store::ClientInfo>(std::move(client));
  }

  ~Store() {
    store_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  std::vector<store::Append> next_group() {
    std::vector<store::Append> group(1);
    group[0].client = client_;
    group[0].number = ++number_;
    group[0].summary = summary_;
    group[0].events = batch_;
    return group;
  }

  void commit(const std::vector<store::Append>& group) {
    const auto answers = store_->commit(group);
    if (!answers) give_up(answers.error().message());
    if (answers->at(0).kind != store::Answer::Kind::kStored) give_up("a frame was not stored");
  }

 private:
  SystemClock clock_;
  event::BatchSummary summary_;
  std::string batch_;
  std::filesystem::path folder_;
  std::unique_ptr<store::Store> store_;
  std::shared_ptr<const store::ClientInfo> client_;
  std::uint64_t number_ = 0;
};

}  // namespace

// Without a mangled name and never inlined, so that callgrind finds it by the name above.
extern "C" [[gnu::noinline]] void counted(const std::string* batch,
                                          Store* store,
                                          const std::vector<store::Append>* group) {
  if (store == nullptr) {
    static_cast<void>(validated(*batch));
  } else {
    store->commit(*group);
  }
}

int main(int argc, char** argv) {
  const std::string_view part = argc > 1 ? argv[1] : "";
  const long times = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 1000;
  if ((part != "validate" && part != "append") || times < 1) {
    std::fprintf(stderr, "usage: append_counts validate|append [TIMES]\n");
    return 2;
  }
  const std::string batch = make_batch();
  if (part == "validate") {
    static_cast<void>(validated(batch));
    for (long i = 0; i < times; ++i) counted(&batch, nullptr, nullptr);
  } else {
    Store store(batch);
    for (std::uint32_t i = 0; i < kWarmUp; ++i) store.commit(store.next_group());
    for (long i = 0; i < times; ++i) {
      const auto group = store.next_group();
      counted(nullptr, &store, &group);
    }
  }
  std::printf("part=%s times=%ld\n", argv[1], times);
  return 0;
}
