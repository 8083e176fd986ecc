#include "gateway/request.h"

#include <gtest/gtest.h>

#include "frame/frame.h"
#include "rig.h"

namespace telemetryd::gateway {
namespace {

struct Row {
  const char* what;
  std::string message;
  std::string refusal;  // a part of it; empty: a frame comes out
};

std::string with_context(const std::string& rest) {
  return rest + field(5, kContext);
}

TEST(Request, BecomesAFrameOrAnInvalidArgumentWithTheReason) {
  const std::string one = field(1, event_bytes());
  const std::string padded_tag = std::string("\x8a\x00", 2) + varint(event_bytes().size());
  const Row rows[] = {
      {"one event", with_context(one), ""},
      {"events around other fields", one + field(2, instance_bytes()) + one + field(3, 1), ""},
      {"an unknown field", with_context(one) + field(99, "x") + field(98, 7), ""},
      {"an empty instance", with_context(one + field(2, "")), ""},
      {"no events, which the daemon refuses", with_context(""), ""},
      {"an event that is no event, which the daemon refuses", with_context(field(1, "\xff")), ""},
      {"a name that is not UTF-8, which the daemon refuses",
       with_context(field(1, event_bytes("\xff"))),
       ""},
      {"not protobuf", "\xff\xff", "malformed protobuf"},
      {"an end in the middle", with_context(one).substr(0, 20), "malformed protobuf"},
      {"a length beyond the end", std::string("\x0a\xff\xff\xff\xff\x0f", 6), "malformed protobuf"},
      {"field 0", with_context(one) + std::string("\x02\x00", 2), "malformed protobuf"},
      {"a group", with_context(one) + "\x33\x34", "malformed protobuf"},
      {"events as a number", field(1, 5), "wrong wire type"},
      {"number as bytes", field(3, "x"), "wrong wire type"},
      {"a padded tag", padded_tag + event_bytes(), "spelled in more than one byte"},
      {"an instance of 15 bytes", field(2, std::string(15, 'i')), "15 bytes and must be 16"},
      {"an instance of 17 bytes", field(2, std::string(17, 'i')), "17 bytes and must be 16"},
      {"an instance of zeros", field(2, std::string(16, '\0')), "all zeros"},
      {"a number below oldest_number", field(3, 3) + field(4, 4), "below the request's own"},
      {"an app that is missing", field(5, field(2, "1.0")), "context.app is missing"},
      {"an app in capitals", field(5, field(1, "Tool")), "1 to 64 of a-z 0-9 _ -"},
      {"an app of 65 letters", field(5, field(1, std::string(65, 'a'))), "1 to 64 of a-z"},
      {"a machine of 128 bytes", one + field(5, kContext + field(7, std::string(128, 'm'))), ""},
      {"a machine of 129 bytes",
       one + field(5, kContext + field(7, std::string(129, 'm'))),
       "context.machine_id is longer than 128 bytes"},
      {"a context that is not UTF-8", field(5, kContext + field(2, "\xff")), "not UTF-8"},
      {"a context that is no message", field(5, "\xff"), "context: "},
      {"a context in two halves", field(5, "\x0a\x04") + field(5, "tool"), "context: "},
      {"a context of 4001 bytes", field(5, field(2, std::string(3998, 'x'))), "larger than 4000"},
  };
  for (const Row& row : rows) {
    const auto request = convert(row.message);
    EXPECT_EQ(request.has_value(), row.refusal.empty()) << row.what;
    if (request || row.refusal.empty()) continue;
    EXPECT_EQ(request.error().code, StatusCode::kInvalidArgument) << row.what;
    EXPECT_NE(request.error().text.find(row.refusal), std::string::npos)
        << row.what << ": " << request.error().text;
    EXPECT_FALSE(request.error().retry_after) << row.what;
  }
}

TEST(Request, EventsAreSplicedAsTheyCame) {
  const std::string urgent = event_bytes("u", field(7, 1) + field(8, 2) + field(50, "new"));
  const auto request = convert(field(1, urgent) + field(5, kContext) + field(1, event_bytes()) +
                               field(2, instance_bytes()) + field(3, 7) + field(4, 2));
  ASSERT_TRUE(request);
  EXPECT_EQ(request->number, 7u);
  EXPECT_EQ(request->oldest_number, 2u);
  EXPECT_EQ(request->instance, instance_of());
  EXPECT_EQ(request->context, kContext);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(request->frame.data());
  const auto header = frame::decode_header(bytes);
  EXPECT_EQ(header.type, frame::Type::kEvents);
  EXPECT_EQ(header.length, request->frame.size() - frame::kHeaderBytes);
  const auto prefix = frame::decode_events_prefix(bytes + frame::kHeaderBytes);
  EXPECT_EQ(prefix.number, 7u);
  EXPECT_EQ(prefix.count, 2u);
  EXPECT_EQ(prefix.persistence_class, 2u);
  EXPECT_EQ(prefix.urgency, 1u);
  EXPECT_EQ(request->frame.substr(frame::kHeaderBytes + frame::kEventsPrefixBytes),
            field(1, urgent) + field(1, event_bytes()));
}

TEST(Request, OfARepeatedFieldTheLastCountsAndContextsAreMerged) {
  const auto request = convert(field(2, instance_bytes('a')) + field(2, instance_bytes('b')) +
                               field(3, 1) + field(3, 2) + field(5, field(1, "old")) +
                               field(5, field(1, "tool") + field(2, "1.0")));
  ASSERT_TRUE(request);
  EXPECT_EQ(request->instance, instance_of('b'));
  EXPECT_EQ(request->number, 2u);
  EXPECT_EQ(request->context, field(1, "old") + field(1, "tool") + field(2, "1.0"));
}

TEST(Request, PublishWantsAContextAndInstanceAndNumberTogether) {
  const std::string one = field(1, event_bytes());
  const auto refusal = [&](const std::string& rest) {
    const auto request = convert(one + rest);
    EXPECT_TRUE(request);
    const auto problem = check_publish(*request);
    return problem ? problem->text : "";
  };
  EXPECT_EQ(refusal(field(5, kContext)), "");
  EXPECT_EQ(refusal(field(5, kContext) + field(2, instance_bytes()) + field(3, 1)), "");
  EXPECT_EQ(refusal(""), "context is missing; it names the app");
  EXPECT_EQ(refusal(field(5, kContext) + field(2, instance_bytes())),
            "number is 0; the numbers of an instance start at 1");
  EXPECT_EQ(refusal(field(5, kContext) + field(3, 4)),
            "number without instance; send both, or neither");
  EXPECT_EQ(check_first_of_stream(*convert(one + field(5, kContext)))->text,
            "the first request of a stream must carry an instance");
}

TEST(Request, AClassThatNobodyKnowsStaysUnknownInTheFrame) {
  const auto request = convert(field(1, event_bytes("e", field(8, 70000))));
  ASSERT_TRUE(request);
  const auto prefix = frame::decode_events_prefix(
      reinterpret_cast<const std::uint8_t*>(request->frame.data()) + frame::kHeaderBytes);
  EXPECT_EQ(prefix.persistence_class, 255u);
}

}  // namespace
}  // namespace telemetryd::gateway
