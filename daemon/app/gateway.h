// app/gateway.h: what the other parts have to do with the gateway.
//
// Thread:  loop.

#pragma once

#include "app/api_json.h"
#include "app/daemon.h"

namespace telemetryd::app {

// Makes the starter where telemetryd starts the gateway itself, and says to ingest whom to believe.
// Needs the parts up to ingest; starts nothing.
void open_gateway(Parts& parts);
// After a start or a reload: runs while something may be collected, else not.
void follow_policy(Parts& parts);

Json gateway_json(const Parts& parts);

// What a person should know; empty when all is well.
std::string gateway_problem(const Parts& parts);

}  // namespace telemetryd::app
