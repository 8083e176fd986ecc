#include "schedule/scheduler.h"

#include <gtest/gtest.h>

#include "integration/forward/daemon_rig.h"

namespace telemetryd::test {
namespace {

using namespace std::chrono_literals;

class Scheduler : public DaemonRig {
 protected:
  // The store was asked, lent nothing of the one event it has, and its answer waits for the loop;
  // the event may leave by now.
  void lease_of_nothing_is_on_its_way() {
    append("tool", 1);
    held_ = {{1000, "tool"}};
    scheduler_->flush([](const Result<void>&) {}, 20s);
    run_until([&] { return busy_; });
    wait_for_store();
    held_.clear();
  }
};

TEST_F(Scheduler, DrainsABacklogInOrderAndLetsTheForwarderGo) {
  for (int i = 0; i < 7; ++i) append("tool", 400);
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();

  run_until([&] { return forwarder.ended() == 1; });

  EXPECT_EQ(account("tool", store::account::kDelivered), 2800);
  EXPECT_EQ(account("tool", store::account::kQueued), 0);
  std::pair<std::uint64_t, std::uint32_t> last{0, 0};
  std::uint32_t events = 0;
  for (const v1::ToForwarder& message : forwarder.seen()) {
    ASSERT_TRUE(message.has_lease());
    EXPECT_EQ(message.lease().destination(), "main");
    EXPECT_EQ(message.lease().attempt(), 1u);
    for (const v1::LeasedRow& row : message.lease().rows()) {
      EXPECT_LT(last, std::pair(row.seq(), row.first_index()));
      last = {row.seq(), row.first_index()};
      events += row.count();
      EXPECT_EQ(row.machine_id(), "machine-of-tool");
      v1::EventBatch batch;
      ASSERT_TRUE(batch.ParseFromString(row.events()));
      EXPECT_EQ(batch.events_size(), static_cast<int>(row.count()));
    }
  }
  EXPECT_EQ(events, 2800u);
  EXPECT_EQ(forwarder.connections(), 1);
  EXPECT_EQ(status().state, "idle");
  EXPECT_FALSE(busy_);
}

TEST_F(Scheduler, AFewEventsWaitAndAnUrgentOneTakesThemAlong) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  append("tool", 3);
  EXPECT_EQ(status().state, "waiting");
  EXPECT_EQ(status().queued_events, 3u);
  EXPECT_EQ(forwarder.connections(), 0);

  append("tool", 1, true);
  run_until([&] { return forwarder.ended() == 1; });
  EXPECT_EQ(account("tool", store::account::kDelivered), 4);
}

TEST_F(Scheduler, ARetryKeepsTheRowsAndIsNotEarlyEvenForAFullBatch) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([](const v1::ToForwarder& message) {
    return answer_with(message, v1::VERDICT_RETRY, "status 503", 40000);
  });
  start_scheduler();
  append("tool", 1500);
  run_until([&] { return status().state == "backoff"; });

  // It may know what the try achieved.
  EXPECT_EQ(forwarder.ended(), 0);
  schedule::DestinationStatus seen = status();
  EXPECT_EQ(seen.last_error, "status 503");
  EXPECT_EQ(seen.attempts, 1u);
  EXPECT_GE(seen.next_attempt_s, 40);
  EXPECT_LE(seen.next_attempt_s, 48);
  EXPECT_EQ(seen.queued_events, 1500u);

  clock_.advance(39s);
  append("tool", 2000);
  EXPECT_EQ(status().state, "backoff");
  clock_.advance(9s);
  append("tool", 2000);
  run_until([&] { return forwarder.ended() == 1; });
  EXPECT_EQ(account("tool", store::account::kDelivered), 5500);
  EXPECT_EQ(forwarder.connections(), 1);
  EXPECT_EQ(forwarder.seen()[1].lease().attempt(), 2u);
  EXPECT_EQ(forwarder.seen()[2].lease().attempt(), 1u);
  EXPECT_EQ(status().last_error, "");
}

