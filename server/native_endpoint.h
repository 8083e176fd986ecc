// server/native_endpoint.h: POST /v1/native/{org}/{app}, as docs/formats/native.md has it.
//
// The checks run in the order of its table: limits before authentication, authentication before
// anything of the body is believed. Errors say what was wrong with the request and nothing about
// what is stored here.
//
// Thread:  any.
// Limits:  kBodyBytesMax; those of batch.h and nonce_memory.h.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/endpoint.h"
#include "server/event_store.h"
#include "server/gate.h"

namespace telemetryd::server {

inline constexpr std::uint64_t kBodyBytesMax = 8u << 20;

class NativeEndpoint final : public Endpoint {
 public:
  NativeEndpoint(Gate& gate, EventStore& events) : gate_(gate), events_(events) {}

  bool owns(std::string_view path) const override;

  std::string_view methods() const override { return "POST"; }

  Admission begin(const RequestHead& head) override;

 private:
  Gate& gate_;
  EventStore& events_;
};

// The string that X-Signature signs.
std::string native_string_to_sign(std::string_view path,
                                  std::string_view timestamp,
                                  std::string_view nonce,
                                  std::string_view body);

}  // namespace telemetryd::server
