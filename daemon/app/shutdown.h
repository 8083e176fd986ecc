// app/shutdown.h: the flow run backwards, each step waiting for the one before.
//
// Thread:  loop.
// Limits:  kFinalSyncMax for the last delivery, config::kStopMax for everything; then the loop
// stops
//          all the same. What is acknowledged by then is on disk, so nothing but time is lost.

#pragma once

#include <chrono>
#include <functional>

#include "app/daemon.h"

namespace telemetryd::app {

inline constexpr std::chrono::milliseconds kFinalSyncMax{5000};

// Calls `done` once, after the last step.
void stop_backwards(Parts& parts, std::function<void()> done);

}  // namespace telemetryd::app
