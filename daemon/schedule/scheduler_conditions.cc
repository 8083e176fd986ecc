#include <algorithm>
#include <utility>

#include "base/log.h"
#include "schedule/scheduler_impl.h"

namespace telemetryd::schedule {
namespace {

// A cause that nobody named may be one as well, and to try again early does no harm.
bool may_be_of_the_network(Cause cause) {
  return cause == Cause::kUnspecified || cause == Cause::kNameResolution ||
         cause == Cause::kConnect || cause == Cause::kTimeout || cause == Cause::kConnectionLost;
}

}  // namespace

Permission Scheduler::Impl::permission_of(const Slot& slot) const {
  if (slot.spec.on_this_machine || !conditions) return {};
  return permission(options.policy, *conditions, slot.by_hand);
}

// What all destinations may send together. A lease is made so that it fits; what its request adds
// to the events may go beyond, so it ends by at most one lease's requests too late.
std::uint64_t Scheduler::Impl::bytes_left_today(BootMs now) const {
  if (options.network_bytes_per_day_max == 0) return UINT64_MAX;
  std::uint64_t left = options.network_bytes_per_day_max;
  for (const auto& [name, slot] : slots) left -= std::min(left, slot->machine.sent().today(now));
  return left;
}

// Until when nothing may leave because the day's bytes are sent; nothing when it may. Some are free
// again when the first destination's day is over.
std::optional<BootMs> Scheduler::Impl::spent_until(const Slot& slot, BootMs now) const {
  if (slot.spec.on_this_machine || bytes_left_today(now) > 0) return std::nullopt;
  std::optional<BootMs> until;
  for (const auto& [name, other] : slots) {
    const DailySum& sent = other->machine.sent();
    if (sent.today(now) > 0) until = std::min(until.value_or(sent.ends()), sent.ends());
  }
  return until;
}

// What the destination would do, unless a rule keeps it back. For the policy's rules there is
// nothing to do until the forwarder has news, and no timer.
Action Scheduler::Impl::next_action(Slot& slot, BootMs now) {
  const Action action = slot.machine.step(now);
  slot.waits_for = {};
  // What was delivered is written down in any case.
  if (action.kind != Action::Kind::kLease || slot.unsettled) return action;
  if (const auto until = spent_until(slot, now)) {
    return keep_back(slot, now, kBudgetRule, {Action::Kind::kWait, *until});
  }
  const Permission permitted = permission_of(slot);
  if (permitted.permit == Permit::kAll) return action;
  if (permitted.permit == Permit::kUrgent && slot.may_be_urgent) return action;
  return keep_back(slot, now, permitted.rule, {});
}

Action Scheduler::Impl::keep_back(Slot& slot, BootMs now, std::string_view rule, Action until) {
  slot.by_hand = false;
  leave_flushes(slot.spec.name, Error(ErrorCode::kUnavailable, std::string(explain(rule))));
  if (slot.machine.flushing()) {
    slot.machine.refuse_flush();
    return next_action(slot, now);
  }
  slot.waits_for = rule;
  return until;
}

bool Scheduler::Impl::waits_for_news(const Slot& slot) {
  return !slot.waits_for.empty() && slot.waits_for != kBudgetRule;
}

// Where only urgent rows may leave; otherwise, of more than one lease can hold, every other lease
// at most, so that neither kind starves.
bool Scheduler::Impl::urgent_first(const Slot& slot) const {
  if (!slot.may_be_urgent) return false;
  if (permission_of(slot).permit == Permit::kUrgent) return true;
  std::uint64_t queued = 0;
  for (const std::string& app : slot.apps) queued += apps.at(app).info.events;
  return queued > options.batch_events_max && !slot.urgent_had_turn;
}

// The last try found no way to the upstream.
bool Scheduler::Impl::waits_for_network(const Slot& slot) {
  return slot.waits_for != kBudgetRule && slot.machine.state() == Destination::State::kBackoff &&
         may_be_of_the_network(slot.machine.outage().cause());
}

void Scheduler::Impl::on_conditions(const Conditions& news) {
  no_conditions.stop();
  conditions = news;
  log::debug("conditions",
             {{"network", static_cast<int>(news.network)},
              {"power", static_cast<int>(news.power)},
              {"battery_percent", news.battery_percent}});
  for (auto& [name, slot] : slots) {
    if (!waits_for_news(*slot)) continue;
    const Permit permit = permission_of(*slot).permit;
    const bool may_go =
        permit == Permit::kAll || (permit == Permit::kUrgent && slot->may_be_urgent);
    if (may_go) slot->machine.released(clock.boot_ms());
  }
  if (link.ready()) {
    for (const auto& handover : std::exchange(for_link, {})) send_lease(handover);
  }
  turn();
}

// Rows that the forwarder would deliver under conditions that it told after they were lent.
void Scheduler::Impl::take_back(Slot& slot) {
  unreleased.push_back(slot.out->store_lease);
  slot.out.reset();
  slot.machine.postponed();
  if (slot.removed) give_up(slot);
  StoreJob job;
  job.releases = unreleased;
  if (run_on_store(store, loop, std::move(job), [](const StoreAnswer&) {})) unreleased.clear();
  slot_free(slot);
}

void Scheduler::Impl::link_gone() {
  conditions.reset();
  no_conditions.stop();
}

void Scheduler::Impl::on_route_change() {
  for (auto& [name, slot] : slots) {
    if (waits_for_network(*slot)) slot->machine.retry_soon(clock.boot_ms());
  }
  turn();
}

// Only the forwarder can tell that it has come.
bool Scheduler::Impl::anything_waits_for_news() const {
  return std::ranges::any_of(slots, [](const auto& slot) {
    return waits_for_news(*slot.second) || waits_for_network(*slot.second);
  });
}

}  // namespace telemetryd::schedule
