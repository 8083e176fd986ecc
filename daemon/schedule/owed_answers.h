// schedule/owed_answers.h: which answers the forwarder owes, and by when the first of them is due.
//
// Each has its own deadline, so that answers for one destination do not excuse silence about
// another.
//
// Thread:  loop.

#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>

#include "base/clock.h"

namespace telemetryd::schedule {

class OwedAnswers {
 public:
  void owe(std::uint64_t id, BootMs deadline) { deadlines_[id] = deadline; }

  // False: nobody asked, or it was answered before.
  [[nodiscard]] bool answered(std::uint64_t id) { return deadlines_.erase(id) > 0; }

  std::optional<BootMs> deadline() const {
    std::optional<BootMs> first;
    for (const auto& [id, at] : deadlines_) first = std::min(first.value_or(at), at);
    return first;
  }

  void clear() { deadlines_.clear(); }

 private:
  std::map<std::uint64_t, BootMs> deadlines_;
};

}  // namespace telemetryd::schedule
