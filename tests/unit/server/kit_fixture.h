// unit/server/kit_fixture.h: telemetry-kit uploads to a server with a clock of the test's.

#pragma once

#include <string>
#include <utility>

#include "unit/server/http_fixture.h"
#include "unit/server/kit_client.h"

namespace telemetryd::test {

class KitHttp : public ServerHttp {
 protected:
  KitHttp() {
    {
      auto storage = server::open_storage(database(), server::StorageMode::kWrite).value();
      server::Registry registry(storage.database, clock_);
      const auto tools = registry.find_application("acme", "tools").value();
      free_ = registry.create_token(tools, storage.sealer, server::Tier::kFree).value();
    }
    start();
  }

  void start(server::KitLeniency leniency = {}, server::SqliteStore::Limits store = {}) {
    server::ServerOptions options;
    options.kit = leniency;
    options.store = store;
    start_with(std::move(options));
  }

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

  server::NewToken free_;
};

}  // namespace telemetryd::test
