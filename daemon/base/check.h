// base/check.h: stops the process when an invariant of ours is broken, in every build.
//
// Input from outside never reaches a check. The unit restarts the daemon and the store has the
// data.

#pragma once

namespace telemetryd {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace telemetryd

#define TELEMETRYD_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::telemetryd::check_failed(#condition, __FILE__, __LINE__))
