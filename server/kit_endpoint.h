// server/kit_endpoint.h: POST /v1/ingest/{org}/{app} and /events/batch, as docs/formats/ingest.md
// has them.
//
// What telemetry-kit's SDKs send. The signature covers neither path nor method, so a token is for
// one application; its two forms overlap, so the plain one is off unless the operator asks for it,
// and never taken for a body that could be the rest of the other form.
//
// Thread:  any.
// Limits:  kKitBodyBytesMax; those of kit/read_body.h and nonce_memory.h.

#pragma once

#include <cstdint>
#include <string_view>

#include "server/endpoint.h"
#include "server/event_store.h"
#include "server/gate.h"
#include "server/kit_headers.h"

namespace telemetryd::server {

inline constexpr std::uint64_t kKitBodyBytesMax = 5u << 20;

class KitEndpoint final : public Endpoint {
 public:
  KitEndpoint(Gate& gate, EventStore& events, KitLeniency leniency)
      : gate_(gate), events_(events), leniency_(leniency) {}

  bool owns(std::string_view path) const override;

  std::string_view methods() const override { return "POST"; }

  Admission begin(const RequestHead& head) override;

 private:
  Gate& gate_;
  EventStore& events_;
  const KitLeniency leniency_;
};

}  // namespace telemetryd::server
