// salvage/salvage.h: the command line of telemetryd-salvage.
//
// Thread:  main.

#pragma once

namespace telemetryd::salvage {

inline constexpr int kExitOk = 0;      // all that was found is safe, or was only counted
inline constexpr int kExitFailed = 1;  // ended early; may be repeated
inline constexpr int kExitPartly = 3;  // some of it could not be brought back
inline constexpr int kExitUsage = 64;

int run_program(int argc, char** argv);

}  // namespace telemetryd::salvage
