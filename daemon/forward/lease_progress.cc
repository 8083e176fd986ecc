#include "forward/lease_progress.h"

#include <utility>

namespace telemetryd::forward {
namespace {

Digest digest_of(const v1::LeasedRow& row) {
  return sha256(row.SerializeAsString());
}

}  // namespace

const LeaseProgress::Row* LeaseProgress::find(const v1::LeasedRow& row) const {
  const auto found = rows_.find(row.seq());
  if (found == rows_.end() || found->second.digest != digest_of(row)) return nullptr;
  return &found->second.known;
}

void LeaseProgress::keep(const v1::LeasedRow& row, Row known) {
  if (!known.empty()) rows_.insert_or_assign(row.seq(), Kept{digest_of(row), std::move(known)});
}

void LeaseProgress::clear() {
  *this = LeaseProgress();
}

}  // namespace telemetryd::forward
