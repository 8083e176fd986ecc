// config/stop_times.h: how long stopping may take, from the whole down to its parts.
//
// The parts are in processes that know nothing of each other; each number is made from the one that
// waits for it, so none of them can be cut off by a change of another.
//
// Thread:  any; values.

#pragma once

#include <chrono>

namespace telemetryd::config {

// All of telemetryd.
inline constexpr std::chrono::milliseconds kStopMax{8'000};
// A gateway that telemetryd started, from SIGTERM to SIGKILL.
inline constexpr std::chrono::milliseconds kGatewayStopMax = kStopMax / 2;
// Of that: its servers, once every call has ended; the rest of the process; what is unanswered.
inline constexpr std::chrono::milliseconds kGatewayShutdownMax = kGatewayStopMax / 8;
inline constexpr std::chrono::milliseconds kGatewayExitMax = kGatewayStopMax / 8;
inline constexpr std::chrono::milliseconds kGatewayDrainMax =
    kGatewayStopMax - kGatewayShutdownMax - kGatewayExitMax;

}  // namespace telemetryd::config
