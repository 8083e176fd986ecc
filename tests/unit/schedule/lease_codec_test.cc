#include "schedule/lease_codec.h"

#include <cstdlib>
#include <iostream>
#include <random>

#include <gtest/gtest.h>

#include "telemetry/v1/event.pb.h"
#include "telemetry/v1/lease.pb.h"

namespace telemetryd::schedule {
namespace {

namespace v1 = ::telemetry::v1;

std::string_view body_of(const std::string& message) {
  return std::string_view(message).substr(4);
}

std::string framed(const std::string& body) {
  std::string message;
  for (unsigned shift = 0; shift < 32; shift += 8) {
    message.push_back(static_cast<char>((body.size() >> shift) & 0xff));
  }
  return message + body;
}

void feed(MessageReader& reader, std::string_view bytes) {
  reader.feed({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
}

store::LeasedRow row() {
  store::LeasedRow row;
  row.meta.seq = (7ull << 40) + 3;
  row.meta.app = "tool";
  row.first_index = 2;
  row.count = 5;
  row.context = "context bytes";
  row.events = std::string("\x0a\x00\xff events", 10);
  return row;
}

TEST(LeaseCodec, ALeaseReadsTheSameWithGeneratedProtobuf) {
  const store::LeasedRow stored = row();
  const std::vector<OutgoingRow> rows = {{&stored, "machine"}, {&stored, ""}};
  const std::string message = encode_lease({1ull << 63, "main", 4, "{\"bytes\":9}", true}, rows);

  v1::ToForwarder parsed;
  ASSERT_TRUE(parsed.ParseFromString(std::string(body_of(message))));
  ASSERT_TRUE(parsed.has_lease());
  EXPECT_EQ(message.substr(0, 4), framed(std::string(body_of(message))).substr(0, 4));
  EXPECT_EQ(parsed.lease().id(), 1ull << 63);
  EXPECT_EQ(parsed.lease().destination(), "main");
  EXPECT_EQ(parsed.lease().attempt(), 4u);
  EXPECT_EQ(parsed.lease().memory(), "{\"bytes\":9}");
  EXPECT_TRUE(parsed.lease().suspect_events());
  ASSERT_EQ(parsed.lease().rows_size(), 2);
  const v1::LeasedRow& first = parsed.lease().rows(0);
  EXPECT_EQ(first.seq(), stored.meta.seq);
  EXPECT_EQ(first.first_index(), 2u);
  EXPECT_EQ(first.count(), 5u);
  EXPECT_EQ(first.app(), "tool");
  EXPECT_EQ(first.machine_id(), "machine");
  EXPECT_EQ(first.context(), stored.context);
  EXPECT_EQ(first.events(), stored.events);
  EXPECT_EQ(parsed.lease().rows(1).machine_id(), "");
}

TEST(LeaseCodec, ARowRecordedElsewhereKeepsItsMachine) {
  v1::Context context;
  context.set_app("tool");
  store::LeasedRow own = row();
  own.context = context.SerializeAsString();
  context.set_machine_id("elsewhere");
  store::LeasedRow relayed = row();
  relayed.context = context.SerializeAsString();
  const std::vector<OutgoingRow> rows = {{&own, "here"}, {&relayed, "here"}};

  v1::ToForwarder parsed;
  ASSERT_TRUE(parsed.ParseFromString(std::string(body_of(encode_lease({1, "main"}, rows)))));
  ASSERT_EQ(parsed.lease().rows_size(), 2);
  EXPECT_EQ(parsed.lease().rows(0).machine_id(), "here");
  EXPECT_EQ(parsed.lease().rows(1).machine_id(), "elsewhere");
}

TEST(LeaseCodec, ProbeAndReloadReadTheSameWithGeneratedProtobuf) {
  v1::ToForwarder parsed;
  ASSERT_TRUE(parsed.ParseFromString(std::string(body_of(encode_probe(9, "main")))));
  ASSERT_TRUE(parsed.has_probe());
  EXPECT_EQ(parsed.probe().id(), 9u);
  EXPECT_EQ(parsed.probe().destination(), "main");
  ASSERT_TRUE(parsed.ParseFromString(std::string(body_of(encode_reload()))));
  EXPECT_TRUE(parsed.has_reload());
}

TEST(LeaseCodec, ReadsWhatGeneratedProtobufWrites) {
  v1::FromForwarder message;
  message.mutable_hello()->set_protocol(1);
  message.mutable_hello()->set_version("0.1.0");
  auto hello = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(hello);
  EXPECT_EQ(std::get<Hello>(*hello).protocol, 1u);
  EXPECT_EQ(std::get<Hello>(*hello).version, "0.1.0");

  v1::Outcome* outcome = message.mutable_outcome();
  outcome->set_lease_id(77);
  outcome->set_verdict(v1::VERDICT_HOLD);
  outcome->set_retry_after_ms(5000);
  outcome->set_error("status 401");
  outcome->set_status(401);
  outcome->set_duplicates(3);
  outcome->set_body_bytes(1000);
  outcome->set_body_sha256("0123456789abcdef");
  v1::RejectedEvents* rejected = outcome->add_rejected();
  rejected->set_seq(5);
  rejected->set_first_index(1);
  rejected->set_count(2);
  rejected->set_reason("invalid_event");
  auto decoded = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(decoded);
  const auto& read = std::get<Outcome>(*decoded);
  EXPECT_EQ(read.lease_id, 77u);
  EXPECT_EQ(read.verdict, Verdict::kHold);
  EXPECT_EQ(read.retry_after_ms, 5000u);
  EXPECT_EQ(read.error, "status 401");
  EXPECT_EQ(read.status, 401u);
  EXPECT_EQ(read.duplicates, 3u);
  ASSERT_EQ(read.rejected.size(), 1u);
  EXPECT_EQ(read.rejected[0].seq, 5u);
  EXPECT_EQ(read.rejected[0].first_index, 1u);
  EXPECT_EQ(read.rejected[0].count, 2u);
  EXPECT_EQ(read.rejected[0].reason, "invalid_event");

  message.mutable_probe_result()->set_id(4);
  message.mutable_probe_result()->set_ok(true);
  message.mutable_probe_result()->set_detail("fine");
  auto probe = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(probe);
  EXPECT_EQ(std::get<ProbeResult>(*probe).id, 4u);
  EXPECT_TRUE(std::get<ProbeResult>(*probe).ok);
}

TEST(LeaseCodec, ReadsWhatAnUpstreamAsksFor) {
  v1::FromForwarder message;
  v1::Outcome* outcome = message.mutable_outcome();
  outcome->set_verdict(v1::VERDICT_RETRY);
  auto decoded = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(decoded);
  EXPECT_FALSE(std::get<Outcome>(*decoded).memory) << "absent is not empty";

  outcome->set_cause(v1::CAUSE_CAPTIVE_PORTAL);
  outcome->set_memory("size");
  outcome->set_certificate_expires_unix_s(1800000000);
  v1::Mute* mute = outcome->add_mutes();
  mute->set_app("tool");
  mute->set_duration_s(3600);
  decoded = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(decoded);
  const auto& read = std::get<Outcome>(*decoded);
  EXPECT_EQ(read.cause, Cause::kCaptivePortal);
  EXPECT_EQ(to_string(read.cause), "captive_portal");
  EXPECT_EQ(read.memory, "size");
  EXPECT_EQ(read.certificate_expires_unix_s, 1800000000u);
  ASSERT_EQ(read.mutes.size(), 1u);
  EXPECT_EQ(read.mutes[0].app, "tool");
  EXPECT_EQ(read.mutes[0].duration_s, 3600u);
}

TEST(LeaseCodec, WhatExceedsItsBoundIsLeftOut) {
  v1::FromForwarder message;
  v1::Outcome* outcome = message.mutable_outcome();
  outcome->set_verdict(v1::VERDICT_RETRY);
  outcome->set_memory(std::string(kMemoryBytesMax + 1, 'x'));
  outcome->set_cause(static_cast<v1::Cause>(99));
  for (std::size_t i = 0; i < kMutesMax + 1; ++i) outcome->add_mutes()->set_app("tool");
  const auto decoded = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(decoded);
  const auto& read = std::get<Outcome>(*decoded);
  EXPECT_EQ(read.memory, "");
  EXPECT_EQ(read.cause, Cause::kUnspecified);
  EXPECT_EQ(read.mutes.size(), kMutesMax);
}

TEST(LeaseCodec, ReadsTheConditionsOfTheMachine) {
  v1::FromForwarder message;
  v1::Conditions* conditions = message.mutable_conditions();
  conditions->set_network(v1::NETWORK_ROAMING);
  conditions->set_power(v1::POWER_BATTERY);
  conditions->set_battery_percent(17);
  auto decoded = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(decoded);
  const auto& read = std::get<Conditions>(*decoded);
  EXPECT_EQ(read.network, Network::kRoaming);
  EXPECT_EQ(read.power, Power::kBattery);
  EXPECT_EQ(read.battery_percent, 17u);

  message.mutable_route_change();
  decoded = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(decoded);
  EXPECT_TRUE(std::holds_alternative<RouteChange>(*decoded));
}

TEST(LeaseCodec, AnOutcomeWithoutAVerdictIsRefused) {
  v1::FromForwarder message;
  message.mutable_outcome()->set_lease_id(1);
  EXPECT_FALSE(decode_from_forwarder(message.SerializeAsString()));
  message.mutable_outcome()->set_verdict(static_cast<v1::Verdict>(9));
  EXPECT_FALSE(decode_from_forwarder(message.SerializeAsString()));
  EXPECT_FALSE(decode_from_forwarder(""));
}

TEST(LeaseCodec, AFieldOfTheWrongWireTypeIsNotMisread) {
  // Outcome {lease_id as a string, verdict as fixed32}.
  const std::string body("\x12\x08\x0a\x01\x41\x15\x01\x00\x00\x00", 10);
  const auto decoded = decode_from_forwarder(body);
  EXPECT_FALSE(decoded);
}

TEST(LeaseCodec, TextsAreCut) {
  v1::FromForwarder message;
  message.mutable_outcome()->set_verdict(v1::VERDICT_RETRY);
  message.mutable_outcome()->set_error(std::string(100000, 'e'));
  const auto decoded = decode_from_forwarder(message.SerializeAsString());
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<Outcome>(*decoded).error.size(), kTextBytesMax);
}

TEST(LeaseCodec, GarbageIsAnErrorAndNothingElse) {
  const char* given = std::getenv("TELEMETRYD_TEST_SEED");
  const unsigned long seed = given != nullptr ? std::strtoul(given, nullptr, 10) : 20240;
  std::cout << "TELEMETRYD_TEST_SEED=" << seed << '\n';
  std::mt19937_64 prng(seed);
  v1::FromForwarder message;
  message.mutable_outcome()->set_lease_id(1);
  message.mutable_outcome()->set_verdict(v1::VERDICT_RETRY);
  message.mutable_outcome()->add_rejected()->set_reason("why");
  const std::string good = message.SerializeAsString();
  for (int i = 0; i < 20000; ++i) {
    std::string body = good;
    for (int k = 0; k < 3; ++k) body[prng() % body.size()] = static_cast<char>(prng());
    body.resize(prng() % (body.size() + 1));
    const auto decoded = decode_from_forwarder(body);
    if (!decoded) {
      EXPECT_EQ(decoded.error().code(), ErrorCode::kInvalidArgument);
    }
  }
}

TEST(MessageReader, CutsMessagesHoweverTheBytesArrive) {
  const std::string stream = framed("one") + framed("") + framed("three");
  MessageReader reader;
  std::vector<std::string> bodies;
  for (const char byte : stream) {
    feed(reader, {&byte, 1});
    while (true) {
      auto body = reader.next();
      ASSERT_TRUE(body);
      if (!body->has_value()) break;
      bodies.push_back(**body);
    }
  }
  EXPECT_EQ(bodies, (std::vector<std::string>{"one", "", "three"}));
}

TEST(MessageReader, RefusesALengthAboveTheBoundBeforeTheBodyArrives) {
  MessageReader reader;
  feed(reader, std::string_view("\x01\x00\x00\x01", 4));
  EXPECT_FALSE(reader.next());
}

}  // namespace
}  // namespace telemetryd::schedule
