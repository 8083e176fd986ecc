#include "forward/ingest_sink.h"

#include <atomic>
#include <cmath>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/io.h"
#include "forward/ingest_verdict.h"
#include "forward/upstream.h"
#include "integration/forward/scripted_server.h"
#include "integration/forward/sink_fixture.h"
#include "kit/signature.h"
#include "telemetry/v1/event.pb.h"

namespace telemetryd::test {
namespace {

using nlohmann::json;
namespace v1 = ::telemetry::v1;

class IngestSink : public SinkTest {
 protected:
  IngestSink() : SinkTest("ingest") {}

  // Rows of ten events; the row's seq counts from 1.
  static v1::Lease lease(std::uint32_t events, std::uint32_t attempt = 1) {
    v1::Lease lease;
    lease.set_attempt(attempt);
    for (std::uint32_t first = 0; first < events; first += 10) {
      v1::EventBatch batch;
      for (std::uint32_t i = first; i < std::min(events, first + 10); ++i) {
        v1::Event* event = batch.add_events();
        Bytes16 id{};
        id[6] = 0x70;
        id[8] = 0x80;
        id[14] = static_cast<std::uint8_t>(i >> 8);
        id[15] = static_cast<std::uint8_t>(i);
        event->set_id(id.data(), id.size());
        event->set_name("e" + std::to_string(i));
        event->set_time_unix_nano(1'700'000'000'000'000'000);
      }
      v1::Context context;
      context.set_app("tool");
      v1::LeasedRow* row = lease.add_rows();
      row->set_seq(first / 10 + 1);
      row->set_first_index(5);
      row->set_count(static_cast<std::uint32_t>(batch.events_size()));
      row->set_machine_id(std::string(64, 'a'));
      row->set_context(context.SerializeAsString());
      row->set_events(batch.SerializeAsString());
    }
    return lease;
  }

  void make_sink(const std::string& url) { sink_ = sink_to<forward::IngestSink>(url); }

  v1::Outcome send(const v1::Lease& batch) { return send_by(*sink_, batch); }

  v1::Outcome send(const ScriptedServer& server, const v1::Lease& batch) {
    make_sink(server.url());
    return send(batch);
  }

  forward::ProbeOutcome probe(const std::string& url) {
    make_sink(url);
    return probe_by(*sink_);
  }

  static std::size_t size_of(const SeenRequest& request) {
    return json::parse(request.body)["events"].size();
  }

  static std::vector<std::size_t> sizes(const ScriptedServer& server) {
    std::vector<std::size_t> all;
    for (const SeenRequest& request : server.seen()) all.push_back(size_of(request));
    return all;
  }

  static std::string accept(const SeenRequest& request) {
    return http_answer("200 OK",
                       R"({"status":"success","accepted":)" + std::to_string(size_of(request)) +
                           R"(,"rejected":0,"message":"ok"})");
  }

