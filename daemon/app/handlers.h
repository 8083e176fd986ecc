// app/handlers.h: the answers of the admin API, one file per group of requests.
//
// Thread:  loop. What needs the store is asked there and answered when it comes back.

#pragma once

#include <string>
#include <utility>
#include <vector>

#include "admin/admin_server.h"
#include "app/daemon.h"

namespace telemetryd::app {

using Routes = std::vector<admin::Route>;

void add_status_routes(Parts& parts, Routes& routes);
void add_event_routes(Parts& parts, Routes& routes);
void add_dead_routes(Parts& parts, Routes& routes);
void add_consent_routes(Parts& parts, Routes& routes);
void add_control_routes(Parts& parts, Routes& routes);

// 409: there is no store, because the machine's policy is off.
Error no_store();

// Runs `work` (Store& to Result<T>) on the store thread and `then` (T) on the loop; an error on the
// way is the answer.
template <typename Work, typename Then>
void ask_store(Parts& parts, const admin::Reply& reply, Work work, Then then) {
  if (!parts.store) return reply.error(no_store());
  const Result<void> posted =
      parts.store->post([&loop = parts.loop, reply, work = std::move(work), then = std::move(then)](
                            store::Store& store) {
        auto result = work(store);
        const Result<void> returned =
            loop.post([reply, then, result = std::move(result)]() mutable {
              if (!result) return reply.error(result.error());
              then(std::move(*result));
            });
        if (!returned) reply.error(returned.error());
      });
  if (!posted) reply.error(posted.error());
}

}  // namespace telemetryd::app
