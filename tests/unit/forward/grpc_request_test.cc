#include "forward/grpc_request.h"

#include <set>

#include <gtest/gtest.h>

#include "telemetry/v1/event.pb.h"

namespace telemetryd::forward {
namespace {

using ::telemetry::v1::Context;
using ::telemetry::v1::EventBatch;

v1::LeasedRow row(std::uint32_t events, std::size_t name_bytes = 4) {
  EventBatch batch;
  for (std::uint32_t i = 0; i < events; ++i) {
    batch.add_events()->set_name(std::to_string(i) + std::string(name_bytes, 'n'));
  }
  Context context;
  context.set_app("tool");
  v1::LeasedRow row;
  row.set_seq(7);
  row.set_first_index(3);
  row.set_count(events);
  row.set_app("tool");
  row.set_machine_id("machine-a");
  row.set_context(context.SerializeAsString());
  row.set_events(batch.SerializeAsString());
  return row;
}

Piece whole(const v1::LeasedRow& from) {
  const auto pieces = cut(from);
  EXPECT_TRUE(pieces.has_value() && pieces->size() == 1);
  return pieces->front();
}

std::string instance_text(const v1::LeasedRow& from, std::string_view destination = "relay") {
  return to_hex(instance_of(destination, whole(from)));
}

// Fields of PublishRequest by number, as proto/telemetry/v1/ingest.proto has them.
struct Request {
  EventBatch events;
  std::string instance;
  std::uint64_t number = 0;
  Context context;
};

// The request of a whole row.
Request sent(const v1::LeasedRow& given) {
  const std::string bytes = publish_request("relay", whole(given));
  Request request;
  EXPECT_TRUE(request.events.ParseFromString(bytes));
  EXPECT_TRUE(bytes.starts_with(given.events()));
  const std::string rest = bytes.substr(given.events().size());
  EXPECT_EQ(rest.substr(0, 2), std::string("\x12\x10"));
  request.instance = rest.substr(2, 16);
  EXPECT_EQ(rest[18], 0x18);
  request.number = static_cast<unsigned char>(rest[19]);
  EXPECT_EQ(rest[20], 0x2a);
  EXPECT_LT(static_cast<unsigned char>(rest[21]), 0x80);
  EXPECT_EQ(static_cast<std::size_t>(rest[21]), rest.size() - 22);
  EXPECT_TRUE(request.context.ParseFromString(rest.substr(22)));
  return request;
}

TEST(PublishRequest, CarriesTheStoredBytesAndWhereTheyAreFrom) {
  const v1::LeasedRow given = row(3);
  const Request request = sent(given);
  EXPECT_EQ(request.events.events_size(), 3);
  EXPECT_EQ(request.instance, as_text(instance_of("relay", whole(given))));
  EXPECT_EQ(request.number, 1u);
  EXPECT_EQ(request.context.app(), "tool");
  EXPECT_EQ(request.context.machine_id(), "machine-a");
}

TEST(PublishRequest, KeepsTheMachineThatAFormerRelayNamed) {
  v1::LeasedRow given = row(1);
  Context context;
  context.set_app("tool");
  context.set_machine_id("machine-of-origin");
  given.set_context(context.SerializeAsString());
  EXPECT_EQ(sent(given).context.machine_id(), "machine-of-origin");
}

TEST(PublishRequest, NamesNoMachineWhenThereIsNone) {
  v1::LeasedRow given = row(1);
  given.clear_machine_id();
  EXPECT_EQ(sent(given).context.machine_id(), "");
}

TEST(PublishInstance, IsTheSameForTheSameRow) {
  EXPECT_EQ(instance_text(row(3)), instance_text(row(3)));
}

TEST(PublishInstance, DiffersWithEverythingThatMakesARow) {
  std::set<std::string> seen = {instance_text(row(3)), instance_text(row(3), "other")};
  std::size_t changes = 2;
  const auto change = [&](auto set) {
    v1::LeasedRow changed = row(3);
    set(changed);
    EXPECT_TRUE(seen.insert(instance_text(changed)).second) << "change " << changes;
    ++changes;
  };
  change([](v1::LeasedRow& it) { it.set_seq(8); });
  change([](v1::LeasedRow& it) { it.set_first_index(4); });
  change([](v1::LeasedRow& it) { it.set_app("other"); });
  change([](v1::LeasedRow& it) { it.set_machine_id("machine-b"); });
  change([](v1::LeasedRow& it) { it.set_events(row(3, 5).events()); });
  change([](v1::LeasedRow& it) { it = row(4); });
  // A border that moves between two texts.
  change([](v1::LeasedRow& it) {
    it.set_machine_id("machine-at");
    it.set_app("ool");
  });
  EXPECT_EQ(seen.size(), changes);
}

TEST(Cut, LeavesARowThatFitsWhole) {
  const v1::LeasedRow given = row(1000);
  const Piece piece = whole(given);
  EXPECT_EQ(piece.first_index, 3u);
  EXPECT_EQ(piece.count, 1000u);
  EXPECT_EQ(piece.events, given.events());
}

TEST(Cut, DividesALargeRowBetweenEventsAndLosesNone) {
  const v1::LeasedRow given = row(50, 60000);
  const auto pieces = cut(given);
  ASSERT_TRUE(pieces);
  ASSERT_EQ(pieces->size(), 3u);
  std::string joined;
  std::uint32_t next = given.first_index();
  for (const Piece& piece : *pieces) {
    EXPECT_LE(piece.events.size(), kEventsBytesMax);
    EXPECT_EQ(piece.first_index, next);
    EventBatch batch;
    EXPECT_TRUE(batch.ParseFromString(std::string(piece.events)));
    EXPECT_EQ(static_cast<std::uint32_t>(batch.events_size()), piece.count);
    next += piece.count;
    joined += piece.events;
  }
  EXPECT_EQ(joined, given.events());
}

TEST(Cut, DividesARowOfMoreEventsThanAFrameMayHave) {
  const v1::LeasedRow given = row(kEventsMax + 1, 0);
  const auto pieces = cut(given);
  ASSERT_TRUE(pieces);
  ASSERT_EQ(pieces->size(), 2u);
  EXPECT_EQ(pieces->at(1).count, 1u);
}

TEST(Cut, AnEventThatIsTooLargeAloneStaysWhole) {
  const v1::LeasedRow given = row(2, kEventsBytesMax + 1);
  const auto pieces = cut(given);
  ASSERT_TRUE(pieces);
  EXPECT_EQ(pieces->size(), 2u);
}

TEST(Cut, RefusesARowThatDoesNotHoldWhatItSays) {
  v1::LeasedRow given = row(3);
  given.set_count(4);
  EXPECT_FALSE(cut(given));
  given.set_count(2);
  EXPECT_FALSE(cut(given));
  given.set_count(0);
  EXPECT_FALSE(cut(given));
  given = row(3);
  given.mutable_events()->pop_back();
  EXPECT_FALSE(cut(given));
  given.set_events("\x12\x01x");
  EXPECT_FALSE(cut(given));
}

TEST(Halve, GivesTwoPiecesThatAreTheWhole) {
  const v1::LeasedRow given = row(5);
  const auto halves = halve(whole(given));
  ASSERT_TRUE(halves);
  EXPECT_EQ(halves->first.count, 2u);
  EXPECT_EQ(halves->second.count, 3u);
  EXPECT_EQ(halves->second.first_index, halves->first.first_index + 2);
  EXPECT_EQ(std::string(halves->first.events) + std::string(halves->second.events), given.events());
}

}  // namespace
}  // namespace telemetryd::forward
