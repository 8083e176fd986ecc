// telemetry-kit SDKs in front of the real program: both ways to sign, with and without a token,
// restarts and kill -9 between.

#include <filesystem>

#include <gtest/gtest.h>

#include "base/io.h"
#include "integration/server/process.h"
#include "support/temp_dir.h"
#include "unit/server/kit_client.h"

namespace telemetryd {
namespace {

using test::Connection;
using test::kit_event_id;
using test::kit_events;
using test::KitUpload;
using test::Process;
using test::Ran;
using test::Reply;
using test::request_text;

constexpr const char* kProgram = TELEMETRY_SERVER_PROGRAM;

class KitProcess : public testing::Test {
 protected:
  KitProcess() {
    EXPECT_EQ(cli({"org", "create", "acme"}).status, 0);
    const std::string folder = (dir_ / "credentials").native();
    const Ran created =
        cli({"app", "create", "--org", "acme", "--app", "tools", "--out-dir", folder});
    EXPECT_EQ(created.status, 0) << created.out;
    token_ = first_line(folder + "/acme-tools.token");
    secret_ = first_line(folder + "/acme-tools.secret");
  }

  static std::string first_line(const std::string& path) {
    std::string text = read_file(path, 1000).value();
    return text.substr(0, text.find('\n'));
  }

  Ran cli(std::vector<std::string> words) const {
    words.insert(words.begin(), kProgram);
    words.insert(words.end(), {"--database", database()});
    return test::run(words);
  }

  std::string database() const { return "sqlite:" + (dir_ / "server.db").native(); }

  void serve(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words = {
        kProgram, "serve", "--database", database(), "--listen", "127.0.0.1:0"};
    words.insert(words.end(), {"--log-level", "warn"});
    words.insert(words.end(), more.begin(), more.end());
    server_.reset();  // one server per database
    server_ = std::make_unique<Process>(words);
    const std::string line = server_->read_line();
    ASSERT_TRUE(line.starts_with("listening on http")) << line;
    port_ = static_cast<std::uint16_t>(std::stoul(line.substr(line.rfind(':') + 1)));
  }

  KitUpload upload(std::uint32_t first, std::uint32_t count) const {
    KitUpload made;
    made.token = token_;
    made.secret = secret_;
    made.timestamp_s = SystemClock().unix_ms() / 1000;
    made.set_events(kit_events(first, count));
    return made;
  }

  Reply send(const KitUpload& made) const { return Connection(port_).exchange(request_text(made)); }

  nlohmann::json ledger() const {
    const Ran counted = cli({"event", "count", "--json", "--check"});
    EXPECT_EQ(counted.status, 0) << counted.out;
    return nlohmann::json::parse(counted.out).at("apps").at(0);
  }

