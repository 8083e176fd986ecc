// Every row of the table in docs/formats/ingest.md, over a real socket, with a clock of the test's.

#include "unit/server/kit_fixture.h"

namespace telemetryd::test {
namespace {

using server::KitLeniency;
using std::chrono::seconds;

TEST_F(KitHttp, StoresAndSaysExactlyWhat) {
  KitUpload made = upload(1, 3);
  made.batch_size = "3";
  const Reply reply = send(made);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body,
            R"({"status":"success","accepted":3,"rejected":0,"message":"3 events stored"})");
  EXPECT_EQ(reply.headers.at("X-Clacks-Overhead"), "GNU Terry Pratchett");
  EXPECT_FALSE(reply.headers.contains("X-RateLimit-Limit"));
  EXPECT_EQ(ledger().rows, 3);
  EXPECT_TRUE(ledger().balances());
}

TEST_F(KitHttp, TheAliasTakesABareArray) {
  KitUpload made = with_body(kit_events(1, 2).dump());
  made.path = "/events/batch";
  EXPECT_EQ(send(made).json().at("accepted"), 2);
  made = upload(3, 1);
  made.path = "/events/batch";
  expect_error(send(made), 400, "bad_request");
  expect_error(send(with_body(kit_events(3, 1).dump())), 400, "bad_request");
  EXPECT_EQ(ledger().rows, 2);
}

TEST_F(KitHttp, AnUnknownPathIs404) {
  for (const char* path : {"/v1/ingest",
                           "/v1/ingest/acme",
                           "/v1/ingest/acme/",
                           "/v1/ingest//tools",
                           "/v1/ingest/acme/tools/",
                           "/v1/ingest/acme/tools/x",
                           "/v1/ingest/../tools",
                           "/v1/ingest/acme/..",
                           "/v1/ingest/acme/%2e%2e",
                           "/v1/ingest/acme/to%6fls",
                           "/v1/ingest/Acme/tools",
                           "/v1//ingest/acme/tools",
                           "/events/batch/",
                           "/events",
                           "http://localhost/v1/ingest/acme/tools"}) {
    SCOPED_TRACE(path);
    KitUpload made = upload(1, 1);
    made.path = path;
    expect_error(send(made), 404, "not_found");
  }
}

TEST_F(KitHttp, AWrongMethodIs405AndNamesTheRightOne) {
  for (const char* path : {"/v1/ingest/acme/tools", "/events/batch"}) {
    for (const char* method : {"GET", "PUT", "DELETE", "PATCH", "OPTIONS"}) {
      const Reply reply =
          send_text(request_text(method, path, {{"Host", "x"}, {"Content-Length", "0"}}, ""));
      expect_error(reply, 405, "method_not_allowed");
      EXPECT_EQ(reply.headers.at("Allow"), "POST");
    }
  }
}

TEST_F(KitHttp, ABodyWithoutALengthIs411) {
  KitUpload made = upload(1, 1);
  made.body.clear();
  expect_error(send_with(made, "Content-Length", std::nullopt), 411, "length_required");
  auto headers = made.headers();
  headers.erase("Content-Length");
  headers["Transfer-Encoding"] = "chunked";
  expect_error(send_text(request_text("POST", made.path, headers, "")), 411, "length_required");
}

TEST_F(KitHttp, ATooLargeBodyIsRefusedUnreadAndBeforeAuthentication) {
  KitUpload made = with_body("");
  made.token = "tk_unknown";
  auto headers = made.headers();
  headers["Content-Length"] = std::to_string((5u << 20) + 1);
  Connection connection(server_->port());
  expect_error(
      connection.exchange(request_text("POST", made.path, headers, "")), 413, "payload_too_large");
  EXPECT_TRUE(connection.closed());
}

TEST_F(KitHttp, TooLargeHeadersAre431) {
  expect_error(
      send_with(upload(1, 1), "X-Padding", std::string(17 << 10, 'x')), 431, "headers_too_large");
}

TEST_F(KitHttp, AMissingHeaderIs401) {
  for (const char* name : {"X-Signature", "X-Timestamp", "X-Nonce", "Authorization"}) {
    SCOPED_TRACE(name);
    const Reply reply = send_with(upload(1, 1), name, std::nullopt);
    expect_error(reply, 401, "unauthorized");
    EXPECT_EQ(reply.headers.at("WWW-Authenticate"), "Bearer");
  }
  for (const char* wrong : {"", "Bearer", "Bearer ", "Basic eDp5"}) {
    expect_error(send_with(upload(1, 1), "Authorization", wrong), 401, "unauthorized");
  }
}

TEST_F(KitHttp, WhatIsMissingComesBeforeWhatIsMalformed) {
  const KitUpload made = upload(1, 1);
  auto headers = made.headers();
  headers["X-Timestamp"] = "soon";
  headers.erase("Authorization");
  expect_error(send_text(request_text("POST", made.path, headers, made.body)), 401, "unauthorized");
}

TEST_F(KitHttp, AMalformedHeaderIs400) {
  struct Row {
    const char* name;
    std::vector<std::string> wrong;
  };

  const std::vector<Row> rows = {
      {"X-Timestamp",
       {"",
        "-1",
        "+1732003200",
        "1732003200.0",
        "1.7e9",
        "0x673c4e80",
        "2024-11-19T08:00:00Z",
        "1732003200000",
        "17320032 00"}},
      {"X-Batch-Size", {"", "-1", "+1", "1.0", "one", "99999999999"}},
      {"X-Nonce",
       {"",
        "n",
        std::string(36, 'z'),
        std::string(32, 'a'),
        "550e8400-e29b-41d4-a716-44665544000g",
        "{550e8400-e29b-41d4-a716-446655440000}"}},
      {"Content-Type", {"", "text/plain", "application/jsonx", "application/x-protobuf"}},
      {"Content-Encoding", {"gzip", "identity", ""}},
  };
  for (const Row& row : rows) {
    for (const std::string& wrong : row.wrong) {
      SCOPED_TRACE(std::string(row.name) + "=" + wrong);
      expect_error(send_with(upload(1, 1), row.name, wrong), 400, "bad_request");
    }
  }
  EXPECT_EQ(ledger().rows, 0);
}

TEST_F(KitHttp, ASignatureThatIsNoneIs401) {
  const std::string hex = upload(1, 1).signature();
  for (const std::string& wrong : {std::string(),
                                   std::string("ab"),
                                   hex + "00",
                                   hex.substr(1),
                                   std::string(64, 'g'),
                                   std::string(64, '0')}) {
    SCOPED_TRACE(wrong);
    expect_error(send_with(upload(1, 1), "X-Signature", wrong), 401, "invalid_signature");
  }
}

TEST_F(KitHttp, AHeaderThatIsThereTwiceIsRefused) {
  struct Row {
    const char* name;
    int status;
    const char* code;
  };

  for (const Row row : {Row{"X-Timestamp", 400, "bad_request"},
                        Row{"X-Nonce", 400, "bad_request"},
                        Row{"X-Batch-Size", 400, "bad_request"},
                        Row{"Content-Type", 400, "bad_request"},
                        Row{"X-Signature", 401, "invalid_signature"},
                        Row{"Authorization", 401, "unauthorized"}}) {
    SCOPED_TRACE(row.name);
    KitUpload made = upload(1, 1);
    made.batch_size = "1";
    std::string text = request_text(made);
    const std::size_t at = text.find(std::string(row.name) + ": ");
    ASSERT_NE(at, std::string::npos);
    text.insert(at, text.substr(at, text.find("\r\n", at) + 2 - at));
    expect_error(send_text(text), row.status, row.code);
  }
}

TEST_F(KitHttp, ContentTypeMayHaveParametersOrBeAbsent) {
  EXPECT_EQ(send_with(upload(1, 1), "Content-Type", "Application/JSON; charset=utf-8").status, 200);
  EXPECT_EQ(send_with(upload(2, 1), "Content-Type", std::nullopt).status, 200);
}

TEST_F(KitHttp, AnUnknownOrInactiveTokenIs401) {
  for (const std::string& token : {std::string("tk_00000000000000000000000000000000"),
                                   std::string(300, 'x'),
                                   revoked_.token}) {
    KitUpload made = upload(1, 1);
    made.token = token;
    expect_error(send(made), 401, "unauthorized");
  }
}

TEST_F(KitHttp, ATokenIsForItsPathOnly) {
  KitUpload made = upload(1, 1);
  made.token = other_.token;
  made.secret = other_.secret;
  expect_error(send(made), 403, "forbidden");
  made.path = "/v1/ingest/acme/unknown";
  expect_error(send(made), 403, "forbidden");
  made.path = "/v1/ingest/acme/other";
  EXPECT_EQ(send(made).status, 200);
}

TEST_F(KitHttp, ATimestampCountsWithin600Seconds) {
  struct Row {
    std::int64_t off_s;
    int status;
  };

  for (const Row row : {Row{-601, 403}, Row{-600, 200}, Row{600, 200}, Row{601, 403}}) {
    KitUpload made = upload(1, 1);
    made.timestamp_s += row.off_s;
    const Reply reply = send(made);
    EXPECT_EQ(reply.status, row.status) << row.off_s;
    if (row.status == 403) expect_error(reply, 403, "expired_timestamp");
  }
}

TEST_F(KitHttp, ASignatureCoversEverythingThatIsSigned) {
  const KitUpload good = upload(1, 2);
  const std::string signature = good.signature();
  const auto with = [&](auto change) {
    KitUpload made = good;
    change(made);
    return send_with(made, "X-Signature", signature);
  };
  expect_error(with([](KitUpload& u) { u.body += " "; }), 401, "invalid_signature");
  expect_error(with([](KitUpload& u) { ++u.timestamp_s; }), 401, "invalid_signature");
  expect_error(
      with([](KitUpload& u) { u.nonce = uuid_text(random_bytes16()); }), 401, "invalid_signature");
  expect_error(with([this](KitUpload& u) { u.token = second_.token; }), 401, "invalid_signature");
  // A refused request has not used its nonce up.
  EXPECT_EQ(send(good).status, 200);
}

TEST_F(KitHttp, AnUpperCaseSignatureIsTheSameSignature) {
  const KitUpload made = upload(1, 1);
  std::string upper = made.signature();
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  EXPECT_EQ(send_with(made, "X-Signature", upper).status, 200);
}

TEST_F(KitHttp, AReplayIs409AlsoAfterARestart) {
  KitUpload made = upload(1, 1);
  made.timestamp_s += 600;
  EXPECT_EQ(send(made).status, 200);
  expect_error(send(made), 409, "replayed");
  start();
  expect_error(send(made), 409, "replayed");
  clock_.advance(seconds(1200));
  expect_error(send(made), 409, "replayed");
  clock_.advance(seconds(1));
  expect_error(send(made), 403, "expired_timestamp");
  EXPECT_EQ(ledger().rows, 1);
}

TEST_F(KitHttp, ANativeNonceCannotComeBackHere) {
  Upload native;
  native.token = credentials_.token;
  native.secret = credentials_.secret;
  ASSERT_EQ(send_text(request_text(native)).status, 200);
  KitUpload made = upload(1, 1);
  made.nonce = native.nonce;
  expect_error(send(made), 409, "replayed");
}

TEST_F(KitHttp, ThePlainFormIsOffUnlessAskedFor) {
  KitUpload made = upload(1, 1);
  made.plain = true;
  expect_error(send(made), 401, "unauthorized");
  expect_error(send_with(made, "X-Nonce", made.nonce), 401, "invalid_signature");
  start({.plain_signatures = true});
  EXPECT_EQ(send(made).status, 200);
}

TEST_F(KitHttp, ANonceThatIsNotSignedMakesNoRequestNew) {
  start({.plain_signatures = true});
  KitUpload made = upload(1, 1);
  made.plain = true;
  EXPECT_EQ(send_with(made, "X-Nonce", made.nonce).status, 200);
  expect_error(send_with(made, "X-Nonce", uuid_text(random_bytes16())), 409, "replayed");
  expect_error(send(made), 409, "replayed");
  // Who signs the nonce is still known by it.
  const KitUpload with_nonce = upload(2, 1);
  EXPECT_EQ(send(with_nonce).status, 200);
  expect_error(send(with_nonce), 409, "replayed");
  EXPECT_EQ(ledger().rows, 2);
}

TEST_F(KitHttp, APlainSignatureIsGoodOnceAlsoAfterARestart) {
  start({.plain_signatures = true});
  KitUpload made = upload(1, 1);
  made.plain = true;
  made.timestamp_s += 600;
  std::string upper = made.signature();
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  EXPECT_EQ(send(made).status, 200);
  expect_error(send(made), 409, "replayed");
  expect_error(send_with(made, "X-Signature", upper), 409, "replayed");
  start({.plain_signatures = true});
  expect_error(send(made), 409, "replayed");
  clock_.advance(seconds(1200));
  expect_error(send(made), 409, "replayed");
  KitUpload other = upload(2, 1);
  other.plain = true;
  EXPECT_EQ(send(other).status, 200);
}

// Nonce form: {timestamp}:{nonce}:{body}. The same bytes are the plain form of "{nonce}:{body}".
TEST_F(KitHttp, ANonceFormSignatureIsNoPlainFormOfItsOwnTail) {
  start({.plain_signatures = true});
  const KitUpload captured = upload(1, 1);
  KitUpload forged = captured;
  forged.plain = true;
  forged.body = captured.nonce + ":" + captured.body;
  ASSERT_EQ(forged.signature(), captured.signature());
  expect_error(send(forged), 401, "invalid_signature");
  expect_error(send_with(forged, "X-Nonce", uuid_text(random_bytes16())), 401, "invalid_signature");
  EXPECT_EQ(send(captured).status, 200);
}

TEST_F(KitHttp, AMissingTokenIsFoundByThePathWhenAskedFor) {
  KitUpload made = upload(1, 1);
  made.token.clear();
  expect_error(send(made), 401, "unauthorized");
  start({.missing_token = true});
  EXPECT_EQ(send(made).status, 200);
  expect_error(send(made), 409, "replayed");

  const auto with_secret = [this](std::uint32_t number, const std::string& secret) {
    KitUpload sdk = upload(number, 1);
    sdk.token.clear();
    sdk.secret = secret;
    return sdk;
  };
  EXPECT_EQ(send(with_secret(2, second_.secret)).status, 200);
  expect_error(send(with_secret(3, revoked_.secret)), 401, "invalid_signature");
  expect_error(send(with_secret(3, other_.secret)), 401, "invalid_signature");
  // A token that is sent is meant.
  KitUpload wrong = upload(3, 1);
  wrong.token = "tk_unknown";
  expect_error(send(wrong), 401, "unauthorized");
  KitUpload elsewhere = with_secret(3, credentials_.secret);
  elsewhere.path = "/v1/ingest/acme/unknown";
  expect_error(send(elsewhere), 401, "unauthorized");
  elsewhere.path = "/events/batch";
  expect_error(send(elsewhere), 401, "unauthorized");
  EXPECT_EQ(ledger().rows, 2);
}

TEST_F(KitHttp, OfManyTokensTheNewestFourAreTried) {
  std::vector<server::NewToken> more;
  {
    auto storage = server::open_storage(database(), server::StorageMode::kWrite).value();
    server::Registry registry(storage.database, clock_);
    const auto tools = registry.find_application("acme", "tools").value();
    for (int i = 0; i < server::CredentialStore::kActiveFoundMax + 1; ++i) {
      more.push_back(registry.create_token(tools, storage.sealer).value());
    }
  }
  start({.missing_token = true});
  KitUpload made = upload(1, 1);
  made.token.clear();
  expect_error(send(made), 401, "invalid_signature");
  made.secret = more.front().secret;
  expect_error(send(made), 401, "invalid_signature");
  made.secret = more.at(1).secret;
  EXPECT_EQ(send(made).status, 200);
  static_assert(server::CredentialStore::kActiveFoundMax == 4);
}

TEST_F(KitHttp, WhoSignsWronglyTooOftenIsRefusedAndNobodyElse) {
  start({.missing_token = true});
  constexpr std::uint32_t kElsewhere = 0x7f000002;
  const std::string wrong(64, '0');
  KitUpload stranger = upload(1, 1);
  stranger.token.clear();
  clock_.advance(seconds(60 - clock_.unix_ms() / 1000 % 60));
  stranger.timestamp_s = clock_.unix_ms() / 1000;
  for (std::uint32_t i = 0; i < server::FailureLimiter::kPerMinuteMax; ++i) {
    expect_error(send_with(stranger, "X-Signature", wrong), 401, "invalid_signature");
  }
  const auto from = [&](std::uint32_t address, const KitUpload& made) {
    return Connection(server_->port(), address).exchange(request_text(made)).status;
  };
  const auto fresh = [&](KitUpload made, const std::string& token) {
    made.token = token;
    made.timestamp_s = clock_.unix_ms() / 1000;
    made.nonce = uuid_text(random_bytes16());
    return made;
  };

  const struct {
    const char* name;
    KitUpload made;
    std::uint32_t address;
    int status;
  } rows[] = {
      {"right at last, from there", fresh(stranger, ""), INADDR_LOOPBACK, 429},
      {"without a token from elsewhere", fresh(stranger, ""), kElsewhere, 200},
      {"with its token from there", fresh(stranger, credentials_.token), INADDR_LOOPBACK, 200},
  };

  for (const auto& row : rows) EXPECT_EQ(from(row.address, row.made), row.status) << row.name;
  // Refused by its headers, with when to come again: no body is read for it.
  Connection connection(server_->port());
  KitUpload large = fresh(stranger, "");
  auto headers = large.headers();
  headers["Content-Length"] = "3000000";
  const Reply refused = connection.exchange(request_text("POST", large.path, headers, ""));
  expect_error(refused, 429, "rate_limit_exceeded");
  EXPECT_EQ(refused.headers.at("Retry-After"), "60");
  EXPECT_EQ(refused.json().at("retry_after"), 60);
  clock_.advance(seconds(60));
  EXPECT_EQ(send(fresh(stranger, "")).status, 200);
  EXPECT_EQ(ledger().rows, 1);
}

TEST_F(KitHttp, WrongSignaturesOfOneTokenCostNoOtherItsUploads) {
  KitUpload wrong = upload(1, 1);
  wrong.secret = second_.secret;
  for (std::uint32_t i = 0; i < server::FailureLimiter::kPerMinuteMax; ++i) {
    expect_error(send(wrong), 401, "invalid_signature");
  }
  expect_error(send(upload(1, 1)), 429, "rate_limit_exceeded");
  KitUpload other = upload(1, 1);
  other.token = second_.token;
  other.secret = second_.secret;
  EXPECT_EQ(send(other).status, 200);
  // The native endpoint has the same count.
  Upload native;
  native.token = credentials_.token;
  native.secret = credentials_.secret;
  native.timestamp_s = clock_.unix_ms() / 1000;
  EXPECT_EQ(send_text(request_text(native)).status, 429);
}

TEST_F(KitHttp, ABodyThatIsCutOffIsNothing) {
  const std::string text = request_text(upload(1, 2));
  {
    Connection connection(server_->port());
    connection.write(text.substr(0, text.size() - 10));
  }
  EXPECT_EQ(send(upload(9, 1)).status, 200);
  EXPECT_EQ(ledger().rows, 1);
}

TEST_F(KitHttp, ABodyThatIsNoBatchIs400) {
  const std::string event = kit_event(1).dump();
  for (const std::string& body : {std::string(),
                                  std::string("null"),
                                  std::string("{}"),
                                  std::string(R"({"events":{}})"),
                                  std::string(R"({"events":[]})"),
                                  "{\"events\":[" + event + "]} x",
                                  "{\"events\":[" + event + "]" + std::string(1, '\0') + "}",
                                  "\xef\xbb\xbf{\"events\":[" + event + "]}",
                                  "{\"events\":[" + event + ",]}",
                                  std::string("{\"events\":[\"\xc3\x28\"]}")}) {
    SCOPED_TRACE(body);
    expect_error(send(with_body(body)), 400, "bad_request");
  }
  EXPECT_EQ(ledger().rows, 0);
  EXPECT_EQ(ledger().rejected, 0);
}

TEST_F(KitHttp, TheBatchSizeMustBeTheCountWhenItIsSent) {
  KitUpload made = upload(1, 2);
  made.batch_size = "3";
  expect_error(send(made), 400, "bad_request");
  made = upload(1, 2);
  made.batch_size = "2";
  EXPECT_EQ(send(made).status, 200);
}

TEST_F(KitHttp, AThousandEventsAndNotOneMore) {
  expect_error(send(upload(1, 1001)), 413, "payload_too_large");
  EXPECT_EQ(ledger().rows, 0);
  EXPECT_EQ(send(upload(1, 1000)).json().at("accepted"), 1000);
}

TEST_F(KitHttp, ABadEventIsRejectedWithItsCodeAndTheRestStored) {
  OrderedJson events = kit_events(1, 4);
  events[1]["schema_version"] = "2.0.0";
  events[2]["user_id"] = "somebody";
  const Reply reply = send(with_body(OrderedJson{{"events", events}}.dump()));
  EXPECT_EQ(reply.status, 207);
  EXPECT_EQ(reply.body,
            R"({"status":"partial","accepted":2,"rejected":2,"errors":[{"event_id":")" +
                kit_event_id(2) +
                R"(","error":"unsupported_schema","message":"schema_version must begin with 1.",)"
                R"("index":1},{"event_id":")" +
                kit_event_id(3) +
                R"(","error":"invalid_schema",)"
                R"("message":"user_id must begin with client_ or anon_","index":2}]})");
  EXPECT_EQ(ledger().rows, 2);
  EXPECT_EQ(ledger().rejected, 2);
  EXPECT_TRUE(ledger().balances());
}

