#include "ingest/frame_reader.h"

#include "fixture.h"

namespace telemetryd::ingest {
namespace {

using Next = FrameReader::Next;

struct Collected {
  std::vector<std::string> payloads;
  std::vector<const std::uint8_t*> places;

  FrameReader::Visit visit(Next next = Next::kContinue) {
    return [this, next](const FrameReader::Frame& frame) {
      payloads.emplace_back(as_text(frame.payload));
      places.push_back(frame.payload.data());
      return next;
    };
  }
};

const std::string kStream = hello_frame() + events_frame(1) + events_frame(2, 5);

TEST(FrameReader, HandsWholeFramesOnWhereTheyLie) {
  FrameReader reader(1u << 20);
  Collected collected;
  const auto bytes = as_bytes(kStream);
  ASSERT_FALSE(reader.feed(bytes, collected.visit()));
  ASSERT_EQ(collected.places.size(), 3u);
  for (const std::uint8_t* place : collected.places) {
    EXPECT_TRUE(place >= bytes.data() && place < bytes.data() + bytes.size());
  }
  EXPECT_EQ(reader.bytes_kept(), 0u);
  EXPECT_FALSE(reader.waits_for_bytes());
}

TEST(FrameReader, CutsTheSameFramesAtEverySplit) {
  Collected whole;
  FrameReader all(1u << 20);
  ASSERT_FALSE(all.feed(as_bytes(kStream), whole.visit()));
  for (std::size_t split = 1; split < kStream.size(); ++split) {
    Collected collected;
    FrameReader reader(1u << 20);
    ASSERT_FALSE(reader.feed(as_bytes(kStream).first(split), collected.visit()));
    ASSERT_FALSE(reader.feed(as_bytes(kStream).subspan(split), collected.visit()));
    ASSERT_EQ(collected.payloads, whole.payloads) << "split at " << split;
    ASSERT_EQ(reader.bytes_kept(), 0u);
  }
}

TEST(FrameReader, KeepsOnlyTheUnfinishedFrame) {
  FrameReader reader(1u << 20);
  Collected collected;
  ASSERT_FALSE(reader.feed(as_bytes(kStream).first(kStream.size() - 1), collected.visit()));
  EXPECT_EQ(collected.payloads.size(), 2u);
  EXPECT_EQ(reader.bytes_kept(), events_frame(2, 5).size() - 1);
  EXPECT_TRUE(reader.waits_for_bytes());
}

TEST(FrameReader, GoesOnBehindAPause) {
  FrameReader reader(1u << 20);
  Collected collected;
  ASSERT_FALSE(reader.feed(as_bytes(kStream), collected.visit(Next::kPause)));
  EXPECT_EQ(collected.payloads.size(), 1u);
  EXPECT_TRUE(reader.paused());
  EXPECT_FALSE(reader.waits_for_bytes()) << "nobody else is to blame for the wait";
  ASSERT_FALSE(reader.resume(collected.visit(Next::kPause)));
  EXPECT_EQ(collected.payloads.size(), 2u);
  ASSERT_FALSE(reader.feed(as_bytes(events_frame(3)), collected.visit()));
  EXPECT_EQ(collected.payloads.size(), 2u) << "a paused reader only keeps";
  ASSERT_FALSE(reader.resume(collected.visit()));
  EXPECT_EQ(collected.payloads.size(), 4u);
  EXPECT_EQ(reader.bytes_kept(), 0u);
}

TEST(FrameReader, TakesNothingAfterAStopOrAProblem) {
  Collected collected;
  FrameReader stopped(1u << 20);
  ASSERT_FALSE(stopped.feed(as_bytes(kStream), collected.visit(Next::kStop)));
  ASSERT_FALSE(stopped.feed(as_bytes(kStream), collected.visit()));
  EXPECT_EQ(collected.payloads.size(), 1u);
  FrameReader broken(1u << 20);
  EXPECT_TRUE(broken.feed(as_bytes(events_frame(1)), collected.visit()));
  EXPECT_FALSE(broken.feed(as_bytes(kStream), collected.visit()));
  EXPECT_EQ(collected.payloads.size(), 1u);
  EXPECT_EQ(broken.bytes_kept(), 0u);
}

TEST(FrameReader, JudgesAHeaderBeforeItKeepsAnything) {
  FrameReader reader(1000);
  Collected collected;
  ASSERT_FALSE(reader.feed(as_bytes(hello_frame()), collected.visit()));
  std::string header = events_frame(1).substr(0, frame::kHeaderBytes);
  frame::put_u32(reinterpret_cast<std::uint8_t*>(header.data()), kFrameBytesDiscardMax + 1);
  ASSERT_FALSE(reader.feed(as_bytes(header).first(7), collected.visit()));
  const auto problem = reader.feed(as_bytes(header).subspan(7), collected.visit());
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->code, frame::Code::kFrameTooLarge);
  EXPECT_EQ(reader.bytes_kept(), 0u);
}

TEST(FrameReader, DiscardsAFrameAboveTheLimitWithoutKeepingIt) {
  const std::string large = events_frame(2, 200);
  ASSERT_GT(large.size(), 5000u);
  const std::string stream = hello_frame() + events_frame(1) + large + events_frame(3);
  const std::size_t before = hello_frame().size() + events_frame(1).size();
  for (std::size_t split = 1; split < stream.size(); ++split) {
    Collected collected;
    std::vector<bool> discarded;
    const auto visit = [&](const FrameReader::Frame& frame) {
      discarded.push_back(frame.discarded);
      return collected.visit()(frame);
    };
    FrameReader reader(1000);
    ASSERT_FALSE(reader.feed(as_bytes(stream).first(split), visit));
    ASSERT_LE(reader.bytes_kept(), 1000u) << "split at " << split;
    const bool within = split > before && split < before + large.size();
    ASSERT_TRUE(!within || reader.waits_for_bytes()) << "somebody owes us the rest";
    ASSERT_FALSE(reader.feed(as_bytes(stream).subspan(split), visit));
    ASSERT_EQ(discarded, (std::vector<bool>{false, false, true, false})) << "split at " << split;
    ASSERT_EQ(collected.payloads[2], large.substr(frame::kHeaderBytes, frame::kEventsPrefixBytes));
    ASSERT_EQ(collected.payloads[3], events_frame(3).substr(frame::kHeaderBytes));
    ASSERT_EQ(reader.bytes_kept(), 0u);
  }
}

}  // namespace
}  // namespace telemetryd::ingest
