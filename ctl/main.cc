#include <cstdio>
#include <string>
#include <vector>

#include "ctl/session.h"

int main(int argc, char** argv) {
  return telemetryd::ctl::run_telemetryctl(
      std::vector<std::string>(argv + 1, argv + argc), stdout, stderr);
}
