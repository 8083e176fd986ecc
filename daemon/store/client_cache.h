// store/client_cache.h: the high waters of the clients seen last.
//
// Thread:  store thread.
// Limits:  kClientsMax entries; the one not used for longest leaves. The table has all of them.

#pragma once

#include <cstdint>
#include <cstring>
#include <list>
#include <optional>
#include <unordered_map>

#include "store/store.h"

namespace telemetryd::store {

struct ClientKeyHash {
  std::size_t operator()(const ClientKey& key) const {
    // Instances are random; a client that chooses its own only slows its own look-ups down, and
    // the table is small.
    std::uint64_t halves[2];
    std::memcpy(halves, key.instance.data(), sizeof halves);
    return (halves[0] ^ (halves[1] * 0x9E3779B97F4A7C15ull)) + key.uid;
  }
};

class ClientCache {
 public:
  static constexpr std::size_t kClientsMax = 4096;

  std::optional<std::uint64_t> find(const ClientKey& key);
  void put(const ClientKey& key, std::uint64_t high_water);
  void drop(const ClientKey& key);

 private:
  struct Entry {
    ClientKey key;
    std::uint64_t high_water = 0;
  };

  std::list<Entry> by_use_;  // used last stands first
  std::unordered_map<ClientKey, std::list<Entry>::iterator, ClientKeyHash> index_;
};

}  // namespace telemetryd::store
