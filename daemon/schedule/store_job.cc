#include "schedule/store_job.h"

#include <memory>
#include <utility>

#include "schedule/queue_number.h"

namespace telemetryd::schedule {
namespace {

StoreAnswer run(store::Store& store, const StoreJob& job) {
  StoreAnswer answer;
  for (const store::LeaseId lease : job.releases) store.release(lease);
  if (job.settle) answer.settled = store.settle(*job.settle);
  if (job.save) answer.saved = store.save_destination_state(job.save->first, job.save->second);
  if (job.lease && answer.settled) answer.lease = store.lease(*job.lease);
  if (job.survey) answer.states = store.destination_states();
  for (const std::string& app : job.survey ? store.apps() : job.queues_of) {
    if (const auto queue = store.queue(app)) answer.queues.emplace(app, *queue);
  }
  answer.queues_number = next_queue_number();
  return answer;
}

}  // namespace

Result<void> run_on_store(store::StoreThread& store,
                          loop::Loop& loop,
                          StoreJob job,
                          std::function<void(StoreAnswer)> done) {
  return store.post([&loop, job = std::move(job), done = std::move(done)](store::Store& opened) {
    auto answer = std::make_shared<StoreAnswer>(run(opened, job));
    // An answer that was lost would strand a destination.
    loop.post_when_room([answer, done] { done(std::move(*answer)); });
  });
}

}  // namespace telemetryd::schedule