TEST_F(Scheduler, AHeldDestinationSaysWhyAndAFlushTriesAgain) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  for (int i = 0; i < 2; ++i) {
    forwarder.then([](const v1::ToForwarder& message) {
      return answer_with(message, v1::VERDICT_HOLD, "status 401", 3600000);
    });
  }
  start_scheduler();
  append("tool", 5);

  const auto first = flush();
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().message(), "main: status 401");
  EXPECT_EQ(status().state, "held");
  EXPECT_FALSE(flush());
  EXPECT_EQ(status().attempts, 2u);
  EXPECT_TRUE(flush());
  EXPECT_EQ(status().state, "idle");
  EXPECT_EQ(account("tool", store::account::kDelivered), 5);
}

TEST_F(Scheduler, AMutedAppWaitsWhileOthersGoOnAndIsSentWhenItsTimeIsOver) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([](const v1::ToForwarder& message) {
    auto reply = deliver(message);
    v1::Mute* mute = reply->mutable_outcome()->add_mutes();
    mute->set_app("loud");
    mute->set_duration_s(3600);
    reply->mutable_outcome()->add_mutes()->set_app("not ours");
    return reply;
  });
  start_scheduler();
  append("loud", 1, true);
  run_until([&] { return account("loud", store::account::kDelivered) == 1; });

  append("loud", 5000, true);
  append("quiet", 1, true);
  run_until([&] { return account("quiet", store::account::kDelivered) == 1; });
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("loud", store::account::kDelivered), 1);
  EXPECT_EQ(status().muted_s, (std::map<std::string, std::int64_t>{{"loud", 3600}}));

  clock_.advance(3600s);
  append("quiet", 1, true);
  run_until([&] { return account("loud", store::account::kDelivered) == 5001; });
  EXPECT_TRUE(status().muted_s.empty());
}

TEST_F(Scheduler, EventsWaitForTheirMinimumAgeAndThenLeave) {
  min_age_ = 1h;
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  append("tool", 5000, true);
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("tool", store::account::kDelivered), 0);
  EXPECT_EQ(forwarder.connections(), 0) << "rows that may not leave start no forwarder";
  const auto waits_s = status().next_attempt_s;
  ASSERT_TRUE(waits_s.has_value());
  EXPECT_GE(*waits_s, 3600);
  EXPECT_LE(*waits_s, 3600 + 330);

  clock_.advance(std::chrono::seconds(*waits_s));
  append("tool", 1, true);
  run_until([&] { return account("tool", store::account::kDelivered) == 5000; });
  EXPECT_EQ(account("tool", store::account::kQueued), 1);
}

TEST_F(Scheduler, AMuteSurvivesARestart) {
  {
    ScriptedForwarder forwarder(socket_path(), deliver);
    forwarder.then([](const v1::ToForwarder& message) {
      auto reply = deliver(message);
      v1::Mute* mute = reply->mutable_outcome()->add_mutes();
      mute->set_app("loud");
      mute->set_duration_s(1'000'000'000);
      return reply;
    });
    start_scheduler();
    append("loud", 1, true);
    run_until([&] { return account("loud", store::account::kDelivered) == 1; });
    status();
    scheduler_.reset();
  }
  std::filesystem::remove(socket_path());
  clock_.advance(3600s);
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  append("loud", 1, true);
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("loud", store::account::kDelivered), 1) << "a day at most, an hour is over";
  EXPECT_EQ(status().muted_s.at("loud"), 23 * 3600);
}

