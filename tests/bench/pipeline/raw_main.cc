// telemetryd-raw: telemetryd around a store that only writes and syncs.
//
// What scripts/bench compares with: everything but the database is the same program, so the ratio
// is what the database costs. It keeps nothing that could be read back.

#include <memory>

#include "app/program.h"
#include "bench/raw_store/raw_store.h"
#include "store/store.h"

int main(int argc, char** argv) {
  return telemetryd::app::run_program(
      argc, argv, [](const telemetryd::store::Options& options, const telemetryd::Clock&) {
        return telemetryd::bench::open_raw_store(options.state_dir);
      });
}
