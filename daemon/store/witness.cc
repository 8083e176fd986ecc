#include "store/witness.h"

#include <algorithm>

#include "frame/frame.h"
#include "store/row_bytes.h"

namespace telemetryd::store {
namespace {

constexpr std::string_view kMagic = "TLMWITN1";
constexpr std::size_t kUuidAt = 8;
constexpr std::size_t kEpochAt = 24;
constexpr std::size_t kEpochRandomAt = 32;
constexpr std::size_t kSeqLastAt = 48;
constexpr std::size_t kAcceptedAt = 56;
constexpr std::size_t kRemovedAt = 64;
constexpr std::size_t kCleanAt = 72;
constexpr std::size_t kHasPlacesAt = 73;
constexpr std::size_t kPlacesAt = 80;
constexpr std::size_t kCrcAt = kWitnessBytes - 4;

std::string events_text(std::uint64_t events) {
  return std::to_string(events) + (events == 1 ? " event" : " events");
}

// What the store still had to deliver or to show when the witness was written.
std::uint64_t kept(const Witness& witness) {
  return witness.accepted_total - std::min(witness.accepted_total, witness.removed_total);
}

}  // namespace

std::string encode_witness(const Witness& witness) {
  std::string bytes(kWitnessBytes, '\0');
  auto* out = reinterpret_cast<std::uint8_t*>(bytes.data());
  std::ranges::copy(kMagic, bytes.data());
  std::ranges::copy(witness.store_uuid, out + kUuidAt);
  frame::put_u64(out + kEpochAt, witness.epoch);
  std::ranges::copy(witness.epoch_random, out + kEpochRandomAt);
  frame::put_u64(out + kSeqLastAt, witness.seq_last);
  frame::put_u64(out + kAcceptedAt, witness.accepted_total);
  frame::put_u64(out + kRemovedAt, witness.removed_total);
  out[kCleanAt] = witness.clean ? 1 : 0;
  if (witness.places) {
    out[kHasPlacesAt] = 1;
    std::uint8_t* place = out + kPlacesAt;
    for (const std::uint64_t events : *witness.places) {
      frame::put_u64(place, events);
      place += sizeof events;
    }
  }
  frame::put_u32(out + kCrcAt, content_crc({}, std::string_view(bytes).substr(0, kCrcAt)));
  return bytes;
}

std::optional<Witness> decode_witness(std::string_view bytes) {
  if (bytes.size() != kWitnessBytes || !bytes.starts_with(kMagic)) return std::nullopt;
  const std::uint8_t* in = as_bytes(bytes).data();
  if (frame::get_u32(in + kCrcAt) != content_crc({}, bytes.substr(0, kCrcAt))) return std::nullopt;
  Witness witness;
  std::copy_n(in + kUuidAt, 16, witness.store_uuid.begin());
  witness.epoch = frame::get_u64(in + kEpochAt);
  std::copy_n(in + kEpochRandomAt, 16, witness.epoch_random.begin());
  witness.seq_last = frame::get_u64(in + kSeqLastAt);
  witness.accepted_total = frame::get_u64(in + kAcceptedAt);
  witness.removed_total = frame::get_u64(in + kRemovedAt);
  witness.clean = in[kCleanAt] == 1;
  if (in[kHasPlacesAt] == 1) {
    witness.places.emplace();
    const std::uint8_t* place = in + kPlacesAt;
    for (std::uint64_t& events : *witness.places) {
      events = frame::get_u64(place);
      place += sizeof events;
    }
  }
  return witness;
}

std::optional<Gap> compare(const Witness& witness, const Remembered& database) {
  if (witness.store_uuid != database.store_uuid) {
    // A power cut while a store is being made may leave its witness and take the rest. Nothing was
    // accepted yet, so nothing is missing.
    if (witness.accepted_total == 0) return std::nullopt;
    return Gap{"the database is not the one that the witness saw, which had accepted " +
                   events_text(witness.accepted_total) + " and still held " +
                   std::to_string(kept(witness)),
               true,
               kept(witness)};
  }
  if (witness.accepted_total > database.accepted_total) {
    const std::uint64_t events = witness.accepted_total - database.accepted_total;
    return Gap{"the database has lost " + std::to_string(events) + " accepted " +
                   (events == 1 ? "event" : "events") + ": it remembers " +
                   std::to_string(database.accepted_total) + ", the witness " +
                   std::to_string(witness.accepted_total),
               false,
               events};
  }
  if (witness.removed_total > database.removed_total) {
    return Gap{"the database has lost the outcome of " +
               std::to_string(witness.removed_total - database.removed_total) +
               " delivered or removed events, which will leave again"};
  }
  if (witness.epoch > database.epoch) {
    return Gap{"the database has lost its last start: it remembers epoch " +
               std::to_string(database.epoch) + ", the witness " + std::to_string(witness.epoch)};
  }
  if (witness.epoch == database.epoch && witness.epoch_random != database.epoch_random) {
    return Gap{"the database is a copy from elsewhere: epoch " + std::to_string(database.epoch) +
               " is not the one the witness saw"};
  }
  return std::nullopt;
}

}  // namespace telemetryd::store
