// gateway/grpc_log.h: what gRPC says about its peers' mistakes: counted, never quoted.
//
// gRPC's texts hold what a stranger sent, and every stranger may cause as many as it likes.
//
// Thread:  any, as gRPC calls it.
// Limits:  one line a minute, with where in gRPC the last error arose and how many there were.

#pragma once

namespace telemetryd::gateway {

// Before gRPC is used.
void take_grpc_log();

// Logs what was counted and not said yet, at the end.
void finish_grpc_log();

}  // namespace telemetryd::gateway
