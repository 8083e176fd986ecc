// telemetry_core/window.h: frames from the moment they are built until they are settled.
//
// Frames are finished here, header and number included, so that sending one again sends the same
// bytes. They leave in order of their numbers; the memory is one circular buffer, used from its
// beginning again whenever it runs empty, so that a quiet client touches little of it.
//
// Owns:    nothing; the buffer is the caller's.
// Thread:  sender.
// Limits:  kFramesMax frames, and the bytes of the buffer.

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "frame/frame.h"

namespace telemetryd::client {

struct Frame {
  uint64_t number;
  uint64_t mark;  // the caller's: ring position behind the last event of this frame
  size_t offset;
  uint32_t bytes;
  uint32_t count;
  bool commit_now;
  bool sent_before;
  bool refused;
};

class Window {
 public:
  static constexpr size_t kFramesMax = frame::kFramesInFlightMax;

  // Bytes of a frame in front of its records.
  static constexpr size_t kFrameOverhead = frame::kHeaderBytes + frame::kEventsPrefixBytes;

  void attach(uint8_t* bytes, size_t capacity);

  // The place for a frame of between `least` and `most` bytes in one piece: `room` is what there
  // is. Null when a slot or the bytes are missing. Nothing is taken before close().
  uint8_t* open(size_t least, size_t most, size_t& room);

  // Takes the first frame.bytes bytes of what open() gave.
  void close(const Frame& frame);

  size_t size() const { return size_; }

  bool empty() const { return size_ == 0; }

  bool full() const { return size_ == kFramesMax; }

  Frame& at(size_t index) { return frames_[(first_ + index) % kFramesMax]; }

  uint8_t* bytes_of(const Frame& frame) { return bytes_ + frame.offset; }

  // The index of the frame with this number, or size().
  size_t index_of(uint64_t number);

  // Forgets the oldest frame.
  void pop();

 private:
  uint8_t* bytes_ = nullptr;
  size_t capacity_ = 0;
  size_t end_ = 0;   // where the newest frame ends
  size_t next_ = 0;  // where the opened frame begins
  size_t first_ = 0;
  size_t size_ = 0;
  Frame frames_[kFramesMax] = {};
};

}  // namespace telemetryd::client
