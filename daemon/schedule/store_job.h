// schedule/store_job.h: what one destination asks of the store thread, in one visit.
//
// Settling what was delivered and lending what comes next stand in one function on the store
// thread, so a busy destination costs one crossing in each direction per batch.
//
// Thread:  built and answered on the loop, run on the store thread.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "loop/loop.h"
#include "store/store_thread.h"

namespace telemetryd::schedule {

struct StoreJob {
  std::optional<store::Settlement> settle;  // first; an error here skips the lease
  std::vector<store::LeaseId> releases;
  std::optional<std::pair<std::string, std::string>> save;  // destination, state
  std::optional<store::LeaseRequest> lease;
  std::vector<std::string> queues_of;  // apps whose queue is read at the end
  bool survey = false;                 // at start: the queues of all apps, all persisted states
};

struct StoreAnswer {
  Result<void> settled;
  Result<void> saved;
  Result<store::Lease> lease;
  std::map<std::string, store::QueueInfo> queues;
  std::uint64_t queues_number = 0;  // of this reading: schedule/queue_number.h
  Result<std::map<std::string, std::string>> states;
};

// Runs `job` and brings the answer back to the loop, where `done` gets it. kResourceExhausted or
// kCancelled: nothing will happen.
[[nodiscard]] Result<void> run_on_store(store::StoreThread& store,
                                        loop::Loop& loop,
                                        StoreJob job,
                                        std::function<void(StoreAnswer)> done);

}  // namespace telemetryd::schedule