TEST_F(KitHttp, WhenEveryEventIsRejectedItIs400WithTheirErrors) {
  const Reply reply = send(with_body(R"({"events":[{"schema_version":"1.0.0"},7]})"));
  expect_error(reply, 400, "bad_request");
  const auto json = reply.json();
  EXPECT_EQ(json.at("accepted"), 0);
  EXPECT_EQ(json.at("rejected"), 2);
  EXPECT_EQ(json.at("errors").at(0).at("error"), "invalid_schema");
  EXPECT_EQ(json.at("errors").at(1).at("event_id"), "00000000-0000-0000-0000-000000000000");
  EXPECT_EQ(json.at("errors").at(1).at("index"), 1);
  EXPECT_EQ(ledger().rejected, 2);
}

TEST_F(KitHttp, DuplicatesAreSuccessAlsoWithinOneBatch) {
  OrderedJson events = kit_events(1, 2);
  events.push_back(kit_event(1));
  const Reply first = send(with_body(OrderedJson{{"events", events}}.dump()));
  EXPECT_EQ(first.body,
            R"({"status":"success","accepted":3,"rejected":0,)"
            R"("message":"2 events stored, 1 were here already"})");
  const Reply again = send(upload(1, 2));
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(again.json().at("accepted"), 2);
  EXPECT_EQ(ledger().rows, 2);
  EXPECT_EQ(ledger().duplicates, 3);
  EXPECT_TRUE(ledger().balances());
}

