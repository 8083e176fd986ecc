// ingest/frame_reader.h: cuts a stream of bytes into frames, trusting none of them.
//
// Whole frames are handed on where they lie; only a frame whose end has not come yet is copied, and
// that memory grows with the bytes that arrive, never with the length that a header claims. A
// header is judged before anything is kept for it.
//
// Owns:    the bytes of the unfinished frame, or of what waits while the reader is paused.
// Thread:  loop.
// Limits:  `frame_bytes_max` for EVENTS, fixed ones for the rest (frame/frame.h).
// Fails:   Problem, after which the stream cannot be followed and feed() takes nothing more.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "frame/frame.h"

namespace telemetryd::ingest {

// Why a connection ends: what CLOSING will say.
struct Problem {
  frame::Code code{};
  std::string text;
};

class FrameReader {
 public:
  struct Frame {
    frame::Header header{};
    std::span<const std::uint8_t> payload;
  };

  // kPause: this frame was taken, keep the rest until resume().
  // kStop: this frame was taken and no further one is wanted, ever.
  enum class Next { kContinue, kPause, kStop };
  using Visit = std::function<Next(const Frame&)>;

  explicit FrameReader(std::uint32_t frame_bytes_max) : frame_bytes_max_(frame_bytes_max) {}

  [[nodiscard]] std::optional<Problem> feed(std::span<const std::uint8_t> bytes,
                                            const Visit& visit);
  // Goes on with what a pause left; it may pause again.
  [[nodiscard]] std::optional<Problem> resume(const Visit& visit);

  // A frame has begun and its end is missing: somebody is expected to send.
  bool waits_for_bytes() const { return !paused_ && !stopped_ && !kept_.empty(); }

  bool paused() const { return paused_; }

  // Frames taken so far; tells whether an unfinished frame is still the same one.
  std::uint64_t frames() const { return frames_; }

  std::size_t bytes_kept() const { return kept_.size(); }

 private:
  std::optional<Problem> judge(const frame::Header& header) const;
  // Takes whole frames off the front of `bytes`.
  std::optional<Problem> walk(std::span<const std::uint8_t>& bytes, const Visit& visit);
  // Moves as many bytes as complete the unfinished frame.
  std::optional<Problem> complete(std::span<const std::uint8_t>& bytes, const Visit& visit);
  void keep(std::span<const std::uint8_t> bytes);
  void stop();

  std::uint32_t frame_bytes_max_;
  std::vector<std::uint8_t> kept_;
  std::uint64_t frames_ = 0;
  bool paused_ = false;
  bool stopped_ = false;
};

}  // namespace telemetryd::ingest
