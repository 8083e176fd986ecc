// app/reload.h: reads the configuration again and takes over what can change while running.
//
// Aside and all or nothing: with any problem nothing changes. Destinations, routes and policy
// change; other keys are named as needing a restart.
//
// Thread:  loop. Reads a few small files there, on an admin's word only.

#pragma once

#include <string>
#include <vector>

#include "app/daemon.h"

namespace telemetryd::app {

struct Reloaded {
  bool done = false;
  std::vector<config::Problem> problems;    // when not done
  std::vector<std::string> restart_needed;  // when done
};

Reloaded reload(Parts& parts);

std::vector<schedule::DestinationSpec> destination_specs(const config::Config& config);

}  // namespace telemetryd::app
