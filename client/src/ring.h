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
  // Positions only grow; an offset is a position modulo the capacity.
  struct Control {
    alignas(64) std::atomic<uint64_t> head;  // claimed by producers up to here
    std::atomic<uint64_t> accepted;          // records published; same line, same writers
    alignas(64) std::atomic<uint64_t> tail;  // given back by the consumer up to here
  };

  struct Slot {
    uint8_t* data;
    uint64_t position;
    uint64_t used;  // bytes in use with this slot, to judge how full the ring is
  };

  struct Record {
    const uint8_t* data;
    uint32_t size;
    uint8_t persistence_class;
    uint8_t urgency;
  };

  void attach(Control* control, uint8_t* bytes, size_t capacity);

  // Room for `size` bytes, or false when there is none.
  bool reserve(size_t size, Slot& slot);
  void publish(const Slot& slot, size_t size, uint8_t persistence_class, uint8_t urgency);

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
  void zero(uint64_t from, uint64_t to);

  Control* control_ = nullptr;
  uint8_t* bytes_ = nullptr;
  size_t capacity_ = 0;
  uint64_t mask_ = 0;
  uint64_t cursor_ = 0;
};

}  // namespace telemetryd::client
