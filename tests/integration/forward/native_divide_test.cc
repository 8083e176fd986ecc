#include <atomic>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "forward/native_sink.h"
#include "integration/forward/scripted_server.h"
#include "integration/forward/sink_fixture.h"
#include "telemetry/v1/event.pb.h"
#include "telemetry/v1/native.pb.h"

namespace telemetryd::test {
namespace {

namespace v1 = ::telemetry::v1;

class NativeDivide : public SinkTest {
 protected:
  NativeDivide() : SinkTest("native") {}

  // Events e0, e1, ... in rows of ten; the row's seq counts from 1.
  static v1::Lease lease(std::uint32_t events, std::uint32_t attempt = 1) {
    v1::Lease lease;
    lease.set_attempt(attempt);
    for (std::uint32_t first = 0; first < events; first += 10) {
      v1::EventBatch batch;
      for (std::uint32_t i = first; i < std::min(events, first + 10); ++i) {
        batch.add_events()->set_name("e" + std::to_string(i));
      }
      v1::LeasedRow* row = lease.add_rows();
      row->set_seq(first / 10 + 1);
      row->set_first_index(5);
      row->set_count(static_cast<std::uint32_t>(batch.events_size()));
      row->set_machine_id(std::string(64, 'a'));
      v1::Context context;
      context.set_app("tool");
      row->set_context(context.SerializeAsString());
      row->set_events(batch.SerializeAsString());
    }
    return lease;
  }

  v1::Outcome send(const v1::Lease& batch) { return send_by(*sink_, batch); }

  v1::Outcome send(const ScriptedServer& server, const v1::Lease& batch) {
    sink_ = sink_to<forward::NativeSink>(server.url());
    return send(batch);
  }

  static std::vector<std::string> names(const SeenRequest& request) {
    v1::NativeBatch batch;
    EXPECT_TRUE(batch.ParseFromString(request.body));
    std::vector<std::string> all;
    for (const auto& group : batch.groups()) {
      EXPECT_EQ(group.context().app(), "tool");
      EXPECT_EQ(group.machine_id(), std::string(64, 'a'));
      for (const auto& event : group.events()) all.push_back(event.name());
    }
    EXPECT_EQ(batch.batch_size(), all.size());
    EXPECT_EQ(request.header("X-Batch-Size"), std::to_string(all.size()));
    return all;
  }

  static std::vector<std::size_t> sizes(const ScriptedServer& server) {
    std::vector<std::size_t> all;
    for (const SeenRequest& request : server.seen()) all.push_back(names(request).size());
    return all;
  }

  static std::string accept(const SeenRequest& request) {
    return http_success(static_cast<int>(names(request).size()));
  }

  static bool holds(const SeenRequest& request, const std::string& name) {
    const auto all = names(request);
    return std::ranges::find(all, name) != all.end();
  }

