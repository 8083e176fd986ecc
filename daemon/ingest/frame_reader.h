// ingest/frame_reader.h: cuts a stream of bytes into frames, trusting none of them.
//
// Whole frames are handed on where they lie; only a frame whose end has not come yet is copied, and
// that memory grows with the bytes that arrive, never with the length that a header claims. A
// header is judged before anything is kept for it. An EVENTS frame above `frame_bytes_max` is read
// to its end and thrown away but for its prefix, so that its number can be refused and the stream
// goes on: closing instead would bring the same frame back for ever.
//
// Owns:    the bytes of the unfinished frame, or of what waits while the reader is paused.
// Thread:  loop.
// Limits:  `frame_bytes_max` for EVENTS, kFrameBytesDiscardMax for those thrown away, fixed ones
// for
//          the rest (frame/frame.h).
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

// The largest frame_bytes_max that can be configured, so the largest frame an honest client makes.
constexpr std::uint32_t kFrameBytesDiscardMax = 8u << 20;

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
    bool discarded = false;  // too large: the payload is only the EVENTS prefix
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
  // Throws bytes of a frame that is too large away, and hands on what is left of it at its end.
  void discard(const frame::Header& header,
               std::span<const std::uint8_t>& bytes,
               const Visit& visit);
  void hand_on(const Frame& frame, const Visit& visit);
  bool too_large(const frame::Header& header) const;
  void keep(std::span<const std::uint8_t> bytes);
  void stop();

  std::uint32_t frame_bytes_max_;
  std::vector<std::uint8_t> kept_;
  std::size_t discarded_ = 0;  // bytes of the unfinished frame that were thrown away
  std::uint64_t frames_ = 0;
  bool paused_ = false;
  bool stopped_ = false;
};

}  // namespace telemetryd::ingest
