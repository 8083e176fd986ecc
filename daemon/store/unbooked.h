// store/unbooked.h: what the newest rows say and the tables `ledger` and `clients` do not say yet.
//
// A row carries its share of the ledger and its client's frame number, so a commit that brings
// nothing but rows writes one place instead of three. The tables follow with the next transaction
// of another kind, after kRowsMax rows, and at close; after a crash the rows are read again.
//
// Thread:  store thread; a value.
// Limits:  kRowsMax rows and the group that brought the last of them, so that a start reads few.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "store/books.h"
#include "store/client_cache.h"
#include "store/store.h"

namespace telemetryd::store {

// What a row of these columns adds to the ledger.
void add_row(Moves& moves, AppId app, std::int64_t events, std::int64_t blob_bytes);

class Unbooked {
 public:
  static constexpr std::size_t kRowsMax = 256;

  bool empty() const { return rows_ == 0; }

  bool full() const { return rows_ >= kRowsMax; }

  // A row whose newest frame is `number`; a client's rows come in the order of their numbers.
  void add(const ClientKey& client,
           std::uint64_t number,
           AppId app,
           std::int64_t events,
           std::int64_t blob_bytes);

  std::optional<std::uint64_t> high_water(const ClientKey& client) const;

  const Moves& moves() const { return moves_; }

  using HighWaters = std::unordered_map<ClientKey, std::uint64_t, ClientKeyHash>;

  const HighWaters& high_waters() const { return high_waters_; }

 private:
  Moves moves_;
  HighWaters high_waters_;
  std::size_t rows_ = 0;
};

}  // namespace telemetryd::store