TEST_F(Scheduler, WhatTheForwarderAsksToKeepComesBackWithEachLease) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([](const v1::ToForwarder& message) {
    auto reply = deliver(message);
    reply->mutable_outcome()->set_memory("{\"events\":100}");
    reply->mutable_outcome()->set_certificate_expires_unix_s(1'800'000'000);
    return reply;
  });
  start_scheduler();
  append("tool", 1);
  EXPECT_TRUE(flush());
  EXPECT_EQ(status().certificate_expires_unix_s, 1'800'000'000);
  append("tool", 1);
  EXPECT_TRUE(flush());
  scheduler_.reset();
  start_scheduler();
  append("tool", 1);
  EXPECT_TRUE(flush());

  std::vector<std::string> memories;
  for (const v1::ToForwarder& message : forwarder.seen()) {
    if (message.has_lease()) memories.push_back(message.lease().memory());
  }
  EXPECT_EQ(memories, (std::vector<std::string>{"", "{\"events\":100}", "{\"events\":100}"}));
}

TEST_F(Scheduler, AfterAnOutageTheUpstreamIsTakenUpGently) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  for (int i = 0; i < 3; ++i) {
    forwarder.then([](const v1::ToForwarder& message) {
      auto reply = answer_with(message, v1::VERDICT_RETRY, "connection refused");
      reply->mutable_outcome()->set_cause(v1::CAUSE_CONNECT);
      return reply;
    });
  }
  start_scheduler();
  for (int i = 0; i < 6; ++i) append("tool", 500);
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(flush());
  schedule::DestinationStatus seen = status();
  EXPECT_EQ(seen.cause, "connect");
  EXPECT_EQ(seen.first_error, "connection refused");
  EXPECT_TRUE(seen.failing_s.has_value());
  (void)flush();
  EXPECT_TRUE(flush());

  std::vector<std::uint32_t> sizes;
  for (const v1::ToForwarder& message : forwarder.seen()) {
    std::uint32_t events = 0;
    for (const v1::LeasedRow& row : message.lease().rows()) events += row.count();
    sizes.push_back(events);
  }
  ASSERT_GT(sizes.size(), 8u);
  // The second is lent with the settlement of the first; a lease ends where the rows of a group do.
  EXPECT_EQ((std::vector<std::uint32_t>(sizes.begin() + 3, sizes.begin() + 8)),
            (std::vector<std::uint32_t>{16, 16, 32, 64, 128}));
  EXPECT_EQ(account("tool", store::account::kDelivered), 3000);
}

TEST_F(Scheduler, RejectedEventsBecomeDeadLettersAndTheRestIsDelivered) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([](const v1::ToForwarder& message) {
    auto reply = deliver(message);
    v1::RejectedEvents* rejected = reply->mutable_outcome()->add_rejected();
    rejected->set_seq(message.lease().rows(0).seq());
    rejected->set_first_index(1);
    rejected->set_count(2);
    rejected->set_reason("invalid_event: name");
    return reply;
  });
  start_scheduler();
  append("tool", 5);
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("tool", store::account::kDelivered), 3);
  EXPECT_EQ(account("tool", store::account::kParked), 2);
}

TEST_F(Scheduler, ARejectionOfEventsThatWereNotLeasedSettlesNothing) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([](const v1::ToForwarder& message) {
    auto reply = deliver(message);
    v1::RejectedEvents* rejected = reply->mutable_outcome()->add_rejected();
    rejected->set_seq(message.lease().rows(0).seq());
    rejected->set_first_index(4);
    rejected->set_count(2);
    return reply;
  });
  start_scheduler();
  append("tool", 5);
  EXPECT_FALSE(flush());
  EXPECT_EQ(account("tool", store::account::kQueued), 5);
  EXPECT_EQ(account("tool", store::account::kDelivered), 0);
}

TEST_F(Scheduler, AForwarderThatEndsMidLeaseLeavesTheRowsQueued) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([](const v1::ToForwarder&) { return std::nullopt; });
  start_scheduler();
  append("tool", 5);

  const auto flushed = flush();
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().message(), "main: forwarder ended");
  EXPECT_EQ(account("tool", store::account::kQueued), 5);

  EXPECT_TRUE(flush());
  EXPECT_EQ(account("tool", store::account::kDelivered), 5);
  EXPECT_EQ(forwarder.connections(), 2);
}

TEST_F(Scheduler, AForwarderOfAnotherProtocolGetsNothing) {
  ScriptedForwarder forwarder(socket_path(), deliver, 2);
  start_scheduler();
  append("tool", 5);
  const auto flushed = flush();
  ASSERT_FALSE(flushed);
  EXPECT_NE(flushed.error().message().find("speaks lease protocol 2"), std::string::npos);
  EXPECT_TRUE(forwarder.seen().empty());
}

TEST_F(Scheduler, WithoutAForwarderTheReasonIsShown) {
  start_scheduler();
  append("tool", 5);
  EXPECT_FALSE(flush());
  EXPECT_NE(status().last_error.find("connecting to the forwarder"), std::string::npos);
}

