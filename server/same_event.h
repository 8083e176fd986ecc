// server/same_event.h: whether an event that comes again says what the stored one says.
//
// A native event is its bytes. A telemetry-kit event is what its JSON means without `metadata`,
// which every try of a sender writes anew.
//
// Thread:  any; no state.
// Limits:  what read_body() has let pass bounds size and nesting.

#pragma once

#include <string_view>

#include "server/event_store.h"

namespace telemetryd::server {

bool same_event(EventFormat format, std::string_view stored, std::string_view again);

}  // namespace telemetryd::server
