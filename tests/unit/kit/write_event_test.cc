#include "kit/write_event.h"

#include <functional>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "telemetry/v1/event.pb.h"
#include "unit/event/sample.h"

namespace telemetryd::kit {
namespace {

using nlohmann::json;
namespace v1 = ::telemetry::v1;

const Sender kSender{"linux", "x86_64", "telemetryd/0.1.0"};
const std::string kMachine(64, 'a');

v1::Context sample_context() {
  v1::Context context;
  context.set_app("tool");
  context.set_app_version("2.1");
  context.set_language("cpp");
  return context;
}

struct Given {
  v1::Event event = event::sample_event();
  v1::Context context = sample_context();
  std::string machine_id = kMachine;
};

// The event as the upstream sees it, metadata and all.
json written(const Given& given) {
  const auto event = write_event(given.event.SerializeAsString(),
                                 given.context.SerializeAsString(),
                                 given.machine_id,
                                 kSender);
  EXPECT_TRUE(event) << (event ? "" : event.error().message());
  if (!event) return {};
  const WrittenEvent batch[] = {*event};
  const json body = json::parse(write_batch(batch, {1'732'003'200'250, 2, "telemetryd/0.1.0"}));
  EXPECT_EQ(event->id, body["events"][0]["event_id"]);
  return body["events"][0];
}

void set(v1::Event& event, const std::string& key, const std::string& value) {
  v1::Attribute* attribute = event.add_attributes();
  attribute->set_key(key);
  attribute->set_string_value(value);
}

TEST(KitEvent, HasTheSdksMembersAndNoOthers) {
  Given given;
  given.event = event::typical_event();
  EXPECT_EQ(written(given), json::parse(R"({
    "schema_version": "1.0.0",
    "event_id": "0193a0b1-c2d3-7123-8123-456789abcdef",
    "timestamp": "2023-11-14T22:13:20.123456789Z",
    "service": {"name": "tool", "version": "2.1", "language": "cpp"},
    "user_id": "client_)" + kMachine + R"(",
    "session_id": "sess_0193a0b1c2d371238123456789abcdef",
    "environment": {"os": "linux", "arch": "x86_64"},
    "event": {"type": "command_execution", "category": "compiler",
              "data": {"command": "build.finished", "success": true, "duration_ms": 12.5,
                       "exit_code": -2, "target_triple": "x86_64-unknown-linux-gnu",
                       "cache_hit": true, "object_files": -9007199254740993,
                       "load_average": 0.75}},
    "metadata": {"sdk_version": "telemetryd/0.1.0",
                 "transmission_timestamp": "2024-11-19T08:00:00.250Z",
                 "batch_size": 1, "retry_count": 2}})"));
}

TEST(KitEvent, TheKindDecidesTypeCategoryAndWhereTheNameGoes) {
  struct Case {
    v1::EventKind kind;
    std::string category;
    json expected;
  };

  const std::vector<Case> cases = {
      {v1::EVENT_KIND_COMMAND,
       "",
       {{"type", "command_execution"}, {"category", "usage"}, {"data", {{"command", "n"}}}}},
      {v1::EVENT_KIND_FEATURE,
       "",
       {{"type", "feature_used"}, {"category", "library"}, {"data", {{"feature", "n"}}}}},
      {v1::EVENT_KIND_FEATURE,
       "ours",
       {{"type", "feature_used"}, {"category", "ours"}, {"data", {{"feature", "n"}}}}},
      {v1::EVENT_KIND_EVENT, "", {{"type", "n"}, {"data", json::object()}}},
      {v1::EVENT_KIND_METRIC, "c", {{"type", "n"}, {"category", "c"}, {"data", json::object()}}},
      {v1::EVENT_KIND_ERROR, "", {{"type", "n"}, {"data", json::object()}}},
      {v1::EVENT_KIND_INIT, "", {{"type", "n"}, {"data", json::object()}}}};
  for (const Case& one : cases) {
    Given given;
    given.event.set_name("n");
    given.event.set_kind(one.kind);
    given.event.set_category(one.category);
    EXPECT_EQ(written(given)["event"], one.expected);
  }
}

TEST(KitEvent, TheTimeHasOnlyTheDigitsItNeeds) {
  const std::vector<std::pair<std::uint64_t, std::string>> cases = {
      {1'700'000'000'000'000'000, "2023-11-14T22:13:20Z"},
      {1'700'000'000'120'000'000, "2023-11-14T22:13:20.120Z"},
      {1'700'000'000'000'450'000, "2023-11-14T22:13:20.000450Z"},
      {1'700'000'000'000'000'001, "2023-11-14T22:13:20.000000001Z"},
      {1, "1970-01-01T00:00:00.000000001Z"},
      {std::numeric_limits<std::uint64_t>::max(), "2554-07-21T23:34:33.709551615Z"}};
  for (const auto& [nanos, expected] : cases) {
    Given given;
    given.event.set_time_unix_nano(nanos);
    EXPECT_EQ(written(given)["timestamp"], expected);
  }
}

TEST(KitEvent, AttributesKeepTheirTypesAsFarAsJsonHasThem) {
  Given given;
  const auto add = [&](const std::string& key) {
    v1::Attribute* attribute = given.event.add_attributes();
    attribute->set_key(key);
    return attribute;
  };
  add("text")->set_string_value("caf\xc3\xa9 \"quoted\"\n");
  add("yes")->set_bool_value(true);
  add("least")->set_int_value(std::numeric_limits<std::int64_t>::min());
  add("most")->set_int_value(std::numeric_limits<std::int64_t>::max());
  add("real")->set_double_value(0.1);
  add("nan")->set_double_value(std::numeric_limits<double>::quiet_NaN());
  add("inf")->set_double_value(std::numeric_limits<double>::infinity());
  add("minus_inf")->set_double_value(-std::numeric_limits<double>::infinity());
  add("bytes")->set_bytes_value(std::string("\x00\xff\x10", 3));
  add("empty_text")->set_string_value("");
  add("empty_bytes")->set_bytes_value("");
  add("without_value");
  const json data = written(given)["event"]["data"];
  EXPECT_EQ(data, json::parse(R"({
    "text": "café \"quoted\"\n", "yes": true,
    "least": -9223372036854775808, "most": 9223372036854775807, "real": 0.1,
    "nan": "NaN", "inf": "Infinity", "minus_inf": "-Infinity",
    "bytes": "AP8Q", "empty_text": "", "empty_bytes": ""})"));
  EXPECT_TRUE(data["most"].is_number_integer());
}

TEST(KitEvent, AnAttributeHidesNothing) {
  Given given;
  given.event.set_kind(v1::EVENT_KIND_COMMAND);
  given.event.set_name("build");
  given.event.set_success(true);
  set(given.event, "command", "rm");
  set(given.event, "success", "no");
  set(given.event, "attribute.success", "taken");
  set(given.event, "twice", "first");
  set(given.event, "twice", "last");
  EXPECT_EQ(written(given)["event"]["data"], json::parse(R"({
    "command": "build", "success": true, "attribute.command": "rm",
    "attribute.success": "taken", "attribute.attribute.success": "no", "twice": "last"})"));
}

TEST(KitEvent, AnAttributeNamedLikeAFieldThatTheEventLacksKeepsItsName) {
  Given given;
  set(given.event, "exit_code", "n/a");
  set(given.event, "subcommand", "add");
  EXPECT_EQ(written(given)["event"]["data"], (json{{"exit_code", "n/a"}, {"subcommand", "add"}}));
}

TEST(KitEvent, ErrorAndSeverityAreData) {
  Given given;
  given.event.set_kind(v1::EVENT_KIND_ERROR);
  given.event.set_severity(17);
  given.event.mutable_error()->set_name("IoError");
  given.event.mutable_error()->set_message("disk full");
  const json data = written(given)["event"]["data"];
  EXPECT_EQ(data["severity"], 17);
  EXPECT_EQ(data["error"], (json{{"name", "IoError"}, {"message", "disk full"}}));
}

TEST(KitEvent, TheUserIsTheEventsOwnWhenItIsInAFormOfTheKitElseTheMachine) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"", kMachine, "client_" + kMachine},
      {"", "client_" + kMachine, "client_" + kMachine},
      {"client_123", kMachine, "client_123"},
      {"anon_" + kMachine, kMachine, "anon_" + kMachine},
      {"alice", kMachine, "client_" + kMachine},
      {"Client_1", kMachine, "client_" + kMachine},
      {"", "", "client_unknown"}};
  for (const auto& [user, machine, expected] : cases) {
    Given given;
    given.event.set_user_id(user);
    given.machine_id = machine;
    EXPECT_EQ(written(given)["user_id"], expected) << user << " " << machine;
  }
}

