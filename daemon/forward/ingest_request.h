// forward/ingest_request.h: a telemetry-kit upload: address, headers, signature.
//
// docs/formats/ingest.md is the contract.
//
// Thread:  any; no state.
// Fails:   as forward/upstream.h; kFailedPrecondition for staging without a staging_url.

#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"
#include "forward/upstream.h"
#include "kit/write_event.h"

namespace telemetryd::forward {

// The server that events go to now: production or staging.
[[nodiscard]] Result<std::string> ingest_url(const config::Destination& destination);

// This machine and this program, as uploads name them.
kit::Sender this_sender();

// A signed POST of `body`, which holds `events` events.
[[nodiscard]] Result<HttpRequest> ingest_request(const config::Destination& destination,
                                                 const SinkContext& context,
                                                 const Credentials& credentials,
                                                 std::string body,
                                                 std::size_t events);

}  // namespace telemetryd::forward
