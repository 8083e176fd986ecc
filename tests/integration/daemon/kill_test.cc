// What is kept of a frame when somebody dies in the middle of it, stage by stage.

#include "frames.h"
#include "session.h"

namespace telemetryd::test {
namespace {

// Asks until the status says so; each answer is a turn of the daemon.
void until(const DaemonProcess& daemon, const std::function<bool(const Json&)>& says) {
  for (int turns = 0; turns < 20'000; ++turns) {
    if (says(get(daemon, "/v1/status"))) return;
  }
  FAIL() << "the status never said so";
}

void kill_nine(DaemonProcess& daemon) {
  daemon.signal(SIGKILL);
  daemon.wait();
}

void expect_ledger(const DaemonProcess& daemon, int accepted, int duplicates) {
  const Json ledger = get(daemon, "/v1/ledger?check=1");
  EXPECT_EQ(ledger["machine"]["accepted"], accepted);
  EXPECT_EQ(ledger["machine"]["queued"], accepted);
  EXPECT_EQ(ledger["machine"]["duplicates"], duplicates);
  EXPECT_EQ(ledger["check"]["balanced"], true) << ledger["check"]["problems"];
}

TEST(Kill, WhileAFrameIsReadNothingIsStoredAndTheResendIsOnce) {
  const DaemonHome home(kOptOut);
  {
    DaemonProcess daemon(home);
    FrameApp app(home.ingest_socket());
    EXPECT_EQ(app.welcomed(), 0u);
    ASSERT_TRUE(app.send(FrameApp::events(1).substr(0, 30)));
    until(daemon, [](const Json& status) { return status["ingest"]["kept_bytes"] == 30; });
    kill_nine(daemon);
    EXPECT_FALSE(app.answer()) << "nothing was acknowledged";
  }
  DaemonProcess again(home);
  expect_ledger(again, 0, 0);
  FrameApp app(home.ingest_socket());
  EXPECT_EQ(app.welcomed(), 0u);
  ASSERT_TRUE(app.send(FrameApp::events(1)));
  EXPECT_EQ(app.answer()->type, frame::Type::kAck);
  expect_ledger(again, 1, 0);
}

TEST(Kill, BetweenCommitAndAckTheResendIsADuplicate) {
  const DaemonHome home(kOptOut);
  {
    DaemonProcess daemon(home);
    FrameApp app(home.ingest_socket());
    app.welcomed();
    ASSERT_TRUE(app.send(FrameApp::events(1)));
    until(daemon, [](const Json& status) { return status["ledger"]["accepted"] == 1; });
    // Its ACK is never read, as if it had never been written.
    kill_nine(daemon);
  }
  DaemonProcess again(home);
  FrameApp app(home.ingest_socket());
  EXPECT_EQ(app.welcomed(), 1u) << "the client may forget it";
  ASSERT_TRUE(app.send(FrameApp::events(1)));
  EXPECT_EQ(app.answer()->number(), 1u);
  expect_ledger(again, 1, 1);
}

TEST(Kill, AfterTheAckTheEventIsThereWithoutItsClient) {
  const DaemonHome home(kOptOut);
  {
    DaemonProcess daemon(home);
    FrameApp app(home.ingest_socket());
    app.welcomed();
    ASSERT_TRUE(app.send(FrameApp::events(1)));
    EXPECT_EQ(app.answer()->number(), 1u);
    kill_nine(daemon);
  }
  DaemonProcess again(home);
  expect_ledger(again, 1, 0);
  EXPECT_EQ(get(again, "/v1/events")["events"].size(), 1u);
}

TEST(Kill, OfAClientInTheMiddleOfAFrameIsCountedAndCostsItsHalfFrame) {
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home);
  const pid_t client = ::fork();
  if (client == 0) {
    FrameApp app(home.ingest_socket());
    app.send(FrameApp::hello() + FrameApp::events(1) + FrameApp::events(2).substr(0, 30));
    for (;;) ::pause();
  }
  until(daemon, [](const Json& status) { return status["ingest"]["kept_bytes"] == 30; });
  ::kill(client, SIGKILL);
  ::waitpid(client, nullptr, 0);
  until(daemon, [](const Json& status) { return status["ingest"]["connections"] == 0; });
  EXPECT_EQ(get(daemon, "/v1/status")["ingest"]["frames_cut_short"], 1);
  EXPECT_EQ(get(daemon, "/v1/status")["ingest"]["kept_bytes"], 0);
  expect_ledger(daemon, 1, 0);
}

TEST(Freeze, ConnectionsAndFramesOutliveIt) {
  const DaemonHome home(kOptOut);
  DaemonProcess daemon(home);
  FrameApp app(home.ingest_socket());
  app.welcomed();
  ASSERT_TRUE(app.send(FrameApp::events(1).substr(0, 30)));
  until(daemon, [](const Json& status) { return status["ingest"]["kept_bytes"] == 30; });
  daemon.signal(SIGSTOP);
  ASSERT_TRUE(app.send(FrameApp::events(1).substr(30) + FrameApp::events(2)));
  daemon.signal(SIGCONT);
  std::uint64_t acknowledged = 0;
  while (acknowledged < 2) {
    const auto answer = app.answer();
    ASSERT_TRUE(answer);
    ASSERT_EQ(answer->type, frame::Type::kAck);
    acknowledged = answer->number();
  }
  EXPECT_EQ(get(daemon, "/v1/status")["ingest"]["connections_total"], 1);
  expect_ledger(daemon, 2, 0);
}

}  // namespace
}  // namespace telemetryd::test