TEST(KitEvent, ARelayedEventBelongsToTheMachineWhereItWasRecorded) {
  Given given;
  given.context.set_machine_id("client_elsewhere");
  EXPECT_EQ(written(given)["user_id"], "client_elsewhere");
}

TEST(KitEvent, TheServiceIsTheSourceAndNothingIsEverEmpty) {
  Given given;
  given.event.set_source("relayed-tool");
  given.context.clear_app_version();
  given.context.clear_language();
  EXPECT_EQ(written(given)["service"],
            (json{{"name", "relayed-tool"}, {"version", "unknown"}, {"language", "unknown"}}));
}

TEST(KitEvent, WhatTheServersColumnsCannotHoldIsCutAndKeptWholeInTheData) {
  std::string name;
  for (int i = 0; i < 120; ++i) name += "\xc3\xa9";
  std::string type;
  for (std::size_t i = 0; i < kTypeMax; ++i) type += "\xc3\xa9";
  Given given;
  given.event.set_name(name);
  given.event.set_category(std::string(60, 'c'));
  given.event.set_user_id("client_" + std::string(500, 'u'));
  given.event.set_source(std::string(300, 's'));
  given.context.set_app_version(std::string(300, 'v'));
  given.context.set_language(std::string(300, 'l'));
  const json event = written(given);
  EXPECT_EQ(event["event"]["type"], type);
  EXPECT_EQ(event["event"]["category"], std::string(kCategoryMax, 'c'));
  EXPECT_EQ(event["event"]["data"], (json{{"name", name}, {"category", std::string(60, 'c')}}));
  EXPECT_EQ(event["user_id"].get<std::string>().size(), kUserIdMax);
  EXPECT_EQ(event["service"]["name"], std::string(kServiceNameMax, 's'));
  EXPECT_EQ(event["service"]["version"], std::string(kServiceVersionMax, 'v'));
  EXPECT_EQ(event["service"]["language"], std::string(kServiceLanguageMax, 'l'));
}

