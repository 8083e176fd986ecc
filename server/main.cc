#include "server/cli/cli.h"

int main(int argc, char** argv) {
  return telemetryd::server::run_cli(argc, argv);
}
