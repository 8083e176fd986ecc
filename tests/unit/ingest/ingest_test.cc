#include "fixture.h"

namespace telemetryd::ingest {
namespace {

using frame::Code;
using frame::Type;
using store::StoreThread;

TEST_F(Ingest, ReadsFramesThatArriveByteByByte) {
  start();
  auto client = connect();
  for (const char byte : hello_frame() + events_frame(1, 3) + events_frame(2)) {
    client->send(std::string(1, byte));
    loop.poll();
  }
  serve_until([&] { return stub().submitted.size() == 2; });
  EXPECT_EQ(stub().submitted[0].append.summary.count, 3u);
}

TEST_F(Ingest, ReadsManyFramesOfOneWrite) {
  start();
  auto client = welcomed();
  std::string bytes;
  for (std::uint64_t number = 1; number <= 60; ++number) bytes += events_frame(number, 10);
  client->send(bytes);
  serve_until([&] { return stub().submitted.size() == 60; });
  EXPECT_EQ(stub().submitted_outside_bursts, 0) << "one read wakes the store once";
  stub().settle_all();
  std::uint64_t last = 0;
  while (last < 60) {
    const Answer answer = answer_of(*client);
    ASSERT_EQ(answer.type, Type::kAck);
    EXPECT_GT(answer.number(), last);
    last = answer.number();
  }
  EXPECT_EQ(server->stats().events_accepted, 600u);
}

TEST_F(Ingest, TellsOnceThatThereIsWorkAgain) {
  start();
  int told = 0;
  std::size_t submitted_then = 0;
  const auto hook = [&] {
    ++told;
    submitted_then = stub().submitted.size();
  };
  server->on_work(hook);
  auto client = welcomed();
  EXPECT_EQ(told, 0) << "a HELLO is no work";
  client->send(events_frame(1) + events_frame(2));
  serve_until([&] { return stub().submitted.size() == 2; });
  EXPECT_EQ(told, 1);
  EXPECT_EQ(submitted_then, 1u) << "the frame is with the store already";
  server->on_work(hook);
  client->send(events_frame(3));
  serve_until([&] { return stub().submitted.size() == 3; });
  EXPECT_EQ(told, 2);
}

TEST_F(Ingest, PassesTheWishToCommitNowOn) {
  start();
  auto client = welcomed();
  client->send(events_frame(1) + events_frame(2, 1, "e", frame::kFlagCommitNow));
  serve_until([&] { return stub().submitted.size() == 2; });
  EXPECT_EQ(stub().submitted[0].when, StoreThread::Commit::kMayDelay);
  EXPECT_EQ(stub().submitted[1].when, StoreThread::Commit::kNow);
  client->send(raw_frame(Type::kFlush, ""));
  serve_until([&] { return stub().commits_now == 1; });
}

TEST_F(Ingest, AnUrgentFrameIsCommittedNow) {
  start();
  auto client = welcomed();
  std::string urgent = events_frame(1);
  urgent[frame::kHeaderBytes + 13] = 1;  // the prefix's urgency
  client->send(urgent + events_frame(2));
  serve_until([&] { return stub().submitted.size() == 2; });
  EXPECT_EQ(stub().submitted[0].append.urgency, event::Urgency::kUrgent);
  EXPECT_EQ(stub().submitted[0].when, StoreThread::Commit::kNow);
  EXPECT_EQ(stub().submitted[1].when, StoreThread::Commit::kMayDelay);
}

TEST_F(Ingest, WhatAClientSentIsCommittedWhenItLeaves) {
  start();
  auto client = welcomed();
  client->send(events_frame(1));
  serve_until([&] { return stub().submitted.size() == 1; });
  EXPECT_EQ(stub().commits_now, 0);
  client->close();
  serve_until([&] { return stub().commits_now == 1; });
}

TEST_F(Ingest, ForgetsAClientThatSaidGoodbye) {
  start();
  auto client = welcomed();
  client->send(events_frame(1) + raw_frame(Type::kGoodbye, ""));
  serve_until([&] { return stub().forgotten.size() == 1; });
  EXPECT_EQ(as_text(stub().forgotten[0].instance), kInstance);
  EXPECT_EQ(stub().commits_now, 1);
  client->send(events_frame(2));
  serve();
  EXPECT_FALSE(client->next()) << "CLOSING waits for the answer to frame 1";
  stub().settle_all();
  EXPECT_EQ(answer_of(*client).number(), 1u);
  expect_closing(*client, Code::kProtocol, "after GOODBYE");
}

TEST_F(Ingest, HandsReportsOn) {
  start();
  auto client = welcomed();
  client->send(
      raw_frame(Type::kReport, wire_number(1, 5) + wire_number(5, 2) + wire_number(77, 1)));
  serve_until([&] { return stub().reports.size() == 1; });
  EXPECT_EQ(stub().reports[0],
            (std::map<std::string, std::uint64_t>{{"queue_full", 5}, {"invalid", 2}}));
  client->send(raw_frame(Type::kReport, wire_bytes(1, "x")));
  expect_closing(*client, Code::kProtocol, "REPORT");
}

// A client that made its frame under a larger limit would otherwise send it, lose its connection
// and send it again for ever.
TEST_F(Ingest, AFrameAboveTheLimitCostsItselfAndNotTheConnection) {
  options.frame_bytes_max = 1000;
  start();
  auto client = welcomed();
  const std::string large = events_frame(2, 3000);
  ASSERT_GT(large.size(), 70'000u) << "more than one read";
  client->send(events_frame(1) + large + events_frame(3));
  serve_until([&] { return stub().submitted.size() == 3; });
  EXPECT_EQ(submitted_numbers(), (std::vector<std::uint64_t>{1, 2, 3}));
  EXPECT_EQ(stub().submitted[1].append.summary.count, 3000u) << "the ledger counts what was lost";
  EXPECT_TRUE(stub().submitted[1].append.events.empty());
  stub().settle_all();
  EXPECT_EQ(answer_of(*client).number(), 1u);
  const Answer refused = answer_of(*client);
  ASSERT_EQ(refused.type, Type::kRefuse);
  EXPECT_EQ(refused.refusal().number, 2u);
  EXPECT_EQ(refused.refusal().code, Code::kFrameTooLarge);
  EXPECT_FALSE(refused.refusal().retryable);
  EXPECT_NE(refused.text().find("frame_bytes_max is 1000"), std::string::npos) << refused.text();
  EXPECT_EQ(answer_of(*client).number(), 3u);
  EXPECT_EQ(server->stats().protocol_errors, 0u);
}

TEST_F(Ingest, RefusesABadEventThroughTheStoreAndGoesOn) {
  start();
  auto client = welcomed();
  std::string wrong_count = events_frame(3, 2);
  wrong_count[frame::kHeaderBytes + 8] = 3;
  std::string wrong_class = events_frame(4);
  wrong_class[frame::kHeaderBytes + 12] = 7;
  client->send(events_frame(1) + events_frame(2, 1, "bad \xff") + wrong_count + wrong_class +
               events_frame(5));
  serve_until([&] { return stub().submitted.size() == 5; });
  EXPECT_TRUE(stub().submitted[1].append.events.empty());
  EXPECT_EQ(stub().submitted[2].append.summary.count, 3u) << "refused events are counted";
  stub().settle_all();
  EXPECT_EQ(answer_of(*client).number(), 1u);
  for (const auto& [number, text] :
       std::map<std::uint64_t, std::string>{{2, "event 0: a string is not UTF-8"},
                                            {3, "the frame says 3 events and holds 2"},
                                            {4, "unknown class or urgency"}}) {
    const Answer refused = answer_of(*client);
    ASSERT_EQ(refused.type, Type::kRefuse);
    EXPECT_EQ(refused.refusal().number, number);
    EXPECT_EQ(refused.refusal().code, Code::kInvalidEvent);
    EXPECT_FALSE(refused.refusal().retryable);
    EXPECT_EQ(refused.text(), text);
  }
  EXPECT_EQ(answer_of(*client).number(), 5u);
  EXPECT_EQ(server->stats().events_accepted, 2u);
}

TEST_F(Ingest, RefusesEverythingWhileCollectionIsOff) {
  decision = {consent::Mode::kOff, "machine_policy"};
  start();
  auto client = welcomed();
  client->send(events_frame(1, 4));
  serve_until([&] { return stub().submitted.size() == 1; });
  EXPECT_TRUE(stub().submitted[0].append.events.empty());
  EXPECT_EQ(stub().submitted[0].append.summary.count, 4u);
  stub().settle_all();
  const Answer refused = answer_of(*client);
  EXPECT_EQ(refused.refusal().code, Code::kCollectionOff);
  EXPECT_FALSE(refused.refusal().retryable);
  EXPECT_NE(refused.text().find("machine_policy"), std::string::npos);
}

TEST_F(Ingest, TellsClientsWhenTheModeChanges) {
  start();
  auto client = welcomed();
  server->refresh_modes();
  decision = {consent::Mode::kOff, "app_record"};
  server->refresh_modes();
  const Answer mode = answer_of(*client);
  ASSERT_EQ(mode.type, Type::kMode) << "and nothing before, when nothing had changed";
  EXPECT_EQ(mode.payload[0], 3);
  EXPECT_EQ(mode.text(), "app_record");
  client->send(events_frame(1));
  serve_until([&] { return stub().submitted.size() == 1; });
  EXPECT_TRUE(stub().submitted[0].append.refusal);
}

TEST_F(Ingest, NoAckPassesARefusal) {
  start();
  stub().refusals[3] = {Code::kStoreFull, true, 250, "quota"};
  auto client = welcomed();
  for (std::uint64_t number = 1; number <= 4; ++number) client->send(events_frame(number));
  serve_until([&] { return stub().submitted.size() == 4; });
  stub().settle_all();
  EXPECT_EQ(answer_of(*client).number(), 1u);
  EXPECT_EQ(answer_of(*client).number(), 2u);
  const Answer refused = answer_of(*client);
  ASSERT_EQ(refused.type, Type::kRefuse);
  EXPECT_EQ(refused.refusal().number, 3u);
  EXPECT_TRUE(refused.refusal().retryable);
  EXPECT_EQ(refused.refusal().retry_after_ms, 250u);
  EXPECT_EQ(answer_of(*client).number(), 4u);
}

TEST_F(Ingest, AFullStorePausesReadingAndLosesNothing) {
  start();
  auto client = welcomed();
  stub().frames_max = 2;
  std::string bytes;
  for (std::uint64_t number = 1; number <= 10; ++number) bytes += events_frame(number);
  client->send(bytes);
  serve();
  EXPECT_EQ(submitted_numbers(), (std::vector<std::uint64_t>{1, 2}));
  server->resume_reading();  // a false alarm
  serve();
  EXPECT_EQ(stub().submitted.size(), 2u);
  std::uint64_t last = 0;
  while (last < 10) {
    stub().settle_all();
    server->resume_reading();
    serve();
    while (const auto answer = client->next()) {
      ASSERT_EQ(answer->type, Type::kAck);
      EXPECT_EQ(answer->number(), ++last);
    }
  }
  EXPECT_EQ(server->stats().frames_accepted, 10u);
}

TEST_F(Ingest, AFullStoreHoldsGoodbyeAndReportBackToo) {
  start();
  auto client = welcomed();
  stub().posts_full = true;
  client->send(raw_frame(Type::kReport, wire_number(1, 5)) + raw_frame(Type::kGoodbye, ""));
  serve();
  EXPECT_TRUE(stub().reports.empty());
  stub().posts_full = false;
  server->resume_reading();
  serve_until([&] { return stub().forgotten.size() == 1; });
  EXPECT_EQ(stub().reports.size(), 1u);
}

TEST_F(Ingest, MoreFramesThanMayBeInFlightAreNotRead) {
  start();
  auto client = welcomed();
  for (std::uint64_t number = 1; number <= 70; ++number) client->send(events_frame(number));
  serve();
  EXPECT_EQ(stub().submitted.size(), 64u);
  server->resume_reading();
  serve();
  EXPECT_EQ(stub().submitted.size(), 64u);
  stub().settle(32);
  serve_until([&] { return stub().submitted.size() == 32 + 6; });
  EXPECT_EQ(submitted_numbers().back(), 70u);
}

TEST_F(Ingest, OneBadClientDisturbsNoOther) {
  start();
  auto good = welcomed();
  auto bad = welcomed();
  good->send(events_frame(1).substr(0, 30));
  bad->send(std::string(1000, '\x2a'));
  expect_closing(*bad, Code::kProtocol, "unknown frame type");
  good->send(events_frame(1).substr(30));
  serve_until([&] { return stub().submitted.size() == 1; });
  stub().settle_all();
  EXPECT_EQ(answer_of(*good).number(), 1u);
}

TEST_F(Ingest, AnswersReachAClientThatOnlyHalfClosed) {
  start();
  auto client = welcomed();
  client->send(events_frame(1));
  ::shutdown(client->fd().get(), SHUT_WR);
  serve_until([&] { return stub().submitted.size() == 1; });
  serve();
  EXPECT_FALSE(client->at_end()) << "the channel lives as long as its frame";
  stub().settle_all();
  EXPECT_EQ(answer_of(*client).number(), 1u);
  serve_until([&] { return client->at_end(); });
}

TEST_F(Ingest, TakesWhatAClientSentBeforeItDiedUnheard) {
  start();
  auto client = welcomed();
  stub().frames_max = 1;
  client->send(events_frame(1) + events_frame(2) + events_frame(3));
  serve_until([&] { return stub().submitted.size() == 1; });
  client->close();
  for (std::uint64_t number = 1; number <= 3; ++number) {
    serve_until([&] { return submitted_numbers() == std::vector<std::uint64_t>{number}; });
    stub().settle_all();
    server->resume_reading();
  }
}

TEST_F(Ingest, AnswersForAConnectionThatIsGoneGoNowhere) {
  start();
  auto client = welcomed();
  client->send(events_frame(1) + events_frame(2));
  serve_until([&] { return stub().submitted.size() == 2; });
  client->close();
  serve();
  server.reset();
  stub().refusals[2] = {Code::kStoreFull, true, 0, "quota"};
  stub().settle_all();
}

TEST_F(Ingest, StoppingAnswersFirstAndClosesThen) {
  start();
  auto client = welcomed();
  auto idle = welcomed();
  client->send(events_frame(1));
  serve_until([&] { return stub().submitted.size() == 1; });
  server->stop();
  EXPECT_FALSE(loop::connect_unix(path()));
  expect_closing(*idle, Code::kStopping, "stopping");
  client->send(events_frame(2));
  serve();
  EXPECT_FALSE(client->next());
  EXPECT_EQ(stub().submitted.size(), 1u) << "a stopping server reads nothing";
  stub().settle_all();
  EXPECT_EQ(answer_of(*client).number(), 1u);
  expect_closing(*client, Code::kStopping, "stopping");
}

TEST_F(Ingest, AStoppingStoreClosesTheConnection) {
  start();
  auto client = welcomed();
  stub().stopping = true;
  client->send(events_frame(1));
  expect_closing(*client, Code::kStopping, "stopping");
}

TEST_F(Ingest, AnUnknownOutcomeSaysSoAndNothingElse) {
  start();
  auto client = welcomed();
  client->send(events_frame(1) + events_frame(2));
  serve_until([&] { return stub().submitted.size() == 2; });
  stub().abandon_one();
  expect_closing(*client, Code::kUnknownOutcome, "unknown");
  stub().abandon_one();
}

}  // namespace
}  // namespace telemetryd::ingest
