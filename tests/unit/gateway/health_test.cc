#include "gateway/health.h"

#include <gtest/gtest.h>

#include "rig.h"

namespace telemetryd::gateway {
namespace {

using Kind = HealthCall::Kind;

struct Asked {
  std::shared_ptr<HealthCall> call;
  std::shared_ptr<RecordingCaller> caller = std::make_shared<RecordingCaller>();
};

Asked ask(HubRig& rig, Kind kind, const std::string& message) {
  Asked asked;
  asked.call = std::make_shared<HealthCall>(rig.hub, 1000, "", kind, true);
  asked.call->begin(asked.caller);
  asked.call->prepare(message)();
  return asked;
}

const std::string kServing = field(1, 1);
const std::string kNotServing = field(1, 2);
const std::string kServiceUnknown = field(1, 3);

TEST(Health, IsWhetherTheDaemonCanBeReachedNow) {
  HubRig rig;
  for (const char* service : {"", "telemetry.v1.IngestService"}) {
    EXPECT_EQ(ask(rig, Kind::kCheck, field(1, service)).caller->said.at(0), kServing);
  }
  rig.daemon.stop();
  rig.clock.advance(Health::kFresh);
  EXPECT_EQ(ask(rig, Kind::kCheck, "").caller->said.at(0), kNotServing);
}

TEST(Health, OfAnUnknownServiceThereIsNone) {
  HubRig rig;
  EXPECT_EQ(ask(rig, Kind::kCheck, field(1, "x")).caller->ended->code, StatusCode::kNotFound);
  const auto watch = ask(rig, Kind::kWatch, field(1, "x"));
  EXPECT_EQ(watch.caller->said.at(0), kServiceUnknown);
  EXPECT_FALSE(watch.caller->over());
  EXPECT_EQ(ask(rig, Kind::kCheck, "\xff").caller->ended->code, StatusCode::kInvalidArgument);
  watch.call->cancelled();
}

TEST(Health, WhoWatchesIsToldWhenItChanges) {
  HubRig rig;
  const auto watch = ask(rig, Kind::kWatch, "");
  EXPECT_EQ(watch.caller->said.at(0), kServing);
  watch.call->written();
  watch.call->tell(true);
  EXPECT_EQ(watch.caller->said.size(), 1u);
  watch.call->tell(false);
  EXPECT_EQ(watch.caller->said.at(1), kNotServing);
  watch.call->tell(true);
  watch.call->tell(false);
  watch.call->written();
  EXPECT_EQ(watch.caller->said.size(), 2u);
  watch.call->cancelled();
  EXPECT_TRUE(watch.caller->over());
  EXPECT_EQ(rig.hub.calls(), 0u);
}

}  // namespace
}  // namespace telemetryd::gateway