  std::shared_ptr<forward::IngestSink> sink_;
};

TEST_F(IngestSink, SendsEveryHeaderOfTheFormat) {
  ScriptedServer server(accept);
  make_sink(server.url() + "/base/");
  const v1::Outcome outcome = send(lease(2, 3));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(outcome.status(), 200u);

  const SeenRequest request = server.seen().at(0);
  EXPECT_TRUE(request.head.starts_with("POST /base/v1/ingest/acme/tools HTTP/1.1\r\n"));
  EXPECT_EQ(request.header("Authorization"), std::string("Bearer ") + kToken);
  EXPECT_EQ(request.header("Content-Type"), "application/json");
  EXPECT_EQ(request.header("X-Timestamp"), std::to_string(clock_.unix_ms() / 1000));
  EXPECT_TRUE(parse_uuid(request.header("X-Nonce")));
  EXPECT_EQ(request.header("X-Batch-Size"), "2");
  EXPECT_TRUE(request.header("X-SDK-Version").starts_with("telemetryd/"));
  EXPECT_EQ(request.header("X-Schema-Version"), "1.0.0");
  EXPECT_EQ(request.header("X-Clacks-Overhead"), "GNU Terry Pratchett");
  EXPECT_EQ(request.header("Expect"), "");

  const json event = json::parse(request.body)["events"][0];
  EXPECT_EQ(event["metadata"]["batch_size"], 2);
  EXPECT_EQ(event["metadata"]["retry_count"], 2);
  EXPECT_EQ(event["environment"]["os"], "linux");
  EXPECT_EQ(outcome.body_bytes(), request.body.size());
  EXPECT_EQ(outcome.body_sha256(), as_text(sha256(request.body)));
}

TEST_F(IngestSink, SignsInTheFormThatTheDestinationWants) {
  for (const auto form : {kit::SignatureForm::kNonce, kit::SignatureForm::kPlain}) {
    destination_.plain_signature = form == kit::SignatureForm::kPlain;
    ScriptedServer server(accept);
    send(server, lease(1));
    const SeenRequest request = server.seen().at(0);
    const std::string text = kit::string_to_sign(
        form, {request.header("X-Timestamp"), request.header("X-Nonce"), request.body});
    EXPECT_EQ(request.header("X-Signature"), to_hex(hmac_sha256(kSecret, text)));
  }
}

TEST_F(IngestSink, WithoutATokenFileNoTokenIsSent) {
  destination_.token_file.clear();
  ScriptedServer server(accept);
  EXPECT_EQ(send(server, lease(1)).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(server.seen().at(0).header("Authorization"), "");
}

TEST_F(IngestSink, StagingSendsToTheOtherServerAndNowhereElse) {
  ScriptedServer production(accept);
  ScriptedServer staging(accept);
  destination_.staging = true;
  EXPECT_EQ(send(production, lease(1)).verdict(), v1::VERDICT_HOLD);
  destination_.staging_url = staging.url();
  EXPECT_EQ(send(production, lease(1)).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(staging.connections(), 1);
  EXPECT_EQ(production.connections(), 0);
}

TEST_F(IngestSink, ALargeLeaseBecomesRequestsOfAThousandInOrder) {
  ScriptedServer server(accept);
  const v1::Outcome outcome = send(server, lease(2500));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(sizes(server), (std::vector<std::size_t>{1000, 1000, 500}));
  EXPECT_EQ(json::parse(server.seen()[1].body)["events"][0]["event"]["type"], "e1000");
  EXPECT_TRUE(outcome.body_sha256().empty());
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(IngestSink, ALearnedSizeIsKeptForTheNextLease) {
  ScriptedServer server([](const SeenRequest& request) {
    return size_of(request) > 30 ? http_answer("413 Too Large", "") : accept(request);
  });
  EXPECT_EQ(send(server, lease(100)).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(sizes(server), (std::vector<std::size_t>{100, 50, 25, 25, 25, 25}));
  EXPECT_EQ(send(lease(50)).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(server.seen().size(), 8u);
  EXPECT_EQ(sizes(server).back(), 25u);
}

TEST_F(IngestSink, AfterAStartASizeThatIsTooLargeIsNotSentAgain) {
  ScriptedServer server([](const SeenRequest& request) {
    return size_of(request) > 30 ? http_answer("413 Too Large", "") : accept(request);
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

TEST_F(IngestSink, WhereNothingWasLearnedNothingIsKept) {
  ScriptedServer server(accept);
  EXPECT_FALSE(send(server, lease(100)).has_memory());
  v1::Lease next = lease(100);
  next.set_memory("of another time");
  const v1::Outcome outcome = send(server, next);
  EXPECT_TRUE(outcome.has_memory());
  EXPECT_EQ(outcome.memory(), "");
}

TEST_F(IngestSink, OneEventThatIsTooLargeDoesNotMakeTheOthersRequestsSmall) {
  for (const char* large : {"e0", "e150", "e290"}) {
    ScriptedServer server([&](const SeenRequest& request) {
      const bool has = request.body.find('"' + std::string(large) + '"') != std::string::npos;
      return has || size_of(request) > 200 ? http_answer("413 Too Large", "") : accept(request);
    });
    const v1::Outcome outcome = send(server, lease(300));
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
    EXPECT_EQ(outcome.rejected_size(), 1);
    EXPECT_LE(server.seen().size(), 30u) << large;
    // 300 are too many for this upstream, but that could not be known.
    const std::size_t before = server.seen().size();
    v1::Lease next = lease(150);
    v1::EventBatch row;
    for (v1::LeasedRow& one : *next.mutable_rows()) {
      ASSERT_TRUE(row.ParseFromString(one.events()));
      for (v1::Event& event : *row.mutable_events()) event.set_name("small");
      one.set_events(row.SerializeAsString());
    }
    EXPECT_EQ(send(next).verdict(), v1::VERDICT_DELIVERED);
    EXPECT_EQ(server.seen().size(), before + 1) << large;
  }
}

TEST_F(IngestSink, EachRejectedEventIsNamedByRowAndIndex) {
  ScriptedServer server([](const SeenRequest& request) {
    const json id = json::parse(request.body)["events"][13]["event_id"];
    return http_answer(
        "207 Partial",
        json{{"status", "partial"},
             {"accepted", size_of(request) - 1},
             {"rejected", 1},
             {"message", "m"},
             {"errors", {{{"event_id", id}, {"error", "invalid_schema"}, {"message", kSecret}}}}}
            .dump());
  });
  const v1::Outcome outcome = send(server, lease(20));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  ASSERT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(outcome.rejected(0).seq(), 2u);
  EXPECT_EQ(outcome.rejected(0).first_index(), 8u);
  EXPECT_EQ(outcome.rejected(0).count(), 1u);
  EXPECT_EQ(outcome.rejected(0).reason(), "invalid_schema: [hidden]");
}

TEST_F(IngestSink, WhatIsNoEventIsParkedOnceHoweverOftenTheBatchIsDivided) {
  v1::Lease batch = lease(40);
  v1::EventBatch row;
  ASSERT_TRUE(row.ParseFromString(batch.rows(1).events()));
  row.mutable_events(3)->clear_name();
  batch.mutable_rows(1)->set_events(row.SerializeAsString());
  ScriptedServer server([](const SeenRequest& request) {
    return size_of(request) > 5 ? http_answer("400 No", "") : accept(request);
  });
  const v1::Outcome outcome = send(server, batch);
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  ASSERT_EQ(outcome.rejected_size(), 1);
  EXPECT_EQ(outcome.rejected(0).seq(), 2u);
  EXPECT_EQ(outcome.rejected(0).first_index(), 8u);
  EXPECT_TRUE(outcome.rejected(0).reason().starts_with("invalid_event: "));
}

TEST_F(IngestSink, OneBadEventOfAThousandCostsFewRequestsAndIsParkedWithTheServersWords) {
  for (const std::uint32_t bad : {0u, 1u, 499u, 500u, 998u, 999u}) {
    const std::string name = "\"e" + std::to_string(bad) + '"';
    ScriptedServer server([&](const SeenRequest& request) {
      if (request.body.find(name) == std::string::npos) return accept(request);
      return http_answer("400 No", R"({"error":{"code":"bad_request","message":"poison"}})");
    });
    const v1::Outcome outcome = send(server, lease(1000));
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
    ASSERT_EQ(outcome.rejected_size(), 1);
    EXPECT_EQ(outcome.rejected(0).seq(), bad / 10 + 1);
    EXPECT_EQ(outcome.rejected(0).first_index(), 5 + bad % 10);
    EXPECT_EQ(outcome.rejected(0).count(), 1u);
    EXPECT_EQ(outcome.rejected(0).reason(), "status 400 bad_request: poison");
    const auto extra = static_cast<double>(server.seen().size() - 1);
    EXPECT_LE(extra, 2 * std::log2(1000) + 1) << bad;
  }
}

TEST_F(IngestSink, AServerThatRefusesEverythingIsNotAskedForEver) {
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

TEST_F(IngestSink, AServerErrorDividesOnlyAfterALongTime) {
  ScriptedServer server([](const SeenRequest& request) {
    return request.body.find("\"e497\"") != std::string::npos ? http_answer("500 No", "")
                                                              : accept(request);
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

TEST_F(IngestSink, AServerThatFailsAtEverythingIsAskedAgainLaterAndNothingIsParked) {
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

TEST_F(IngestSink, AFailureInTheMiddleSettlesNothing) {
  int asked = 0;
  ScriptedServer server([&](const SeenRequest& request) {
    return ++asked == 2 ? http_answer("503 Later", "", "Retry-After: 7\r\n") : accept(request);
  });
  const v1::Outcome outcome = send(server, lease(1500));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_RETRY);
  EXPECT_EQ(outcome.retry_after_ms(), 7000u);
  EXPECT_EQ(outcome.rejected_size(), 0);
  EXPECT_EQ(send(lease(1500)).verdict(), v1::VERDICT_DELIVERED);
}

// At most ten requests a minute; a minute passes between two tries.
TEST_F(IngestSink, ALeaseThatNeedsMoreRequestsThanAMinuteAllowsArrivesInSeveral) {
  std::atomic<int> allowed = 0;
  std::multiset<std::string> took;
  ScriptedServer server([&](const SeenRequest& request) {
    if (allowed-- <= 0) return http_answer("429 Later", "", "Retry-After: 60\r\n");
    if (size_of(request) > 50) return http_answer("413 Too Large", "");
    const json body = json::parse(request.body);
    for (const json& event : body["events"]) took.insert(event["event_id"].get<std::string>());
    return accept(request);
  });
  make_sink(server.url());
  v1::Outcome outcome;
  std::uint32_t tries = 0;
  do {
    allowed = 10;
    outcome = send(lease(1000, ++tries));
  } while (outcome.verdict() == v1::VERDICT_RETRY && tries < 8);
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_LE(tries, 5u);
  EXPECT_EQ(took.size(), 1000u);
  EXPECT_EQ(std::set<std::string>(took.begin(), took.end()).size(), 1000u);
  // The next lease knows nothing of this one.
  allowed = 100;
  took.clear();
  EXPECT_EQ(send(lease(100)).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(took.size(), 100u);
}

TEST_F(IngestSink, TheSearchForOneBadEventGoesOnWhereTheLastTryEnded) {
  for (const std::uint32_t bad : {0u, 500u, 999u}) {
    std::atomic<int> allowed = 0;
    ScriptedServer server([&](const SeenRequest& request) {
      if (allowed-- <= 0) return http_answer("429 Later", "", "Retry-After: 60\r\n");
      const json body = json::parse(request.body);
      for (const json& event : body["events"]) {
        if (event["event"]["type"] == "e" + std::to_string(bad)) return http_answer("422 No", "");
      }
      return accept(request);
    });
    make_sink(server.url());
    v1::Outcome outcome;
    std::uint32_t tries = 0;
    do {
      allowed = 5;
      outcome = send(lease(1000, ++tries));
    } while (outcome.verdict() == v1::VERDICT_RETRY && tries < 8);
    EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
    ASSERT_EQ(outcome.rejected_size(), 1);
    EXPECT_EQ(outcome.rejected(0).seq(), bad / 10 + 1);
    EXPECT_EQ(outcome.rejected(0).first_index(), 5 + bad % 10);
    EXPECT_NE(outcome.rejected(0).reason().find("422"), std::string::npos);
  }
}

TEST_F(IngestSink, OfRowsThatCameBackOtherwiseNothingIsTakenAsKnown) {
  std::atomic<int> allowed = 1;
  ScriptedServer server([&](const SeenRequest& request) {
    return allowed-- > 0 ? accept(request) : http_answer("503 Later", "");
  });
  make_sink(server.url());
  EXPECT_EQ(send(lease(1500)).verdict(), v1::VERDICT_RETRY);
  v1::Lease other = lease(1500, 2);
  v1::EventBatch row;
  ASSERT_TRUE(row.ParseFromString(other.rows(0).events()));
  row.mutable_events(0)->set_name("other");
  other.mutable_rows(0)->set_events(row.SerializeAsString());
  other.mutable_rows(1)->set_first_index(0);
  allowed = 10;
  EXPECT_EQ(send(other).verdict(), v1::VERDICT_DELIVERED);
  EXPECT_EQ(sizes(server), (std::vector<std::size_t>{1000, 500, 520}));
}

TEST_F(IngestSink, WhatWasRefusedBeforeAPersonHadToActIsAskedAgain) {
  std::string status = "422 No";
  ScriptedServer server([&](const SeenRequest& request) {
    return status.empty() ? accept(request) : http_answer(status, "");
  });
  make_sink(server.url());
  EXPECT_EQ(send(lease(4)).verdict(), v1::VERDICT_HOLD);
  status.clear();
  const v1::Outcome outcome = send(lease(4, 2));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(outcome.rejected_size(), 0);
  EXPECT_EQ(sizes(server).back(), 4u);
}

TEST_F(IngestSink, WhatWasTakenYesterdayDoesNotParkWhatIsRefusedToday) {
  std::atomic<int> asked = 0;
  std::atomic<bool> mended = false;
  ScriptedServer server([&](const SeenRequest& request) {
    if (++asked == 1 || mended) return accept(request);
    return http_answer(asked == 2 ? "503 Later" : "400 No", "");
  });
  make_sink(server.url());
  EXPECT_EQ(send(lease(1010)).verdict(), v1::VERDICT_RETRY);
  const v1::Outcome refused = send(lease(1010, 2));
  EXPECT_EQ(refused.verdict(), v1::VERDICT_HOLD);
  EXPECT_EQ(refused.rejected_size(), 0);
  mended = true;
  const v1::Outcome outcome = send(lease(1010, 3));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(outcome.rejected_size(), 0);
}

TEST_F(IngestSink, AServerThatRefusesEverythingIsFoundOutOverSeveralTries) {
  std::atomic<int> allowed = 0;
  ScriptedServer server([&](const SeenRequest&) {
    return allowed-- > 0 ? http_answer("422 No", "") : http_answer("429 Later", "");
  });
  make_sink(server.url());
  std::uint32_t tries = 0;
  v1::Outcome outcome;
  do {
    allowed = 7;
    outcome = send(lease(1000, ++tries));
  } while (outcome.verdict() == v1::VERDICT_RETRY && tries < 20);
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_EQ(tries, 3u);
}

TEST_F(IngestSink, OneIdIsSentOncePerRequestAndItsEventsShareOneFate) {
  v1::Lease batch = lease(3);
  v1::EventBatch row;
  ASSERT_TRUE(row.ParseFromString(batch.rows(0).events()));
  row.mutable_events(1)->set_id(row.events(0).id());
  batch.mutable_rows(0)->set_events(row.SerializeAsString());
  bool refuses = false;
  ScriptedServer server([&](const SeenRequest& request) {
    const json body = json::parse(request.body);
    if (!refuses) return accept(request);
    const json error = {{"event_id", body["events"][0]["event_id"]}, {"error", "invalid_schema"}};
    const json reply = {
        {"status", "partial"}, {"accepted", 1}, {"rejected", 1}, {"errors", {error}}};
    return http_answer("207 Partial", reply.dump());
  });
  const v1::Outcome taken = send(server, batch);
  EXPECT_EQ(taken.verdict(), v1::VERDICT_DELIVERED) << taken.error();
  EXPECT_EQ(taken.duplicates(), 1u);
  EXPECT_EQ(sizes(server), std::vector<std::size_t>{2});
  refuses = true;
  const v1::Outcome refused = send(batch);
  EXPECT_EQ(refused.verdict(), v1::VERDICT_DELIVERED) << refused.error();
  ASSERT_EQ(refused.rejected_size(), 2);
  EXPECT_EQ(refused.rejected(0).first_index(), 5u);
  EXPECT_EQ(refused.rejected(1).first_index(), 6u);
}

TEST_F(IngestSink, AServerThatIgnoresDuplicatesSilentlyHasThem) {
  std::set<std::string> seen;
  ScriptedServer server([&](const SeenRequest& request) {
    const std::size_t before = seen.size();
    const json body = json::parse(request.body);
    for (const json& event : body["events"]) seen.insert(event["event_id"].get<std::string>());
    return http_success(static_cast<int>(seen.size() - before));
  });
  EXPECT_EQ(send(server, lease(3)).verdict(), v1::VERDICT_DELIVERED);
  const v1::Outcome again = send(lease(5));
  EXPECT_EQ(again.verdict(), v1::VERDICT_DELIVERED) << again.error();
  EXPECT_EQ(again.duplicates(), 3u);
  EXPECT_EQ(send(lease(5)).duplicates(), 5u);
}

TEST_F(IngestSink, AnOutageBeforeDoesNotCountAgainstWhatCannotBeStored) {
  bool away = true;
  ScriptedServer server([&](const SeenRequest& request) {
    if (away) return http_answer("503 Later", "");
    const json body = json::parse(request.body);
    const json error = {{"event_id", body["events"][1]["event_id"]}, {"error", "database_error"}};
    const json reply = {
        {"status", "partial"}, {"accepted", 2}, {"rejected", 1}, {"errors", {error}}};
    return http_answer("207 Partial", reply.dump());
  });
  make_sink(server.url());
  std::uint32_t attempt = 0;
  const auto expect_retries = [&](std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      EXPECT_EQ(send(lease(3, ++attempt)).verdict(), v1::VERDICT_RETRY) << attempt;
    }
  };
  expect_retries(20);
  away = false;
  expect_retries(forward::kUnstorableTries - 1);
  away = true;
  expect_retries(1);
  away = false;
  expect_retries(forward::kUnstorableTries - 1);
  const v1::Outcome outcome = send(lease(3, ++attempt));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_DELIVERED) << outcome.error();
  EXPECT_EQ(outcome.rejected_size(), 1);
}

TEST_F(IngestSink, ACaptivePortalIsHeld) {
  ScriptedServer server([](const auto&) { return http_answer("200 OK", "<html>Hotel</html>"); });
  const v1::Outcome outcome = send(server, lease(3));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(outcome.error().find("captive portal"), std::string::npos);
}

TEST_F(IngestSink, AnEndlessAnswerIsCutOffAndRetried) {
  ScriptedServer server(
      [](const auto&) { return http_answer("200 OK", std::string(2u << 20, ' ')); });
  EXPECT_EQ(send(server, lease(3)).verdict(), v1::VERDICT_RETRY);
}

TEST_F(IngestSink, ASecretThatEverybodyMayReadSendsNothing) {
  ScriptedServer server(accept);
  std::filesystem::permissions(destination_.secret_file, std::filesystem::perms(0644));
  const v1::Outcome outcome = send(server, lease(3));
  EXPECT_EQ(outcome.verdict(), v1::VERDICT_HOLD);
  EXPECT_NE(outcome.error().find("chmod 0640"), std::string::npos);
  EXPECT_EQ(server.connections(), 0);
}

TEST_F(IngestSink, AProbeIsAnUploadWithoutEventsThatIsRefusedForThat) {
  struct Case {
    std::string health;
    std::string upload;
    bool ok;
    std::string detail;
  };

  const std::string healthy = http_answer("200 OK", R"({"status":"healthy"})");
  const std::vector<Case> cases = {
      {healthy,
       http_answer("400 No", R"({"error":{"code":"bad_request","message":"no events"}})"),
       true,
       "connected and authenticated"},
      {healthy, http_answer("400 No", R"({"error":"bad_request"})"), true, "authenticated"},
      {healthy, "HTTP/1.1 204 No Content\r\n\r\n", true, "authenticated"},
      {healthy, http_answer("200 OK", R"({"accepted":0,"rejected":0})"), true, "authenticated"},
      {healthy, http_answer("400 No", "<html>"), false, "upload without events: status 400"},
      {healthy, http_answer("200 OK", "<html>"), false, "upload without events: status 200"},
      {healthy, http_answer("401 No", ""), false, "upload without events: status 401"},
      {healthy, http_answer("403 No", ""), false, "upload without events: status 403"},
      {healthy, http_answer("404 No", ""), false, "upload without events: status 404"},
      {healthy, http_answer("429 No", ""), false, "upload without events: status 429"},
      {http_answer("503 No", ""), "", false, "GET /health: status 503"}};
  for (const Case& one : cases) {
    ScriptedServer server([&](const SeenRequest& request) {
      return request.head.starts_with("GET /health ") ? one.health : one.upload;
    });
    const forward::ProbeOutcome outcome = probe(server.url());
    EXPECT_EQ(outcome.ok, one.ok) << outcome.detail;
    EXPECT_NE(outcome.detail.find(one.detail), std::string::npos) << outcome.detail;
    EXPECT_EQ(server.seen()[0].header("Authorization"), "");
    if (server.seen().size() > 1) {
      EXPECT_EQ(server.seen()[1].body, R"({"events":[]})");
    }
  }
  EXPECT_FALSE(probe("http://127.0.0.1:1").ok);
}

}  // namespace
}  // namespace telemetryd::test
