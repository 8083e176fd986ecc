// forward/lease_progress.h: what an unsettled lease achieved, for when its rows come again.
//
// An upstream may allow fewer requests a minute than a lease needs. A try that ends in the middle
// settles nothing, so the next one goes on where it ended: what is known of an event is not asked
// again. Whatever is forgotten here is only sent again, and is a duplicate then.
//
// Owns:    what is known of the rows of one lease, by row.
// Thread:  one; a value.
// Limits:  the events of one lease; a row that came back otherwise than it was is unknown.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "base/digest.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

class LeaseProgress {
 public:
  // Events by their place in the row as it was lent.
  struct Row {
    std::set<std::uint32_t> taken;
    std::map<std::uint32_t, std::string> refused;  // and why
    std::set<std::uint32_t> cuts;                  // where divided requests begin

    bool empty() const { return taken.empty() && refused.empty() && cuts.empty(); }
  };

  // Null when nothing is known of exactly this row.
  const Row* find(const v1::LeasedRow& row) const;
  void keep(const v1::LeasedRow& row, Row known);
  // All rows.
  void clear();

  // A division of exactly these rows was for nothing, and is not worth another for so many tries.
  void rest(const v1::Lease& lease, std::uint32_t tries);
  std::uint32_t rest_of(const v1::Lease& lease) const;

  std::size_t duplicates = 0;     // of those taken
  std::size_t refused_alone = 0;  // before any was taken

 private:
  struct Kept {
    Digest digest;
    Row known;
  };

  std::map<std::uint64_t, Kept> rows_;  // by seq
  std::uint32_t rest_tries_ = 0;
  Digest rest_digest_{};
};

}  // namespace telemetryd::forward
