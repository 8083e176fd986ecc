#include <algorithm>
#include <utility>

#include "base/log.h"
#include "schedule/scheduler_impl.h"

namespace telemetryd::schedule {

using std::chrono::milliseconds;

std::vector<std::string> Scheduler::Impl::all_apps() const {
  std::vector<std::string> names;
  for (const auto& [app, queue] : apps) names.push_back(app);
  return names;
}

std::map<std::string, store::QueueInfo> Scheduler::Impl::known_queues() const {
  std::map<std::string, store::QueueInfo> queues;
  for (const auto& [app, queue] : apps) queues.emplace(app, queue.info);
  return queues;
}

void Scheduler::Impl::flush(std::function<void(Result<void>)> done,
                            milliseconds deadline,
                            bool by_hand) {
  auto flush = std::make_shared<Flush>();
  flush->by_hand = by_hand;
  flush->done = std::move(done);
  flush->deadline = std::make_unique<loop::Timer>(loop, [this, weak = std::weak_ptr<Flush>(flush)] {
    const auto late = weak.lock();
    if (!late) return;
    late->first_error = Error(ErrorCode::kDeadlineExceeded, "not everything was sent in time");
    late->waiting.clear();
    late->armed = true;
    turn();
  });
  flush->deadline->start_once(deadline);
  flushes.push_back(flush);

  // Asking the store first means that everything acknowledged before this call is seen, and that an
  // empty queue starts no forwarder.
  StoreJob job;
  job.queues_of = all_apps();
  const auto posted =
      run_on_store(store,
                   loop,
                   std::move(job),
                   [this, token = std::weak_ptr<bool>(alive), flush](const StoreAnswer& answer) {
                     if (token.expired()) return;
                     take_queues(answer);
                     arm_flush(*flush);
                     turn();
                   });
  if (!posted) {
    flush->first_error = posted.error();
    flush->armed = true;
    turn();
  }
}

void Scheduler::Impl::arm_flush(Flush& flush) {
  // A deadline that was quicker ended only the waiting: everything is due all the same.
  const bool late = std::exchange(flush.armed, true);
  link.forgive();
  for (auto& [name, slot] : slots) {
    const bool queued = std::ranges::any_of(
        wanted_apps(*slot), [this](const std::string& app) { return apps[app].info.events > 0; });
    if (!queued && !slot->unsettled) continue;
    slot->machine.flush();
    slot->by_hand = slot->by_hand || flush.by_hand;
    if (!late) flush.waiting.insert(name);
  }
}

void Scheduler::Impl::leave_flushes(const std::string& destination,
                                    const std::optional<Error>& error) {
  for (const auto& flush : flushes) {
    if (flush->waiting.erase(destination) == 0 || !error || flush->first_error) continue;
    flush->first_error = error->with_context(destination);
  }
}

void Scheduler::Impl::finish_flushes() {
  std::vector<std::shared_ptr<Flush>> finished;
  std::erase_if(flushes, [&](const std::shared_ptr<Flush>& flush) {
    if (!flush->armed || !flush->waiting.empty()) return false;
    finished.push_back(flush);
    return true;
  });
  for (const auto& flush : finished) {
    if (flush->first_error) {
      flush->done(fail(*flush->first_error));
    } else {
      flush->done({});
    }
  }
}

void Scheduler::Impl::status(std::function<void(std::vector<DestinationStatus>)> done) {
  StoreJob job;
  job.queues_of = all_apps();
  const auto report = [this](const std::map<std::string, store::QueueInfo>& queues) {
    std::vector<DestinationStatus> all;
    for (const auto& [name, slot] : slots) {
      if (!slot->removed) all.push_back(status_of(*slot, queues));
    }
    return all;
  };
  const auto posted =
      run_on_store(store,
                   loop,
                   std::move(job),
                   [report, done, token = std::weak_ptr<bool>(alive)](const StoreAnswer& answer) {
                     if (!token.expired()) done(report(answer.queues));
                   });
  // The store is too busy to be asked: what we last knew is better than nothing.
  if (!posted) done(report(known_queues()));
}

DestinationStatus Scheduler::Impl::status_of(
    const Slot& slot, const std::map<std::string, store::QueueInfo>& queues) const {
  const BootMs now = clock.boot_ms();
  DestinationStatus status;
  status.name = slot.spec.name;
  status.kind = slot.spec.kind;
  status.state = to_string(slot.machine.state());
  status.apps = slot.apps;
  std::optional<UnixMs> oldest;
  for (const std::string& app : slot.apps) {
    const auto queue = queues.find(app);
    if (queue == queues.end()) continue;
    status.queued_events += queue->second.events;
    status.queued_bytes += queue->second.bytes;
    if (const auto& at = queue->second.oldest_unix_ms) oldest = std::min(oldest.value_or(*at), *at);
  }
  if (oldest) status.oldest_age_s = std::max<std::int64_t>(0, clock.unix_ms() - *oldest) / 1000;
  status.waiting_for = slot.waits_for;
  // What waits for the world has no time.
  auto next = slot.waits_for.empty() ? slot.machine.next_attempt() : std::nullopt;
  if (slot.waits_for == kBudgetRule) next = spent_until(slot, now);
  if (next) {
    status.next_attempt_s = std::max<std::int64_t>(0, *next - now + 999) / 1000;
  }
  const Outage& outage = slot.machine.outage();
  status.attempts = outage.failures();
  status.first_error = outage.first_error();
  status.last_error = outage.last_error();
  status.cause = to_string(outage.cause());
  if (const auto lasted = outage.lasted(now)) status.failing_s = lasted->count() / 1000;
  for (const auto& [app, until] : slot.machine.mutes().until()) {
    if (until > now) status.muted_s[app] = (until - now + 999) / 1000;
  }
  status.certificate_expires_unix_s = slot.certificate_expires_unix_s;
  if (!slot.spec.on_this_machine) status.sent_bytes_today = slot.machine.sent().today(now);
  status.last_success_unix_ms = slot.machine.last_success();
  return status;
}

void Scheduler::Impl::stop(bool sync, milliseconds deadline, std::function<void()> done) {
  if (!sync || !started) return finish_stop(deadline, std::move(done));
  const BootMs until = clock.boot_ms() + deadline.count();
  flush(
      [this, until, done = std::move(done)](const Result<void>& flushed) {
        if (!flushed) log::info("final_sync_incomplete", {{"cause", flushed.error().message()}});
        finish_stop(milliseconds(until - clock.boot_ms()), done);
      },
      deadline,
      false);
}

}  // namespace telemetryd::schedule
