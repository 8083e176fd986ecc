// app/program.h: the command line of telemetryd, around any Store.
//
// The benchmarks build the same program around other stores; only main() differs.
//
// Thread:  main.

#pragma once

#include <string>

#include "app/daemon.h"

namespace telemetryd::app {

// 0 ended as asked, 1 could not start, 64 bad usage, 74 store unusable, 78 bad configuration.
int run_program(int argc, char** argv, const StoreFactory& open_store);

// "0.1.0"; a build with a fault put in on purpose says so.
std::string version();

}  // namespace telemetryd::app
