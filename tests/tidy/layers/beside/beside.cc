#include "low/low.h"

namespace layers {

int beside() {
  return low() + 1;
}

}  // namespace layers
