#include "telemetry_core/encoder.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "telemetry/v1/event.pb.h"
#include "telemetry_core/ticks.h"
#include "telemetry_core/utf8.h"

namespace telemetryd::client {
namespace {

namespace v1 = ::telemetry::v1;

constexpr std::uint8_t kId[kIdBytes] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
constexpr std::uint8_t kSession[kIdBytes] = {9, 9, 9, 9};

std::string as_string(const std::uint8_t* bytes) {
  return {reinterpret_cast<const char*>(bytes), kIdBytes};
}

// The record, encoded into a buffer of `out_size` bytes with guards behind it and the ID filled in.
telemetry_status_t try_encode(const telemetry_event_t& event,
                              std::uint64_t time,
                              bool with_session,
                              std::size_t event_bytes_max,
                              std::size_t out_size,
                              std::string& record) {
  std::vector<std::uint8_t> out(out_size + 32, 0xee);
  EncodedEvent encoded{};
  const telemetry_status_t status =
      encode_event(event,
                   {.session = with_session ? kSession : nullptr, .time_unix_nano = time},
                   event_bytes_max,
                   out.data(),
                   out_size,
                   encoded);
  for (std::size_t i = out_size; i < out.size(); ++i) EXPECT_EQ(out[i], 0xee);
  record.clear();
  if (status != TELEMETRY_OK) return status;
  EXPECT_GE(encoded.record, out.data());
  EXPECT_LE(encoded.record_bytes, encoded.event_bytes + kRecordOverheadMax);
  if (event.id == nullptr) std::memcpy(encoded.id, kId, kIdBytes);
  record.assign(reinterpret_cast<const char*>(encoded.record), encoded.record_bytes);
  return status;
}

// Through a buffer of the bound's size, as track() encodes what is large.
std::string encode(const telemetry_event_t& event, std::uint64_t time, bool with_session = true) {
  std::size_t bound = 0;
  EXPECT_EQ(encoded_size_bound(event, frame::kEventBytesMaxDefault, bound), TELEMETRY_OK);
  std::string record;
  EXPECT_EQ(try_encode(event, time, with_session, frame::kEventBytesMaxDefault, bound, record),
            TELEMETRY_OK);
  return record;
}

v1::Event decode(const std::string& record) {
  v1::EventBatch batch;
  EXPECT_TRUE(batch.ParseFromString(record));
  EXPECT_EQ(batch.events_size(), 1);
  EXPECT_EQ(batch.SerializeAsString(), record) << "fields in order, nothing unknown";
  return batch.events(0);
}

// What track() says of the event: first with a small buffer, then with one of the bound's size.
telemetry_status_t status_of(const telemetry_event_t& event,
                             std::size_t bytes_max = frame::kEventBytesMaxDefault) {
  std::string record;
  telemetry_status_t status = try_encode(event, 1, true, bytes_max, 1024, record);
  if (status != TELEMETRY_TOO_LARGE) return status;
  std::size_t bound = 0;
  status = encoded_size_bound(event, bytes_max, bound);
  return status == TELEMETRY_OK ? try_encode(event, 1, true, bytes_max, bound, record) : status;
}

TEST(Encoder, WritesEveryFieldAsGeneratedProtobufReadsIt) {
  telemetry_attribute_t attributes[4] = {};
  attributes[0] = {.key = "s", .type = TELEMETRY_VALUE_STRING, .value = {"värde"}};
  attributes[1] = {.key = "b", .type = TELEMETRY_VALUE_BOOL, .value = {.bool_value = 7}};
  attributes[2] = {.key = "i", .type = TELEMETRY_VALUE_INT, .value = {.int_value = -5}};
  attributes[3] = {.key = "d", .type = TELEMETRY_VALUE_DOUBLE, .value = {.double_value = 0.25}};
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = "name";
  event.category = "category";
  event.kind = TELEMETRY_KIND_ERROR;
  event.urgency = TELEMETRY_URGENCY_URGENT;
  event.persistence_class = TELEMETRY_CLASS_CRITICAL;
  event.severity = 17;
  event.has = TELEMETRY_HAS_SUCCESS | TELEMETRY_HAS_DURATION | TELEMETRY_HAS_EXIT_CODE;
  event.success = 0;
  event.duration_ms = -1.5;
  event.exit_code = -9;
  event.user_id = "user";
  event.error_name = "E";
  event.error_code = "C";
  event.error_id = "I";
  event.error_message = "M";
  event.error_stack = "S";
  event.attributes = attributes;
  event.attribute_count = 4;

  const v1::Event back = decode(encode(event, 1'700'000'000'123'456'789));

  EXPECT_EQ(back.id(), as_string(kId));
  EXPECT_EQ(back.session_id(), as_string(kSession));
  EXPECT_EQ(back.kind(), v1::EVENT_KIND_ERROR);
  EXPECT_EQ(back.name(), "name");
  EXPECT_EQ(back.category(), "category");
  EXPECT_EQ(back.time_unix_nano(), 1'700'000'000'123'456'789u);
  EXPECT_EQ(back.severity(), 17u);
  EXPECT_EQ(back.urgency(), v1::URGENCY_URGENT);
  EXPECT_EQ(back.persistence_class(), v1::PERSISTENCE_CLASS_CRITICAL);
  EXPECT_EQ(back.user_id(), "user");
  EXPECT_TRUE(back.has_success() && !back.success());
  EXPECT_TRUE(back.has_duration_ms() && back.duration_ms() == -1.5);
  EXPECT_TRUE(back.has_exit_code() && back.exit_code() == -9);
  EXPECT_EQ(back.error().name() + back.error().code() + back.error().id() + back.error().message() +
                back.error().stack(),
            "ECIMS");
  ASSERT_EQ(back.attributes_size(), 4);
  EXPECT_EQ(back.attributes(0).string_value(), "värde");
  EXPECT_TRUE(back.attributes(1).bool_value());
  EXPECT_EQ(back.attributes(2).int_value(), -5);
  EXPECT_EQ(back.attributes(3).double_value(), 0.25);
}

TEST(Encoder, TheSmallestEventHasNameIdAndTime) {
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = "n";
  const v1::Event back = decode(encode(event, 1, false));
  EXPECT_FALSE(back.has_success() || back.has_duration_ms() || back.has_exit_code());
  EXPECT_FALSE(back.has_error());
  EXPECT_TRUE(back.session_id().empty());
}

TEST(Encoder, EmptyAndNullTextsDiffer) {
  telemetry_attribute_t attributes[2] = {};
  attributes[0] = {.key = "empty", .type = TELEMETRY_VALUE_STRING, .value = {""}};
  attributes[1] = {.key = "absent", .type = TELEMETRY_VALUE_STRING, .value = {nullptr}};
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = "n";
  event.error_message = "";
  event.attributes = attributes;
  event.attribute_count = 2;
  const v1::Event back = decode(encode(event, 1));
  ASSERT_EQ(back.attributes_size(), 1);
  EXPECT_EQ(back.attributes(0).value_case(), v1::Attribute::kStringValue);
  EXPECT_TRUE(back.has_error());
}

TEST(Encoder, AStringWithASizeNeedsNoTerminator) {
  const char text[] = {'a', 'b', 'c', 'd'};
  telemetry_attribute_t attribute{};
  attribute = {.key = "k", .type = TELEMETRY_VALUE_STRING, .value = {text}, .string_size = 3};
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = "n";
  event.attributes = &attribute;
  event.attribute_count = 1;
  EXPECT_EQ(decode(encode(event, 1)).attributes(0).string_value(), "abc");
}

// Whatever the client lets through must pass the daemon's check of the whole frame.
// What a C caller may put there although the type has no such value.
template <typename Enum>
void put_number(Enum& field, unsigned value) {
  static_assert(sizeof field == sizeof value);
  std::memcpy(static_cast<void*>(&field), &value, sizeof value);
}

TEST(Encoder, RefusesEveryBrokenRule) {
  const std::string long_name(257, 'n');
  telemetry_attribute_t attribute{};
  attribute = {.key = "k", .type = TELEMETRY_VALUE_INT, .value = {.int_value = 1}};
  telemetry_event_t valid = TELEMETRY_EVENT_INIT;
  valid.name = "n";
  valid.attributes = &attribute;
  valid.attribute_count = 1;
  ASSERT_EQ(status_of(valid), TELEMETRY_OK);
  const auto expect_invalid = [&valid](const char* rule, auto break_rule) {
    telemetry_event_t event = valid;
    break_rule(event);
    EXPECT_EQ(status_of(event), TELEMETRY_INVALID) << rule;
  };
  expect_invalid("size", [](auto& e) { e.size = 8; });
  expect_invalid("no name", [](auto& e) { e.name = nullptr; });
  expect_invalid("empty name", [](auto& e) { e.name = ""; });
  expect_invalid("long name", [&](auto& e) { e.name = long_name.c_str(); });
  expect_invalid("name not UTF-8", [](auto& e) { e.name = "\xff"; });
  expect_invalid("long category", [&](auto& e) { e.category = long_name.c_str(); });
  expect_invalid("user not UTF-8", [](auto& e) { e.user_id = "\xc0\x80"; });
  expect_invalid("stack not UTF-8", [](auto& e) { e.error_stack = "\xed\xa0\x80"; });
  expect_invalid("kind", [](auto& e) { put_number(e.kind, 6); });
  expect_invalid("urgency", [](auto& e) { put_number(e.urgency, 2); });
  expect_invalid("class", [](auto& e) { put_number(e.persistence_class, 3); });
  expect_invalid("severity", [](auto& e) { e.severity = 25; });
  expect_invalid("too many attributes", [](auto& e) { e.attribute_count = 129; });
  expect_invalid("attributes missing", [](auto& e) { e.attributes = nullptr; });
  expect_invalid("NaN", [](auto& e) {
    e.has = TELEMETRY_HAS_DURATION;
    e.duration_ms = std::numeric_limits<double>::quiet_NaN();
  });
  telemetry_attribute_t broken = attribute;
  broken.key = "";
  expect_invalid("empty key", [&](auto& e) { e.attributes = &broken; });
  broken.key = nullptr;
  expect_invalid("no key", [&](auto& e) { e.attributes = &broken; });
  broken.key = long_name.c_str();
  expect_invalid("long key", [&](auto& e) { e.attributes = &broken; });
  broken = attribute;
  put_number(broken.type, 4);
  expect_invalid("value type", [&](auto& e) { e.attributes = &broken; });
}

TEST(Encoder, TheLimitIsOnTheEncodedEventToTheByte) {
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = "n";
  for (const std::size_t text_bytes : {0u, 1u, 100u, 127u, 128u, 900u, 20'000u, 65'000u}) {
    const std::string text(text_bytes, 'x');
    event.user_id = text.c_str();
    const std::size_t bytes = decode(encode(event, 1)).ByteSizeLong();
    EXPECT_EQ(status_of(event, bytes), TELEMETRY_OK) << text_bytes;
    EXPECT_EQ(status_of(event, bytes - 1), TELEMETRY_TOO_LARGE) << text_bytes;
  }
  const std::string huge(2u << 20, 'x');
  event.user_id = huge.c_str();
  EXPECT_EQ(status_of(event), TELEMETRY_TOO_LARGE);
}

TEST(Encoder, TouchesNothingBehindABufferThatIsTooSmall) {
  const std::string name(200, 'n');
  const std::string text(300, 't');
  telemetry_attribute_t attribute = {};
  attribute.key = "key";
  attribute.type = TELEMETRY_VALUE_STRING;
  attribute.value.string_value = text.c_str();
  telemetry_event_t event = TELEMETRY_EVENT_INIT;
  event.name = name.c_str();
  event.category = name.c_str();
  event.user_id = text.c_str();
  event.error_message = text.c_str();
  event.attributes = &attribute;
  event.attribute_count = 1;
  std::string record;
  std::size_t smallest = 0;
  for (std::size_t size = 0; size < 2000; ++size) {
    const telemetry_status_t status = try_encode(event, 1, true, 65536, size, record);
    if (status == TELEMETRY_OK) {
      smallest = size;
      break;
    }
    ASSERT_EQ(status, TELEMETRY_TOO_LARGE) << size;
  }
  ASSERT_NE(smallest, 0u);
  EXPECT_LE(smallest, record.size() + kEncodeSlackBytes + kRecordOverheadMax);
  EXPECT_EQ(record, encode(event, 1)) << "the room makes no difference to what is written";
}

class RandomEvent {
 public:
  explicit RandomEvent(std::mt19937_64& random) : random_(random) {
    event.name = text(1, 256);
    if (coin()) event.category = text(0, 256);
    event.kind = static_cast<telemetry_kind_t>(pick(6));
    event.urgency = static_cast<telemetry_urgency_t>(pick(2));
    event.persistence_class = static_cast<telemetry_class_t>(pick(3));
    event.severity = static_cast<std::uint32_t>(pick(25));
    event.has = static_cast<std::uint32_t>(pick(8));
    event.success = static_cast<int>(pick(2));
    event.duration_ms = std::ldexp(static_cast<double>(random_()), static_cast<int>(pick(80)) - 40);
    event.exit_code = static_cast<std::int32_t>(random_());
    for (const char** field : {&event.user_id,
                               &event.error_name,
                               &event.error_code,
                               &event.error_id,
                               &event.error_message,
                               &event.error_stack}) {
      if (coin()) *field = text(0, 300);
    }
    attributes_.resize(pick(12));
    for (telemetry_attribute_t& attribute : attributes_) fill(attribute);
    event.attributes = attributes_.data();
    event.attribute_count = attributes_.size();
  }

