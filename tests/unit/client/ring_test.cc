#include "telemetry_core/ring.h"

#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace telemetryd::client {
namespace {

class Harness {
 public:
  explicit Harness(std::size_t capacity) : words_(capacity / 8) {
    ring.attach(&control, reinterpret_cast<std::uint8_t*>(words_.data()), capacity);
  }

  bool push(const std::string& text, std::uint8_t persistence_class = 0, std::uint8_t urgency = 0) {
    Ring::Slot slot;
    if (!ring.reserve(text.size(), slot)) return false;
    std::memcpy(slot.data, text.data(), text.size());
    ring.publish(slot, text.size(), persistence_class, urgency);
    return true;
  }

  // "" when nothing is ready.
  std::string pop() {
    Ring::Record record;
    if (!ring.peek(record)) return "";
    std::string text(reinterpret_cast<const char*>(record.data), record.size);
    ring.consume(record);
    return text;
  }

  Ring::Control control{};
  Ring ring;

 private:
  std::vector<std::uint64_t> words_;
};

TEST(Ring, GivesBackWhatWasPutInWithItsClassAndUrgency) {
  Harness h(256);
  ASSERT_TRUE(h.push("hello", 2, 1));
  Ring::Record record;
  ASSERT_TRUE(h.ring.peek(record));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(record.data), record.size), "hello");
  EXPECT_EQ(record.persistence_class, 2);
  EXPECT_EQ(record.urgency, 1);
}

TEST(Ring, RoomThatARecordDidNotNeedIsGivenBackWithIt) {
  Harness h(1u << 18);
  const std::uint8_t slack[] = {0, 1, 7, 8, 9, 200};
  for (int lap = 0; lap < 3; ++lap) {
    for (const std::size_t more : slack) {
      Ring::Slot slot;
      ASSERT_TRUE(h.ring.reserve(5 + more, slot));
      std::memcpy(slot.data, "hello", 5);
      h.ring.publish(slot, 5, 0, 0);
      ASSERT_TRUE(h.push("next"));
      EXPECT_EQ(h.pop(), "hello");
      EXPECT_EQ(h.pop(), "next");
    }
    h.ring.release();
    EXPECT_EQ(h.ring.used(), 0u);
  }
  Ring::Slot slot;
  ASSERT_TRUE(h.ring.reserve(Ring::kSlackMax, slot));
  h.ring.publish(slot, 0, 2, 1);
  ASSERT_TRUE(h.push("next"));
  Ring::Record record;
  ASSERT_TRUE(h.ring.peek(record));
  EXPECT_EQ(record.size, 0u);
  EXPECT_EQ(record.persistence_class, 2);
  EXPECT_EQ(record.urgency, 1);
  h.ring.consume(record);
  EXPECT_EQ(h.pop(), "next");
}

TEST(Ring, AnAbandonedSlotIsPassedOver) {
  Harness h(256);
  Ring::Slot slot;
  ASSERT_TRUE(h.ring.reserve(20, slot));
  ASSERT_TRUE(h.push("two"));
  EXPECT_EQ(h.pop(), "");
  h.ring.abandon(slot);
  EXPECT_EQ(h.pop(), "two");
  h.ring.release();
  EXPECT_EQ(h.ring.used(), 0u);
}

TEST(Ring, AnUnpublishedSlotHoldsBackWhatIsBehindItAndNothingElse) {
  Harness h(256);
  Ring::Slot first;
  ASSERT_TRUE(h.ring.reserve(3, first));
  ASSERT_TRUE(h.push("two"));
  EXPECT_EQ(h.pop(), "");
  std::memcpy(first.data, "one", 3);
  h.ring.publish(first, 3, 0, 0);
  EXPECT_EQ(h.pop(), "one");
  EXPECT_EQ(h.pop(), "two");
}

TEST(Ring, IsFullExactlyWhenTheBytesAreUsedUntilReleased) {
  Harness h(64);
  ASSERT_TRUE(h.push(std::string(24, 'a')));
  ASSERT_TRUE(h.push(std::string(24, 'b')));
  EXPECT_FALSE(h.push("c"));
  EXPECT_EQ(h.pop(), std::string(24, 'a'));
  EXPECT_FALSE(h.push("c")) << "consumed is not released";
  h.ring.release();
  EXPECT_TRUE(h.push("c"));
}

TEST(Ring, BehavesLikeABoundedQueueUnderRandomUse) {
  const std::uint64_t seed = 7;
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  Harness h(1024);
  std::deque<std::string> model;
  std::size_t refused = 0;
  for (int step = 0; step < 200'000; ++step) {
    switch (random() % 4) {
      case 0:
      case 1: {
        const std::string text(1 + random() % 200, static_cast<char>('a' + random() % 26));
        if (h.push(text)) {
          model.push_back(text);
        } else {
          ++refused;
        }
        break;
      }
      case 2: {
        const std::string text = h.pop();
        ASSERT_EQ(text, model.empty() ? "" : model.front());
        if (!model.empty()) model.pop_front();
        break;
      }
      default: h.ring.release();
    }
    ASSERT_LE(h.ring.used(), h.ring.capacity());
  }
  EXPECT_GT(refused, 0u);
}

// Four producers, one consumer: every record arrives once, whole, in its producer's order. Run
// under the thread sanitizer as well.
TEST(Ring, FourProducersLoseAndMixNothing) {
  constexpr std::uint32_t kProducers = 4;
  constexpr std::uint32_t kEach = 20'000;
  Harness h(4096);
  std::vector<std::thread> producers;
  for (std::uint32_t id = 0; id < kProducers; ++id) {
    producers.emplace_back([&h, id] {
      for (std::uint32_t i = 0; i < kEach; ++i) {
        std::string text(8 + (i * 7 + id) % 90, static_cast<char>('A' + id));
        std::memcpy(text.data(), &id, 4);
        std::memcpy(text.data() + 4, &i, 4);
        while (!h.push(text)) std::this_thread::yield();
      }
    });
  }
  std::uint32_t next[kProducers] = {};
  std::uint32_t total = 0;
  bool intact = true;
  while (total < kProducers * kEach) {
    const std::string text = h.pop();
    if (text.empty()) {
      h.ring.release();
      std::this_thread::yield();
      continue;
    }
    std::uint32_t id = 0;
    std::uint32_t i = 0;
    std::memcpy(&id, text.data(), 4);
    std::memcpy(&i, text.data() + 4, 4);
    intact = intact && id < kProducers && i == next[id % kProducers] &&
             text.size() == 8 + (i * 7 + id) % 90 &&
             text.find_first_not_of(static_cast<char>('A' + id), 8) == std::string::npos;
    if (id < kProducers) ++next[id];
    ++total;
    if (total % 16 == 0) h.ring.release();
  }
  EXPECT_TRUE(intact);
  h.ring.release();
  for (std::thread& producer : producers) producer.join();
  EXPECT_EQ(total, kProducers * kEach);
}

}  // namespace
}  // namespace telemetryd::client
