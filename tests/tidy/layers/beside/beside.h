// beside/beside.h: a peer that the higher module of the layer fixture may not include.

#pragma once

namespace layers {

int beside();

}  // namespace layers
