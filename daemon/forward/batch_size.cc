#include "forward/batch_size.h"

#include <algorithm>

namespace telemetryd::forward {

void BatchSize::passed(bool full) {
  if (!full) return;
  if (trying_) {
    known_ = trial_;
    trying_ = false;
    passes_ = 0;
    return;
  }
  if (++passes_ >= patience_) grow();
}

void BatchSize::grow() {
  passes_ = 0;
  const auto more = [](std::size_t known, std::size_t most) {
    return std::min(most, known + std::max<std::size_t>(1, known / 4));
  };
  trial_ = {more(known_.events, format_.events), more(known_.bytes, format_.bytes)};
  trying_ = trial_ != known_;
}

void BatchSize::too_large(std::size_t events, std::size_t bytes) {
  passes_ = 0;
  if (trying_) {
    trying_ = false;
    patience_ = std::min(kPatienceMax, patience_ * 2);
    // It was the try that was refused, and what was known before still holds.
    if (events > known_.events || bytes > known_.bytes) return;
  }
  known_.events = std::min(known_.events, std::max<std::size_t>(1, events / 2));
  // Events differ in size; the second half of a batch may be a little larger than the first.
  known_.bytes = std::min(known_.bytes, std::max<std::size_t>(1, bytes / 2 + bytes / 16));
}

}  // namespace telemetryd::forward
