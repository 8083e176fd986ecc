// unit/server/http_fixture.h: a server over a real socket with a clock of the test's, and what
// every wire format's tests ask of it.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "server/event_query.h"
#include "server/registry.h"
#include "server/server.h"
#include "server/storage.h"
#include "support/temp_dir.h"
#include "unit/server/support.h"

namespace telemetryd::test {

// Organization acme with the applications tools and other.
class ServerHttp : public testing::Test {
 protected:
  ServerHttp() {
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
  }

  void start_with(server::ServerOptions options) {
    server_.reset();
    options.database = database();
    options.listen = server::parse_listen("127.0.0.1:0").value();
    server_ = server::Server::start(std::move(options), clock_).value();
  }

  std::filesystem::path database() const { return dir_ / "server.db"; }

  Reply send_text(const std::string& text) { return Connection(server_->port()).exchange(text); }

  template <typename Sent>
  Reply send(const Sent& made) {
    return send_text(request_text(made));
  }

  // The request with one header replaced, or taken out.
  template <typename Sent>
  Reply send_with(const Sent& made, const std::string& name, std::optional<std::string> value) {
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

  // Of the stored events, in the order they came.
  std::vector<std::string> names() {
    auto storage = server::open_storage(database(), server::StorageMode::kRead).value();
    std::vector<std::string> all;
    server::for_each_event(storage.database, {}, 100, [&](const nlohmann::json& event) {
      all.push_back(event.at("name"));
    }).value();
    return all;
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
  server::NewToken second_;  // of tools as well
  server::NewToken other_;
  server::NewToken revoked_;
  std::unique_ptr<server::Server> server_;
};

}  // namespace telemetryd::test
