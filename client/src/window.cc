#include "telemetry_core/window.h"

namespace telemetryd::client {

void Window::attach(uint8_t* bytes, size_t capacity) {
  bytes_ = bytes;
  capacity_ = capacity;
  end_ = 0;
  next_ = 0;
  first_ = 0;
  size_ = 0;
}

uint8_t* Window::open(size_t least, size_t most, size_t& room) {
  if (full()) return nullptr;
  size_t start = end_;
  size_t limit = capacity_;
  if (empty()) {
    start = 0;
  } else {
    const size_t oldest = at(0).offset;
    const bool wrapped = end_ <= oldest;
    if (wrapped) {
      limit = oldest;
    } else if (capacity_ - end_ < least) {
      start = 0;
      limit = oldest;
    }
  }
  room = limit - start;
  if (room < least) return nullptr;
  if (room > most) room = most;
  next_ = start;
  return bytes_ + start;
}

void Window::close(const Frame& frame) {
  const size_t slot = (first_ + size_) % kFramesMax;
  frames_[slot] = frame;
  frames_[slot].offset = next_;
  end_ = next_ + frame.bytes;
  ++size_;
}

size_t Window::index_of(uint64_t number) {
  for (size_t i = 0; i < size_; ++i) {
    if (at(i).number == number) return i;
  }
  return size_;
}

void Window::pop() {
  first_ = (first_ + 1) % kFramesMax;
  --size_;
}

}  // namespace telemetryd::client
