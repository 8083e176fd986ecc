// A byte stream into the frame reader, whole and in pieces, with pauses: the frames must not depend
// on how the bytes arrive. Payloads go on to the control message readers and the event check.

#include <algorithm>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "event/event.h"
#include "ingest/control.h"
#include "ingest/frame_reader.h"

using namespace telemetryd;
using ingest::FrameReader;

namespace {

constexpr std::uint32_t kFrameBytesMax = 2048;

struct Outcome {
  std::vector<std::string> frames;
  std::string problem;
  bool operator==(const Outcome&) const = default;
};

void look_inside(const FrameReader::Frame& frame) {
  const std::string_view payload = as_text(frame.payload);
  switch (frame.header.type) {
    case frame::Type::kHello:
      if (payload.size() >= frame::kHelloPrefixBytes) {
        const auto hello = ingest::parse_hello(payload.substr(frame::kHelloPrefixBytes));
        if (hello) TELEMETRYD_CHECK(frame::app_name_valid(hello->app.data(), hello->app.size()));
      }
      return;
    case frame::Type::kReport: static_cast<void>(ingest::parse_report(payload)); return;
    case frame::Type::kEvents: {
      TELEMETRYD_CHECK(payload.size() >= frame::kEventsPrefixBytes);
      static_cast<void>(event::validate(payload.substr(frame::kEventsPrefixBytes),
                                        event::Class::kNormal,
                                        event::Urgency::kNormal,
                                        {.event_bytes_max = 1024}));
      return;
    }
    default: return;
  }
}

Outcome read(std::span<const std::uint8_t> bytes, std::uint32_t pattern) {
  Outcome outcome;
  FrameReader reader(kFrameBytesMax);
  const auto visit = [&](const FrameReader::Frame& frame) {
    // HELLO has a limit of its own, above the one for events here.
    TELEMETRYD_CHECK(frame.discarded == (frame.header.type == frame::Type::kEvents &&
                                         frame.header.length > kFrameBytesMax));
    TELEMETRYD_CHECK(frame.payload.size() ==
                     (frame.discarded ? frame::kEventsPrefixBytes : frame.header.length));
    outcome.frames.push_back(std::string(as_text(frame.payload)) +
                             static_cast<char>(frame.header.type));
    look_inside(frame);
    const bool pause = (pattern >> (outcome.frames.size() % 16) & 1) != 0;
    return pause ? FrameReader::Next::kPause : FrameReader::Next::kContinue;
  };
  while (!bytes.empty() && outcome.problem.empty()) {
    const std::size_t size =
        std::min<std::size_t>(bytes.size(), pattern == 0 ? bytes.size() : 1 + pattern % 61);
    auto problem = reader.feed(bytes.first(size), visit);
    bytes = bytes.subspan(size);
    while (!problem && reader.paused()) problem = reader.resume(visit);
    if (problem) {
      outcome.problem = problem->text;
      TELEMETRYD_CHECK(reader.bytes_kept() == 0 && !outcome.problem.empty());
    }
    TELEMETRYD_CHECK(reader.bytes_kept() < frame::kHeaderBytes + frame::kHelloBytesMax + 1);
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  const std::uint32_t pattern = frame::get_u32(data) | 1;
  const std::span<const std::uint8_t> stream(data + 4, size - 4);
  TELEMETRYD_CHECK(read(stream, 0) == read(stream, pattern));
  return 0;
}
