#include "app/shutdown.h"

#include <memory>
#include <utility>
#include <vector>

#include "base/log.h"

namespace telemetryd::app {
namespace {

using Next = std::function<void()>;
using Step = std::function<void(Next)>;

struct Steps {
  std::vector<Step> steps;
  std::size_t at = 0;
};

void go_on(const std::shared_ptr<Steps>& steps) {
  if (steps->at == steps->steps.size()) return;
  const Step& step = steps->steps[steps->at++];
  step([steps] { go_on(steps); });
}

// Everything that was submitted is committed, and the answers are out.
void commit(Parts& parts, const Next& next) {
  if (!parts.store) return next();
  parts.store->commit_now();
  const auto posted =
      parts.store->post([&parts, next](store::Store&) { parts.loop.post_when_room(next); });
  if (!posted) next();
}

// The gateway first: what it has handed on is still answered, and its senders hear it.
void end_gateway(Parts& parts, const Next& next) {
  if (!parts.gateway) return next();
  if (parts.store) parts.store->commit_now();
  parts.gateway->stop(next);
}

void final_sync(Parts& parts, const Next& next) {
  if (!parts.scheduler) return next();
  parts.scheduler->stop(parts.config.forward.sync_on_shutdown, kFinalSyncMax, next);
}

}  // namespace

void stop_backwards(Parts& parts, std::function<void()> done) {
  auto steps = std::make_shared<Steps>();
  steps->steps = {
      [&parts](const Next& next) {
        parts.stopping = true;
        parts.notifier.stopping();
        next();
      },
      [&parts](const Next& next) { end_gateway(parts, next); },
      [&parts](const Next& next) {
        if (parts.ingest) parts.ingest->stop();
        next();
      },
      [&parts](const Next& next) { commit(parts, next); },
      [&parts](const Next& next) { final_sync(parts, next); },
      [&parts](const Next& next) {
        if (parts.tail) parts.tail->end();
        parts.admin.reset();
        next();
      },
      [done = std::move(done)](const Next&) { done(); },
  };
  go_on(steps);
}

}  // namespace telemetryd::app
