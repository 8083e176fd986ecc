// A small store whose files somebody changed: whatever the bytes, the store opens with books that
// balance and serves, or refuses in words; what it hands out was accepted once, and what it does
// not is counted.
//
// An input is a list of changes of eight bytes each: file, kind, place (u32), length, value.

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "frame/frame.h"
#include "store/store.h"
#include "support/fake_clock.h"
#include "support/temp_dir.h"
#include "unit/store/store_helpers.h"

using namespace telemetryd;

namespace {

namespace fs = std::filesystem;

constexpr std::array kFiles = {"events.db", "events.db-wal", "witness", "events.db-journal"};
constexpr std::size_t kChangeBytes = 8;
constexpr std::size_t kChangesMax = 12;
constexpr std::int64_t kEvents = 30;
constexpr int kStartsMax = 4;  // each may find another damage
constexpr int kIdleMoments = 60;

std::string read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const fs::path& file, const std::string& bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << bytes;
  TELEMETRYD_CHECK(out.flush().good());
}

std::string body(std::int64_t number) {
  std::string text = "event " + std::to_string(number) + " ";
  text.resize(number % 7 == 0 ? 9000 : 200, static_cast<char>('a' + number % 26));
  return text;
}

store::Options options_in(const fs::path& folder) {
  store::Options options;
  options.state_dir = folder;
  options.bytes_max = 4u << 20;
  options.wal_pregrow_bytes = 64u << 10;
  return options;
}

// The store before anybody touched it: rows in the database and rows in the log alone, one
// delivered in part, and a kill instead of a close.
class Original {
 public:
  Original() {
    log::open("store_files_fuzz", log::Level::kError);
    const test::TempDir folder;
    test::FakeClock clock;
    for (const bool last : {false, true}) {
      auto opened = store::open_sqlite_store(options_in(folder.path()), clock);
      TELEMETRYD_CHECK(opened.has_value());
      store::Store& store = **opened;
      for (std::int64_t i = 0; i < kEvents / 6; ++i) commit(store);
      if (!last) {
        auto lease = store.lease(test::lease_of({"shop"}, 2));
        TELEMETRYD_CHECK(lease && store.settle({lease->id, "upstream", {}}));
      }
      clock.advance(std::chrono::seconds(2));
      TELEMETRYD_CHECK(store.idle().has_value());
      if (!last) TELEMETRYD_CHECK(store.close().has_value());
    }
    for (const char* name : kFiles) files_.push_back(read(folder / name));
  }

  const std::vector<std::string>& files() const { return files_; }

 private:
  void commit(store::Store& store) {
    const std::vector<store::Append> group{
        test::frame(test::client(1), ++number_, {body(next_), body(next_ + 1)}),
        test::frame(test::client(2, "mail"), number_, {body(next_ + 2)}, event::Class::kLow)};
    TELEMETRYD_CHECK(store.commit(group).has_value());
    next_ += 3;
  }

  std::uint64_t number_ = 0;
  std::int64_t next_ = 0;
  std::vector<std::string> files_;
};

void change(std::vector<std::string>& files, const std::uint8_t* at) {
  std::string& file = files[at[0] % kFiles.size()];
  const std::uint32_t place = frame::get_u32(at + 2);
  const std::size_t offset = file.empty() ? 0 : place % file.size();
  const std::size_t length = std::min<std::size_t>(at[6] + std::size_t{1}, file.size() - offset);
  switch (at[1] % 6) {
    case 0:
      for (std::size_t i = 0; i < length; ++i)
        file[offset + i] = static_cast<char>(file[offset + i] ^ at[7]);
      return;
    case 1: file.replace(offset, length, length, static_cast<char>(at[7])); return;
    case 2: file.resize(offset); return;
    case 3: file.clear(); return;
    // A page that was written to the wrong place, or not at all.
    case 4:
      file.replace(offset / 8192 * 8192,
                   8192,
                   file.substr(std::size_t{at[7]} * 8192 % (file.size() + 1), 8192));
      return;
    default: file += std::string(at[6] + std::size_t{1}, static_cast<char>(at[7])); return;
  }
}

// A store that has given up says nothing any more.
bool balanced(store::Store& store) {
  const auto ledger = store.ledger();
  if (!ledger) return ledger.error().code() == ErrorCode::kUnknownOutcome;
  for (const auto& [app, accounts] : *ledger) {
    if (accounts.imbalance() != 0) return false;
  }
  return true;
}

// True when the run got to its end; false when damage ended it.
bool serve(store::Store& store, test::FakeClock& clock, std::set<std::string>& found) {
  TELEMETRYD_CHECK(balanced(store));
  for (;;) {
    const auto lease = store.lease(test::lease_of({"shop", "mail"}));
    if (!lease) break;
    if (lease->id == 0) break;
    for (std::string& text : test::bodies_of(*lease)) found.insert(std::move(text));
    if (!store.settle({lease->id, "upstream", {}})) break;
  }
  for (int i = 0; i < kIdleMoments; ++i) {
    clock.advance(std::chrono::milliseconds(300));
    if (!store.idle()) return false;
  }
  TELEMETRYD_CHECK(balanced(store));
  auto newcomer = std::make_shared<store::ClientInfo>(*test::client(9));
  newcomer->key.instance = random_bytes16();
  const std::vector<store::Append> group{test::frame(newcomer, 1, {"new"})};
  const auto answers = store.commit(group);
  return answers && answers->front().kind == store::Answer::Kind::kStored;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Original original;
  static const test::TempDir folder;
  std::vector<std::string> files = original.files();
  for (std::size_t i = 0; i < kChangesMax && (i + 1) * kChangeBytes <= size; ++i) {
    change(files, data + i * kChangeBytes);
  }
  for (const auto& entry : fs::directory_iterator(folder.path())) fs::remove_all(entry.path());
  for (std::size_t i = 0; i < kFiles.size(); ++i) {
    if (!files[i].empty() || i < 2) write(folder / kFiles[i], files[i]);
  }

  std::set<std::string> issued;
  for (std::int64_t i = 0; i < kEvents; ++i) issued.insert(body(i));
  std::set<std::string> found;
  test::FakeClock clock;
  bool served = false;
  for (int start = 0; start < kStartsMax && !served; ++start) {
    const auto opened = store::open_sqlite_store(options_in(folder.path()), clock);
    if (!opened) {
      const ErrorCode code = opened.error().code();
      TELEMETRYD_CHECK(code == ErrorCode::kFailedPrecondition ||
                       code == ErrorCode::kUnknownOutcome);
      TELEMETRYD_CHECK(!opened.error().message().empty());
      if (code == ErrorCode::kFailedPrecondition) return 0;
      continue;
    }
    served = serve(**opened, clock, found);
    // The witness knew of all of them, so none is missing from the books.
    const bool told = files[2] == original.files()[2];
    if (const auto ledger = (*opened)->ledger(); served && told) {
      TELEMETRYD_CHECK(store::machine_total(*ledger).total("accepted") >= kEvents);
    }
  }
  TELEMETRYD_CHECK(served);
  found.erase("new");
  for (const std::string& text : found) TELEMETRYD_CHECK(issued.contains(text));
  return 0;
}
