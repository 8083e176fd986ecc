// forward/http_options.h: what a request wants of its curl handle, but for what is sent.
//
// Time-outs, the connection, the proxy and TLS.
//
// Thread:  any; no state. The request must outlive the handle.

#pragma once

#include <curl/curl.h>

#include "forward/http.h"

namespace telemetryd::forward {

void set_options(CURL* easy, const HttpRequest& request);

}  // namespace telemetryd::forward