  const test::TempDir dir_;
  std::string token_;
  std::string secret_;
  std::unique_ptr<Process> server_;
  std::uint16_t port_ = 0;
};

TEST_F(KitProcess, AnSdkThatSignsTheNonceDelivers) {
  serve();
  EXPECT_EQ(send(upload(1, 100)).json().at("accepted"), 100);
  // Again, as an SDK does that never saw the answer: success, and nothing is there twice.
  const Reply again = send(upload(1, 100));
  EXPECT_EQ(again.status, 200);
  EXPECT_EQ(again.json().at("status"), "success");
  EXPECT_EQ(ledger().at("events"), 100);
  EXPECT_EQ(ledger().at("duplicates"), 100);

  const Ran listed = cli({"event", "list", "--limit", "1", "--json"});
  const auto event = nlohmann::json::parse(listed.out);
  EXPECT_EQ(event.at("id"), kit_event_id(100));
  EXPECT_EQ(event.at("kind"), "command");
  EXPECT_EQ(event.at("name"), "build");
  EXPECT_EQ(event.at("attributes").at("flags"), R"(["--release","--quiet"])");
  EXPECT_NE(cli({"event", "list"}).out.find("mytool"), std::string::npos);
}

TEST_F(KitProcess, AnSdkWithoutATokenDeliversWhereTheOperatorAllowsIt) {
  KitUpload made = upload(1, 10);
  made.token.clear();
  serve();
  EXPECT_EQ(send(made).status, 401);
  serve({"--accept-missing-token"});
  EXPECT_EQ(send(made).status, 200);
  EXPECT_EQ(send(made).status, 409);
  EXPECT_EQ(ledger().at("events"), 10);
}

TEST_F(KitProcess, APlainSignatureIsGoodOnceAlsoAfterAKill) {
  KitUpload made = upload(1, 10);
  made.plain = true;
  serve();
  EXPECT_EQ(send(made).status, 401);
  serve({"--accept-plain-signatures"});
  EXPECT_EQ(send(made).status, 200);
  server_->signal(SIGKILL);
  server_->wait();
  serve({"--accept-plain-signatures"});
  EXPECT_EQ(send(made).status, 409);
  EXPECT_EQ(ledger().at("events"), 10);
}

TEST_F(KitProcess, TheAliasTakesTheAppFromTheToken) {
  serve();
  KitUpload made = upload(1, 0);
  made.path = "/events/batch";
  made.set_events(kit_events(1, 5));
  EXPECT_EQ(send(made).json().at("accepted"), 5);
  EXPECT_EQ(ledger().at("app"), "tools");
  EXPECT_EQ(ledger().at("events"), 5);
}

TEST_F(KitProcess, KilledAtAnyMomentLosesNothingAcknowledged) {
  std::uint32_t acknowledged = 0;
  for (std::uint32_t round = 0; round < 4; ++round) {
    serve();
    Connection connection(port_);
    for (std::uint32_t i = 0; i <= round; ++i) {
      const Reply reply = connection.exchange(request_text(upload(acknowledged + 1, 40)));
      ASSERT_EQ(reply.status, 200);
      acknowledged += 40;
    }
    connection.write(request_text(upload(1'000'000 + round, 1)));
    server_->signal(SIGKILL);
    server_->wait();
    const std::int64_t rows = ledger().at("events");
    EXPECT_GE(rows, acknowledged);
    EXPECT_LE(rows, acknowledged + round + 1);
  }
}

TEST_F(KitProcess, WhoAsksNotToBeTrackedIsShownAsANumberOnly) {
  serve();
  const KitUpload made = upload(1, 4);
  auto headers = made.headers();
  headers["DNT"] = "1";
  EXPECT_EQ(Connection(port_).exchange(request_text("POST", made.path, headers, made.body)).status,
            204);
  EXPECT_EQ(ledger().at("events"), 0);
  EXPECT_EQ(ledger().at("dnt_requests"), 1);
  EXPECT_EQ(ledger().at("dnt_events"), 4);
}

TEST_F(KitProcess, ATierIsGivenShownAndHandedOnByRotation) {
  const std::string folder = (dir_ / "free").native();
  ASSERT_EQ(cli({"token",
                 "create",
                 "--org",
                 "acme",
                 "--app",
                 "tools",
                 "--tier",
                 "free",
                 "--out-dir",
                 folder})
                .status,
            0);
  const std::string other = (dir_ / "other").native();
  EXPECT_EQ(cli({"token", "rotate", "2"}).status, 0);
  EXPECT_EQ(cli({"token", "rotate", "2", "--tier", "pro"}).status, 0);
  EXPECT_EQ(cli({"token", "create", "--org", "acme", "--app", "tools", "--tier", "gold"}).status,
            2);
  EXPECT_EQ(cli({"app",
                 "create",
                 "--org",
                 "acme",
                 "--app",
                 "other",
                 "--tier",
                 "business",
                 "--out-dir",
                 other})
                .status,
            0);
  const Ran listed = cli({"token", "list", "--json"});
  std::vector<std::string> tiers;
  std::size_t start = 0;
  for (std::size_t end = 0; (end = listed.out.find('\n', start)) != std::string::npos;) {
    tiers.push_back(nlohmann::json::parse(listed.out.substr(start, end - start)).at("tier"));
    start = end + 1;
  }
  EXPECT_EQ(tiers, (std::vector<std::string>{"enterprise", "free", "free", "pro", "business"}));
  serve();
  KitUpload made = upload(1, 1);
  made.token = first_line(folder + "/acme-tools.token");
  made.secret = first_line(folder + "/acme-tools.secret");
  const Reply reply = send(made);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("X-RateLimit-Limit"), "10");
}

}  // namespace
}  // namespace telemetryd
