#include "ingest/frame_reader.h"

#include <algorithm>
#include <utility>

namespace telemetryd::ingest {
namespace {

Problem protocol(std::string text) {
  return {frame::Code::kProtocol, std::move(text)};
}

std::optional<Problem> want_empty(const frame::Header& header, const char* name) {
  if (header.length == 0) return std::nullopt;
  return protocol(std::string("a ") + name + " frame has no payload");
}

std::optional<Problem> want_at_most(const frame::Header& header,
                                    std::uint32_t max,
                                    const char* name) {
  if (header.length <= max) return std::nullopt;
  return protocol(std::string("a ") + name + " frame of " + std::to_string(header.length) +
                  " bytes; the limit is " + std::to_string(max));
}

}  // namespace

std::optional<Problem> FrameReader::judge(const frame::Header& header) const {
  const bool first = frames_ == 0;
  if (first != (header.type == frame::Type::kHello)) {
    return protocol(first ? "the first frame must be HELLO" : "a second HELLO");
  }
  switch (header.type) {
    case frame::Type::kHello: return want_at_most(header, frame::kHelloBytesMax, "HELLO");
    case frame::Type::kReport: return want_at_most(header, frame::kReportBytesMax, "REPORT");
    case frame::Type::kFlush: return want_empty(header, "FLUSH");
    case frame::Type::kGoodbye: return want_empty(header, "GOODBYE");
    case frame::Type::kEvents:
      if (header.length < frame::kEventsPrefixBytes)
        return protocol("an EVENTS frame is too short");
      if (!too_large(header) || header.length <= kFrameBytesDiscardMax) return std::nullopt;
      return Problem{frame::Code::kFrameTooLarge,
                     "a frame of " + std::to_string(header.length) + " bytes; frame_bytes_max is " +
                         std::to_string(frame_bytes_max_)};
    default: return protocol("unknown frame type " + std::to_string(static_cast<int>(header.type)));
  }
}

std::optional<Problem> FrameReader::feed(std::span<const std::uint8_t> bytes, const Visit& visit) {
  if (stopped_) return std::nullopt;
  if (paused_) {
    keep(bytes);
    return std::nullopt;
  }
  std::optional<Problem> problem = kept_.empty() ? std::nullopt : complete(bytes, visit);
  if (!problem && !paused_ && !stopped_) problem = walk(bytes, visit);
  if (problem) stop();
  if (!stopped_) keep(bytes);
  return problem;
}

std::optional<Problem> FrameReader::resume(const Visit& visit) {
  paused_ = false;
  const std::vector<std::uint8_t> waiting = std::move(kept_);
  kept_ = {};
  return feed(waiting, visit);
}

std::optional<Problem> FrameReader::walk(std::span<const std::uint8_t>& bytes, const Visit& visit) {
  while (!paused_ && !stopped_ && bytes.size() >= frame::kHeaderBytes) {
    const frame::Header header = frame::decode_header(bytes.data());
    if (auto problem = judge(header)) return problem;
    if (too_large(header)) {
      keep(bytes.first(frame::kHeaderBytes));
      bytes = bytes.subspan(frame::kHeaderBytes);
      if (auto problem = complete(bytes, visit)) return problem;
      continue;
    }
    const std::size_t size = frame::kHeaderBytes + header.length;
    if (bytes.size() < size) break;
    const auto payload = bytes.subspan(frame::kHeaderBytes, header.length);
    bytes = bytes.subspan(size);
    hand_on({.header = header, .payload = payload}, visit);
  }
  return std::nullopt;
}

void FrameReader::hand_on(const Frame& frame, const Visit& visit) {
  ++frames_;
  const Next next = visit(frame);
  paused_ = next == Next::kPause;
  if (next == Next::kStop) stop();
}

bool FrameReader::too_large(const frame::Header& header) const {
  return header.type == frame::Type::kEvents && header.length > frame_bytes_max_;
}

void FrameReader::discard(const frame::Header& header,
                          std::span<const std::uint8_t>& bytes,
                          const Visit& visit) {
  const std::size_t missing = header.length - frame::kEventsPrefixBytes - discarded_;
  const std::size_t taken = std::min(missing, bytes.size());
  bytes = bytes.subspan(taken);
  discarded_ += taken;
  if (taken < missing) return;
  discarded_ = 0;
  const std::vector<std::uint8_t> front = std::exchange(kept_, {});
  const auto prefix = std::span(front).subspan(frame::kHeaderBytes);
  hand_on({.header = header, .payload = prefix, .discarded = true}, visit);
}

std::optional<Problem> FrameReader::complete(std::span<const std::uint8_t>& bytes,
                                             const Visit& visit) {
  const auto take_up_to = [&](std::size_t size) {
    const std::size_t missing = size - std::min(size, kept_.size());
    const std::size_t taken = std::min(missing, bytes.size());
    keep(bytes.first(taken));
    bytes = bytes.subspan(taken);
    return taken == missing;
  };
  if (!take_up_to(frame::kHeaderBytes)) return std::nullopt;
  const frame::Header header = frame::decode_header(kept_.data());
  if (auto problem = judge(header)) return problem;
  if (too_large(header)) {
    if (take_up_to(frame::kHeaderBytes + frame::kEventsPrefixBytes)) discard(header, bytes, visit);
    return std::nullopt;
  }
  if (!take_up_to(frame::kHeaderBytes + header.length)) return std::nullopt;
  const std::vector<std::uint8_t> whole = std::move(kept_);
  kept_ = {};
  std::span<const std::uint8_t> one(whole);
  return walk(one, visit);
}

void FrameReader::keep(std::span<const std::uint8_t> bytes) {
  kept_.insert(kept_.end(), bytes.begin(), bytes.end());
}

void FrameReader::stop() {
  stopped_ = true;
  paused_ = false;
  kept_ = {};
}

}  // namespace telemetryd::ingest
