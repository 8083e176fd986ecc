#include "store/quarantine.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <sys/stat.h>
#include <system_error>
#include <tuple>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io.h"
#include "base/log.h"
#include "base/rfc3339.h"
#include "store/ledger.h"
#include "store/witness.h"

namespace telemetryd::store {
namespace {

constexpr std::string_view kFolder = "quarantine";
// The store under way there; a name that no finished one has.
constexpr std::string_view kMoving = "moving";
constexpr std::string_view kNote = "reason";
constexpr std::size_t kNoteBytesMax = 4096;
// Every file that a finished folder holds, with what a crash leaves of replace_file().
constexpr std::array<std::string_view, 7> kNames = {"events.db",
                                                    "events.db-wal",
                                                    "events.db-journal",
                                                    "witness",
                                                    kNote,
                                                    "witness.new",
                                                    "reason.new"};
// What one event is taken to need where no witness tells their number.
constexpr std::uint64_t kEventBytes = 1024;
// Of name_at(); the digits are zeros here.
constexpr std::string_view kNamePattern = "00000000T000000Z-xxxxxxxx";

std::filesystem::path folder_of(const StateFiles& files) {
  return files.database.parent_path() / kFolder;
}

Result<void> make_folder(const std::filesystem::path& folder) {
  if (::mkdir(folder.c_str(), 0700) == 0) return sync_directory(folder.parent_path());
  if (errno != EEXIST) return fail(error_from_errno(errno, "making " + folder.native()));
  struct stat info{};
  if (::lstat(folder.c_str(), &info) != 0) {
    return fail(error_from_errno(errno, "looking at " + folder.native()));
  }
  if (S_ISDIR(info.st_mode) && info.st_uid == ::geteuid()) return {};
  return fail(ErrorCode::kFailedPrecondition,
              folder.native() + " is not a folder of this daemon's user; move it away");
}

bool lies_at(const std::filesystem::path& path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0;
}

// Only the folder's own name was lost, by a power cut: the next store had begun by then, and what
// lies in its place is not what the note speaks of. It must not be renamed over the old one.
bool moved_already(const StateFiles& files, const std::filesystem::path& moving) {
  return std::ranges::any_of(
      std::array{files.wal, files.journal, files.database},
      [&](const auto& file) { return lies_at(file) && lies_at(moving / file.filename()); });
}

// Absent: an earlier try moved it, or there never was one.
Result<void> move_into(const std::filesystem::path& file, const std::filesystem::path& folder) {
  const std::filesystem::path target = folder / file.filename();
  if (::rename(file.c_str(), target.c_str()) == 0 || errno == ENOENT) return {};
  return fail(error_from_errno(errno, "moving " + file.native() + " to " + folder.native()));
}

// The witness itself stays for the next store, which books the loss from it.
Result<void> copy_witness(const StateFiles& files, const std::filesystem::path& folder) {
  const auto witness = read_file(files.witness, kWitnessBytes);
  if (!witness) return {};
  return replace_file(folder / "witness", *witness, 0600);
}

Result<void> move_all(const StateFiles& files, const std::filesystem::path& moving) {
  TELEMETRYD_TRY(copy_witness(files, moving));
  for (const auto& file : {files.wal, files.journal, files.database}) {
    TELEMETRYD_TRY(move_into(file, moving));
  }
  // Inner names first: the folder gets its own only when it is complete.
  TELEMETRYD_TRY(sync_directory(moving));
  return sync_directory(files.database.parent_path());
}

// "20231114T221320Z-1f2e3d4c": sorts by time, and two of one second differ.
std::string name_at(UnixMs now) {
  std::string name = rfc3339_seconds(now / 1000);
  std::erase_if(name, [](char c) { return c == '-' || c == ':'; });
  const Bytes16 random = random_bytes16();
  return name + "-" + to_hex(std::span(random).first(4));
}

bool is_name_of_ours(std::string_view name) {
  return std::ranges::equal(name, kNamePattern, [](char c, char pattern) {
    const bool digit = c >= '0' && c <= '9';
    if (pattern == '0') return digit;
    return pattern == 'x' ? digit || (c >= 'a' && c <= 'f') : c == pattern;
  });
}

std::uint64_t held_by(const Witness& witness) {
  if (!witness.places) {
    return witness.accepted_total - std::min(witness.accepted_total, witness.removed_total);
  }
  std::uint64_t events = 0;
  for (std::size_t i = 0; i < account::kPlaces.size(); ++i) {
    const std::string_view place = account::kPlaces[i];
    if (place == account::kQueued || place == account::kParked) events += (*witness.places)[i];
  }
  return events;
}

std::uint64_t bytes_in(const std::filesystem::path& folder) {
  std::uint64_t bytes = 0;
  for (const std::string_view name : kNames) {
    struct stat info{};
    if (::lstat((folder / name).c_str(), &info) != 0) continue;
    bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

QuarantinedStore store_in(const std::filesystem::path& folder) {
  QuarantinedStore store{.folder = folder, .bytes = bytes_in(folder)};
  const auto witness = read_file(folder / "witness", kWitnessBytes);
  if (witness) store.witness = decode_witness(*witness);
  store.held_events = store.witness ? held_by(*store.witness) : store.bytes / kEventBytes;
  return store;
}

// Of two that held the same, as a start that ended before its first witness leaves them, the larger
// one is the one that holds it.
auto worth_of(const QuarantinedStore& store) {
  const std::uint64_t epoch = store.witness ? store.witness->epoch : 0;
  return std::tuple(store.held_events, epoch, store.bytes, store.folder);
}

auto age_of(const QuarantinedStore& store) {
  return std::tuple(store.witness ? store.witness->epoch : 0, store.folder);
}

// By name, so that nothing goes that somebody else put there; such a folder stays.
bool remove_store(const std::filesystem::path& folder) {
  for (const std::string_view name : kNames) ::unlink((folder / name).c_str());
  return ::rmdir(folder.c_str()) == 0;
}

}  // namespace

std::vector<QuarantinedStore> quarantined(const std::filesystem::path& state_dir) {
  std::vector<QuarantinedStore> stores;
  std::error_code unreadable;
  for (std::filesystem::directory_iterator at(state_dir / kFolder, unreadable), end; at != end;
       at.increment(unreadable)) {
    const bool folder =
        at->symlink_status(unreadable).type() == std::filesystem::file_type::directory;
    if (folder && is_name_of_ours(at->path().filename().native())) {
      stores.push_back(store_in(at->path()));
    }
  }
  std::ranges::sort(stores, {}, age_of);
  return stores;
}

std::uint64_t quarantined_bytes(const std::filesystem::path& state_dir) {
  std::uint64_t bytes = 0;
  for (const QuarantinedStore& store : quarantined(state_dir)) bytes += store.bytes;
  return bytes;
}

Result<void> condemn(const StateFiles& files, const std::string& reason) {
  const std::filesystem::path folder = folder_of(files);
  TELEMETRYD_TRY(make_folder(folder));
  TELEMETRYD_TRY(make_folder(folder / kMoving));
  return replace_file(folder / kMoving / kNote, reason.substr(0, kNoteBytesMax - 1) + "\n", 0600);
}

Result<bool> set_aside_condemned(const StateFiles& files, UnixMs now) {
  const std::filesystem::path folder = folder_of(files);
  const std::filesystem::path moving = folder / kMoving;
  const auto note = read_file(moving / kNote, kNoteBytesMax);
  if (!note && note.error().code() == ErrorCode::kNotFound) {
    // The last start may have failed between the folder's name and its sync.
    if (lies_at(folder)) TELEMETRYD_TRY(sync_directory(folder));
    return false;
  }
  if (!note) return fail(note.error());
  if (!moved_already(files, moving)) TELEMETRYD_TRY(move_all(files, moving));
  const std::filesystem::path target = folder / name_at(now);
  if (::rename(moving.c_str(), target.c_str()) != 0) {
    return fail(error_from_errno(errno, "naming " + target.native()));
  }
  TELEMETRYD_TRY(sync_directory(folder));
  log::error("store_set_aside",
             {{"folder", target.native()},
              {"cause", std::string_view(*note).substr(0, note->find('\n'))},
              {"bytes", bytes_in(target)}});
  return true;
}

void bound_quarantine(const std::filesystem::path& state_dir,
                      std::uint64_t bytes_max,
                      Bound bound) {
  std::vector<QuarantinedStore> stores = quarantined(state_dir);
  std::ranges::sort(stores, {}, worth_of);
  std::uint64_t bytes = quarantined_bytes(state_dir);
  for (std::size_t i = 0; i + 1 < stores.size(); ++i) {
    const bool nothing_twice = stores[i + 1].held_events == 0;
    const bool too_many = stores.size() - i > kQuarantinedMax;
    const bool too_much = bound == Bound::kCountAndBytes && (bytes > bytes_max || nothing_twice);
    if (!too_many && !too_much) return;
    const bool gone = remove_store(stores[i].folder);
    bytes -= stores[i].bytes;
    log::error("quarantined_store_removed",
               {{"folder", stores[i].folder.native()},
                {"bytes", stores[i].bytes},
                {"held_events", stores[i].held_events},
                {"whole", gone ? "yes" : "no, it holds files of others"}});
  }
}

}  // namespace telemetryd::store
