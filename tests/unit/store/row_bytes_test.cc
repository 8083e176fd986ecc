// The store cuts rows where the check of a batch saw borders: both must read the same framing.

#include "store/row_bytes.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "event/event.h"
#include "support/seed.h"

namespace telemetryd::test {
namespace {

using namespace std::string_literals;

// An Event that breaks no rule: ID, name, time.
std::string event_named(const std::string& name) {
  return "\x0a\x10"s + std::string(16, 'i') + "\x1a"s + static_cast<char>(name.size()) + name +
         "\x29"s + std::string(8, '\x01');
}

// Tag and length as a sloppy encoder may write them: `padding` more bytes than needed.
std::string padded(std::uint32_t value, std::size_t padding) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7F) | 0x80);
  bytes += static_cast<char>(value);
  for (; padding > 0; --padding) {
    bytes.back() = static_cast<char>(bytes.back() | '\x80');
    bytes += '\0';
  }
  return bytes;
}

class RowBytes : public testing::Test {
 protected:
  RowBytes() : random_(test_seed()) {}

  std::size_t below(std::size_t bound) {
    return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_);
  }

  std::string batch() {
    std::string bytes;
    for (std::size_t i = 1 + below(4); i > 0; --i) {
      const std::string event = event_named(std::string(1 + below(100), 'n'));
      bytes += padded(0x0A, below(20) == 0 ? 1 + below(3) : 0);
      bytes += padded(static_cast<std::uint32_t>(event.size()), below(4) == 0 ? below(6) : 0);
      bytes += event;
    }
    if (below(4) == 0) bytes[below(bytes.size())] = static_cast<char>(below(256));
    return bytes;
  }

  std::mt19937_64 random_;
};

Result<event::BatchSummary> check(std::string_view batch) {
  return event::validate(batch, event::Class::kNormal, event::Urgency::kNormal, {});
}

TEST_F(RowBytes, WhateverTheCheckAcceptsIsCountedAndCutAlike) {
  std::uint32_t accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::string bytes = batch();
    const auto summary = check(bytes);
    if (!summary) continue;
    ++accepted;
    ASSERT_EQ(store::count_events(bytes), summary->count) << "round " << round;
    std::string_view rest = bytes;
    for (std::uint32_t i = 0; i < summary->count; ++i) {
      const auto cut = store::cut_events(bytes, i, 1);
      const auto sliced = event::slice(bytes, i, 1);
      const auto taken = store::take_event(rest);
      ASSERT_TRUE(cut && sliced && taken) << "round " << round;
      ASSERT_EQ(*cut, *sliced) << "round " << round;
      ASSERT_EQ(*cut, *taken) << "round " << round;
      bool named = false;
      ASSERT_TRUE(event::for_each(*cut, [&](std::uint32_t, std::string_view body) {
        named = body == store::event_body(*cut);
        return true;
      }));
      ASSERT_TRUE(named) << "round " << round;
    }
    ASSERT_TRUE(rest.empty());
  }
  EXPECT_GT(accepted, 1000u);
}

TEST_F(RowBytes, ATagOfTwoBytesIsNoBorder) {
  const std::string event = event_named("n");
  const std::string bytes = padded(0x0A, 1) + padded(static_cast<std::uint32_t>(event.size()), 0);
  EXPECT_FALSE(check(bytes + event));
  EXPECT_EQ(store::count_events(bytes + event), std::nullopt);
}

TEST_F(RowBytes, APaddedLengthIsABorderForBoth) {
  const std::string event = event_named("n");
  const auto bytes = "\x0a"s + padded(static_cast<std::uint32_t>(event.size()), 3) + event;
  ASSERT_TRUE(check(bytes));
  EXPECT_EQ(store::count_events(bytes), 1u);
  EXPECT_EQ(store::event_body(bytes), event);
}

// The check value that catalogues of checksums give for CRC-32/ISO-HDLC. A store that another
// library wrote stays readable.
TEST(RowChecksum, IsGzipsCrc32OfContextAndBlob) {
  EXPECT_EQ(store::content_crc("1234", "56789"), 0xCBF43926u);
  EXPECT_EQ(store::content_crc("", "123456789"), 0xCBF43926u);
}

}  // namespace
}  // namespace telemetryd::test
