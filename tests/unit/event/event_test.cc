#include "event/event.h"

#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "sample.h"

namespace telemetryd::event {
namespace {

Result<BatchSummary> check(const std::string& batch) {
  return validate(batch, Class::kNormal, Urgency::kNormal, Limits{});
}

TEST(Validate, AcceptsTypicalEventsAndSumsThemUp) {
  v1::Event later = typical_event();
  std::string id = sample_id();
  id[5] = '\xff';
  later.set_id(id);
  const auto summary = check(batch_of({later, typical_event(), sample_event()}));
  ASSERT_TRUE(summary) << summary.error().message();
  EXPECT_EQ(summary->count, 3u);
  EXPECT_EQ(summary->id_ms_min, 0x0193a0b1c2d3u);
  EXPECT_EQ(summary->id_ms_max, 0x0193a0b1c2ffu);
}

TEST(Validate, AcceptsEveryFieldAtItsLimit) {
  v1::Event event = sample_event();
  event.set_name(std::string(256, 'n'));
  event.set_category(std::string(256, 'c'));
  event.set_severity(24);
  event.set_exit_code(std::numeric_limits<std::int32_t>::min());
  event.set_duration_ms(std::numeric_limits<double>::infinity());
  event.set_user_id("J\xc3\xb6rg \xf0\x9f\x90\x9f");
  event.mutable_error()->set_message("no space left");
  for (int i = 0; i < 128; ++i) event.add_attributes()->set_key(std::string(256, 'k'));
  EXPECT_TRUE(check(batch_of({event})));
}

TEST(Validate, KeepsFieldsItDoesNotKnow) {
  const std::string unknown(
      "\xa0\x06\x01\xaa\x06\x02hi\xb1\x06"
      "12345678\xbd\x06"
      "1234");
  EXPECT_TRUE(check(batch_of_raw(sample_event().SerializeAsString() + unknown)));
}

TEST(Validate, WantsClassAndUrgencyOfTheFrame) {
  v1::Event event = sample_event();
  event.set_persistence_class(v1::PERSISTENCE_CLASS_LOW);
  event.set_urgency(v1::URGENCY_URGENT);
  const std::string batch = batch_of({event});
  EXPECT_TRUE(validate(batch, Class::kLow, Urgency::kUrgent, Limits{}));
  EXPECT_FALSE(validate(batch, Class::kNormal, Urgency::kUrgent, Limits{}));
  EXPECT_FALSE(validate(batch, Class::kLow, Urgency::kNormal, Limits{}));
  EXPECT_FALSE(validate(batch_of({sample_event()}), Class::kLow, Urgency::kNormal, Limits{}));
}

struct BrokenRule {
  const char* name;
  const char* message;
  std::function<void(v1::Event&)> spoil;
};

void PrintTo(const BrokenRule& rule, std::ostream* out) {
  *out << rule.name;
}

class BrokenRules : public testing::TestWithParam<BrokenRule> {};

TEST_P(BrokenRules, AreRefusedNamingTheEventAndTheRule) {
  v1::Event event = typical_event();
  GetParam().spoil(event);
  const auto summary = check(batch_of({sample_event(), event}));
  ASSERT_FALSE(summary);
  EXPECT_EQ(summary.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(summary.error().message(), std::string("event 1: ") + GetParam().message);
}

const BrokenRule kBrokenRules[] = {
    {"no_id", "the ID is missing", [](v1::Event& e) { e.clear_id(); }},
    {"short_id", "the ID is not 16 bytes", [](v1::Event& e) { e.set_id("short"); }},
    {"long_id", "the ID is not 16 bytes", [](v1::Event& e) { e.set_id(std::string(17, 'i')); }},
    {"no_name", "the name is missing", [](v1::Event& e) { e.clear_name(); }},
    {"long_name",
     "the name is longer than 256 bytes",
     [](v1::Event& e) { e.set_name(std::string(257, 'n')); }},
    {"no_time", "the time is missing", [](v1::Event& e) { e.clear_time_unix_nano(); }},
    {"long_category",
     "the category is longer than 256 bytes",
     [](v1::Event& e) { e.set_category(std::string(257, 'c')); }},
    {"no_key", "an attribute has no key", [](v1::Event& e) { e.add_attributes(); }},
    {"long_key",
     "an attribute's key is longer than 256 bytes",
     [](v1::Event& e) { e.add_attributes()->set_key(std::string(257, 'k')); }},
    {"many_attributes",
     "it has more than 128 attributes",
     [](v1::Event& e) {
       while (e.attributes_size() < 129) e.add_attributes()->set_key("k");
     }},
    {"nan",
     "duration_ms is not a number",
     [](v1::Event& e) { e.set_duration_ms(std::numeric_limits<double>::quiet_NaN()); }},
    {"severity", "severity is above 24", [](v1::Event& e) { e.set_severity(25); }},
    {"negative_kind",
     "kind is out of range",
     [](v1::Event& e) { e.set_kind(static_cast<v1::EventKind>(-1)); }},
    {"short_session",
     "the session ID is not 16 bytes",
     [](v1::Event& e) { e.set_session_id("short"); }},
    {"class",
     "its class is not the frame's",
     [](v1::Event& e) { e.set_persistence_class(v1::PERSISTENCE_CLASS_CRITICAL); }},
    {"urgency",
     "its urgency is not the frame's",
     [](v1::Event& e) { e.set_urgency(v1::URGENCY_URGENT); }},
    {"too_large",
     "it is larger than 65536 bytes (event_bytes_max)",
     [](v1::Event& e) { e.set_user_id(std::string(65536, 'u')); }},
};

INSTANTIATE_TEST_SUITE_P(Each, BrokenRules, testing::ValuesIn(kBrokenRules), [](const auto& each) {
  return std::string(each.param.name);
});

struct BrokenBytes {
  const char* name;
  const char* message;
  std::string appended;  // to an event without fault
};

void PrintTo(const BrokenBytes& bytes, std::ostream* out) {
  *out << bytes.name;
}

class BrokenEncodings : public testing::TestWithParam<BrokenBytes> {};

TEST_P(BrokenEncodings, AreRefused) {
  const auto summary =
      check(batch_of_raw(sample_event().SerializeAsString() + GetParam().appended));
  ASSERT_FALSE(summary);
  EXPECT_EQ(summary.error().message(), std::string("event 0: ") + GetParam().message);
}

using namespace std::string_literals;
const char* const kMalformed = "it is not a protobuf message";
const char* const kWrongType = "a field has the wrong wire type";
const char* const kNotUtf8 = "a string is not UTF-8";
const BrokenBytes kBrokenBytes[] = {
    {"name_as_varint", kWrongType, "\x18\x01"s},
    {"time_as_varint", kWrongType, "\x28\x01"s},
    {"severity_as_bytes", kWrongType, "\x32\x01x"s},
    {"source_as_fixed32", kWrongType, "\x85\x01zzzz"s},
    {"key_as_varint", kWrongType, "\x72\x02\x08\x01"s},
    {"error_text_as_varint", kWrongType, "\x7a\x02\x08\x01"s},
    {"name_not_utf8", kNotUtf8, "\x1a\x01\xff"s},
    {"category_not_utf8", kNotUtf8, "\x22\x02\xc0\x80"s},
    {"user_not_utf8", kNotUtf8, "\x52\x03\xed\xa0\x80"s},
    {"source_not_utf8", kNotUtf8, "\x82\x01\x01\x80"s},
    {"key_not_utf8", kNotUtf8, "\x72\x03\x0a\x01\xff"s},
    {"value_not_utf8", kNotUtf8, "\x72\x06\x0a\x01k\x12\x01\xff"s},
    {"stack_not_utf8", kNotUtf8, "\x7a\x03\x2a\x01\xff"s},
    {"empty_name_last", "the name is missing", "\x1a\x00"s},
    {"exit_code_too_wide", "exit_code is out of range", "\x68\xff\xff\xff\xff\x7f"s},
    {"field_zero", kMalformed, "\x02\x00"s},
    {"half_tag", kMalformed, "\xa0"s},
    {"length_past_the_end", kMalformed, "\x1a\x7fxyz"s},
    {"length_of_six_bytes", kMalformed, "\x1a\x81\x80\x80\x80\x80\x00x"s},
    {"half_fixed64",
     kMalformed,
     "\x29"
     "1234"s},
    {"half_fixed32",
     kMalformed,
     "\xbd\x06"
     "12"s},
    {"varint_of_eleven_bytes", kMalformed, "\x30\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"s},
    {"varint_past_64_bits", kMalformed, "\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"s},
    {"group", kMalformed, "\xa3\x06\xa4\x06"s},
    {"end_of_no_group", kMalformed, "\xa4\x06"s},
    {"wire_type_seven", kMalformed, "\xa7\x06"s},
};

INSTANTIATE_TEST_SUITE_P(Each,
                         BrokenEncodings,
                         testing::ValuesIn(kBrokenBytes),
                         [](const auto& each) { return std::string(each.param.name); });

struct BrokenFraming {
  const char* name;
  std::string prefix;  // in the place of an event's tag
};

void PrintTo(const BrokenFraming& framing, std::ostream* out) {
  *out << framing.name;
}

class BrokenFramings : public testing::TestWithParam<BrokenFraming> {};

// Rows of the store are cut at the byte 0x0A, so another spelling of the same tag would be stored
// and never found again.
TEST_P(BrokenFramings, AreRefused) {
  const std::string good = batch_of({sample_event()});
  const auto summary = check(good + GetParam().prefix + good.substr(1));
  ASSERT_FALSE(summary);
  EXPECT_EQ(summary.error().message(), "event 1: the batch is malformed here");
  EXPECT_FALSE(slice(good + GetParam().prefix + good.substr(1), 1, 1));
}

const BrokenFraming kBrokenFramings[] = {
    {"tag_of_two_bytes", "\x8a\x00"s},
    {"tag_of_five_bytes", "\x8a\x80\x80\x80\x00"s},
    {"another_field", "\x12"s},
    {"no_tag", ""s},
};

INSTANTIATE_TEST_SUITE_P(Each,
                         BrokenFramings,
                         testing::ValuesIn(kBrokenFramings),
                         [](const auto& each) { return std::string(each.param.name); });

TEST(Validate, RefusesABatchThatHoldsAnythingButEvents) {
  EXPECT_EQ(check("").error().message(), "the batch has no events");
  EXPECT_FALSE(check(batch_of({sample_event()}) + "\x12\x01x"));
  EXPECT_FALSE(check(batch_of({sample_event()}) + "\x08\x01"));
  EXPECT_FALSE(check(batch_of({sample_event()}) + "\x0a"));
}

TEST(Validate, CountsNoFurtherThanAFrameMayHold) {
  const std::string one = batch_of({sample_event()});
  std::string batch;
  for (int i = 0; i < 65535; ++i) batch += one;
  EXPECT_EQ(check(batch)->count, 65535u);
  EXPECT_FALSE(check(batch + one));
}

TEST(ForEach, VisitsEachEventInPlaceUntilToldToStop) {
  const std::string batch = batch_of({sample_event(), typical_event(), sample_event()});
  std::vector<std::uint32_t> seen;
  ASSERT_TRUE(for_each(batch, [&](std::uint32_t index, std::string_view event) {
    EXPECT_GE(event.data(), batch.data());
    EXPECT_LE(event.data() + event.size(), batch.data() + batch.size());
    seen.push_back(index);
    return index < 1;
  }));
  EXPECT_EQ(seen, (std::vector<std::uint32_t>{0, 1}));
  EXPECT_FALSE(for_each(batch + "\x12", [](std::uint32_t, std::string_view) { return true; }));
}

TEST(Slice, CutsABatchThatIsAgainABatch) {
  const std::string batch = batch_of({sample_event(), typical_event(), sample_event()});
  EXPECT_EQ(*slice(batch, 0, 3), batch);
  EXPECT_EQ(*slice(batch, 1, 1), batch_of({typical_event()}));
  EXPECT_EQ(*slice(batch, 1, 2), batch_of({typical_event(), sample_event()}));
  EXPECT_EQ(slice(batch, 1, 1)->data(), batch.data() + batch_of({sample_event()}).size());
  EXPECT_TRUE(slice(batch, 3, 0)->empty());
}

TEST(Slice, RefusesWhatIsNotThere) {
  const std::string batch = batch_of({sample_event(), typical_event()});
  EXPECT_FALSE(slice(batch, 1, 2));
  EXPECT_FALSE(slice(batch, 2, 1));
  EXPECT_FALSE(slice(batch, 4'000'000'000, 4'000'000'000));
  EXPECT_FALSE(slice("\x0a\x05", 0, 1));
}

TEST(IdOf, ReadsTheIdWhereverItStands) {
  const auto id = id_of(typical_event().SerializeAsString());
  ASSERT_TRUE(id);
  EXPECT_EQ(uuid_text(*id), "0193a0b1-c2d3-7123-8123-456789abcdef");
  EXPECT_FALSE(id_of(""));
  EXPECT_FALSE(id_of("\x0a\x01x"));
  EXPECT_FALSE(id_of("\x0a"));
}

TEST(Utf8, IsWhatRfc3629Says) {
  for (const char* good : {"",
                           "plain",
                           "exactly8",
                           "longer than eight bytes",
                           "\xc2\x80",
                           "\xdf\xbf",
                           "\xe0\xa0\x80",
                           "\xed\x9f\xbf",
                           "\xee\x80\x80",
                           "\xef\xbf\xbf",
                           "\xf0\x90\x80\x80",
                           "\xf4\x8f\xbf\xbf",
                           "eight bytes and then \xc3\xa9"}) {
    EXPECT_TRUE(utf8_valid(good)) << good;
  }
  for (const char* bad : {"\x80",
                          "\xbf",
                          "\xc0\x80",
                          "\xc1\xbf",
                          "\xc2",
                          "\xc2g",
                          "\xe0\x9f\xbf",
                          "\xed\xa0\x80",
                          "\xe1\x80",
                          "\xe1\x80g",
                          "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80",
                          "\xf5\x80\x80\x80",
                          "\xff",
                          "\xf1\x80\x80",
                          "seven..\xff and more",
                          "ends badly after eight \xe2\x82"}) {
    EXPECT_FALSE(utf8_valid(bad)) << bad;
  }
}

}  // namespace
}  // namespace telemetryd::event
