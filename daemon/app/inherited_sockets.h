// app/inherited_sockets.h: listening sockets that the service manager made before we started.
//
// Owns:    the descriptors until somebody takes them. Clears LISTEN_* so that children do not take
//          them for theirs.
// Thread:  main, before there are threads.

#pragma once

#include <map>
#include <string>

#include "base/unique_fd.h"

namespace telemetryd::app {

class InheritedSockets {
 public:
  // Reads LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. Descriptors whose names are not `ingest` or
  // `admin` are closed and logged.
  static InheritedSockets from_environment();

  // Empty when there is none of that name.
  UniqueFd take(const std::string& name);

 private:
  std::map<std::string, UniqueFd> sockets_;
};

}  // namespace telemetryd::app
