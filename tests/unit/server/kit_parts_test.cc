// What is read from the body of a telemetry-kit upload, and how a stored event is shown.

#include <gtest/gtest.h>

#include "kit/list_event.h"
#include "kit/read_body.h"
#include "kit/signature.h"
#include "unit/server/kit_client.h"

namespace telemetryd::kit {
namespace {

using test::kit_event;
using test::kit_event_id;
using test::kit_events;
using test::OrderedJson;

std::string in_object(const std::string& events) {
  return "{\"events\":[" + events + "]}";
}

// Payloads point into the body, so who looks at them keeps it.
std::expected<Body, BodyFlaw> read(const std::string& body) {
  return read_body(body, BodyShape::kObject, std::nullopt);
}

std::string brackets(std::size_t depth) {
  return std::string(depth, '[') + std::string(depth, ']');
}

// Computed with `openssl dgst -sha256 -hmac`, not with this code.
TEST(KitSignature, IsThatOfOpenssl) {
  const SignedRequest request{.timestamp = "1732003200",
                              .nonce = "550e8400-e29b-41d4-a716-446655440000",
                              .body = "{\"events\":[]}"};
  const auto hex = [&request](std::string_view key, SignatureForm form) {
    return to_hex(hmac_sha256(key, string_to_sign(form, request)));
  };
  EXPECT_EQ(hex("test_secret_key", SignatureForm::kNonce),
            "ce4b8e4802a7df7a0714bdc8281529c304a5f41e19b68399e41780d6418f9db9");
  EXPECT_EQ(hex("test_secret_key", SignatureForm::kPlain),
            "8b9d1db744e69335cfc1b6539d3a06ac98cc1734150f56fad6799de536c68996");
  EXPECT_EQ(hex("kIRV9eC/2+Dvqc4E9ubP9Cjzd0LG2/Dg0OVEfknKBPQ=", SignatureForm::kPlain),
            "46b4ba3f28cc97d2688f0981eb4b12e4b10532f7945a9a3476352ed09d625619");
}

TEST(KitBody, AnEventIsKeptByteForByte) {
  const std::string event = kit_event(1).dump(2);
  const std::string body =
      "{\"batch_id\":[{\"events\":1}],\"events\":[ " + event + " , " + event + "\n],\"more\":{}}";
  const auto all = read_body(body, BodyShape::kObject, 2);
  ASSERT_TRUE(all);
  ASSERT_EQ(all->payloads.size(), 2u);
  EXPECT_EQ(all->payloads[0], event);
  EXPECT_EQ(all->payloads[1], event);
  const ReadEvent& first = all->events[0];
  EXPECT_EQ(uuid_text(first.id), kit_event_id(1));
  EXPECT_EQ(first.app, "mytool");
  EXPECT_EQ(first.name, "build");
  EXPECT_EQ(first.kind, Kind::kCommand);
  EXPECT_EQ(first.machine_id, "bc6187cce3a831fc6cc42895c9c746146d323d0a307d66fd664eeb542cf60c61");
  EXPECT_EQ(first.time_unix_nano, 1'732'003'200'123'456'000u);
}

TEST(KitBody, OtherListsBesideEventsDoNotMatter) {
  const std::string events = "\"events\":[" + kit_event(1).dump() + "]";
  for (const std::string& body : {
           "{" + events + ",\"tags\":[]}",
           "{\"tags\":[]," + events + "}",
           "{\"tags\":[\"a\",[{}]]," + events + ",\"more\":[{\"events\":[1]},[2]]}",
       }) {
    const auto all = read(body);
    ASSERT_TRUE(all) << body << ": " << all.error().message;
    EXPECT_EQ(all->total, 1u) << body;
    EXPECT_EQ(all->events.size(), 1u) << body;
  }
}

TEST(KitBody, IsJsonInUtf8OfTheRightShapeOrNothing) {
  const std::string event = kit_event(1).dump();
  for (const std::string& body : {
           std::string(),
           std::string(" "),
           std::string("x"),
           std::string("true"),
           std::string("\"events\""),
           std::string("1e999"),
           std::string("{"),
           std::string("{}"),
           std::string("[]"),
           std::string(R"({"events"})"),
           std::string(R"({"Events":[1]})"),
           std::string(R"({"events":null})"),
           std::string(R"({"events":"[]"})"),
           std::string(R"({"events":{"events":[1]}})"),
           std::string(R"({"x":{"events":[1]}})"),
           in_object(""),
           "{\"events\":[" + event + "],\"events\":[]}",
           "{\"events\":[" + event + "],\"tags\":[],\"events\":[" + kit_event(2).dump() + "]}",
           in_object(event) + "{}",
           in_object(event) + ",",
           in_object(event) + std::string(1, '\0'),
           std::string(1, '\0') + in_object(event),
           in_object(std::string("\"a") + '\0' + "b\""),
           "\xef\xbb\xbf" + in_object(event),
           "\xff\xfe" + in_object(event),
           in_object(event + ","),
           in_object(event + " " + event),
           in_object("/* no */" + event),
           in_object("'1'"),
           in_object("NaN"),
           in_object("01"),
           in_object("1e400"),
           in_object("-1e400"),
           in_object("\"\xc3\x28\""),
           in_object("\"\xed\xa0\x80\""),
           in_object("\"\xc0\xaf\""),
           in_object("\"\xf4\x90\x80\x80\""),
           in_object("\"\\ud800\""),
           in_object("\"\\udc00\""),
           in_object("\"\\ud800\\u0041\""),
           in_object("\"\\x41\""),
           in_object("\"a\nb\""),
           in_object("\"open"),
       }) {
    const auto all = read(body);
    ASSERT_FALSE(all) << body;
    EXPECT_FALSE(all.error().too_many) << body;
    EXPECT_FALSE(all.error().message.empty()) << body;
  }
}

TEST(KitBody, DepthCountsFromTheOutermostBracket) {
  EXPECT_TRUE(read_body(brackets(32), BodyShape::kArray, 1));
  const auto deep = read_body(brackets(33), BodyShape::kArray, 1);
  ASSERT_FALSE(deep);
  EXPECT_EQ(deep.error().message, "the body is nested deeper than 32");
  // The limit is met before the rest is looked at.
  EXPECT_EQ(read_body(std::string(1u << 20, '['), BodyShape::kArray, 1).error().message,
            deep.error().message);
  OrderedJson event = kit_event(1);
  event["event"]["data"]["deep"] = OrderedJson::parse(brackets(27));
  EXPECT_EQ(read(in_object(event.dump()))->events.size(), 1u);
  event["event"]["data"]["deep"] = OrderedJson::parse(brackets(28));
  EXPECT_FALSE(read(in_object(event.dump())));
}

TEST(KitBody, AThousandEventsAndNotOneMore) {
  EXPECT_EQ(read(OrderedJson{{"events", kit_events(1, 1000)}}.dump())->events.size(), 1000u);
  std::string zeros = "0";
  for (int i = 0; i < 1000; ++i) zeros += ",0";
  const auto many = read(in_object(zeros));
  ASSERT_FALSE(many);
  EXPECT_TRUE(many.error().too_many);
}

TEST(KitBody, AnEventOf64KiBAndNotOneByteMore) {
  OrderedJson event = kit_event(1);
  event["event"]["data"]["pad"] = "";
  const std::size_t bare = event.dump().size();
  event["event"]["data"]["pad"] = std::string(kEventBytesMax - bare, 'x');
  EXPECT_EQ(read(in_object(event.dump()))->events.size(), 1u);
  event["event"]["data"]["pad"] = std::string(kEventBytesMax - bare + 1, 'x');
  const auto all = read(in_object(event.dump() + "," + kit_event(2).dump()));
  ASSERT_TRUE(all);
  EXPECT_EQ(all->events.size(), 1u);
  ASSERT_EQ(all->rejected.size(), 1u);
  EXPECT_EQ(all->rejected[0].code, "invalid_schema");
  EXPECT_EQ(uuid_text(all->rejected[0].id), kit_event_id(1));
}

TEST(KitBody, EachRuleOfAnEventHasItsCode) {
  struct Row {
    const char* pointer;
    OrderedJson value;  // null: taken out
    const char* code;
  };

  const std::vector<Row> rows = {
      {"/schema_version", "2.0.0", "unsupported_schema"},
      {"/schema_version", "", "unsupported_schema"},
      {"/schema_version", "10", "unsupported_schema"},
      {"/schema_version", nullptr, "unsupported_schema"},
      {"/schema_version", 1.0, "unsupported_schema"},
      {"/event_id", nullptr, "invalid_schema"},
      {"/event_id", "42", "invalid_schema"},
      {"/event_id", 42, "invalid_schema"},
      {"/service", nullptr, "invalid_schema"},
      {"/service", "mytool", "invalid_schema"},
      {"/service/name", nullptr, "invalid_schema"},
      {"/service/name", "", "invalid_schema"},
      {"/service/name", 7, "invalid_schema"},
      {"/service/name", {"mytool"}, "invalid_schema"},
      {"/service/version", "", "invalid_schema"},
      {"/service/version", nullptr, "invalid_schema"},
      {"/event", nullptr, "invalid_schema"},
      {"/event/type", "", "invalid_schema"},
      {"/event/type", nullptr, "invalid_schema"},
      {"/user_id", nullptr, "invalid_schema"},
      {"/user_id", "user_1", "invalid_schema"},
      {"/user_id", "CLIENT_1", "invalid_schema"},
      {"/timestamp", nullptr, "invalid_schema"},
      {"/timestamp", "yesterday", "invalid_schema"},
      {"/timestamp", "2024-11-19T08:00:00", "invalid_schema"},
      {"/timestamp", "2024-02-30T08:00:00Z", "invalid_schema"},
      {"/timestamp", 1732003200, "invalid_schema"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.pointer + row.value.dump());
    OrderedJson event = kit_event(5);
    const OrderedJson::json_pointer pointer(row.pointer);
    if (row.value.is_null()) {
      event.at(pointer.parent_pointer()).erase(pointer.back());
    } else {
      event[pointer] = row.value;
    }
    const auto all = read(in_object(event.dump()));
    ASSERT_TRUE(all);
    ASSERT_EQ(all->rejected.size(), 1u);
    EXPECT_EQ(all->rejected[0].code, row.code);
    EXPECT_FALSE(all->rejected[0].message.empty());
    const bool has_id = std::string_view(row.pointer) != "/event_id";
    EXPECT_EQ(uuid_text(all->rejected[0].id),
              has_id ? kit_event_id(5) : "00000000-0000-0000-0000-000000000000");
  }
}

TEST(KitBody, WhatIsNoObjectIsNoEvent) {
  const auto all = read(in_object("1,null,\"x\",[{}],[[]],true," + kit_event(1).dump()));
  ASSERT_TRUE(all);
  EXPECT_EQ(all->total, 7u);
  EXPECT_EQ(all->events.size(), 1u);
  ASSERT_EQ(all->rejected.size(), 6u);
  EXPECT_EQ(all->rejected[5].index, 5u);
}

TEST(KitBody, OneEventLeavesNothingToTheNext) {
  const auto all = read(in_object(kit_event(1).dump() + ",{}," + kit_event(2).dump()));
  ASSERT_TRUE(all);
  EXPECT_EQ(all->events.size(), 2u);
  ASSERT_EQ(all->rejected.size(), 1u);
  EXPECT_EQ(all->rejected[0].index, 1u);
  EXPECT_EQ(all->rejected[0].code, "unsupported_schema");
}

TEST(KitBody, OfAMemberThatIsThereTwiceTheLastCounts) {
  const std::string head =
      R"({"schema_version":"1.0.0","event_id":"550e8400-e29b-41d4-a716-446655440000",)"
      R"("timestamp":"2024-11-19T08:00:00Z","user_id":"anon_1",)";
  const std::string service = R"("service":{"name":"a","version":"1"},)";
  const std::string twice = R"("service":{"name":"a","name":"b","version":"1"},)";
  const std::string details = R"("event":{"type":"custom"}})";
  EXPECT_EQ(read(in_object(head + twice + details))->events.at(0).app, "b");
  const auto gone = read(in_object(head + service + R"("service":{"version":"2"},)" + details));
  EXPECT_EQ(gone->rejected.size(), 1u);
  const std::string body = in_object(
      head + service + R"("event":{"data":{"command":"x"},"data":{},"type":"command_execution"}})");
  const auto data = read(body);
  ASSERT_EQ(data->events.size(), 1u);
  EXPECT_EQ(data->events[0].name, "command_execution");
  EXPECT_EQ(list_event(data->payloads[0])->at("name"), "command_execution");
}

TEST(KitBody, NamesComeFromWhereTheKindSays) {
  const auto name_of = [](const char* type, OrderedJson data) {
    OrderedJson event = kit_event(1);
    event["event"] = {{"data", std::move(data)}, {"type", type}};
    return read(in_object(event.dump()))->events.at(0).name;
  };
  EXPECT_EQ(name_of("command_execution", {{"command", "build"}}), "build");
  EXPECT_EQ(name_of("command_execution", {{"feature", "x"}}), "command_execution");
  EXPECT_EQ(name_of("feature_used", {{"feature", "export"}, {"command", "x"}}), "export");
  EXPECT_EQ(name_of("custom", {{"command", "build"}}), "custom");
  EXPECT_EQ(name_of("command_execution", {{"command", {{"command", "inner"}}}}),
            "command_execution");
  EXPECT_EQ(name_of("caf\u00e9", "text"), "caf\u00e9");
}

TEST(KitBody, EveryTruncationIsRefused) {
  const std::string body = in_object(kit_event(1).dump());
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(read(body.substr(0, size))) << size;
  }
  EXPECT_TRUE(read(body));
}

TEST(KitListing, HasTheShapeOfEveryEvent) {
  OrderedJson event = kit_event(1);
  event["event"]["data"]["error"] = {{"name", "E1"}, {"message", "no"}};
  event["event"]["data"]["severity"] = 17;
  event["event"]["data"]["attribute.command"] = "mine";
  event["event"]["data"]["absent"] = nullptr;
  event["custom_dimensions"] = {{"a", 1}};
  const auto expected = nlohmann::json::parse(R"({
    "id": "550e8400-e29b-41d4-a716-446600000001", "kind": "command", "name": "build",
    "category": "usage", "time": "2024-11-19T08:00:00.123456000Z", "severity": 17,
    "session_id": "0123456789abcdef0123456789abcdef",
    "user_id": "client_bc6187cce3a831fc6cc42895c9c746146d323d0a307d66fd664eeb542cf60c61",
    "machine_id": "bc6187cce3a831fc6cc42895c9c746146d323d0a307d66fd664eeb542cf60c61",
    "success": true, "duration_ms": 1234, "exit_code": 0,
    "error": {"name": "E1", "message": "no"},
    "app": "mytool", "app_version": "1.2.3", "language": "rust",
    "sdk": "telemetry-kit-rust/0.3.0",
    "attributes": {"subcommand": "all", "flags": "[\"--release\",\"--quiet\"]",
      "command": "mine", "service.language_version": "1.75.0",
      "environment.os": "linux", "environment.os_version": "12", "environment.arch": "x86_64",
      "environment.ci": false, "environment.shell": "bash", "custom_dimensions": "{\"a\":1}"}})");
  EXPECT_EQ(list_event(event.dump()).value(), expected);
}

