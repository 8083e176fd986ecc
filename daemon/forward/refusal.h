// forward/refusal.h: whether an upstream refused all events of a request together.
//
// Thread:  any; no state.

#pragma once

#include <cstdint>
#include <optional>

#include "forward/http.h"

namespace telemetryd::forward {

enum class Refusal : std::uint8_t {
  kContent,  // one of the events may be what it is about
  kSize,     // fewer at a time may pass
  kServer,   // it failed at them; an event may be why when it does so for long
};

// What the status says. Nothing for a status that is not about the events.
std::optional<Refusal> refusal_of(const HttpResponse& response);

}  // namespace telemetryd::forward
