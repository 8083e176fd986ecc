#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "event/event.h"
#include "sample.h"

namespace telemetryd::event {
namespace {

using nlohmann::json;

json json_of(const v1::Event& event, const v1::Context& context = {}) {
  const auto result = to_json(event.SerializeAsString(), context.SerializeAsString());
  EXPECT_TRUE(result) << result.error().message();
  return result.value_or(json{});
}

TEST(ToJson, ShowsAPlainEventWithoutAbsentMembers) {
  EXPECT_EQ(json_of(sample_event()),
            json::parse(R"({"id": "0193a0b1-c2d3-7123-8123-456789abcdef", "kind": "event",
                            "name": "build.finished",
                            "time": "2023-11-14T22:13:20.123456789Z"})"));
}

TEST(ToJson, ShowsEveryFieldInTheDocumentedShape) {
  v1::Event event = typical_event();
  event.set_severity(17);
  event.set_urgency(v1::URGENCY_URGENT);
  event.set_persistence_class(v1::PERSISTENCE_CLASS_CRITICAL);
  event.set_user_id("j\xc3\xb6rg");
  event.set_source("relay");
  event.mutable_error()->set_name("E");
  event.mutable_error()->set_code("42");
  event.mutable_error()->set_id("err-1");
  event.mutable_error()->set_message("m");
  event.mutable_error()->set_stack("s");
  auto* blob = event.add_attributes();
  blob->set_key("blob");
  blob->set_bytes_value("\x01\x02\x03\xff");
  v1::Context context;
  context.set_app("tool");
  context.set_app_version("1.2");
  context.set_language("cpp");
  context.set_environment("ci");
  context.set_project("p");
  context.set_sdk("libtelemetry/0.1.0");
  EXPECT_EQ(json_of(event, context), json::parse(R"({
    "id": "0193a0b1-c2d3-7123-8123-456789abcdef", "kind": "command", "name": "build.finished",
    "category": "compiler", "time": "2023-11-14T22:13:20.123456789Z", "severity": 17,
    "urgency": "urgent", "class": "critical", "session_id": "0193a0b1c2d371238123456789abcdef",
    "user_id": "jörg", "success": true, "duration_ms": 12.5, "exit_code": -2,
    "attributes": {"target_triple": "x86_64-unknown-linux-gnu", "cache_hit": true,
                   "object_files": -9007199254740993, "load_average": 0.75,
                   "blob": {"base64": "AQID/w=="}},
    "error": {"name": "E", "code": "42", "id": "err-1", "message": "m", "stack": "s"},
    "source": "relay", "app": "tool", "app_version": "1.2", "language": "cpp",
    "environment": "ci", "project": "p", "sdk": "libtelemetry/0.1.0"})"));
}

TEST(ToJson, ShowsTheMachineThatARelayNamed) {
  v1::Context context;
  context.set_app("tool");
  context.set_machine_id("elsewhere");
  EXPECT_EQ(json_of(sample_event(), context)["machine_id"], "elsewhere");
  EXPECT_EQ(machine_id_of(context.SerializeAsString()), "elsewhere");
  context.clear_machine_id();
  EXPECT_FALSE(json_of(sample_event(), context).contains("machine_id"));
  EXPECT_EQ(machine_id_of(context.SerializeAsString()), "");
  EXPECT_EQ(machine_id_of("\xff not a message"), "");
}

TEST(ToJson, PadsBase64) {
  v1::Event event = sample_event();
  for (const char* text : {"", "a", "ab", "abc"}) {
    auto* attribute = event.add_attributes();
    attribute->set_key("k" + std::to_string(std::string(text).size()));
    attribute->set_bytes_value(text);
  }
  const json attributes = json_of(event)["attributes"];
  EXPECT_EQ(attributes["k0"]["base64"], "");
  EXPECT_EQ(attributes["k1"]["base64"], "YQ==");
  EXPECT_EQ(attributes["k2"]["base64"], "YWI=");
  EXPECT_EQ(attributes["k3"]["base64"], "YWJj");
}

TEST(ToJson, OfEqualKeysTheLastCounts) {
  v1::Event event = sample_event();
  for (const int value : {1, 2}) {
    auto* attribute = event.add_attributes();
    attribute->set_key("k");
    attribute->set_int_value(value);
  }
  EXPECT_EQ(json_of(event)["attributes"], (json{{"k", 2}}));
}

TEST(ToJson, NeverHoldsANull) {
  v1::Event event = sample_event();
  event.add_attributes()->set_key("without value");
  event.set_duration_ms(-std::numeric_limits<double>::infinity());
  auto* attribute = event.add_attributes();
  attribute->set_key("inf");
  attribute->set_double_value(-std::numeric_limits<double>::infinity());
  const json shown = json_of(event);
  EXPECT_EQ(shown["attributes"], (json{{"inf", "-Infinity"}}));
  EXPECT_FALSE(shown.contains("duration_ms"));
  EXPECT_EQ(shown.dump().find("null"), std::string::npos);
}

TEST(ToJson, ShowsTheFirstAndTheLastMomentOfTheFormat) {
  v1::Event event = sample_event();
  event.set_time_unix_nano(1);
  EXPECT_EQ(json_of(event)["time"], "1970-01-01T00:00:00.000000001Z");
  event.set_time_unix_nano(std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(json_of(event)["time"], "2554-07-21T23:34:33.709551615Z");
}

TEST(ToJson, ShowsAKindOfALaterVersionAsAnEvent) {
  v1::Event event = sample_event();
  event.set_kind(static_cast<v1::EventKind>(77));
  EXPECT_EQ(json_of(event)["kind"], "event");
}

TEST(ToJson, RefusesWhatIsNoEventOrNoContext) {
  EXPECT_FALSE(to_json("", ""));
  EXPECT_FALSE(to_json("\x0a", ""));
  const std::string good = sample_event().SerializeAsString();
  EXPECT_FALSE(to_json(good, "\x0a\x01\xff"));
  EXPECT_FALSE(to_json(good, "\x08\x01"));
  EXPECT_FALSE(to_json(good, "\x0a\x09x"));
}

}  // namespace
}  // namespace telemetryd::event
