// store/shares.h: how much of the queue is whose, and so who gives way at the quota.
//
// Whoever takes more than the fair share loses first: a flood must not push out what others have
// queued. Kept in memory: rows of this epoch as they come and go, older ones as far as somebody
// has looked, so that a start reads no backlog. It decides who gives way and nothing else; being a
// little wrong costs fairness, never an event's account.
//
// Thread:  store thread; a value.
// Limits:  kOwnersMax owners. One more takes the place of the one with the fewest bytes, so that a
//          flood cannot hide behind many small ones; after as many, all are counted anew.

#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "event/event.h"
#include "store/books.h"
#include "store/store.h"

namespace telemetryd::store {

struct Owner {
  std::uint32_t uid = 0;
  AppId app = 0;
  event::Class persistence_class{};
  auto operator<=>(const Owner&) const = default;
};

class Shares {
 public:
  static constexpr std::size_t kOwnersMax = 4096;

  // A row of so many bytes; rows of an owner come in the order of their numbers.
  void add(const Owner& owner, Seq seq, std::uint64_t bytes);
  void remove(const Owner& owner, std::uint64_t bytes);

  // So much was forgotten that a look at the table knows better, or nothing is known at all.
  bool outdated() const { return owners_.empty() || displaced_ >= kOwnersMax; }

  bool knows(const Owner& owner) const { return owners_.contains(owner); }

  void forget(const Owner& owner) { owners_.erase(owner); }

  // Whose oldest row leaves next: of the users at or above the mean of all users, and of their apps
  // at or above the mean of the user's apps, the lowest class, and of that the most bytes.
  std::optional<Owner> next_to_give_way(const std::set<Owner>& except) const;

  // No row of the owner that could leave is before it.
  Seq first(const Owner& owner) const;
  void passed(const Owner& owner, Seq seq);

 private:
  struct Share {
    std::uint64_t bytes = 0;
    Seq first = 0;
  };

  std::map<Owner, Share> owners_;
  std::size_t displaced_ = 0;  // owners that made place for others
};

}  // namespace telemetryd::store
