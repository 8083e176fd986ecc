// No memory for a message, at every place where it can be missing: that call is told to come again,
// and nothing is kept of it.

#include <gtest/gtest.h>

#include "rig.h"
#include "support/failing_new.h"

namespace telemetryd::gateway {
namespace {

using test::allocations;

constexpr long kPlacesMax = 1000;  // far more than a message has
constexpr std::uint32_t kUid = 1000;

TEST(GatewayMemory, MissingAtAnyPlaceOfAMessageCostsThatCallAndNothingElse) {
  HubRig rig;
  rig.daemon.start();
  const std::string message = field(1, event_bytes(std::string(60, 'n'))) + field(5, kContext);
  int told = 0;
  for (long place = 0;; ++place) {
    ASSERT_LT(place, kPlacesMax);
    const auto call = rig.begin(Session::Kind::kPublish, kUid);
    allocations() = {.left = place};
    const auto taken = call.session->prepare(message);
    allocations().left = test::kAllSucceed;
    taken();
    ASSERT_TRUE(turn_until(rig.loop, [&] { return call.caller->over(); }));
    if (!allocations().failed) {
      EXPECT_EQ(call.caller->ended->code, StatusCode::kOk);
      break;
    }
    ++told;
    EXPECT_EQ(call.caller->ended->code, StatusCode::kResourceExhausted) << place;
    EXPECT_TRUE(call.caller->ended->retry_after) << place;
    EXPECT_EQ(rig.hub.room()->held(kUid), 0u) << place;
  }
  EXPECT_GT(told, 2) << "the failures must have met the message";
  EXPECT_EQ(rig.daemon.received().size(), 1u);
  EXPECT_EQ(rig.hub.calls(), 0u);
}

}  // namespace
}  // namespace telemetryd::gateway
