#include "server/version.h"

namespace telemetryd::server {

std::string_view version() {
  return TELEMETRYD_VERSION;
}

}  // namespace telemetryd::server
