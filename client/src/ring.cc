#include "telemetry_core/ring.h"

#include <string.h>

namespace telemetryd::client {
namespace {

// The first word of a slot: size, class, urgency and what it is. Never zero once published.
constexpr uint64_t kPublished = 1ull << 63;
constexpr uint64_t kPad = 1ull << 62;
constexpr size_t kWordBytes = 8;

uint64_t load_word(const uint8_t* at) {
  return __atomic_load_n(reinterpret_cast<const uint64_t*>(at), __ATOMIC_ACQUIRE);
}

void store_word(uint8_t* at, uint64_t word) {
  __atomic_store_n(reinterpret_cast<uint64_t*>(at), word, __ATOMIC_RELEASE);
}

uint64_t slot_bytes(uint64_t record_bytes) {
  return (record_bytes + kWordBytes + 7) & ~uint64_t{7};
}

}  // namespace

void Ring::attach(Control* control, uint8_t* bytes, size_t capacity) {
  control_ = control;
  bytes_ = bytes;
  capacity_ = capacity;
  mask_ = capacity - 1;
  cursor_ = 0;
}

bool Ring::reserve(size_t size, Slot& slot) {
  const uint64_t need = slot_bytes(size);
  uint64_t head = control_->head.load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t to_end = capacity_ - (head & mask_);
    const uint64_t pad = to_end < need ? to_end : 0;
    const uint64_t next = head + pad + need;
    const uint64_t tail = control_->tail.load(std::memory_order_acquire);
    // Signed, because `head` may be older than `tail`; the exchange below then fails.
    if (static_cast<int64_t>(next - tail) > static_cast<int64_t>(capacity_)) return false;
    if (control_->head.compare_exchange_weak(
            head, next, std::memory_order_relaxed, std::memory_order_relaxed)) {
      if (pad != 0) store_word(bytes_ + (head & mask_), kPublished | kPad | pad);
      slot.position = head + pad;
      slot.data = bytes_ + (slot.position & mask_) + kWordBytes;
      slot.used = next - tail;
      return true;
    }
  }
}

void Ring::publish(const Slot& slot, size_t size, uint8_t persistence_class, uint8_t urgency) {
  const uint64_t word = kPublished | static_cast<uint64_t>(urgency) << 40 |
                        static_cast<uint64_t>(persistence_class) << 32 | size;
  store_word(slot.data - kWordBytes, word);
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
    record = {.data = at + kWordBytes,
              .size = static_cast<uint32_t>(word & 0xffffffffu),
              .persistence_class = static_cast<uint8_t>(word >> 32),
              .urgency = static_cast<uint8_t>(word >> 40)};
    return true;
  }
}

void Ring::consume(const Record& record) {
  cursor_ += slot_bytes(record.size);
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
