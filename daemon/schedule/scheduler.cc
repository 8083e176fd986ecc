#include "schedule/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "schedule/queue_number.h"
#include "schedule/scheduler_impl.h"

namespace telemetryd::schedule {
namespace {

using std::chrono::milliseconds;

// A forwarder that is needed again within this time stays, with its open connections.
constexpr BootMs kLingerMs = 5000;
constexpr milliseconds kStoreRetry{1000};
constexpr milliseconds kStopGraceMin{500};
// A forwarder that says nothing about the world by then knows nothing about it.
constexpr milliseconds kConditionsMax{5000};

Timing timing_of(const Options& options) {
  return {options.sync_interval,
          options.batch_events_max,
          options.batch_bytes_max,
          {options.retry_delay_min, options.retry_delay_max}};
}

Prng seeded() {
  std::array<std::uint8_t, 8> seed{};
  fill_random(seed);
  std::uint64_t number = 0;
  for (const std::uint8_t byte : seed) number = number << 8 | byte;
  return Prng(number);
}

void earlier(std::optional<BootMs>& at, BootMs candidate) {
  at = at ? std::min(*at, candidate) : candidate;
}

}  // namespace

Scheduler::Impl::Impl(loop::Loop& loop_arg,
                      store::StoreThread& store_arg,
                      const Clock& clock_arg,
                      const Options& options_arg,
                      std::vector<DestinationSpec> destinations,
                      Hooks hooks_arg)
    : loop(loop_arg),
      store(store_arg),
      clock(clock_arg),
      options(options_arg),
      timing(timing_of(options_arg)),
      hooks(std::move(hooks_arg)),
      prng(seeded()),
      wake(loop_arg, [this] { started ? turn() : start(); }),
      no_conditions(loop_arg, [this] { on_conditions({}); }),
      link(loop_arg,
           clock_arg,
           {options_arg.forward_socket, options_arg.forward_command, timing.backoff},
           prng,
           {[this] {
              no_conditions.start_once(kConditionsMax);
              on_link_ready();
            },
            [this](Outcome outcome) { on_outcome(std::move(outcome)); },
            [this](const ProbeResult& result) {
              if (result.ok) {
                end_probe(result.id, result.detail);
              } else {
                end_probe(result.id, fail(ErrorCode::kUnavailable, result.detail));
              }
              turn();
            },
            [this](const Conditions& news) { on_conditions(news); },
            [this] { on_route_change(); },
            [this](const std::string& why) {
              link_gone();
              on_link_end(why);
            },
            [this] {
              link_gone();
              turn();
            }}) {
  for (DestinationSpec& spec : destinations) add_slot(std::move(spec));
}

void Scheduler::Impl::add_slot(DestinationSpec spec) {
  std::string name = spec.name;
  slots.insert_or_assign(std::move(name), std::make_unique<Slot>(std::move(spec), timing, prng));
}

void Scheduler::Impl::start() {
  StoreJob job;
  job.survey = true;
  const auto posted = run_on_store(
      store, loop, std::move(job), [this, token = std::weak_ptr<bool>(alive)](StoreAnswer answer) {
        if (!token.expired()) started_with(std::move(answer));
      });
  if (!posted && posted.error().code() == ErrorCode::kResourceExhausted) {
    wake.start_once(kStoreRetry);
  }
}

void Scheduler::Impl::started_with(StoreAnswer answer) {
  started = true;
  if (!answer.states) {
    log::warn("destination_states_unreadable", {{"cause", answer.states.error().message()}});
  } else {
    for (auto& [name, slot] : slots) {
      const auto state = answer.states->find(name);
      if (state == answer.states->end()) continue;
      if (!slot->machine.restore(state->second, clock.boot_ms(), clock.unix_ms())) {
        log::warn("destination_state_ignored", {{"destination", name}});
      }
    }
  }
  take_queues(answer);
  started_queues = true;
  reroute();
  for (auto& [name, slot] : slots) slot->machine.resume(clock.boot_ms());
  turn();
}

void Scheduler::Impl::reroute() {
  for (auto& [name, slot] : slots) slot->apps.clear();
  for (const auto& [app, queue] : apps) {
    const auto destination = hooks.route(app);
    Slot* slot = destination ? find(*destination) : nullptr;
    if (slot != nullptr && !slot->removed) slot->apps.push_back(app);
  }
  for (auto& [name, slot] : slots) refresh_queue(*slot);
}

void Scheduler::Impl::refresh_queue(Slot& slot) {
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  for (const std::string& app : wanted_apps(slot)) {
    events += apps[app].info.events;
    bytes += apps[app].info.bytes;
  }
  slot.machine.queue_is(events, bytes);
}

std::vector<std::string> Scheduler::Impl::wanted_apps(const Slot& slot) const {
  std::vector<std::string> wanted;
  const BootMs now = clock.boot_ms();
  std::ranges::copy_if(slot.apps, std::back_inserter(wanted), [&](const std::string& app) {
    return !slot.machine.mutes().contains(app, now);
  });
  return wanted;
}

void Scheduler::Impl::serve_mutes(Slot& slot, BootMs now, std::optional<BootMs>& wake_at) {
  if (slot.machine.mutes().expire(now)) {
    refresh_queue(slot);
    slot.may_be_urgent = true;
  }
  const bool waits = std::ranges::any_of(slot.machine.mutes().until(), [&](const auto& mute) {
    const auto app = apps.find(mute.first);
    return app != apps.end() && app->second.info.events > 0;
  });
  if (waits) earlier(wake_at, *slot.machine.mutes().next_end());
}

void Scheduler::Impl::take_queues(const StoreAnswer& answer) {
  bool any_new = false;
  for (const auto& [app, queue] : answer.queues) {
    // Somebody spoke of an app that has sent nothing; its first event brings it.
    const bool nothing = started_queues && queue.events == 0;
    if (nothing && !apps.contains(app)) continue;
    const auto [entry, added] = apps.try_emplace(app);
    AppQueue& known = entry->second;
    // A notice of something newer may have come first.
    if (known.number < answer.queues_number) known = {queue, answer.queues_number};
    any_new = any_new || added;
  }
  if (any_new) return reroute();
  for (auto& [name, slot] : slots) refresh_queue(*slot);
}

void Scheduler::Impl::queue_changed(const store::QueueChange& change, std::uint64_t number) {
  const auto [entry, added] = apps.try_emplace(change.app);
  AppQueue& queue = entry->second;
  if (queue.number < number) {
    queue.info.events = change.events;
    queue.info.bytes = change.bytes;
    queue.number = number;
  }
  if (added) reroute();
  const auto destination = hooks.route(change.app);
  Slot* slot = destination ? find(*destination) : nullptr;
  if (slot == nullptr) return;
  refresh_queue(*slot);
  if (change.urgent) {
    slot->machine.urge();
    slot->may_be_urgent = true;
    slot->urged_by = std::max(slot->urged_by, number);
  }
  turn();
}

// After the store has answered what was asked of it before the word was given, and with what it
// holds now.
void Scheduler::Impl::reconsider(const std::string& app) {
  StoreJob job;
  job.queues_of = app.empty() ? all_apps() : std::vector<std::string>{app};
  const auto posted =
      run_on_store(store,
                   loop,
                   std::move(job),
                   [this, token = std::weak_ptr<bool>(alive), app](const StoreAnswer& answer) {
                     if (token.expired()) return;
                     take_queues(answer);
                     look_again(app);
                   });
  // The store is too busy to be asked: what we last knew is better than nothing.
  if (!posted) look_again(app);
}

void Scheduler::Impl::look_again(const std::string& app) {
  for (auto& [name, slot] : slots) {
    const bool concerned = std::ranges::any_of(slot->apps, [&](const std::string& own) {
      return (app.empty() || own == app) && apps[own].info.events > 0;
    });
    if (!concerned) continue;
    slot->machine.urge();
    // Some of them may be; nobody has looked.
    slot->may_be_urgent = true;
    slot->urged_by = std::max(slot->urged_by, next_queue_number());
  }
  turn();
}

void Scheduler::Impl::reconfigure(std::vector<DestinationSpec> destinations) {
  std::set<std::string> wanted;
  for (DestinationSpec& spec : destinations) {
    wanted.insert(spec.name);
    if (Slot* slot = find(spec.name)) {
      slot->spec = std::move(spec);
      slot->removed = false;
      slot->may_be_urgent = true;
      slot->machine.reconsider(clock.boot_ms());
    } else {
      add_slot(std::move(spec));
    }
  }
  std::vector<std::string> gone;
  for (auto& [name, slot] : slots) {
    if (wanted.contains(name)) continue;
    slot->removed = true;
    leave_flushes(name, std::nullopt);
    if (!slot->busy) gone.push_back(name);
  }
  for (const std::string& name : gone) {
    give_up(*slots[name]);
    slots.erase(name);
  }
  reroute();
  reload_owed = link.is_open();
  if (link.ready()) on_link_ready();
  turn();
}

void Scheduler::Impl::on_link_ready() {
  if (std::exchange(reload_owed, false)) link.send(encode_reload(), std::nullopt);
  for (auto& [id, probe] : probes) {
    if (std::exchange(probe.sent, true)) continue;
    link.send(encode_probe(id, probe.destination), id);
  }
  for (const auto& handover : std::exchange(for_link, {})) send_lease(handover);
  turn();
}

void Scheduler::Impl::turn() {
  // Callbacks of ours may come back here; one more round then does what two nested ones would.
  turn_again = true;
  if (turning) return;
  turning = true;
  while (std::exchange(turn_again, false) && started && !ended) turn_once();
  turning = false;
  // Also before the start and after the end: a flush is answered by its deadline.
  finish_flushes();
}

void Scheduler::Impl::turn_once() {
  const BootMs now = clock.boot_ms();
  std::optional<BootMs> wake_at;
  serve_slots(now, wake_at);
  serve_link(now, wake_at);
  if (wake_at) {
    wake.start_once(milliseconds(std::max<BootMs>(0, *wake_at - now)));
  } else {
    wake.stop();
  }
  tell_busy();
}

void Scheduler::Impl::serve_slots(BootMs now, std::optional<BootMs>& wake_at) {
  std::vector<Slot*> due;
  for (auto& [name, slot] : slots) {
    serve_mutes(*slot, now, wake_at);
    if (slot->busy) continue;
    const Action action = next_action(*slot, now);
    if (action.kind == Action::Kind::kWait) earlier(wake_at, action.until);
    if (action.kind == Action::Kind::kLease) due.push_back(slot.get());
  }
  // The forwarder is started for rows that were lent, not for those that may not leave. While it
  // would not be started, nothing is taken from the store either.
  if (!due.empty() && !link.ready() && now < link.earliest()) {
    return earlier(wake_at, link.earliest());
  }
  for (Slot* slot : due) request_lease(*slot);
}

void Scheduler::Impl::serve_link(BootMs now, std::optional<BootMs>& wake_at) {
  const bool probing = !probes.empty();
  if (!for_link.empty() || (probing && !link.is_open())) {
    if (link.is_open()) return;
    if (now < link.earliest()) return earlier(wake_at, link.earliest());
    if (const auto opened = link.open(); !opened) on_link_end(opened.error().message());
    return;
  }
  const bool soon = (wake_at && *wake_at - now <= kLingerMs) || retries_within_an_hour(now) ||
                    anything_waits_for_news();
  if (link.ready() && !anything_out() && !probing && !soon) link.close();
}

// The forwarder may remember what the last try achieved, and would forget it if it ended.
bool Scheduler::Impl::retries_within_an_hour(BootMs now) const {
  return std::ranges::any_of(slots, [&](const auto& slot) {
    // That one waits for another day, whatever it was before.
    if (slot.second->waits_for == kBudgetRule) return false;
    const Destination& machine = slot.second->machine;
    const bool failed = machine.state() == Destination::State::kBackoff ||
                        machine.state() == Destination::State::kHeld;
    if (!failed) return false;
    const auto next = machine.next_attempt();
    return next && *next - now <= BootMs{3600} * 1000;
  });
}

bool Scheduler::Impl::anything_out() const {
  return std::ranges::any_of(slots, [](const auto& slot) { return slot.second->busy; });
}

void Scheduler::Impl::tell_busy() {
  const bool busy = anything_out();
  if (busy == told_busy) return;
  told_busy = busy;
  if (hooks.on_busy) hooks.on_busy(busy);
}

void Scheduler::Impl::probe(const std::string& destination,
                            std::function<void(Result<std::string>)> done) {
  if (find(destination) == nullptr) {
    return done(fail(ErrorCode::kNotFound, "no destination named " + log::quoted(destination)));
  }
  const std::uint64_t id = next_id++;
  probes[id] = {destination, std::move(done), false};
  link.forgive();
  if (link.ready()) on_link_ready();
  turn();
}

void Scheduler::Impl::end_probe(std::uint64_t id, Result<std::string> result) {
  const auto found = probes.find(id);
  if (found == probes.end()) return;
  const auto done = std::move(found->second.done);
  probes.erase(found);
  done(std::move(result));
}

Scheduler::Scheduler(loop::Loop& loop,
                     store::StoreThread& store,
                     const Clock& clock,
                     const Options& options,
                     std::vector<DestinationSpec> destinations,
                     Hooks hooks)
    : impl_(std::make_unique<Impl>(
          loop, store, clock, options, std::move(destinations), std::move(hooks))) {}

Scheduler::~Scheduler() = default;

void Scheduler::start() {
  TELEMETRYD_CHECK(impl_->loop.on_loop_thread());
  impl_->start();
}

void Scheduler::queue_changed(const store::QueueChange& change, std::uint64_t number) {
  impl_->queue_changed(change, number);
}

void Scheduler::reconsider(const std::string& app) {
  impl_->reconsider(app);
}

void Scheduler::flush(std::function<void(Result<void>)> done, milliseconds deadline) {
  impl_->flush(std::move(done), deadline, true);
}

void Scheduler::reconfigure(std::vector<DestinationSpec> destinations) {
  impl_->reconfigure(std::move(destinations));
}

void Scheduler::probe(const std::string& destination,
                      std::function<void(Result<std::string>)> done) {
  impl_->probe(destination, std::move(done));
}

void Scheduler::status(std::function<void(std::vector<DestinationStatus>)> done) {
  impl_->status(std::move(done));
}

void Scheduler::stop(bool sync, milliseconds deadline, std::function<void()> done) {
  impl_->stop(sync, deadline, std::move(done));
}

void Scheduler::Impl::finish_stop(milliseconds grace, std::function<void()> done) {
  for (auto& [name, slot] : slots) save_state(*slot);
  ended = true;
  wake.stop();
  no_conditions.stop();
  link.shutdown(std::max(grace, kStopGraceMin), std::move(done));
}

}  // namespace telemetryd::schedule
