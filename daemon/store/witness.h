// store/witness.h: what the store had done, in a file that does not share the database's fate.
//
// A lost WAL leaves a database that looks healthy and only has fewer rows. The witness remembers
// totals that never shrink, so the gap can be named. docs/formats/store.md has the layout.
//
// Thread:  store thread.

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "store/ledger.h"

namespace telemetryd::store {

inline constexpr std::size_t kWitnessBytes = 4096;

struct Witness {
  Bytes16 store_uuid{};
  std::uint64_t epoch = 0;
  Bytes16 epoch_random{};
  std::uint64_t seq_last = 0;
  std::uint64_t accepted_total = 0;
  std::uint64_t removed_total = 0;
  bool clean = false;
  // In the order of account::kPlaces, over all apps; absent in witnesses of older versions.
  std::optional<std::array<std::uint64_t, account::kPlaces.size()>> places = std::nullopt;

  bool operator==(const Witness&) const = default;
};

std::string encode_witness(const Witness& witness);
// Nothing when magic, size or checksum are wrong, which a torn write explains.
std::optional<Witness> decode_witness(std::string_view bytes);

// What the database says of itself at open, before the new epoch.
struct Remembered {
  Bytes16 store_uuid{};
  std::uint64_t epoch = 0;
  Bytes16 epoch_random{};
  std::uint64_t accepted_total = 0;
  std::uint64_t removed_total = 0;
};

// What `witness` proves that the database does not have.
struct Gap {
  std::string text;               // in plain words
  bool other_store = false;       // the database is another one than the witness saw
  std::uint64_t lost_events = 0;  // accepted once, and not in the database's ledger
};

// Nothing when both agree.
std::optional<Gap> compare(const Witness& witness, const Remembered& database);

}  // namespace telemetryd::store