  RandomEvent(const RandomEvent&) = delete;
  RandomEvent& operator=(const RandomEvent&) = delete;

  telemetry_event_t event = TELEMETRY_EVENT_INIT;

 private:
  bool coin() { return (random_() & 1) != 0; }

  std::size_t pick(std::size_t below) { return random_() % below; }

  const char* text(std::size_t least, std::size_t most) {
    static constexpr const char* kPieces[] = {"a", "Z", "7", " ", "é", "€", "\xf0\x9f\x98\x80"};
    std::string made;
    const std::size_t wanted = least + pick(coin() ? most - least + 1 : 20);
    while (made.size() < wanted) made += kPieces[pick(7)];
    while (made.size() > most) made.resize(made.size() - 1);
    while (!utf8_valid(made.data(), made.size())) made.resize(made.size() - 1);
    if (made.size() < least) made.assign(least, 'x');
    texts_.push_back(std::make_unique<std::string>(made));
    return texts_.back()->c_str();
  }

  void fill(telemetry_attribute_t& attribute) {
    attribute.key = text(1, 256);
    attribute.type = static_cast<telemetry_value_type_t>(pick(4));
    switch (attribute.type) {
      case TELEMETRY_VALUE_STRING: attribute.value.string_value = text(0, 1000); break;
      case TELEMETRY_VALUE_BOOL: attribute.value.bool_value = static_cast<int>(pick(2)); break;
      case TELEMETRY_VALUE_INT:
        attribute.value.int_value = static_cast<std::int64_t>(random_() >> pick(64));
        if (coin()) attribute.value.int_value = -attribute.value.int_value;
        break;
      case TELEMETRY_VALUE_DOUBLE:
        attribute.value.double_value = std::sqrt(double(random_()));
        break;
    }
  }