TEST_F(Scheduler, AFlushOfNothingStartsNoForwarder) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  append("unrouted", 5);
  EXPECT_TRUE(flush());
  EXPECT_EQ(forwarder.connections(), 0);
}

TEST_F(Scheduler, AFlushEndsAtItsDeadline) {
  std::atomic<bool> release = false;
  ScriptedForwarder forwarder(socket_path(), [&](const v1::ToForwarder& message) {
    release.wait(false);
    return deliver(message);
  });
  start_scheduler();
  append("tool", 5);
  const auto flushed = flush(10ms);
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().code(), ErrorCode::kDeadlineExceeded);
  release = true;
  release.notify_all();
  run_until([&] { return forwarder.ended() == 1; });
  EXPECT_EQ(account("tool", store::account::kDelivered), 5);
}

TEST_F(Scheduler, RowsWithoutConsentStayAndDoNotKeepItBusy) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  held_ = {{1000, "tool"}};
  start_scheduler();
  append("tool", 1500);
  EXPECT_TRUE(flush());
  append("other", 2);
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("tool", store::account::kQueued), 1500);
  EXPECT_EQ(account("other", store::account::kDelivered), 2);
  EXPECT_EQ(status().state, "waiting");
}

TEST_F(Scheduler, AnAnswerOlderThanTheNoticeHeardBeforeItLosesNoWakeUp) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  lease_of_nothing_is_on_its_way();
  scheduler_->queue_changed({"tool", 1500, 15000, false}, schedule::next_queue_number());
  run_until([&] { return forwarder.ended() == 1; });
  EXPECT_EQ(account("tool", store::account::kDelivered), 1);
}

TEST_F(Scheduler, WhatWaitedForConsentIsDueAsSoonAsItIsReconsidered) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  held_ = {{1000, "tool"}, {1000, "other"}};
  start_scheduler();
  append("tool", 5);
  append("other", 5);
  EXPECT_TRUE(flush());
  EXPECT_EQ(forwarder.connections(), 0);

  held_ = {{1000, "other"}};
  scheduler_->reconsider("tool");
  run_until([&] { return account("tool", store::account::kDelivered) == 5; });
  held_.clear();
  scheduler_->reconsider("");
  run_until([&] { return account("other", store::account::kDelivered) == 5; });
}

// Consent is often given before the first event is there.
TEST_F(Scheduler, AnAppThatWasSpokenOfBeforeItsFirstEventIsDelivered) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  scheduler_->reconsider("newcomer");
  wait_for_store();
  settle_loop();
  EXPECT_TRUE(status().apps.empty());
  append("newcomer", 5);
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("newcomer", store::account::kDelivered), 5);
}

TEST_F(Scheduler, AWordThatComesBeforeAnEmptyAnswerIsNotForgotten) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  lease_of_nothing_is_on_its_way();
  scheduler_->reconsider("tool");
  run_until([&] { return forwarder.ended() == 1; });
  EXPECT_EQ(account("tool", store::account::kDelivered), 1);
}

TEST_F(Scheduler, ReconsideringGoesNotPastABackoff) {
  ScriptedForwarder forwarder(socket_path(), [](const v1::ToForwarder& message) {
    return answer_with(message, v1::VERDICT_HOLD, "status 401", 3600000);
  });
  start_scheduler();
  append("tool", 5);
  EXPECT_FALSE(flush());
  scheduler_->reconsider("tool");
  wait_for_store();
  settle_loop();
  EXPECT_EQ(status().state, "held");
  EXPECT_EQ(forwarder.seen().size(), 1u);
}

TEST_F(Scheduler, AnUrgentNoticeHeardBeforeAnEmptyAnswerIsNotForgotten) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  lease_of_nothing_is_on_its_way();
  scheduler_->queue_changed({"tool", 2, 20, true}, schedule::next_queue_number());
  run_until([&] { return forwarder.ended() == 1; });
  EXPECT_EQ(account("tool", store::account::kDelivered), 1);
}

