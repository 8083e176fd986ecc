// store/ledger.h: the accounts whose identity always holds.
//
// accepted = queued + delivered + parked + erased + exported + expired + evicted + dropped + lost,
// in events, per app and for the machine, moved in the transactions that move the data. Reasons
// split an account; a reason is a word from the lists below or a frame::code_name.
//
// Thread:  any; values.

#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace telemetryd::store {

namespace account {
inline constexpr std::string_view kAccepted = "accepted";
inline constexpr std::string_view kQueued = "queued";
inline constexpr std::string_view kDelivered = "delivered";
inline constexpr std::string_view kParked = "parked";
inline constexpr std::string_view kErased = "erased";
inline constexpr std::string_view kExported = "exported";
inline constexpr std::string_view kExpired = "expired";
inline constexpr std::string_view kEvicted = "evicted";
inline constexpr std::string_view kDropped = "dropped";
inline constexpr std::string_view kLost = "lost";
// Beside the identity: events that never were accepted.
inline constexpr std::string_view kRefused = "refused";
inline constexpr std::string_view kDuplicates = "duplicates";
inline constexpr std::string_view kLostByClient = "lost_by_client";
// Not events: bytes of the queued rows' blobs.
inline constexpr std::string_view kQueuedBytes = "queued_bytes";

// The right side of the identity.
inline constexpr std::array kPlaces = {
    kQueued, kDelivered, kParked, kErased, kExported, kExpired, kEvicted, kDropped, kLost};
}  // namespace account

namespace reason {
inline constexpr std::string_view kNone = "";
inline constexpr std::string_view kQuota = "quota";             // evicted
inline constexpr std::string_view kAge = "age";                 // expired
inline constexpr std::string_view kWithdrawn = "withdrawn";     // erased: consent taken back
inline constexpr std::string_view kDeadLetter = "dead_letter";  // dropped: by somebody's word
inline constexpr std::string_view kDamage = "damage";           // lost: stored bytes were wrong
// Whatever happened in a store that was damaged as a whole, before this one took over.
inline constexpr std::string_view kEarlierStore = "earlier_store";
}  // namespace reason

// One app's accounts: (account, reason) to value. Absent means 0.
class Accounts {
 public:
  std::int64_t get(std::string_view account_name,
                   std::string_view reason_name = reason::kNone) const;
  // Over all reasons.
  std::int64_t total(std::string_view account_name) const;
  void add(std::string_view account_name, std::string_view reason_name, std::int64_t amount);

  // Zero when the identity holds; otherwise accepted minus the sum of the places.
  std::int64_t imbalance() const;

  using Map = std::map<std::pair<std::string, std::string>, std::int64_t>;

  const Map& all() const { return values_; }

 private:
  Map values_;
};

// By app name.
using Ledger = std::map<std::string, Accounts>;

Accounts machine_total(const Ledger& ledger);

}  // namespace telemetryd::store
