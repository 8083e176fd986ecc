// forward/native_verdict.h: what an answer of telemetry-server means for the lease.
//
// Delivered is only what the server says in its own shape: a captive portal answers 200 as well.
// What time heals is RETRY, what needs a person is HOLD, and neither loses an event.
//
// Thread:  any; no state.

#pragma once

#include <string>

#include "forward/http.h"
#include "forward/native_request.h"
#include "forward/sink.h"

namespace telemetryd::forward {

v1::Outcome judge(const HttpResponse& response, const BatchLayout& layout);

// One line about an answer that is no success: status, the server's code and words.
std::string describe(const HttpResponse& response);

}  // namespace telemetryd::forward