TEST_F(KitHttp, AnIdWithOtherContentIsCountedAndTheFirstOneStays) {
  EXPECT_EQ(send(upload(1, 2)).status, 200);
  OrderedJson events = kit_events(1, 3);
  events[0]["event"]["data"]["command"] = "other";
  events[1]["event"]["data"]["success"] = false;
  events.push_back(kit_event(3));
  events[3]["event"]["data"]["command"] = std::string(2000, 'x');
  const Reply reply = send(with_body(OrderedJson{{"events", events}}.dump()));
  EXPECT_EQ(reply.body,
            R"({"status":"success","accepted":4,"rejected":0,)"
            R"("message":"1 events stored, 3 were here already"})");
  EXPECT_EQ(ledger().id_conflict, 3);
  EXPECT_EQ(ledger().duplicates, 0);
  EXPECT_EQ(ledger().rows, 3);
  EXPECT_TRUE(ledger().balances());
  EXPECT_EQ(names(), std::vector<std::string>(3, "build"));
}

TEST_F(KitHttp, ARetrySaysItsOwnMetadataAndIsNoOtherContent) {
  EXPECT_EQ(send(upload(1, 1)).status, 200);
  OrderedJson event = kit_event(1);
  event["metadata"]["transmission_timestamp"] = "2024-11-19T08:05:00Z";
  event["metadata"]["retry_count"] = 12;
  EXPECT_EQ(send(with_body(OrderedJson{{"events", {event}}}.dump())).status, 200);
  // Members in another order and other spaces between them mean the same.
  const std::string sorted = nlohmann::json{{"events", {nlohmann::json(event)}}}.dump(2);
  EXPECT_EQ(send(with_body(sorted)).status, 200);
  EXPECT_EQ(ledger().duplicates, 2);
  EXPECT_EQ(ledger().id_conflict, 0);
}

