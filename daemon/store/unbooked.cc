#include "store/unbooked.h"

namespace telemetryd::store {

void add_row(Moves& moves, AppId app, std::int64_t events, std::int64_t blob_bytes) {
  moves.add(app, account::kAccepted, reason::kNone, events);
  moves.add(app, account::kQueued, reason::kNone, events);
  moves.add(app, account::kQueuedBytes, reason::kNone, blob_bytes);
}

void Unbooked::add(const ClientKey& client,
                   std::uint64_t number,
                   AppId app,
                   std::int64_t events,
                   std::int64_t blob_bytes) {
  add_row(moves_, app, events, blob_bytes);
  high_waters_[client] = number;
  ++rows_;
}

std::optional<std::uint64_t> Unbooked::high_water(const ClientKey& client) const {
  const auto found = high_waters_.find(client);
  if (found == high_waters_.end()) return std::nullopt;
  return found->second;
}

}  // namespace telemetryd::store
