#include "forward/native_request.h"

#include <gtest/gtest.h>

#include "telemetry/v1/native.pb.h"

namespace telemetryd::forward {
namespace {

v1::LeasedRow row(std::uint64_t seq, std::uint32_t first, std::uint32_t count) {
  ::telemetry::v1::EventBatch batch;
  for (std::uint32_t i = 0; i < count; ++i) {
    batch.add_events()->set_name("event_" + std::to_string(first + i));
  }
  v1::LeasedRow row;
  row.set_seq(seq);
  row.set_first_index(first);
  row.set_count(count);
  row.set_machine_id("machine");
  ::telemetry::v1::Context context;
  context.set_app("tool");
  row.set_context(context.SerializeAsString());
  row.set_events(batch.SerializeAsString());
  return row;
}

v1::Lease lease() {
  v1::Lease lease;
  lease.set_attempt(3);
  *lease.add_rows() = row(10, 0, 2);
  *lease.add_rows() = row(11, 5, 3);
  return lease;
}

// The worked example of docs/formats/native.md, made there with the openssl program.
TEST(NativeSignature, MatchesTheWorkedExample) {
  const SignedParts parts{
      "POST", "/v1/native/acme/tools", "1732003200", "550e8400-e29b-41d4-a716-446655440000", ""};
  EXPECT_EQ(string_to_sign(parts),
            "telemetryd-native-v1\nPOST\n/v1/native/acme/tools\n1732003200\n"
            "550e8400-e29b-41d4-a716-446655440000\n"
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sign("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw==", parts),
            "b785681da3ca5b38e4c7e4b37b7f19820b9dbe32a20579bfab5dcc3760243730");
}

TEST(NativeBody, IsTheStoredBytesInTheShapeOfTheSchema) {
  const v1::Lease given = lease();
  const std::string body = native_body(given, 1'700'000'000'123, "telemetryd/test");

  v1::NativeBatch parsed;
  ASSERT_TRUE(parsed.ParseFromString(body));
  EXPECT_EQ(parsed.schema(), 1u);
  EXPECT_EQ(parsed.sent_time_unix_nano(), 1'700'000'000'123'000'000u);
  EXPECT_EQ(parsed.batch_size(), 5u);
  EXPECT_EQ(parsed.attempt(), 3u);
  EXPECT_EQ(parsed.sender(), "telemetryd/test");
  ASSERT_EQ(parsed.groups_size(), 2);
  EXPECT_EQ(parsed.groups(1).events_size(), 3);
  EXPECT_EQ(parsed.groups(1).events(0).name(), "event_5");
  EXPECT_EQ(parsed.groups(1).context().app(), "tool");
  EXPECT_EQ(parsed.groups(1).machine_id(), "machine");
  EXPECT_NE(body.find(given.rows(1).events()), std::string::npos);
}

TEST(NativeBody, WithoutEventsIsABatchOfNone) {
  v1::Lease empty;
  empty.set_attempt(1);
  v1::NativeBatch parsed;
  ASSERT_TRUE(parsed.ParseFromString(native_body(empty, 1, "s")));
  EXPECT_EQ(parsed.batch_size(), 0u);
  EXPECT_EQ(parsed.groups_size(), 0);
}

TEST(BatchLayout, FindsTheRowOfAnEventOfTheBatch) {
  const BatchLayout layout(lease());
  ASSERT_EQ(layout.events(), 5u);
  EXPECT_EQ(layout.place(0).seq, 10u);
  EXPECT_EQ(layout.place(1).index, 1u);
  EXPECT_EQ(layout.place(2).seq, 11u);
  EXPECT_EQ(layout.place(2).index, 5u);
  EXPECT_EQ(layout.place(4).index, 7u);
}

}  // namespace
}  // namespace telemetryd::forward
