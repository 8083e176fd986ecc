#include "store/shares.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace telemetryd::store {
namespace {

// Lowest first.
constexpr std::array kEvictionOrder = {
    event::Class::kLow, event::Class::kNormal, event::Class::kCritical};

auto rank(event::Class persistence_class) {
  return std::ranges::find(kEvictionOrder, persistence_class) - kEvictionOrder.begin();
}

struct Sum {
  std::uint64_t bytes = 0;
  std::uint64_t parts = 0;

  // Not below the mean of `parts`, without the rounding of a division.
  bool covers(std::uint64_t part) const { return part * parts >= bytes; }
};

}  // namespace

void Shares::add(const Owner& owner, Seq seq, std::uint64_t bytes) {
  const auto found = owners_.find(owner);
  if (found != owners_.end()) {
    found->second.bytes += bytes;
    found->second.first = std::min(found->second.first, seq);
    return;
  }
  if (owners_.size() >= kOwnersMax) {
    ++displaced_;
    owners_.erase(std::ranges::min_element(
        owners_, {}, [](const auto& entry) { return entry.second.bytes; }));
  }
  owners_.emplace(owner, Share{bytes, seq});
}

void Shares::remove(const Owner& owner, std::uint64_t bytes) {
  const auto found = owners_.find(owner);
  if (found == owners_.end()) return;
  if (found->second.bytes <= bytes) {
    owners_.erase(found);
  } else {
    found->second.bytes -= bytes;
  }
}

std::optional<Owner> Shares::next_to_give_way(const std::set<Owner>& except) const {
  std::map<std::uint32_t, std::uint64_t> users;
  std::map<std::pair<std::uint32_t, AppId>, std::uint64_t> apps;
  for (const auto& [owner, share] : owners_) {
    if (except.contains(owner)) continue;
    users[owner.uid] += share.bytes;
    apps[{owner.uid, owner.app}] += share.bytes;
  }
  Sum all;
  for (const auto& [uid, bytes] : users) all = {all.bytes + bytes, all.parts + 1};
  std::map<std::uint32_t, Sum> of_user;
  for (const auto& [app, bytes] : apps) {
    Sum& sum = of_user[app.first];
    sum = {sum.bytes + bytes, sum.parts + 1};
  }
  std::optional<Owner> chosen;
  std::pair<std::ptrdiff_t, std::uint64_t> best;
  for (const auto& [owner, share] : owners_) {
    if (except.contains(owner) || !all.covers(users[owner.uid])) continue;
    if (!of_user[owner.uid].covers(apps[{owner.uid, owner.app}])) continue;
    const std::pair<std::ptrdiff_t, std::uint64_t> mine{-rank(owner.persistence_class),
                                                        share.bytes};
    if (chosen && mine <= best) continue;
    chosen = owner;
    best = mine;
  }
  return chosen;
}

Seq Shares::first(const Owner& owner) const {
  const auto found = owners_.find(owner);
  return found == owners_.end() ? 0 : found->second.first;
}

void Shares::passed(const Owner& owner, Seq seq) {
  const auto found = owners_.find(owner);
  if (found != owners_.end()) found->second.first = seq;
}

}  // namespace telemetryd::store
