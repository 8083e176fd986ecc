// telemetry_core/ring.h: the bounded byte ring between the app's threads and the sender.
//
// Many producers, one consumer, no locks. A producer claims its slot with one compare-and-swap,
// writes into it at leisure and publishes it with one release store of the slot's first word. The
// consumer takes slots in order of their claim and writes zeros over them before it gives the room
// back, so that an unpublished slot always reads as zero.
//
// A producer that stops between claim and publish stops the consumer there, but no other producer.
//
// Owns:    nothing; control block and bytes are the caller's, zeroed, and of a power-of-two size.
// Thread:  reserve() and publish() from any thread; the rest from the consumer, used() from any.
// Limits:  the capacity. A slot that does not fit before the end of the bytes starts at 0 and costs
//          the rest of the lap, so records above half of the capacity may never fit.

#pragma once

#include <atomic>
#include <stddef.h>
#include <stdint.h>

namespace telemetryd::client {

class Ring {
 public:
  static constexpr size_t kSlackMax = 8 * ((1u << 14) - 1);

  // Positions only grow; an offset is a position modulo the capacity.
  struct Control {
    alignas(64) std::atomic<uint64_t> head;  // claimed by producers up to here
    std::atomic<uint64_t> accepted;          // records; same line, same writers
    alignas(64) std::atomic<uint64_t> tail;  // given back by the consumer up to here
  };

  struct Slot {
    uint8_t* data;
    uint64_t position;
    uint64_t used;   // bytes in use with this slot, to judge how full the ring is
    uint64_t bytes;  // of the slot, with its first word
  };

  struct Record {
    const uint8_t* data;
    uint64_t slot_bytes;
    uint32_t size;
    uint8_t persistence_class;
    uint8_t urgency;
  };

  void attach(Control* control, uint8_t* bytes, size_t capacity);

  // Room for `size` bytes, or false when there is none.
  bool reserve(size_t size, Slot& slot);

  // `size` may be up to kSlackMax less than was reserved. An abandoned slot is passed over.
  void publish(const Slot& slot, size_t size, uint8_t persistence_class, uint8_t urgency);
  void abandon(const Slot& slot);

  // Brings in what the next slot will occupy, which the consumer's processor touched last.
  void prefetch() const;

  // The next published record, if any; consume() moves behind it.
  bool peek(Record& record);
  void consume(const Record& record);

  // Gives everything consumed back to the producers.
  void release();

  uint64_t head() const { return control_->head.load(std::memory_order_acquire); }

  // Everything before this position has been consumed.
  uint64_t cursor() const { return cursor_; }

  // Claimed and not consumed, in bytes.
  uint64_t used() const { return head() - cursor_; }

  size_t capacity() const { return capacity_; }

 private:
  // The first word of a slot: size, class, urgency, unused words at its end, and what it is. Never
  // zero once published.
  static constexpr uint64_t kPublished = 1ull << 63;
  static constexpr uint64_t kPad = 1ull << 62;
  static constexpr unsigned kSlackShift = 48;
  static constexpr uint64_t kSlackWordsMax = (1u << 14) - 1;
  static constexpr size_t kWordBytes = 8;
  static_assert(kSlackMax / kWordBytes <= kSlackWordsMax);

  // A slot of an ordinary event.
  static constexpr size_t kPrefetchBytes = 256;
  static constexpr size_t kLineBytes = 64;

  static uint64_t bytes_for(uint64_t record_bytes) {
    return (record_bytes + kWordBytes + 7) & ~uint64_t{7};
  }

  static void store_word(uint8_t* at, uint64_t word) {
    __atomic_store_n(reinterpret_cast<uint64_t*>(at), word, __ATOMIC_RELEASE);
  }

  void zero(uint64_t from, uint64_t to);

  Control* control_ = nullptr;
  uint8_t* bytes_ = nullptr;
  size_t capacity_ = 0;
  uint64_t mask_ = 0;
  uint64_t cursor_ = 0;
};

// The producer's side stands here because calls would be a good part of what it costs.

inline bool Ring::reserve(size_t size, Slot& slot) {
  const uint64_t need = bytes_for(size);
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
      slot.bytes = need;
      return true;
    }
  }
}

inline void Ring::publish(const Slot& slot,
                          size_t size,
                          uint8_t persistence_class,
                          uint8_t urgency) {
  const uint64_t slack_words = (slot.bytes - bytes_for(size)) / kWordBytes;
  const uint64_t word = kPublished | slack_words << kSlackShift |
                        static_cast<uint64_t>(urgency) << 40 |
                        static_cast<uint64_t>(persistence_class) << 32 | size;
  store_word(slot.data - kWordBytes, word);
}

inline void Ring::abandon(const Slot& slot) {
  store_word(slot.data - kWordBytes, kPublished | kPad | slot.bytes);
}

inline void Ring::prefetch() const {
  const uint64_t head = control_->head.load(std::memory_order_relaxed);
#pragma GCC unroll 4
  for (size_t ahead = 0; ahead < kPrefetchBytes; ahead += kLineBytes) {
    __builtin_prefetch(bytes_ + ((head + ahead) & mask_), 1);
  }
}

}  // namespace telemetryd::client
