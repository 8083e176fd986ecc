// low/low.h: the lower module of the layer fixture.

#pragma once

namespace layers {

int low();

}  // namespace layers
