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
constexpr std::size_t kCrcAt = kWitnessBytes - 4;

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
  return witness;
}

std::optional<std::string> compare(const Witness& witness, const Remembered& database) {
  if (witness.store_uuid != database.store_uuid) {
    // A power cut while a store is being made may leave its witness and take the rest. Nothing was
    // accepted yet, so nothing is missing.
    if (witness.accepted_total == 0) return std::nullopt;
    return "the database is not the one the witness saw, which had accepted " +
           std::to_string(witness.accepted_total) + " events and parted with " +
           std::to_string(witness.removed_total);
  }
  if (witness.accepted_total > database.accepted_total) {
    return "the database has lost " +
           std::to_string(witness.accepted_total - database.accepted_total) +
           " accepted events: it remembers " + std::to_string(database.accepted_total) +
           ", the witness " + std::to_string(witness.accepted_total);
  }
  if (witness.removed_total > database.removed_total) {
    return "the database has lost the outcome of " +
           std::to_string(witness.removed_total - database.removed_total) +
           " delivered or removed events, which will leave again";
  }
  if (witness.epoch > database.epoch) {
    return "the database has lost its last start: it remembers epoch " +
           std::to_string(database.epoch) + ", the witness " + std::to_string(witness.epoch);
  }
  if (witness.epoch == database.epoch && witness.epoch_random != database.epoch_random) {
    return "the database is a copy from elsewhere: epoch " + std::to_string(database.epoch) +
           " is not the one the witness saw";
  }
  return std::nullopt;
}

}  // namespace telemetryd::store
