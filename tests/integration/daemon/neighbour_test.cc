// What a flood of connections costs everybody else, in a real process with few descriptors.

#include <sys/resource.h>

#include "frames.h"
#include "session.h"

namespace telemetryd::test {
namespace {

constexpr rlim_t kDescriptors = 80;

void few_descriptors() {
  const rlimit few{.rlim_cur = kDescriptors, .rlim_max = kDescriptors};
  ::setrlimit(RLIMIT_NOFILE, &few);
}

TEST(Neighbours, AFloodOfConnectionsLeavesDescriptorsForEverythingElse) {
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home, few_descriptors);
  EXPECT_NE(daemon.log().find("connections_max_lowered configured=1024 used=20 descriptors=80"),
            std::string::npos)
      << daemon.log();
  App before(home, "tool");
  EXPECT_EQ(before.track("before"), TELEMETRY_OK);
  ASSERT_EQ(before.flush(), TELEMETRY_OK);

  std::vector<std::unique_ptr<FrameApp>> flood;
  for (int i = 0; i < 100; ++i) flood.push_back(std::make_unique<FrameApp>(home.ingest_socket()));
  // Those beyond the limit are told so; the last one, too.
  const auto told = flood.back()->answer();
  ASSERT_TRUE(told);
  EXPECT_EQ(told->type, frame::Type::kClosing);
  EXPECT_EQ(told->code(), frame::Code::kTooManyConnections);

  const Json status = get(daemon, "/v1/status");
  EXPECT_EQ(status["ingest"]["connections"], 20);
  EXPECT_EQ(status["ingest"]["connections_refused"], 81);
  EXPECT_EQ(before.track("beside"), TELEMETRY_OK);
  EXPECT_EQ(before.flush(), TELEMETRY_OK);
  flood.clear();
  App after(home, "tool");
  EXPECT_EQ(after.track("after"), TELEMETRY_OK);
  EXPECT_EQ(after.flush(), TELEMETRY_OK);
  EXPECT_EQ(get(daemon, "/v1/status")["ledger"]["accepted"], 3);
  EXPECT_EQ(daemon.terminate(), 0);
}

TEST(Neighbours, AFloodOnTheAdminSocketCostsNeitherIngestNorRoot) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home);
  std::vector<std::unique_ptr<UnixHttp>> flood;
  for (const std::uint32_t uid : {65531u, 65532u, 65533u, 65534u}) {
    as_user(uid, [&] {
      for (int i = 0; i < 30; ++i) flood.push_back(std::make_unique<UnixHttp>(home.admin_socket()));
    });
  }
  EXPECT_EQ(get(daemon, "/v1/status")["state"], "ok");
  EXPECT_EQ(post(daemon, "/v1/reload", Json::object()).status, 200);
  App app(home, "tool");
  EXPECT_EQ(app.track("e"), TELEMETRY_OK);
  EXPECT_EQ(app.flush(), TELEMETRY_OK);
}

}  // namespace
}  // namespace telemetryd::test
