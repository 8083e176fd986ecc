#include <algorithm>
#include <utility>

#include "base/log.h"
#include "schedule/scheduler_impl.h"

namespace telemetryd::schedule {

namespace {

// A lease must fit into one message with its contexts and names; the row data gets this much.
constexpr std::uint64_t kLeaseBytesMax = 8u << 20;

// The last that can be written as a date.
constexpr std::uint64_t kYear9999UnixS = 253402300799;

}  // namespace

Result<void> check_rejected(const OutLease& lease, std::vector<store::Rejected> rejected) {
  std::ranges::sort(rejected, [](const store::Rejected& a, const store::Rejected& b) {
    return std::pair(a.seq, a.first_index) < std::pair(b.seq, b.first_index);
  });
  store::Seq seq = 0;
  std::uint64_t free_from = 0;
  for (const store::Rejected& one : rejected) {
    const auto row = lease.rows.find(one.seq);
    if (row == lease.rows.end()) {
      return fail(ErrorCode::kInvalidArgument, "forwarder rejected a row that was not leased");
    }
    const std::uint64_t first = row->second.first_index;
    const std::uint64_t end = first + row->second.count;
    if (one.seq != seq) free_from = first;
    seq = one.seq;
    if (one.count == 0 || one.first_index < free_from ||
        std::uint64_t{one.first_index} + one.count > end) {
      return fail(ErrorCode::kInvalidArgument, "forwarder rejected events that were not leased");
    }
    free_from = std::uint64_t{one.first_index} + one.count;
  }
  return {};
}

Scheduler::Impl::Slot* Scheduler::Impl::find(const std::string& destination) {
  const auto found = slots.find(destination);
  return found == slots.end() ? nullptr : found->second.get();
}

Scheduler::Impl::Slot* Scheduler::Impl::holder_of(std::uint64_t message_id) {
  for (auto& [name, slot] : slots) {
    if (slot->out && slot->out->message_id == message_id) return slot.get();
  }
  return nullptr;
}

void Scheduler::Impl::request_lease(Slot& slot) {
  slot.machine.leasing();
  slot.busy = true;
  const bool urgent_only = urgent_first(slot);
  slot.urgent_rows_out = slot.urgent_had_turn = false;
  slot.day_is_spent = spent_until(slot, clock.boot_ms()).has_value();
  StoreJob job;
  job.settle = slot.unsettled;
  std::vector<std::string> wanted = wanted_apps(slot);
  if (!slot.removed && !wanted.empty() && !slot.day_is_spent) {
    store::LeaseRequest request;
    request.apps = std::move(wanted);
    request.held = hooks.held();
    request.events_max = slot.machine.events_max(clock.boot_ms());
    request.bytes_max = std::min(options.batch_bytes_max, kLeaseBytesMax);
    if (!slot.spec.on_this_machine) {
      request.bytes_max = std::min(request.bytes_max, bytes_left_today(clock.boot_ms()));
    }
    if (hooks.min_age) request.min_age = hooks.min_age();
    request.urgent_only = slot.urgent_rows_out = slot.urgent_had_turn = urgent_only;
    job.lease = std::move(request);
  }
  job.queues_of = slot.apps;
  job.releases = unreleased;
  const auto posted = run_on_store(
      store,
      loop,
      std::move(job),
      [this, token = std::weak_ptr<bool>(alive), name = slot.spec.name](StoreAnswer answer) {
        if (!token.expired()) lease_answered(name, std::move(answer));
      });
  if (!posted) return lease_failed(slot, {false, {}, "store: " + posted.error().message()});
  // Not before: what is in a job that was refused would stay out as long as we live.
  unreleased.clear();
}

void Scheduler::Impl::lease_answered(const std::string& destination, StoreAnswer answer) {
  Slot* slot = find(destination);
  if (slot == nullptr) return;
  take_queues(answer);
  if (!answer.settled) {
    const ErrorCode code = answer.settled.error().code();
    // Anything but "not now" will not get better: the rows are queued again and arrive twice.
    if (code != ErrorCode::kUnavailable && code != ErrorCode::kResourceExhausted) give_up(*slot);
    lease_failed(*slot, {false, {}, "settling: " + answer.settled.error().message()});
    return turn();
  }
  if (slot->unsettled) {
    slot->unsettled.reset();
    const bool recovered = slot->machine.outage().failures() > 0;
    if (recovered) {
      log::info("destination_recovered",
                {{"destination", destination}, {"attempts", slot->machine.attempt()}});
    }
    slot->machine.delivered(clock.unix_ms());
    slot->machine.leasing();
    if (recovered) save_state(*slot);
  }
  if (!answer.lease) {
    lease_failed(*slot, {false, {}, "leasing: " + answer.lease.error().message()});
  } else if (slot->day_is_spent) {
    nothing_asked(*slot);
  } else if (answer.lease->id == 0 && slot->urgent_rows_out) {
    nothing_urgent(*slot, answer);
  } else if (answer.lease->id == 0) {
    nothing_lent(*slot, answer);
  } else {
    hand_over(*slot, std::move(*answer.lease));
  }
  turn();
}

// Because the day's bytes were sent. What is still queued waits by next_action()'s word.
void Scheduler::Impl::nothing_asked(Slot& slot) {
  slot.machine.postponed();
  const std::string destination = slot.spec.name;
  const bool nothing_waits = slot.machine.state() == Destination::State::kIdle;
  slot_free(slot);
  if (nothing_waits) leave_flushes(destination, std::nullopt);
}

// The others are next, if they may leave; or the rest of the search, in which case nobody else
// waits.
void Scheduler::Impl::nothing_urgent(Slot& slot, const StoreAnswer& answer) {
  const bool young = answer.lease->due_boot_ms.has_value();
  // Nothing but such a row may leave, so it is waited for as all are that are too young.
  if (young && permission_of(slot).permit == Permit::kUrgent) return nothing_lent(slot, answer);
  const bool unfinished = answer.lease->unfinished || slot.urged_by > answer.queues_number;
  slot.may_be_urgent = unfinished || young;
  slot.machine.postponed();
  slot_free(slot);
}

void Scheduler::Impl::nothing_lent(Slot& slot, const StoreAnswer& answer) {
  slot.by_hand = slot.machine.flushing() && slot.by_hand;
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  for (const std::string& app : wanted_apps(slot)) {
    const auto queue = answer.queues.find(app);
    if (queue == answer.queues.end()) continue;
    events += queue->second.events;
    bytes += queue->second.bytes;
  }
  slot.machine.drained(clock.boot_ms(), events, bytes, answer.lease->due_boot_ms);
  if (slot.sent_unsaved) save_state(slot);
  if (slot.urged_by > answer.queues_number) slot.machine.urge();
  const std::string destination = slot.spec.name;
  slot_free(slot);
  if (Slot* still = find(destination); still != nullptr && !still->machine.flushing()) {
    leave_flushes(destination, std::nullopt);
  }
}

void Scheduler::Impl::hand_over(Slot& slot, store::Lease lease) {
  OutLease out;
  out.message_id = next_id++;
  out.store_lease = lease.id;
  auto handover = std::make_shared<Handover>();
  handover->destination = slot.spec.name;
  for (const store::LeasedRow& row : lease.rows) {
    out.rows[row.meta.seq] = {row.first_index, row.count};
    handover->machine_ids.emplace(row.meta.app, "");
  }
  handover->lease = std::move(lease);
  handover->ids_missing = handover->machine_ids.size();
  slot.out = std::move(out);

  std::vector<std::string> asked;
  for (const auto& [app, id] : handover->machine_ids) asked.push_back(app);
  for (const std::string& app : asked) {
    hooks.machine_id(
        app, [this, token = std::weak_ptr<bool>(alive), handover, app](const std::string& id) {
          if (!token.expired()) machine_id_is(handover, app, id);
        });
  }
}

void Scheduler::Impl::machine_id_is(const std::shared_ptr<Handover>& handover,
                                    const std::string& app,
                                    const std::string& id) {
  Slot* slot = holder_of(*handover);
  if (slot == nullptr) return;
  // Events without their machine's ID could not be told apart upstream.
  if (id.empty()) {
    lease_failed(*slot, {false, {}, "no machine ID for " + app + "; the log says why"});
    return turn();
  }
  handover->machine_ids[app] = id;
  if (--handover->ids_missing == 0) send_lease(handover);
}

// Nobody when the lease has failed meanwhile.
Scheduler::Impl::Slot* Scheduler::Impl::holder_of(const Handover& handover) {
  Slot* slot = find(handover.destination);
  const bool holds = slot != nullptr && slot->out && slot->out->store_lease == handover.lease.id;
  return holds ? slot : nullptr;
}

void Scheduler::Impl::send_lease(const std::shared_ptr<Handover>& handover) {
  Slot* slot = holder_of(*handover);
  if (slot == nullptr) return;
  if (!link.ready() && clock.boot_ms() < link.earliest()) {
    lease_failed(*slot, {false, {}, "forwarder ended"});
    return turn();
  }
  if (!link.ready() || !(conditions || slot->spec.on_this_machine)) {
    for_link.push_back(handover);
    return turn();
  }
  const Permit permit = permission_of(*slot).permit;
  if (permit == Permit::kNothing || (permit == Permit::kUrgent && !slot->urgent_rows_out)) {
    take_back(*slot);
    return turn();
  }
  std::vector<OutgoingRow> rows;
  rows.reserve(handover->lease.rows.size());
  for (const store::LeasedRow& row : handover->lease.rows) {
    rows.push_back({&row, handover->machine_ids[row.meta.app]});
  }
  log::debug("lease_sent",
             {{"destination", handover->destination},
              {"events", handover->lease.events},
              {"attempt", slot->machine.attempt()}});
  link.send(encode_lease({slot->out->message_id,
                          handover->destination,
                          slot->machine.attempt(),
                          slot->machine.memory(),
                          slot->machine.outage().suspect_events(clock.boot_ms())},
                         rows),
            slot->out->message_id);
}

void Scheduler::Impl::on_outcome(Outcome outcome) {
  Slot* slot = holder_of(outcome.lease_id);
  if (slot == nullptr) {
    log::warn("outcome_ignored", {{"cause", "no such lease is out"}});
    return;
  }
  take_news(*slot, outcome);
  if (outcome.verdict != Verdict::kDelivered) {
    const auto wait = std::min<std::uint64_t>(outcome.retry_after_ms,
                                              static_cast<std::uint64_t>(kRetryAfterMax.count()));
    lease_failed(*slot,
                 {outcome.verdict == Verdict::kHold,
                  std::chrono::milliseconds(wait),
                  std::move(outcome.error),
                  outcome.cause});
    return turn();
  }
  if (const auto valid = check_rejected(*slot->out, outcome.rejected); !valid) {
    lease_failed(*slot, {false, {}, valid.error().message()});
    return turn();
  }
  if (!outcome.rejected.empty()) {
    log::warn("events_rejected",
              {{"destination", slot->spec.name},
               {"ranges", outcome.rejected.size()},
               {"reason", outcome.rejected.front().reason}});
  }
  slot->unsettled =
      store::Settlement{slot->out->store_lease, slot->spec.name, std::move(outcome.rejected)};
  slot->out.reset();
  request_lease(*slot);
  // The store may have refused it, and then there is a backoff to wait for.
  turn();
}

// What the upstream let us know beside its verdict.
void Scheduler::Impl::take_news(Slot& slot, const Outcome& outcome) {
  const BootMs now = clock.boot_ms();
  bool news = outcome.memory && slot.machine.remember(*outcome.memory);
  if (!slot.spec.on_this_machine) {
    slot.machine.sent(now, outcome.body_bytes);
    // A limit holds across a crash as well; without one the sum is saved when the cycle ends.
    news = news || options.network_bytes_per_day_max > 0;
    slot.sent_unsaved = true;
  }
  for (const Mute& mute : outcome.mutes) {
    // Only of apps that it gets events of: the names are foreign.
    if (std::ranges::find(slot.apps, mute.app) == slot.apps.end()) continue;
    const auto most = static_cast<std::uint64_t>(Mutes::kMuteMax.count()) / 1000;
    const std::chrono::seconds duration(std::min(mute.duration_s, most));
    slot.machine.mutes().mute(mute.app, duration, now);
    log::warn("app_muted",
              {{"destination", slot.spec.name}, {"app", mute.app}, {"for_s", duration.count()}});
    news = true;
  }
  slot.certificate_expires_unix_s.reset();
  if (outcome.certificate_expires_unix_s > 0) {
    slot.certificate_expires_unix_s = static_cast<std::int64_t>(
        std::min<std::uint64_t>(outcome.certificate_expires_unix_s, kYear9999UnixS));
  }
  if (!news) return;
  if (!outcome.mutes.empty()) refresh_queue(slot);
  save_state(slot);
}

void Scheduler::Impl::lease_failed(Slot& slot, Failure failure) {
  failure.unsettled = slot.unsettled.has_value();
  const Outage& outage = slot.machine.outage();
  const bool news = outage.failures() == 0 || outage.last_error() != failure.error;
  slot.machine.failed(clock.boot_ms(), failure);
  if (news) {
    log::warn(failure.hold ? "destination_held" : "delivery_postponed",
              {{"destination", slot.spec.name}, {"cause", failure.error}});
  }
  slot.by_hand = false;
  if (slot.out) unreleased.push_back(slot.out->store_lease);
  slot.out.reset();
  if (slot.removed) give_up(slot);
  leave_flushes(slot.spec.name, Error(ErrorCode::kUnavailable, outage.last_error()));
  save_state(slot);
  slot_free(slot);
}

void Scheduler::Impl::on_link_end(const std::string& why) {
  const BootMs now = clock.boot_ms();
  std::vector<Slot*> hit;
  for (auto& [name, slot] : slots) {
    // Those whose lease was out, and those that were due and now must wait as well.
    const bool waits_for_link = !slot->busy && slot->waits_for.empty() &&
                                slot->machine.step(now).kind == Action::Kind::kLease;
    if (slot->out || waits_for_link) hit.push_back(slot.get());
  }
  for_link.clear();
  for (Slot* slot : hit) lease_failed(*slot, {false, {}, why});
  std::vector<std::uint64_t> asked;
  for (const auto& [id, probe] : probes) asked.push_back(id);
  for (const std::uint64_t id : asked) end_probe(id, fail(ErrorCode::kUnavailable, why));
  turn();
}

void Scheduler::Impl::give_up(Slot& slot) {
  if (slot.unsettled) unreleased.push_back(slot.unsettled->lease);
  slot.unsettled.reset();
}

void Scheduler::Impl::slot_free(Slot& slot) {
  slot.busy = false;
  slot.urgent_rows_out = false;
  if (!slot.removed) return;
  const std::string name = slot.spec.name;
  slots.erase(name);
}

void Scheduler::Impl::save_state(Slot& slot) {
  slot.sent_unsaved = false;
  StoreJob job;
  job.releases = unreleased;
  job.save.emplace(slot.spec.name, slot.machine.persisted(clock.boot_ms(), clock.unix_ms()));
  const auto posted =
      run_on_store(store, loop, std::move(job), [name = slot.spec.name](const StoreAnswer& answer) {
        if (answer.saved) return;
        log::warn("destination_state_not_saved",
                  {{"destination", name}, {"cause", answer.saved.error().message()}});
      });
  if (posted) unreleased.clear();
}

}  // namespace telemetryd::schedule
