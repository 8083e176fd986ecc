#include "forward/lease_progress.h"

#include <utility>

#include "base/bytes.h"

namespace telemetryd::forward {
namespace {

Digest digest_of(const v1::LeasedRow& row) {
  return sha256(row.SerializeAsString());
}

Digest digest_of(const v1::Lease& lease) {
  std::string digests;
  for (const v1::LeasedRow& row : lease.rows()) digests.append(as_text(digest_of(row)));
  return sha256(digests);
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

void LeaseProgress::rest(const v1::Lease& lease, std::uint32_t tries) {
  rest_tries_ = tries;
  rest_digest_ = digest_of(lease);
}

std::uint32_t LeaseProgress::rest_of(const v1::Lease& lease) const {
  return rest_tries_ > 0 && rest_digest_ == digest_of(lease) ? rest_tries_ : 0;
}

}  // namespace telemetryd::forward
