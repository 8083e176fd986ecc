// salvage/event_lines.h: salvaged events as JSON, one object a line.
//
// Owns:    the file, which nobody but its owner can read. One that could not be written to its end
//          is removed.
// Thread:  one.
// Fails:   as the disk says; kFailedPrecondition when something lies at the file's path.

#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "salvage/plan.h"

namespace telemetryd::salvage {

struct Written {
  std::uint64_t events = 0;
  std::uint64_t unreadable = 0;  // events that are no events
};

// `path` may be "-" for standard output.
[[nodiscard]] Result<Written> write_events(PageFile& file,
                                           const Plan& plan,
                                           const std::string& path);

}  // namespace telemetryd::salvage
