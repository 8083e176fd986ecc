// Random events and random damage: what validate() accepts, libprotobuf must be able to parse.

#include <cstdlib>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "event/event.h"
#include "sample.h"

namespace telemetryd::event {
namespace {

class Damage : public testing::Test {
 protected:
  Damage() {
    const char* text = std::getenv("TELEMETRYD_TEST_SEED");
    seed_ = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    random_.seed(seed_);
    RecordProperty("seed", std::to_string(seed_));
  }

  std::size_t below(std::size_t bound) {
    return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_);
  }

  std::string text() {
    constexpr const char* kPieces[] = {
        "a", "build", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x9f", "12345678", "_"};
    std::string result;
    for (std::size_t i = below(12); i > 0; --i) result += kPieces[below(std::size(kPieces))];
    return result;
  }

  v1::Event event() {
    v1::Event event = sample_event();
    event.set_name("n" + text());
    event.set_category(text());
    event.set_user_id(text());
    event.set_severity(static_cast<std::uint32_t>(below(25)));
    event.set_kind(static_cast<v1::EventKind>(below(7)));
    if (below(2) == 0) event.set_exit_code(static_cast<std::int32_t>(below(512)) - 256);
    if (below(2) == 0) event.set_duration_ms(static_cast<double>(below(100000)) / 7);
    if (below(3) == 0) event.mutable_error()->set_stack(text());
    for (std::size_t i = below(6); i > 0; --i) {
      auto* attribute = event.add_attributes();
      attribute->set_key("k" + text());
      if (below(2) == 0) attribute->set_string_value(text());
      if (below(2) == 0) attribute->set_int_value(-static_cast<std::int64_t>(below(1u << 30)));
      if (below(4) == 0) attribute->set_bytes_value(text());
    }
    return event;
  }

  std::string batch() {
    v1::EventBatch batch;
    for (std::size_t i = 1 + below(4); i > 0; --i) *batch.add_events() = event();
    return batch.SerializeAsString();
  }

  void damage(std::string& bytes) {
    for (std::size_t i = 1 + below(3); i > 0 && !bytes.empty(); --i) {
      const std::size_t at = below(bytes.size());
      switch (below(5)) {
        case 0: bytes[at] = static_cast<char>(below(256)); break;
        case 1: bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8))); break;
        case 2: bytes.erase(at, 1 + below(4)); break;
        case 3: bytes.insert(at, 1 + below(4), static_cast<char>(below(256))); break;
        default: bytes.resize(at); break;
      }
    }
  }

  std::uint64_t seed_ = 0;
  std::mt19937_64 random_;
};

TEST_F(Damage, NeverMakesValidateAcceptWhatLibprotobufRefuses) {
  std::uint32_t accepted = 0;
  for (int round = 0; round < 30000; ++round) {
    std::string bytes = batch();
    ASSERT_TRUE(validate(bytes, Class::kNormal, Urgency::kNormal, Limits{})) << "seed " << seed_;
    damage(bytes);
    const auto summary = validate(bytes, Class::kNormal, Urgency::kNormal, Limits{});
    if (!summary) continue;
    ++accepted;
    v1::EventBatch parsed;
    ASSERT_TRUE(parsed.ParseFromString(bytes)) << "seed " << seed_ << " round " << round;
    ASSERT_EQ(summary->count, static_cast<std::uint32_t>(parsed.events_size())) << "seed " << seed_;
    std::uint32_t visited = 0;
    ASSERT_TRUE(for_each(bytes, [&](std::uint32_t index, std::string_view event) {
      const v1::Event& theirs = parsed.events(static_cast<int>(index));
      const auto ours = to_json(event, "");
      EXPECT_TRUE(ours && (*ours)["name"] == theirs.name()) << "seed " << seed_;
      EXPECT_EQ(as_text(*id_of(event)), theirs.id()) << "seed " << seed_;
      ++visited;
      return true;
    }));
    ASSERT_EQ(visited, summary->count) << "seed " << seed_;
  }
  EXPECT_GT(accepted, 100u) << "the damage is too heavy to test anything, seed " << seed_;
}

TEST_F(Damage, NeverMakesTheReadersOfUncheckedBytesFail) {
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = batch();
    damage(bytes);
    static_cast<void>(for_each(bytes, [](std::uint32_t, std::string_view event) {
      static_cast<void>(id_of(event));
      static_cast<void>(to_json(event, event));
      return true;
    }));
    const auto part = slice(bytes, 1, 2);
    if (part) {
      EXPECT_LE(part->size(), bytes.size()) << "seed " << seed_;
    }
  }
}

}  // namespace
}  // namespace telemetryd::event