TEST_F(KitHttp, WhoAsksNotToBeTrackedIsCountedAndNothingElse) {
  const Reply reply = send_with(upload(1, 3), "DNT", "1");
  EXPECT_EQ(reply.status, 204);
  EXPECT_EQ(reply.body, "");
  EXPECT_FALSE(reply.headers.contains("Content-Type"));
  EXPECT_EQ(reply.headers.at("X-Clacks-Overhead"), "GNU Terry Pratchett");
  EXPECT_EQ(ledger().rows, 0);
  EXPECT_EQ(ledger().batches, 0);
  EXPECT_EQ(ledger().dnt_requests, 1);
  EXPECT_EQ(ledger().dnt_events, 3);
  EXPECT_EQ(send_with(upload(1, 1), "DNT", "0").status, 200);
  // It is checked like any other.
  expect_error(send_with(with_body("[]"), "DNT", "1"), 400, "bad_request");
  KitUpload made = upload(2, 1);
  EXPECT_EQ(send_with(made, "DNT", "1").status, 204);
  start();
  expect_error(send_with(made, "DNT", "1"), 409, "replayed");
  EXPECT_EQ(ledger().dnt_requests, 2);
}

TEST_F(KitHttp, AStorageThatIsBusyIs503WithATimeToComeAgain) {
  start({}, {.queued_submissions_max = 0});
  const Reply reply = send(upload(1, 1));
  expect_error(reply, 503, "service_unavailable");
  EXPECT_EQ(reply.headers.at("Retry-After"), "1");
  EXPECT_EQ(reply.json().at("retry_after"), 1);
  EXPECT_EQ(ledger().rows, 0);
  start();
  EXPECT_EQ(send(upload(1, 1)).status, 200);
}

