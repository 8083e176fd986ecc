#include "high/high.h"

#include "low/low.h"
#ifdef LAYERS_INCLUDE_A_PEER
#include "beside/beside.h"
#endif

namespace layers {

int high() {
  return low() + 2;
}

}  // namespace layers