  std::shared_ptr<forward::NativeSink> sink_;
};

TEST_F(NativeDivide, OneBadEventOfAThousandCostsFewRequestsAndIsParkedWithTheServersWords) {
  for (const std::uint32_t bad : {0u, 1u, 499u, 500u, 998u, 999u}) {
    std::vector<std::string> took;
    ScriptedServer server([&](const SeenRequest& request) {
      if (holds(request, "e" + std::to_string(bad))) {
        return http_answer("400 No", R"({"error":{"code":"bad_request","message":"poison"}})");
      }
      for (const std::string& name : names(request)) took.push_back(name);
      return accept(request);
    });
    const v1::Outcome outcome = send(server, lease(1000));
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
    ASSERT_EQ(outcome.rejected_size(), 1);
    EXPECT_EQ(outcome.rejected(0).seq(), bad / 10 + 1);
    EXPECT_EQ(outcome.rejected(0).first_index(), 5 + bad % 10);
    EXPECT_EQ(outcome.rejected(0).count(), 1u);
    EXPECT_EQ(outcome.rejected(0).reason(), "status 400 bad_request: poison");
    EXPECT_TRUE(outcome.body_sha256().empty());
    const auto extra = static_cast<double>(server.seen().size() - 1);
    EXPECT_LE(extra, 2 * std::log2(1000) + 1) << bad;

    std::vector<std::string> wanted;
    for (std::uint32_t i = 0; i < 1000; ++i) {
      if (i != bad) wanted.push_back("e" + std::to_string(i));
    }
    EXPECT_EQ(took, wanted) << "each once, in order";
  }
}

TEST_F(NativeDivide, AServerThatRefusesEverythingIsHeldSoonAndNothingIsParked) {
  for (const char* status : {"400 No", "413 Too Large", "422 No"}) {
    ScriptedServer server([&](const auto&) { return http_answer(status, ""); });
    const v1::Outcome outcome = send(server, lease(1000));
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
    EXPECT_EQ(outcome.rejected_size(), 0);
    EXPECT_LE(server.seen().size(), 25u) << status;
    EXPECT_TRUE(outcome.error().starts_with("none of 1000 events was accepted: status 4"))
        << outcome.error();
  }
}

TEST_F(NativeDivide, ABatchThatIsTooLargeIsHalvedAndTheSizeIsKept) {
  ScriptedServer server([](const SeenRequest& request) {
    return names(request).size() > 30 ? http_answer("413 Too Large", "") : accept(request);
  });
  EXPECT_EQ(send(server, lease(100)).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(sizes(server), (std::vector<std::size_t>{100, 50, 25, 25, 25, 25}));
  EXPECT_EQ(send(lease(50)).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(server.seen().size(), 8u);
  EXPECT_EQ(sizes(server).back(), 25u);
}

TEST_F(NativeDivide, AfterAStartASizeThatIsTooLargeIsNotSentAgain) {
  ScriptedServer server([](const SeenRequest& request) {
    return names(request).size() > 30 ? http_answer("413 Too Large", "") : accept(request);
  });
  const v1::Outcome learned = send(server, lease(100));
  ASSERT_TRUE(learned.has_memory());
  const std::size_t before = server.seen().size();
  v1::Lease next = lease(100);
  next.set_memory(learned.memory());
  const v1::Outcome outcome = send(server, next);  // by a new sink
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(server.seen().size(), before + 4);
  EXPECT_EQ(sizes(server).back(), 25u);
  EXPECT_FALSE(outcome.has_memory()) << "as before";

  next.set_memory("no longer readable");
  EXPECT_EQ(send(server, next).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(sizes(server)[before + 4], 100u);
}

TEST_F(NativeDivide, WhereNothingWasLearnedNothingIsKept) {
  ScriptedServer server(accept);
  EXPECT_FALSE(send(server, lease(100)).has_memory());
  v1::Lease next = lease(100);
  next.set_memory("of another time");
  const v1::Outcome outcome = send(server, next);
  EXPECT_TRUE(outcome.has_memory());
  EXPECT_EQ(outcome.memory(), "");
}

TEST_F(NativeDivide, OneEventThatIsTooLargeIsParked) {
  ScriptedServer server([](const SeenRequest& request) {
    return holds(request, "e17") ? http_answer("413 Too Large", "") : accept(request);
  });
  const v1::Outcome outcome = send(server, lease(100));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  ASSERT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(outcome.rejected(0).seq(), 2u);
  EXPECT_EQ(outcome.rejected(0).first_index(), 12u);
  EXPECT_TRUE(outcome.rejected(0).reason().starts_with("status 413"));
}

TEST_F(NativeDivide, WhatTheServerNamesAndWhatItCannotReadAreParkedTogether) {
  ScriptedServer server([](const SeenRequest& request) {
    if (holds(request, "e17")) return http_answer("400 No", "");
    const auto all = names(request);
    const auto named = std::ranges::find(all, "e42");
    if (named == all.end()) return accept(request);
    return http_answer("200 OK",
                       R"({"status":"success","accepted":)" + std::to_string(all.size() - 1) +
                           R"(,"duplicates":0,"rejected":1,"errors":[{"index":)" +
                           std::to_string(named - all.begin()) +
                           R"(,"code":"invalid_event","message":"no"}]})");
  });
  const v1::Outcome outcome = send(server, lease(100));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  ASSERT_EQ(outcome.rejected_size(), 2);
  EXPECT_EQ(outcome.rejected(0).seq(), 2u);
  EXPECT_EQ(outcome.rejected(1).seq(), 5u);
  EXPECT_EQ(outcome.rejected(1).first_index(), 7u);
  EXPECT_EQ(outcome.rejected(1).reason(), "invalid_event: no");
}

TEST_F(NativeDivide, AnEventThatTheServerNamesIsParkedWithoutAnyOther) {
  ScriptedServer server([](const SeenRequest&) {
    return http_answer("200 OK",
                       R"({"status":"success","accepted":0,"duplicates":0,"rejected":1,)"
                       R"("errors":[{"index":0,"code":"invalid_event","message":"no"}]})");
  });
  const v1::Outcome outcome = send(server, lease(1));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(outcome.rejected_size(), 1);
}

TEST_F(NativeDivide, TheSearchGoesOnWhereTheLastTryEnded) {
  std::atomic<int> allowed = 0;
  std::multiset<std::string> took;
  ScriptedServer server([&](const SeenRequest& request) {
    if (allowed-- <= 0) return http_answer("429 Later", "", "Retry-After: 60\r\n");
    if (holds(request, "e500")) return http_answer("400 No", "");
    for (const std::string& name : names(request)) took.insert(name);
    return accept(request);
  });
  sink_ = sink_to<forward::NativeSink>(server.url());
  v1::Outcome outcome;
  std::uint32_t tries = 0;
  do {
    allowed = 5;
    outcome = send(lease(1000, ++tries));
  } while (outcome.verdict() == v1::VERDICT_RETRY && tries < 8);
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_LE(tries, 5u);
  EXPECT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(took.size(), 999u);
  EXPECT_EQ(std::set<std::string>(took.begin(), took.end()).size(), 999u);
}

TEST_F(NativeDivide, AServerErrorDividesOnlyAfterALongTime) {
  ScriptedServer server([](const SeenRequest& request) {
    return holds(request, "e497") ? http_answer("500 No", "") : accept(request);
  });
  v1::Lease batch = lease(1000);
  EXPECT_EQ(send(server, batch).verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(server.seen().size(), 1u);
  batch.set_suspect_events(true);
  const v1::Outcome outcome = send(batch);
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  ASSERT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(outcome.rejected(0).seq(), 50u);
  EXPECT_EQ(outcome.rejected(0).first_index(), 12u);
  EXPECT_TRUE(outcome.rejected(0).reason().starts_with("status 500"));
  EXPECT_LE(static_cast<double>(server.seen().size() - 2), 2 * std::log2(1000) + 1);
}

TEST_F(NativeDivide, AServerThatFailsAtEverythingIsAskedAgainLaterAndNothingIsParked) {
  for (const char* status : {"500 No", "503 No"}) {
    ScriptedServer server([&](const auto&) { return http_answer(status, ""); });
    v1::Lease batch = lease(1000);
    batch.set_suspect_events(true);
    const v1::Outcome outcome = send(server, batch);
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_RETRY);
    EXPECT_EQ(outcome.rejected_size(), 0);
    EXPECT_NE(outcome.error().find("status 50"), std::string::npos) << outcome.error();
    EXPECT_LE(server.seen().size(), 25u);
    const std::size_t before = server.seen().size();
    EXPECT_EQ(send(batch).verdict(), v1::VERDICT_RETRY);
    EXPECT_EQ(server.seen().size(), before + 1) << "the same rows are not divided each time";
  }
}

}  // namespace
}  // namespace telemetryd::test