TEST_F(KitHttp, ARateLimitHoldsForTheMinuteAndSaysSo) {
  const auto limited = [this](std::uint32_t number) {
    KitUpload made = upload(number, 1);
    made.token = free_.token;
    made.secret = free_.secret;
    return made;
  };
  clock_.advance(seconds(30));
  const std::int64_t window_end = (clock_.unix_ms() / 1000 / 60 + 1) * 60;
  for (std::uint32_t i = 1; i <= 10; ++i) {
    const Reply reply = send(limited(i));
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.headers.at("X-RateLimit-Limit"), "10");
    EXPECT_EQ(reply.headers.at("X-RateLimit-Remaining"), std::to_string(10 - i));
    EXPECT_EQ(reply.headers.at("X-RateLimit-Reset"), std::to_string(window_end));
  }
  const std::int64_t wait_s = window_end - clock_.unix_ms() / 1000;
  const Reply refused = send(limited(11));
  expect_error(refused, 429, "rate_limit_exceeded");
  EXPECT_EQ(refused.headers.at("Retry-After"), std::to_string(wait_s));
  EXPECT_EQ(refused.json().at("retry_after"), wait_s);
  EXPECT_EQ(refused.headers.at("X-RateLimit-Remaining"), "0");
  // The native endpoint draws from the same minute.
  Upload native;
  native.token = free_.token;
  native.secret = free_.secret;
  native.timestamp_s = clock_.unix_ms() / 1000;
  EXPECT_EQ(send_text(request_text(native)).status, 429);
  clock_.advance(seconds(wait_s));
  const Reply next = send_text(request_text(native));
  EXPECT_EQ(next.status, 200);
  EXPECT_EQ(next.headers.at("X-RateLimit-Remaining"), "9");
  // Refusals by the body have the headers too.
  KitUpload bad = limited(12);
  bad.timestamp_s = clock_.unix_ms() / 1000;
  EXPECT_EQ(send_with(bad, "X-Signature", std::string(64, '0')).headers.at("X-RateLimit-Limit"),
            "10");
  EXPECT_EQ(ledger().rows, 10);
}