TEST_F(Scheduler, RowsThatMayNotLeaveStartNoForwarder) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  held_ = {{1000, "tool"}};
  start_scheduler();
  append("tool", 1500);
  EXPECT_TRUE(flush());
  EXPECT_EQ(status().state, "waiting");
  EXPECT_EQ(forwarder.connections(), 0);
}

TEST_F(Scheduler, EventsWithoutAMachineIdAreNotSent) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  identity_known_ = false;
  start_scheduler();
  append("tool", 5);
  const auto flushed = flush();
  ASSERT_FALSE(flushed);
  EXPECT_NE(flushed.error().message().find("no machine ID for tool"), std::string::npos);
  EXPECT_TRUE(forwarder.seen().empty());
  identity_known_ = true;
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("tool", store::account::kDelivered), 5);
}

TEST_F(Scheduler, ALeaseIsGivenBackEvenWhenTheStoreIsTooBusyToTakeIt) {
  std::atomic<bool> answer = false;
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([&](const v1::ToForwarder& message) {
    answer.wait(false);
    return answer_with(message, v1::VERDICT_RETRY, "status 503");
  });
  options_.retry_delay_min = options_.retry_delay_max = 0ms;
  start_scheduler();
  append("tool", 5, true);
  run_until([&] { return !forwarder.seen().empty(); });
  std::atomic<bool> go_on = false;
  fill_store_posts(go_on);
  answer = true;
  answer.notify_all();
  run_until([&] { return !busy_; });
  // Tries again with the store still full.
  scheduler_->queue_changed({"tool", 5, 50, true}, schedule::next_queue_number());
  go_on = true;
  go_on.notify_all();
  run_until([&] { return store_->post([](store::Store&) {}).has_value(); });
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("tool", store::account::kDelivered), 5);
}

class SchedulerOwes : public Scheduler {
 protected:
  // Five events were delivered, their only app is muted for a day, and the store had no room for
  // the settlement; it has again.
  void settlement_is_owed() {
    std::atomic<bool> answer = false;
    forwarder_.then([&](const v1::ToForwarder& message) {
      answer.wait(false);
      auto reply = deliver(message);
      v1::Mute* mute = reply->mutable_outcome()->add_mutes();
      mute->set_app("tool");
      mute->set_duration_s(24 * 3600);
      return reply;
    });
    start_scheduler();
    append("tool", 5, true);
    run_until([&] { return !forwarder_.seen().empty(); });
    std::atomic<bool> go_on = false;
    fill_store_posts(go_on);
    answer = true;
    answer.notify_all();
    run_until([&] { return !busy_; });
    go_on = true;
    go_on.notify_all();
    run_until([&] { return store_->post([](store::Store&) {}).has_value(); });
  }

  ScriptedForwarder forwarder_{socket_path(), deliver};
};

TEST_F(SchedulerOwes, WhatWasDeliveredIsWrittenDownAfterABackoffAlsoWhileItsOnlyAppIsMuted) {
  settlement_is_owed();
  clock_.advance(options_.retry_delay_max);
  scheduler_->queue_changed({"tool", 5, 50, false}, schedule::next_queue_number());
  run_until([&] { return status().state == "idle"; });
  EXPECT_EQ(account("tool", store::account::kDelivered), 5);
  EXPECT_EQ(forwarder_.seen().size(), 1u) << "nothing is sent twice";
}

TEST_F(SchedulerOwes, AFlushWritesItDownAtOnce) {
  settlement_is_owed();
  EXPECT_TRUE(flush());
  EXPECT_EQ(account("tool", store::account::kDelivered), 5);
}

TEST_F(Scheduler, AFlushIsAnsweredWhereverTheForwarderDies) {
  for (const char* death :
       {"exit 0", "kill -9 $$", "printf x >&3", "read -r line <&3", "sleep 0"}) {
    options_.forward_command = {"/bin/sh", "-c", death};
    options_.forward_socket.clear();
    start_scheduler();
    append("tool", 1);
    for (int round = 0; round < 3; ++round) EXPECT_FALSE(flush(1000ms)) << death;
    scheduler_.reset();
    settle_loop();
  }
}

