// Every row of the table in docs/formats/native.md, over a real socket, with a clock of the test's.

#include <thread>

#include <gtest/gtest.h>

#include "support/accept_count.h"
#include "support/no_more_descriptors.h"
#include "unit/server/http_fixture.h"

namespace telemetryd::server {
namespace {

using std::chrono::seconds;
using test::Connection;
using test::make_batch;
namespace v1 = ::telemetry::v1;
using test::Reply;
using test::request_text;
using test::Upload;

class NativeHttp : public test::ServerHttp {
 protected:
  NativeHttp() {
    {
      auto storage = open_storage(database(), StorageMode::kWrite).value();
      Registry registry(storage.database, clock_);
      const auto tools = registry.find_application("acme", "tools").value();
      expiring_ = registry.create_token(tools, storage.sealer).value();
      registry.expire_token(expiring_.id, clock_.unix_ms() + 60'000).value();
    }
    start_with({});
  }

  Upload upload(std::uint32_t first, std::uint32_t count) const {
    Upload made;
    made.token = credentials_.token;
    made.secret = credentials_.secret;
    made.timestamp_s = clock_.unix_ms() / 1000;
    made.body = make_batch(first, count).SerializeAsString();
    made.batch_size = count;
    return made;
  }

  NewToken expiring_;
};

TEST_F(NativeHttp, StoresAndSaysExactlyWhat) {
  const Reply reply = send(upload(1, 3));
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body,
            R"({"status":"success","accepted":3,"duplicates":0,"rejected":0,"errors":[]})");
  EXPECT_EQ(reply.headers.at("X-Clacks-Overhead"), "GNU Terry Pratchett");
  EXPECT_EQ(ledger().rows, 3);
}

TEST_F(NativeHttp, WhatIsMutedIsSaidWithEveryAnswerToWhoeverProvedWhoTheyAre) {
  {
    auto storage = open_storage(database(), StorageMode::kWrite).value();
    const auto tools = Registry(storage.database, clock_).find_application("acme", "tools").value();
    Mutes mutes(storage.database);
    ASSERT_TRUE(mutes.mute(tools.id, "", seconds(60), clock_.unix_ms()));
    ASSERT_TRUE(mutes.mute(tools.id, "loud", seconds(30), clock_.unix_ms()));
  }
  const Upload good = upload(1, 3);
  EXPECT_EQ(send(good).headers.at("Telemetry-Mute"), R"("loud";s=30, "mytool";s=60)");
  const Reply replayed = send(good);
  EXPECT_EQ(replayed.status, 409);
  EXPECT_EQ(replayed.headers.at("Telemetry-Mute"), R"("loud";s=30)");
  Upload stranger = upload(4, 1);
  stranger.secret = "another";
  EXPECT_FALSE(send(stranger).headers.contains("Telemetry-Mute"));
  EXPECT_EQ(ledger().rows, 3);

  clock_.advance(seconds(60));
  EXPECT_FALSE(send(upload(5, 1)).headers.contains("Telemetry-Mute"));
}

TEST_F(NativeHttp, AnEmptyBatchIsANoOpThatProvesTheCredentials) {
  Upload empty = upload(1, 0);
  EXPECT_EQ(send(empty).json().at("accepted"), 0);
  empty.nonce = uuid_text(random_bytes16());
  empty.body.clear();
  EXPECT_EQ(send(empty).status, 200);
}

TEST_F(NativeHttp, AnUnknownPathIs404) {
  for (const char* path : {"/",
                           "/v1/native",
                           "/v1/native/acme",
                           "/v1/native/acme/",
                           "/v1/native//x",
                           "/v1/native/acme/tools/",
                           "/v1/native/acme/to%6fls",
                           "/v1/native/ACME/tools",
                           "/v1/native/../tools",
                           "/healthy"}) {
    expect_error(
        Connection(server_->port()).exchange(request_text("GET", path, {{"Host", "x"}}, "")),
        404,
        "not_found");
  }
}

TEST_F(NativeHttp, AWrongMethodIs405AndNamesTheRightOnes) {
  const auto try_method = [&](const char* method, const char* path) {
    return Connection(server_->port())
        .exchange(request_text(method, path, {{"Host", "x"}, {"Content-Length", "0"}}, ""));
  };
  for (const char* method : {"GET", "PUT", "DELETE", "PATCH", "OPTIONS"}) {
    const Reply reply = try_method(method, "/v1/native/acme/tools");
    expect_error(reply, 405, "method_not_allowed");
    EXPECT_EQ(reply.headers.at("Allow"), "POST");
  }
  EXPECT_EQ(try_method("POST", "/health").headers.at("Allow"), "GET, HEAD");
}

TEST_F(NativeHttp, ABodyWithoutALengthIs411) {
  expect_error(send_with(upload(1, 0), "Content-Length", std::nullopt), 411, "length_required");
  Upload made = upload(1, 0);
  auto headers = made.headers();
  headers.erase("Content-Length");
  headers["Transfer-Encoding"] = "chunked";
  expect_error(Connection(server_->port()).exchange(request_text("POST", made.path, headers, "")),
               411,
               "length_required");
}

TEST_F(NativeHttp, ATooLargeBodyIsRefusedUnreadAndBeforeAuthentication) {
  Upload made = upload(1, 0);
  made.token = "tk_unknown";
  made.body.clear();
  Connection connection(server_->port());
  auto headers = made.headers();
  headers["Content-Length"] = std::to_string(kBodyBytesMax + 1);
  expect_error(
      connection.exchange(request_text("POST", made.path, headers, "")), 413, "payload_too_large");
  EXPECT_TRUE(connection.closed());
}

TEST_F(NativeHttp, TooLargeHeadersAre431) {
  const Reply reply = send_with(upload(1, 0), "X-Padding", std::string(17 << 10, 'x'));
  expect_error(reply, 431, "headers_too_large");
  Connection enormous(server_->port());
  enormous.write("GET /health HTTP/1.1\r\nX-Padding: " + std::string(120 << 10, 'x'));
  enormous.write(std::string(40 << 10, 'x'));
  EXPECT_EQ(enormous.read().status, 431);
}

TEST_F(NativeHttp, EachHeaderMustBeThereAndWellFormed) {
  struct Row {
    const char* name;
    std::vector<std::optional<std::string>> wrong;
  };

  const std::string hex = upload(1, 0).signature();
  const std::vector<Row> rows = {
      {"Content-Type", {std::nullopt, "", "application/json"}},
      {"X-Timestamp", {std::nullopt, "", "-1", "+5", "1e9", "0x10", "9999999999999"}},
      {"X-Nonce", {std::nullopt, "", "n", std::string(36, 'z'), std::string(32, 'a')}},
      {"X-Signature", {std::nullopt, "", "ab", hex + "00", std::string(64, 'g')}},
      {"X-Batch-Size", {std::nullopt, "", "-1", "1.0", "99999999999"}},
  };
  for (const Row& row : rows) {
    for (const auto& wrong : row.wrong) {
      SCOPED_TRACE(std::string(row.name) + "=" + wrong.value_or("(absent)"));
      expect_error(send_with(upload(1, 0), row.name, wrong), 400, "bad_request");
    }
  }
}

TEST_F(NativeHttp, AHeaderThatIsThereTwiceIs400) {
  const Upload made = upload(1, 0);
  std::string text = request_text(made);
  text.insert(text.find("X-Nonce"), "x-nonce: " + made.nonce + "\r\n");
  expect_error(Connection(server_->port()).exchange(text), 400, "bad_request");
}

TEST_F(NativeHttp, AnUnknownOrInactiveTokenIs401) {
  const auto with_token = [&](const std::string& token) {
    Upload made = upload(1, 0);
    made.token = token;
    return send(made);
  };
  expect_error(with_token("tk_00000000000000000000000000000000"), 401, "unauthorized");
  expect_error(with_token(std::string(300, 'x')), 401, "unauthorized");
  expect_error(with_token(revoked_.token), 401, "unauthorized");
  expect_error(send_with(upload(1, 0), "Authorization", std::nullopt), 401, "unauthorized");
  const Reply basic = send_with(upload(1, 0), "Authorization", "Basic eDp5");
  expect_error(basic, 401, "unauthorized");
  EXPECT_EQ(basic.headers.at("WWW-Authenticate"), "Bearer");
}

TEST_F(NativeHttp, ATokenEndsAtItsExpiry) {
  Upload made = upload(1, 0);
  made.token = expiring_.token;
  made.secret = expiring_.secret;
  EXPECT_EQ(send(made).status, 200);
  clock_.advance(seconds(60));
  made.nonce = uuid_text(random_bytes16());
  expect_error(send(made), 401, "unauthorized");
}

TEST_F(NativeHttp, ATokenIsForItsPathOnly) {
  Upload made = upload(1, 1);
  made.token = other_.token;
  made.secret = other_.secret;
  expect_error(send(made), 403, "forbidden");
  made.path = "/v1/native/acme/other";
  EXPECT_EQ(send(made).status, 200);
}

TEST_F(NativeHttp, ATimestampCountsWithin600Seconds) {
  struct Row {
    std::int64_t off_s;
    int status;
  };

  for (const Row row : {Row{-601, 403}, Row{-600, 200}, Row{600, 200}, Row{601, 403}}) {
    Upload made = upload(1, 0);
    made.timestamp_s += row.off_s;
    const Reply reply = send(made);
    EXPECT_EQ(reply.status, row.status) << row.off_s;
    if (row.status == 403) expect_error(reply, 403, "expired_timestamp");
  }
}

TEST_F(NativeHttp, ASignatureCoversEverythingThatIsSigned) {
  const Upload good = upload(1, 2);
  const std::string signature = good.signature();
  const auto with = [&](auto change) {
    Upload made = good;
    change(made);
    return send_with(made, "X-Signature", signature);
  };
  expect_error(
      with([](Upload& u) { u.body += std::string("\x20\x01", 2); }), 401, "invalid_signature");
  expect_error(with([](Upload& u) { ++u.timestamp_s; }), 401, "invalid_signature");
  expect_error(with([](Upload& u) { u.nonce[0] = u.nonce[0] == '0' ? '1' : '0'; }),
               401,
               "invalid_signature");
  Upload other = good;
  other.secret = other_.secret;
  expect_error(send(other), 401, "invalid_signature");
  // A refused request has not used its nonce up: an attacker could otherwise burn a sender's.
  EXPECT_EQ(send(good).status, 200);
  EXPECT_EQ(ledger().rows, 2);
}

TEST_F(NativeHttp, AnUpperCaseSignatureIsTheSameSignature) {
  const Upload made = upload(1, 1);
  std::string upper = made.signature();
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  EXPECT_EQ(send_with(made, "X-Signature", upper).status, 200);
}

TEST_F(NativeHttp, AReplayIs409AlsoAfterARestart) {
  Upload made = upload(1, 1);
  made.timestamp_s += 600;
  EXPECT_EQ(send(made).status, 200);
  expect_error(send(made), 409, "replayed");
  start_with({});
  expect_error(send(made), 409, "replayed");
  clock_.advance(seconds(1200));
  expect_error(send(made), 409, "replayed");
  clock_.advance(seconds(1));
  expect_error(send(made), 403, "expired_timestamp");
}

TEST_F(NativeHttp, AFullNonceMemoryIs429) {
  start_with({.nonces = {.per_token_max = 1, .total_max = 10}});
  EXPECT_EQ(send(upload(1, 1)).status, 200);
  const Reply reply = send(upload(2, 1));
  expect_error(reply, 429, "rate_limit_exceeded");
  EXPECT_EQ(reply.headers.at("Retry-After"), "1200");
  EXPECT_EQ(reply.json().at("retry_after"), 1200);
  EXPECT_EQ(ledger().rows, 1);
}

TEST_F(NativeHttp, ABodyThatIsNoBatchIs400) {
  Upload made = upload(1, 2);
  made.body = "no protobuf";
  expect_error(send(made), 400, "bad_request");
  made = upload(1, 2);
  v1::NativeBatch batch = make_batch(1, 2);
  batch.set_schema(2);
  made.body = batch.SerializeAsString();
  expect_error(send(made), 400, "bad_request");
  batch.set_schema(1);
  batch.set_batch_size(3);
  made.nonce = uuid_text(random_bytes16());
  made.body = batch.SerializeAsString();
  expect_error(send(made), 400, "bad_request");
  made = upload(1, 2);
  made.batch_size = 1;
  expect_error(send(made), 400, "bad_request");
  EXPECT_EQ(ledger().rows, 0);
}

TEST_F(NativeHttp, TenThousandEventsAndNotOneMore) {
  expect_error(send(upload(1, 10'001)), 413, "payload_too_large");
  EXPECT_EQ(send(upload(1, 10'000)).json().at("accepted"), 10'000);
}

TEST_F(NativeHttp, ABadEventIsRejectedAndTheRestStored) {
  Upload made = upload(1, 3);
  v1::NativeBatch batch = make_batch(1, 3);
  batch.mutable_groups(0)->mutable_events(1)->clear_name();
  made.body = batch.SerializeAsString();
  const Reply reply = send(made);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body,
            R"({"status":"success","accepted":2,"duplicates":0,"rejected":1,"errors":[)"
            R"({"index":1,"code":"invalid_event","message":"the name is missing"}]})");
  EXPECT_EQ(ledger().rejected, 1);
}

TEST_F(NativeHttp, DuplicatesAreSuccessAndCountedOnce) {
  EXPECT_EQ(send(upload(1, 3)).status, 200);
  const Reply reply = send(upload(2, 3));
  EXPECT_EQ(reply.body,
            R"({"status":"success","accepted":1,"duplicates":2,"rejected":0,"errors":[]})");
  const LedgerRow row = ledger();
  EXPECT_EQ(row.rows, 4);
  EXPECT_TRUE(row.balances());
  EXPECT_EQ(row.duplicates, 2);
  EXPECT_EQ(row.id_conflict, 0);
}

TEST_F(NativeHttp, AnIdWithOtherContentIsCountedAndTheFirstOneStays) {
  EXPECT_EQ(send(upload(1, 2)).status, 200);
  v1::NativeBatch changed = make_batch(1, 3);
  changed.mutable_groups(0)->mutable_events(0)->set_name("other.length");
  changed.mutable_groups(0)->mutable_events(1)->set_name("build.finishee");
  *changed.mutable_groups(0)->add_events() = changed.groups(0).events(2);
  changed.mutable_groups(0)->mutable_events(3)->set_name("within.one.batch");
  changed.set_batch_size(4);
  Upload again = upload(1, 4);
  again.body = changed.SerializeAsString();
  // Whoever sent it is done with it, or it would come for ever.
  EXPECT_EQ(send(again).body,
            R"({"status":"success","accepted":1,"duplicates":3,"rejected":0,"errors":[]})");
  const LedgerRow row = ledger();
  EXPECT_EQ(row.id_conflict, 3);
  EXPECT_EQ(row.duplicates, 0);
  EXPECT_TRUE(row.balances());
  EXPECT_EQ(names(), std::vector<std::string>(3, "build.finished"));
}

TEST_F(NativeHttp, TheSameEventInAnotherGroupIsNoOtherContent) {
  EXPECT_EQ(send(upload(1, 1)).status, 200);
  v1::NativeBatch moved = make_batch(1, 1);
  moved.mutable_groups(0)->set_machine_id(std::string(64, 'b'));
  moved.mutable_groups(0)->mutable_context()->set_app_version("2.0");
  Upload again = upload(1, 1);
  again.body = moved.SerializeAsString();
  EXPECT_EQ(send(again).json().at("duplicates"), 1);
  EXPECT_EQ(ledger().duplicates, 1);
  EXPECT_EQ(ledger().id_conflict, 0);
}

TEST_F(NativeHttp, ConcurrentBatchesOfTheSameEventsStoreEachOnce) {
  constexpr int kSenders = 8;
  constexpr std::uint32_t kEvents = 200;
  std::atomic<std::int64_t> accepted = 0;
  std::atomic<std::int64_t> duplicates = 0;
  std::vector<std::thread> senders;
  for (int i = 0; i < kSenders; ++i) {
    senders.emplace_back([&] {
      Connection connection(server_->port());
      for (int round = 0; round < 5; ++round) {
        const auto json = connection.exchange(request_text(upload(1, kEvents))).json();
        accepted += json.at("accepted").get<std::int64_t>();
        duplicates += json.at("duplicates").get<std::int64_t>();
      }
    });
  }
  for (std::thread& sender : senders) sender.join();
  EXPECT_EQ(accepted, kEvents);
  EXPECT_EQ(duplicates, kEvents * (5 * kSenders - 1));
  EXPECT_EQ(ledger().rows, kEvents);
}

TEST_F(NativeHttp, OutOfDescriptorsAcceptingRestsAndThenGoesOn) {
  // Long enough for a hundred thousand attempts of one who does not rest.
  constexpr useconds_t kWhileOthersHaveAllUs = 300'000;
  constexpr unsigned kAttemptsOfOneWhoRestsMax = 20;
  // On every thread is somebody who stays.
  Connection first(server_->port());
  Connection second(server_->port());
  EXPECT_EQ(first.exchange(request_text(upload(1, 1))).status, 200);
  EXPECT_EQ(second.exchange(request_text(upload(2, 1))).status, 200);
  test::accepts_without_descriptor = 0;
  std::unique_ptr<Connection> waiting;
  {
    const test::NoMoreDescriptors none(1);
    waiting = std::make_unique<Connection>(server_->port());
    ASSERT_TRUE(test::wait_for_failed_accepts(1));
    ::usleep(kWhileOthersHaveAllUs);
    EXPECT_LE(test::accepts_without_descriptor, kAttemptsOfOneWhoRestsMax);
    EXPECT_EQ(first.exchange(request_text(upload(3, 1))).status, 200);
  }
  EXPECT_EQ(waiting->exchange(request_text(upload(4, 1))).status, 200);
}

TEST_F(NativeHttp, BeyondTheLimitConnectionsWaitUntilOneEnds) {
  ServerOptions options;
  options.http.connections_max = 1;
  start_with(std::move(options));
  auto inside = std::make_unique<Connection>(server_->port());
  EXPECT_EQ(inside->exchange(request_text(upload(1, 1))).status, 200);
  Connection waiting(server_->port());
  waiting.write(request_text(upload(2, 1)));
  EXPECT_EQ(inside->exchange(request_text(upload(3, 1))).status, 200);
  EXPECT_EQ(ledger().rows, 2);
  inside.reset();
  EXPECT_EQ(waiting.read().status, 200);
}

TEST_F(NativeHttp, ARefusedRequestLeavesTheConnectionUsable) {
  Connection connection(server_->port());
  Upload refused = upload(1, 100);
  refused.token = "tk_unknown";
  EXPECT_EQ(connection.exchange(request_text(refused)).status, 401);
  EXPECT_EQ(connection.exchange(request_text(upload(1, 100))).status, 200);
}

TEST_F(NativeHttp, ExpectIsAnsweredWithTheRefusalAndNotWithContinue) {
  Upload refused = upload(1, 100);
  refused.token = "tk_unknown";
  auto headers = refused.headers();
  headers["Expect"] = "100-continue";
  Connection connection(server_->port());
  EXPECT_EQ(connection.exchange(request_text("POST", refused.path, headers, "")).status, 401);
}

TEST_F(NativeHttp, ASlowSenderIsClosedHoweverItKeepsTheConnectionAlive) {
  Connection in_headers(server_->port());
  in_headers.write("POST /v1/native/acme/tools HTTP/1.1\r\nX-");
  Connection in_body(server_->port());
  const std::string text = request_text(upload(1, 100));
  in_body.write(text.substr(0, text.size() - 1));
  Connection quick(server_->port());
  EXPECT_EQ(quick.exchange(request_text(upload(1, 1))).status, 200);
  clock_.advance(seconds(31));
  EXPECT_TRUE(in_headers.closed());
  EXPECT_TRUE(in_body.closed());
  EXPECT_EQ(ledger().rows, 1);
}

TEST_F(NativeHttp, StoppingAnswersWhatHasBegun) {
  Connection idle(server_->port());
  Connection begun(server_->port());
  const std::string text = request_text(upload(1, 500));
  begun.write(text.substr(0, text.size() - 1));
  // A second request on its own connection, answered, shows that the first has been seen to begin:
  // connections are taken in order.
  EXPECT_EQ(Connection(server_->port()).exchange(request_text(upload(1000, 1))).status, 200);
  bool complete = false;
  std::thread stopping([&] { complete = server_->stop(seconds(10)); });
  begun.write(text.substr(text.size() - 1));
  const Reply reply = begun.read();
  stopping.join();
  EXPECT_TRUE(complete);
  // Seen before the stop it is stored, seen after it is told to come again; never cut off.
  EXPECT_TRUE(reply.status == 200 || reply.status == 503) << reply.status;
  server_.reset();
  EXPECT_TRUE(idle.closed());
  EXPECT_EQ(ledger().rows, reply.status == 200 ? 501 : 1);
}

TEST_F(NativeHttp, HealthAndReadyAnswer) {
  const Reply health =
      Connection(server_->port()).exchange(request_text("GET", "/health", {{"Host", "x"}}, ""));
  EXPECT_EQ(health.status, 200);
  EXPECT_EQ(health.json().at("status"), "healthy");
  EXPECT_TRUE(health.json().contains("version"));
  EXPECT_EQ(Connection(server_->port())
                .exchange(request_text("GET", "/ready", {{"Host", "x"}}, ""))
                .status,
            200);
}

}  // namespace
}  // namespace telemetryd::server