TEST(KitListing, WhatHasNoMemberIsAnAttribute) {
  OrderedJson event = kit_event(1);
  event["user_id"] = "anon_7";
  event["session_id"] = "other";
  event["event"] = {{"type", "custom"}, {"data", {1, "two"}}, {"success", 1}};
  const auto shown = list_event(event.dump()).value();
  EXPECT_EQ(shown.at("machine_id"), "anon_7");
  EXPECT_EQ(shown.at("kind"), "event");
  EXPECT_EQ(shown.at("attributes").at("data"), "[1,\"two\"]");
  EXPECT_EQ(shown.at("attributes").at("session_id"), "other");
  EXPECT_EQ(shown.at("attributes").at("event.success"), 1);
  EXPECT_FALSE(shown.contains("success"));
  event["event"]["data"] = {{"success", "yes"}, {"error", {{"name", 1}}}, {"severity", 99}};
  const auto odd = list_event(event.dump()).value().at("attributes");
  EXPECT_EQ(odd.at("success"), "yes");
  EXPECT_EQ(odd.at("error"), "{\"name\":1}");
  EXPECT_EQ(odd.at("severity"), 99);
}

TEST(KitListing, DamagedBytesAreAnError) {
  EXPECT_EQ(list_event("{").error().code(), ErrorCode::kDataLoss);
  EXPECT_EQ(list_event("[]").error().code(), ErrorCode::kDataLoss);
  EXPECT_EQ(list_event("{}").error().code(), ErrorCode::kDataLoss);
}

}  // namespace
}  // namespace telemetryd::kit
