#include "store/client_cache.h"

namespace telemetryd::store {

std::optional<std::uint64_t> ClientCache::find(const ClientKey& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return std::nullopt;
  by_use_.splice(by_use_.begin(), by_use_, found->second);
  return found->second->high_water;
}

void ClientCache::put(const ClientKey& key, std::uint64_t high_water) {
  const auto found = index_.find(key);
  if (found != index_.end()) {
    found->second->high_water = high_water;
    by_use_.splice(by_use_.begin(), by_use_, found->second);
    return;
  }
  if (by_use_.size() >= kClientsMax) {
    index_.erase(by_use_.back().key);
    by_use_.pop_back();
  }
  by_use_.push_front({key, high_water});
  index_.emplace(key, by_use_.begin());
}

void ClientCache::drop(const ClientKey& key) {
  const auto found = index_.find(key);
  if (found == index_.end()) return;
  by_use_.erase(found->second);
  index_.erase(found);
}

}  // namespace telemetryd::store
