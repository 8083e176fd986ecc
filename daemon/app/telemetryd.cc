// telemetryd: collects events from every app on the machine, durably, and has them delivered.

#include "app/program.h"
#include "store/store.h"

int main(int argc, char** argv) {
  return telemetryd::app::run_program(argc, argv, telemetryd::store::open_sqlite_store);
}