TEST_F(KitHttp, WithoutATokenOnlyASignedRequestCounts) {
  start({.missing_token = true});
  KitUpload made = upload(1, 1);
  made.token.clear();
  made.secret = free_.secret;
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(send_with(made, "X-Signature", std::string(64, '0')).status, 401);
  }
  for (std::uint32_t i = 1; i <= 10; ++i) {
    made.nonce = uuid_text(random_bytes16());
    const Reply reply = send(made);
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.headers.at("X-RateLimit-Remaining"), std::to_string(10 - i));
  }
  made.nonce = uuid_text(random_bytes16());
  const Reply refused = send(made);
  expect_error(refused, 429, "rate_limit_exceeded");
  EXPECT_EQ(refused.headers.at("X-RateLimit-Limit"), "10");
}

TEST_F(KitHttp, ListingsShowTheEventInTheOneShape) {
  ASSERT_EQ(send(upload(7, 1)).status, 200);
  auto storage = server::open_storage(database(), server::StorageMode::kRead).value();
  std::vector<nlohmann::json> all;
  const auto visit = [&all](const nlohmann::json& event) { all.push_back(event); };
  ASSERT_TRUE(server::for_each_event(storage.database, {}, 10, visit));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].at("id"), kit_event_id(7));
  EXPECT_EQ(all[0].at("name"), "build");
  EXPECT_EQ(all[0].at("destination"), "acme/tools");
}

}  // namespace
}  // namespace telemetryd::test
