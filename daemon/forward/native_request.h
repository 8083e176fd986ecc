// forward/native_request.h: the bytes of a native upload: body, headers, signature.
//
// docs/formats/native.md is the contract and has a worked example. Stored events are spliced in as
// they are; nothing here decodes them.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::forward {

namespace v1 = ::telemetry::v1;

// Where the events of a batch came from: the server counts over all groups, the store per row.
class BatchLayout {
 public:
  explicit BatchLayout(const v1::Lease& lease);

  struct Place {
    std::uint64_t seq = 0;
    std::uint32_t index = 0;
  };

  std::uint64_t events() const { return events_; }

  // Of the event that the server calls `index`; index < events().
  Place place(std::uint64_t index) const;

 private:
  struct Group {
    std::uint64_t begin = 0;  // index of its first event in the batch
    Place first;
  };

  std::vector<Group> groups_;
  std::uint64_t events_ = 0;
};

// An encoded NativeBatch.
std::string native_body(const v1::Lease& lease, UnixMs sent_unix_ms, std::string_view sender);

struct SignedParts {
  std::string_view method;
  std::string_view path;  // as sent, without the query
  std::string_view timestamp;
  std::string_view nonce;
  std::string_view body;
};

std::string string_to_sign(const SignedParts& parts);
// 64 lower-case hex digits.
std::string sign(std::string_view secret, const SignedParts& parts);

}  // namespace telemetryd::forward