TEST(KitEvent, AZeroByteBecomesTheReplacementCharacter) {
  const std::string dirty("a\0b", 3);
  const std::string clean =
      "a\xef\xbf\xbd"
      "b";
  Given given;
  given.event.set_name(dirty);
  given.event.mutable_error()->set_message(dirty);
  set(given.event, dirty, dirty);
  set(given.event, "backslash", "\\u0000");
  const json event = written(given)["event"];
  EXPECT_EQ(event["type"], clean);
  EXPECT_EQ(event["data"]["error"]["message"], clean);
  EXPECT_EQ(event["data"][clean], clean);
  EXPECT_EQ(event["data"]["backslash"], "\\u0000");
}

TEST(KitEvent, BytesThatAreNoEventAreRefused) {
  EXPECT_FALSE(write_event("\xff\xff", "", kMachine, kSender));
  EXPECT_FALSE(write_event("", "", kMachine, kSender));
}

TEST(KitBatch, IsTheEventsInTheirOrderEachWithTheSameMetadata) {
  std::vector<WrittenEvent> events;
  for (int i = 0; i < 3; ++i) {
    v1::Event event = event::sample_event();
    event.set_name("event_" + std::to_string(i));
    auto written = write_event(
        event.SerializeAsString(), sample_context().SerializeAsString(), kMachine, kSender);
    ASSERT_TRUE(written);
    events.push_back(std::move(*written));
  }
  const json body = json::parse(write_batch(events, {1'732'003'200'000, 0, "telemetryd/test"}));
  ASSERT_EQ(body["events"].size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(body["events"][i]["event"]["type"], "event_" + std::to_string(i));
    EXPECT_EQ(body["events"][i]["metadata"],
              (json{{"sdk_version", "telemetryd/test"},
                    {"transmission_timestamp", "2024-11-19T08:00:00Z"},
                    {"batch_size", 3},
                    {"retry_count", 0}}));
  }
  EXPECT_EQ(write_batch({}, {}), R"({"events":[]})");
}

}  // namespace
}  // namespace telemetryd::kit
