// telemetryd-salvage: brings back the events of a damaged store.

#include "salvage/salvage.h"

int main(int argc, char** argv) {
  return telemetryd::salvage::run_program(argc, argv);
}