  std::mt19937_64& random_;
  std::vector<std::unique_ptr<std::string>> texts_;
  std::vector<telemetry_attribute_t> attributes_;
};

std::string or_empty(const char* text) {
  return text == nullptr ? "" : text;
}

TEST(Encoder, RandomEventsSurviveTheRoundTrip) {
  const char* given = std::getenv("TELEMETRYD_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20261120;
  SCOPED_TRACE("TELEMETRYD_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; ++round) {
    const RandomEvent made(random);
    const telemetry_event_t& event = made.event;
    const v1::Event back = decode(encode(event, static_cast<std::uint64_t>(round) + 1));
    ASSERT_EQ(back.name(), event.name);
    ASSERT_EQ(back.category(), or_empty(event.category));
    ASSERT_EQ(back.user_id(), or_empty(event.user_id));
    ASSERT_EQ(back.kind(), static_cast<int>(event.kind));
    ASSERT_EQ(back.severity(), event.severity);
    ASSERT_EQ(back.error().stack(), or_empty(event.error_stack));
    ASSERT_EQ(back.error().name(), or_empty(event.error_name));
    ASSERT_EQ(back.has_duration_ms(), (event.has & TELEMETRY_HAS_DURATION) != 0);
    ASSERT_EQ(back.duration_ms(), back.has_duration_ms() ? event.duration_ms : 0);
    ASSERT_EQ(back.has_exit_code(), (event.has & TELEMETRY_HAS_EXIT_CODE) != 0);
    ASSERT_EQ(back.exit_code(), back.has_exit_code() ? event.exit_code : 0);
    ASSERT_EQ(static_cast<std::size_t>(back.attributes_size()), event.attribute_count);
    for (int i = 0; i < back.attributes_size(); ++i) {
      const telemetry_attribute_t& in = event.attributes[i];
      const v1::Attribute& out = back.attributes(i);
      ASSERT_EQ(out.key(), in.key);
      switch (in.type) {
        case TELEMETRY_VALUE_STRING: ASSERT_EQ(out.string_value(), in.value.string_value); break;
        case TELEMETRY_VALUE_BOOL: ASSERT_EQ(out.bool_value(), in.value.bool_value != 0); break;
        case TELEMETRY_VALUE_INT: ASSERT_EQ(out.int_value(), in.value.int_value); break;
        case TELEMETRY_VALUE_DOUBLE: ASSERT_EQ(out.double_value(), in.value.double_value); break;
      }
    }
  }
}

TEST(Utf8, AcceptsWhatRfc3629AcceptsAndNothingElse) {
  const auto valid = [](std::string_view text) { return utf8_valid(text.data(), text.size()); };
  for (const std::string_view good : {"",
                                      "plain",
                                      "0123456789abcdef",
                                      "é",
                                      "€",
                                      "\xf0\x90\x80\x80",
                                      "\xf4\x8f\xbf\xbf",
                                      "\xed\x9f\xbf",
                                      "long enough é for words"}) {
    EXPECT_TRUE(valid(good)) << good;
  }
  for (const std::string_view bad : {"\x80",
                                     "\xc0\xaf",
                                     "\xc1\xbf",
                                     "\xe0\x9f\xbf",
                                     "\xed\xa0\x80",
                                     "\xf0\x8f\xbf\xbf",
                                     "\xf4\x90\x80\x80",
                                     "\xf5\x80\x80\x80",
                                     "\xff",
                                     "\xc3",
                                     "\xe2\x82",
                                     "\xf0\x9f\x98",
                                     "long enough for words \xc3",
                                     "\xc3 long enough for words",
                                     "\xe2\x28\xa1"}) {
    EXPECT_FALSE(valid(bad));
  }
}

TEST(Utf8, TheScanFindsTheEndAtEveryAlignment) {
  alignas(16) char buffer[128];
  for (std::size_t start = 0; start < 32; ++start) {
    for (std::size_t size = 0; size < 64; ++size) {
      std::memset(buffer, '\xff', sizeof buffer);
      std::memset(buffer + start, 'a', size);
      buffer[start + size] = '\0';
      const TextScan scan = scan_text(buffer + start, 1000);
      ASSERT_EQ(scan.size, size);
      ASSERT_TRUE(scan.ascii);
      for (std::size_t at = 0; at < size; ++at) {
        buffer[start + at] = '\xc3';
        const TextScan other = scan_text(buffer + start, 1000);
        ASSERT_EQ(other.size, size);
        ASSERT_FALSE(other.ascii);
        buffer[start + at] = 'a';
      }
      ASSERT_EQ(scan_text(buffer + start, size).size, size);
      if (size > 0) {
        ASSERT_GT(scan_text(buffer + start, size - 1).size, size - 1);
      }
    }
  }
  const std::string endless(200, 'a');
  EXPECT_GT(scan_text(endless.c_str(), 100).size, 100u);
}

TEST(Uuid7, HasTheLayoutOfRfc9562) {
  std::uint8_t id[16];
  // The example of RFC 9562, appendix A.6: unix_ts_ms 0x017F22E279B0.
  make_uuid7(0x017F22E279B0ull * kNanosPerMilli, ~0ull, id);
  const std::uint8_t start[] = {0x01, 0x7f, 0x22, 0xe2, 0x79, 0xb0, 0x70, 0x00};
  EXPECT_EQ(std::memcmp(id, start, sizeof start), 0);
  EXPECT_EQ(id[8] & 0xc0, 0x80);
  std::uint8_t later[16];
  make_uuid7(0x017F22E279B0ull * kNanosPerMilli + 999'999, 0, later);
  EXPECT_EQ(later[6] >> 4, 7);
  EXPECT_EQ(later[8] & 0xc0, 0x80);
  EXPECT_LT(std::memcmp(id, later, 8), 0) << "the fraction of the millisecond orders";
}

}  // namespace
}  // namespace telemetryd::client
