// ctl/child_process.h: runs a command as if telemetryctl were not there.
//
// The child shares standard streams, process group and terminal. Signals that the terminal sends
// reach it by themselves; those that somebody sends to telemetryctl alone are passed on.
//
// Owns:    the child until it ends.
// Thread:  the main thread, before any other is started: it blocks signals.

#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace telemetryd::ctl {

struct ChildEnd {
  int exit_code = 0;        // 128 + n when signal n ended it; 126 and 127 as a shell has them
  std::string start_error;  // why it could not be started; empty when it was
  std::chrono::nanoseconds duration{};
};

// `command` is not empty. Returns when the child has ended.
ChildEnd run_child(const std::vector<std::string>& command);

}  // namespace telemetryd::ctl
