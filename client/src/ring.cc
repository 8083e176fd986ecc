#include "telemetry_core/ring.h"

#include <string.h>

namespace telemetryd::client {
namespace {

uint64_t load_word(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(at), __ATOMIC_ACQUIRE);
}

}  // namespace

void Ring::attach(Control* control, uint8_t* bytes, size_t capacity) {
  control_ = control;
  bytes_ = bytes;
  capacity_ = capacity;
  mask_ = capacity - 1;
  cursor_ = 0;
}

bool Ring::peek(Record& record) {
  for (;;) {
    // Nothing was claimed here: the word may be a whole lap old and is not looked at.
    if (cursor_ == control_->head.load(std::memory_order_acquire)) return false;
    const uint8_t* at = bytes_ + (cursor_ & mask_);
    const uint64_t word = load_word(at);
    if (word == 0) return false;
    if ((word & kPad) != 0) {
      cursor_ += word & 0xffffffffu;
      continue;
    }
    const auto size = static_cast<uint32_t>(word & 0xffffffffu);
    const uint64_t slack_words = word >> kSlackShift & kSlackWordsMax;
    record = {.data = at + kWordBytes,
              .slot_bytes = bytes_for(size) + slack_words * kWordBytes,
              .size = size,
              .persistence_class = static_cast<uint8_t>(word >> 32),
              .urgency = static_cast<uint8_t>(word >> 40)};
    return true;
  }
}

void Ring::consume(const Record& record) {
  cursor_ += record.slot_bytes;
}

void Ring::release() {
  const uint64_t tail = control_->tail.load(std::memory_order_relaxed);
  if (tail == cursor_) return;
  zero(tail, cursor_);
  control_->tail.store(cursor_, std::memory_order_release);
}

void Ring::zero(uint64_t from, uint64_t to) {
  const uint64_t first = from & mask_;
  const uint64_t size = to - from;
  const uint64_t until_end = capacity_ - first;
  const uint64_t head_part = size < until_end ? size : until_end;
  memset(bytes_ + first, 0, head_part);
  memset(bytes_, 0, size - head_part);
}

}  // namespace telemetryd::client
