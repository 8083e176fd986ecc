// high/high.h: the higher module of the layer fixture.

#pragma once

namespace layers {

int high();

}  // namespace layers
