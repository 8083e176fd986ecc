#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace telemetryd {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "telemetryd: broken invariant: %s at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace telemetryd