TEST_F(Scheduler, AFlushBeforeTheStartOrAfterTheEndIsAnswered) {
  options_.forward_socket = socket_path();
  make_scheduler();
  append("tool", 1);
  const auto early = flush(10ms);
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_TRUE(loop_.post([this] { scheduler_->start(); }));
  status();
  bool stopped = false;
  scheduler_->stop(false, 1s, [&] { stopped = true; });
  run_until([&] { return stopped; });
  const auto flushed = flush(10ms);
  ASSERT_FALSE(flushed);
  EXPECT_EQ(flushed.error().code(), ErrorCode::kDeadlineExceeded);
}

TEST_F(Scheduler, AnUrgentRowFromBeforeARestartIsSentSoon) {
  route_ = "unknown";
  start_scheduler();
  append("tool", 1, true);
  settle_loop();
  scheduler_.reset();
  route_ = "main";
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  ASSERT_TRUE(status().next_attempt_s.has_value());
  EXPECT_LE(*status().next_attempt_s, 30);
}

TEST_F(Scheduler, AProbeIsAnsweredThroughTheForwarder) {
  ScriptedForwarder forwarder(socket_path(), [](const v1::ToForwarder& message) {
    v1::FromForwarder reply;
    reply.mutable_probe_result()->set_id(message.probe().id());
    reply.mutable_probe_result()->set_ok(message.probe().destination() == "main");
    reply.mutable_probe_result()->set_detail("reached");
    return std::optional(reply);
  });
  start_scheduler();
  std::optional<Result<std::string>> result;
  scheduler_->probe("main", [&](Result<std::string> given) { result = std::move(given); });
  run_until([&] { return result.has_value(); });
  ASSERT_TRUE(*result);
  EXPECT_EQ(**result, "reached");
  run_until([&] { return forwarder.ended() == 1; });

  scheduler_->probe("nowhere", [&](Result<std::string> given) { result = std::move(given); });
  EXPECT_EQ(result->error().code(), ErrorCode::kNotFound);
}

TEST_F(Scheduler, BackoffSurvivesARestart) {
  {
    ScriptedForwarder forwarder(socket_path(), [](const v1::ToForwarder& message) {
      return answer_with(message, v1::VERDICT_HOLD, "status 403", 1800000);
    });
    start_scheduler();
    append("tool", 1500);
    run_until([&] { return status().state == "held"; });
    // It may know what the try achieved.
    EXPECT_EQ(forwarder.ended(), 0);
  }
  bool stopped = false;
  scheduler_->stop(false, 1s, [&] { stopped = true; });
  run_until([&] { return stopped; });
  scheduler_.reset();
  ASSERT_TRUE(store_->stop());
  store_.reset();
  open_store();
  clock_.advance(600s);
  start_scheduler();

  run_until([&] { return status().state == "held"; });
  EXPECT_EQ(status().last_error, "status 403");
  EXPECT_GE(status().next_attempt_s, 1200);
  EXPECT_LE(status().next_attempt_s, 1200 + 360);
}

TEST_F(Scheduler, AReloadReachesARunningForwarderAndTriesHeldDestinationsAgain) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  forwarder.then([](const v1::ToForwarder& message) {
    return answer_with(message, v1::VERDICT_HOLD, "status 404", 3600000);
  });
  start_scheduler();
  append("tool", 1500);
  run_until([&] { return status().state == "held"; });

  scheduler_->reconfigure({{"main", "native"}, {"second", "file"}});
  run_until([&] { return status().state == "idle"; });
  EXPECT_EQ(account("tool", store::account::kDelivered), 1500);

  route_ = "second";
  scheduler_->reconfigure({{"second", "file"}});
  append("tool", 3);
  EXPECT_TRUE(flush());
  EXPECT_EQ(forwarder.seen().back().lease().destination(), "second");
}

TEST_F(Scheduler, StopSendsWhatIsQueuedAndEndsOnce) {
  ScriptedForwarder forwarder(socket_path(), deliver);
  start_scheduler();
  append("tool", 5);
  int stopped = 0;
  scheduler_->stop(true, 10s, [&] { ++stopped; });
  run_until([&] { return stopped > 0; });
  settle_loop();
  EXPECT_EQ(stopped, 1);
  EXPECT_EQ(account("tool", store::account::kDelivered), 5);
}

}  // namespace
}  // namespace telemetryd::test
