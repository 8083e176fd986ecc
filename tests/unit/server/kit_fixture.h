// unit/server/kit_fixture.h: a server with a clock of the test's, and telemetry-kit uploads to it.

#pragma once

#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "server/event_query.h"
#include "server/registry.h"
#include "server/server.h"
#include "server/storage.h"
#include "support/temp_dir.h"
#include "unit/server/kit_client.h"

namespace telemetryd::test {

class KitHttp : public testing::Test {
 protected:
  KitHttp() {
    auto storage = server::open_storage(database(), server::StorageMode::kCreate).value();
    server::Registry registry(storage.database, clock_);
    registry.create_organization("acme").value();
    const auto tools = registry.create_application("acme", "tools").value();
    const auto other = registry.create_application("acme", "other").value();
    credentials_ = registry.create_token(tools, storage.sealer).value();
    second_ = registry.create_token(tools, storage.sealer).value();
    other_ = registry.create_token(other, storage.sealer).value();
    revoked_ = registry.create_token(tools, storage.sealer).value();
    registry.revoke_token(revoked_.id).value();
    free_ = registry.create_token(tools, storage.sealer, server::Tier::kFree).value();
    start();
  }

  void start(server::KitLeniency leniency = {}, server::SqliteStore::Limits store = {}) {
    server_.reset();
    server::ServerOptions options;
    options.database = database();
    options.listen = server::parse_listen("127.0.0.1:0").value();
    options.kit = leniency;
    options.store = store;
    server_ = server::Server::start(std::move(options), clock_).value();
  }

  std::filesystem::path database() const { return dir_ / "server.db"; }

  KitUpload upload(std::uint32_t first, std::uint32_t count) const {
    return with_body(OrderedJson{{"events", kit_events(first, count)}}.dump());
  }

  KitUpload with_body(std::string body) const {
    KitUpload made;
    made.token = credentials_.token;
    made.secret = credentials_.secret;
    made.timestamp_s = clock_.unix_ms() / 1000;
    made.body = std::move(body);
    return made;
  }

  Reply send(const KitUpload& made) { return send_text(request_text(made)); }

  Reply send_text(const std::string& text) { return Connection(server_->port()).exchange(text); }

  // The request with one header replaced, or taken out.
  Reply send_with(const KitUpload& made,
                  const std::string& name,
                  std::optional<std::string> value) {
    auto headers = made.headers();
    headers.erase(name);
    if (value) headers[name] = *value;
    return send_text(request_text("POST", made.path, headers, made.body));
  }

  server::LedgerRow ledger() {
    auto storage = server::open_storage(database(), server::StorageMode::kRead).value();
    return server::read_ledger(storage.database, {.organization = "acme", .application = "tools"})
        .value()
        .at(0);
  }

  static void expect_error(const Reply& reply, int status, const std::string& code) {
    EXPECT_EQ(reply.status, status) << reply.body;
    EXPECT_EQ(reply.code(), code);
    EXPECT_FALSE(reply.json().at("error").at("message").get<std::string>().empty());
    EXPECT_EQ(reply.headers.at("X-Clacks-Overhead"), "GNU Terry Pratchett");
    EXPECT_EQ(reply.headers.at("Content-Type"), "application/json");
  }

  const TempDir dir_;
  SharedClock clock_;
  server::NewToken credentials_;
  server::NewToken second_;
  server::NewToken other_;
  server::NewToken revoked_;
  server::NewToken free_;
  std::unique_ptr<server::Server> server_;
};

}  // namespace telemetryd::test
