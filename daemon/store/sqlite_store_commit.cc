#include <algorithm>

#include "base/log.h"
#include "store/sabotage.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

constexpr std::uint32_t kFullRetryAfterMs = 1000;
constexpr BootMs kGapLogIntervalMs = 10'000;

Answer refused(Refusal refusal) {
  return {Answer::Kind::kRefused, std::move(refusal)};
}

bool same_sender(const ClientInfo& a, const ClientInfo& b) {
  return &a == &b || (a.app == b.app && a.context == b.context);
}

std::vector<Answer> all_refused(std::size_t frames, const Refusal& refusal) {
  return std::vector<Answer>(frames, refused(refusal));
}

std::vector<Answer> all_full(std::size_t frames) {
  return all_refused(
      frames,
      {frame::Code::kStoreFull, true, kFullRetryAfterMs, "the store has reached its quota"});
}

}  // namespace

Result<std::optional<std::uint64_t>> SqliteStore::look_up_high_water(const ClientKey& client) {
  if (const auto cached = clients_.find(client)) return cached;
  if (const auto unbooked = unbooked_.high_water(client)) return unbooked;
  Rows rows = sql_.find_client.query(client.uid, Blob{as_text(client.instance)});
  TELEMETRYD_ASSIGN(const bool found, rows.next());
  if (!found) return std::optional<std::uint64_t>();
  const auto high_water = static_cast<std::uint64_t>(rows.integer(0));
  clients_.put(client, high_water);
  return std::optional(high_water);
}

Result<std::optional<std::uint64_t>> SqliteStore::high_water(const ClientKey& client) {
  TELEMETRYD_TRY(usable());
  return look_up_high_water(client);
}

void SqliteStore::plan_stored(const Append& frame,
                              AppId app,
                              PlannedClient& client,
                              CommitPlan& plan) {
  client.in_rows = frame.number;
  if (client.open_row >= 0) {
    PlannedRow& open = plan.rows[static_cast<std::size_t>(client.open_row)];
    const Append& first = *open.frames.front();
    const bool fits = open.bytes + frame.events.size() <= options_.row_bytes_max &&
                      open.summary.count + frame.summary.count <= options_.row_events_max;
    if (fits && first.persistence_class == frame.persistence_class &&
        first.urgency == frame.urgency && same_sender(*first.client, *frame.client)) {
      open.frames.push_back(&frame);
      open.bytes += frame.events.size();
      open.summary.count += frame.summary.count;
      open.summary.id_ms_min = std::min(open.summary.id_ms_min, frame.summary.id_ms_min);
      open.summary.id_ms_max = std::max(open.summary.id_ms_max, frame.summary.id_ms_max);
      return;
    }
  }
  client.open_row = static_cast<std::ptrdiff_t>(plan.rows.size());
  plan.rows.push_back({app, {&frame}, frame.events.size(), frame.summary});
}

Answer SqliteStore::plan_frame(const Append& frame, PlannedClient& client, CommitPlan& plan) {
  const std::optional<AppId> app = client.app;
  const std::uint64_t expected = client.high_water + 1;
  if (frame.number > expected) {
    return refused({frame::Code::kOutOfOrder,
                    true,
                    0,
                    "frame " + std::to_string(expected) + " has to come first"});
  }
  if (frame.number < expected) {
    if (app) plan.moves.add(*app, account::kDuplicates, reason::kNone, frame.summary.count);
    return {Answer::Kind::kDuplicate, {}};
  }
  if (frame.refusal && frame.refusal->retryable) return refused(*frame.refusal);

  client.high_water = frame.number;
  client.moved = true;
  plan.any_client_moved = true;
  std::optional<Refusal> refusal = frame.refusal;
  if (!refusal && !app) {
    refusal = {frame::Code::kInvalidEvent,
               false,
               0,
               books_.apps().size() < kAppsMax ? "this user has too many apps"
                                               : "this machine has too many apps"};
  }
  if (refusal) {
    const AppId booked = app ? *app : books_.find_or_add_other(plan.new_apps);
    plan.moves.add(booked, account::kRefused, frame::code_name(refusal->code), frame.summary.count);
    return refused(*std::move(refusal));
  }
  if constexpr (sabotage::kDroppedFrame) {
    if (++dropped_counter_ % sabotage::kEveryNthFrame == 0) return {Answer::Kind::kStored, {}};
  }
  plan_stored(frame, *app, client, plan);
  return {Answer::Kind::kStored, {}};
}

Result<CommitPlan> SqliteStore::plan_group(std::span<const Append> group) {
  CommitPlan plan;
  plan.answers.reserve(group.size());
  const ClientInfo* last = nullptr;
  PlannedClient* client = nullptr;
  for (const Append& frame : group) {
    if (frame.client.get() != last) {
      last = frame.client.get();
      const auto [it, added] = plan.clients.try_emplace(last->key);
      client = &it->second;
      if (added) {
        TELEMETRYD_ASSIGN(const auto known, look_up_high_water(last->key));
        client->known = known;
        client->high_water = known.value_or(0);
      }
      client->app = books_.find_or_add(last->app, last->key.uid, plan.new_apps);
      // What the client says is settled it will never send again. A store that is older than that,
      // because it was restored or lost its log, has to go on from there.
      const std::uint64_t first = std::max<std::uint64_t>(last->first_frame, 1);
      if (client->high_water < first - 1) {
        client->high_water = first - 1;
        client->first_frame = first;
      }
    }
    plan.answers.push_back(plan_frame(frame, *client, plan));
  }
  if constexpr (sabotage::kReusedNumber) {
    for (auto& [key, moved] : plan.clients) {
      if (moved.moved && moved.high_water % sabotage::kEveryNthFrame == 0) --moved.high_water;
    }
  }
  plan.rows_say_it_all = plan.moves.empty() && plan.new_apps.empty() &&
                         std::ranges::all_of(plan.clients, [](const auto& entry) {
                           const PlannedClient& moved = entry.second;
                           return !moved.moved || moved.in_rows == moved.high_water;
                         });
  for (const PlannedRow& row : plan.rows) {
    plan.bytes += row.bytes;
    plan.footprint += row.bytes + row.frames.front()->client->context.size() + kRowOverheadBytes;
    add_row(plan.moves, row.app, row.summary.count, static_cast<std::int64_t>(row.bytes));
    if constexpr (sabotage::kLedgerOffByOne) {
      plan.moves.add(row.app, account::kQueued, reason::kNone, 1);
      plan.rows_say_it_all = false;
    }
  }
  plan.footprint += (plan.clients.size() + plan.moves.all().size()) * kRowOverheadBytes;
  return plan;
}

Result<void> SqliteStore::write_row(const PlannedRow& row, Seq seq) {
  const Append& first = *row.frames.front();
  std::string_view blob = first.events;
  if (row.frames.size() > 1) {
    row_buffer_.clear();
    for (const Append* frame : row.frames) row_buffer_ += frame->events;
    blob = row_buffer_;
  }
  const std::string_view context = first.client->context;
  const RowColumns columns{.uid = first.client->key.uid,
                           .app = row.app,
                           .count = row.summary.count,
                           .instance = as_text(first.client->key.instance),
                           .last_frame = row.frames.back()->number};
  return insert_row(seq,
                    columns,
                    {.persistence_class = first.persistence_class,
                     .urgency = first.urgency,
                     .id_ms_min = row.summary.id_ms_min,
                     .id_ms_max = row.summary.id_ms_max,
                     .context = context,
                     .blob = blob});
}

Result<void> SqliteStore::insert_row(Seq seq,
                                     const RowColumns& columns,
                                     const RowContent& content) {
  return sql_.insert_row.run(seq,
                             columns.uid,
                             columns.app,
                             static_cast<int>(content.persistence_class),
                             static_cast<int>(content.urgency),
                             epoch_,
                             clock_.boot_ms(),
                             clock_.unix_ms(),
                             content.id_ms_min,
                             content.id_ms_max,
                             columns.count,
                             row_crc(columns, content.context, content.blob),
                             Blob{columns.instance},
                             columns.last_frame,
                             Blob{content.context},
                             Blob{content.blob});
}

Result<void> SqliteStore::write_plan(const CommitPlan& plan, Booking booking) {
  Seq seq = next_seq_;
  if (booking == Booking::kLater) {
    for (const PlannedRow& row : plan.rows) TELEMETRYD_TRY(write_row(row, seq++));
    return {};
  }
  TELEMETRYD_TRY(books_.write(plan.new_apps));
  for (const PlannedRow& row : plan.rows) TELEMETRYD_TRY(write_row(row, seq++));
  for (const auto& [key, client] : plan.clients) {
    if (client.moved) TELEMETRYD_TRY(put_client(key, client.high_water));
  }
  if (!plan.rows.empty()) TELEMETRYD_TRY(sql_.put_booked.run(seq - 1));
  return books_.write(plan.moves);
}

void SqliteStore::apply_plan(const CommitPlan& plan, Booking booking) {
  for (const PlannedRow& row : plan.rows) {
    if (booking == Booking::kNow) break;
    const Append& newest = *row.frames.back();
    unbooked_.add(newest.client->key,
                  newest.number,
                  row.app,
                  row.summary.count,
                  static_cast<std::int64_t>(row.bytes));
  }
  books_.apply(plan.new_apps);
  books_.apply(plan.moves);
  for (const PlannedRow& row : plan.rows) {
    const Append& first = *row.frames.front();
    shares_.add({first.client->key.uid, row.app, first.persistence_class},
                next_seq_++,
                row.bytes + kRowOverheadBytes);
  }
  for (const auto& [key, client] : plan.clients) {
    if (!client.moved) continue;
    clients_.put(key, client.high_water);
    if (client.known && client.first_frame != 0) log_gap(key, client);
  }
}

// The high water has moved past the gap, so each is spoken of once; the pause between two lines is
// for a client that makes gaps up.
void SqliteStore::log_gap(const ClientKey& key, const PlannedClient& client) {
  ++gaps_;
  if (gap_logged_boot_ms_ && clock_.boot_ms() - *gap_logged_boot_ms_ < kGapLogIntervalMs) return;
  gap_logged_boot_ms_ = clock_.boot_ms();
  log::warn("client_ahead_of_store",
            {{"uid", key.uid},
             {"high_water", *client.known},
             {"first_frame", client.first_frame},
             {"clients", std::exchange(gaps_, 0)}});
}

void SqliteStore::tell_observer(const CommitPlan& plan) {
  if (!observer_ || plan.rows.empty()) return;

  struct Growth {
    std::uint64_t events = 0;
    std::uint64_t bytes = 0;
    bool urgent = false;
  };

  std::map<AppId, Growth> grown;
  for (const PlannedRow& row : plan.rows) {
    Growth& growth = grown[row.app];
    growth.events += row.summary.count;
    growth.bytes += row.bytes;
    growth.urgent |= row.frames.front()->urgency == event::Urgency::kUrgent;
  }
  const auto passes = [](std::uint64_t now, std::uint64_t by, std::uint64_t step) {
    return step != 0 && (now < by || (now - by) / step != now / step);
  };
  for (const auto& [app, growth] : grown) {
    const Accounts& accounts = books_.accounts(app);
    const auto events = static_cast<std::uint64_t>(accounts.get(account::kQueued));
    const auto bytes = static_cast<std::uint64_t>(accounts.get(account::kQueuedBytes));
    if (growth.urgent || events <= growth.events || passes(events, growth.events, events_step_) ||
        passes(bytes, growth.bytes, bytes_step_)) {
      observer_({books_.name(app), events, bytes, growth.urgent});
    }
  }
}

// Of a row that came otherwise than in a frame.
void SqliteStore::tell_observer_of(AppId app, event::Urgency urgency) {
  if (!observer_) return;
  const Accounts& accounts = books_.accounts(app);
  observer_({books_.name(app),
             static_cast<std::uint64_t>(accounts.get(account::kQueued)),
             static_cast<std::uint64_t>(accounts.get(account::kQueuedBytes)),
             urgency == event::Urgency::kUrgent});
}

Result<std::vector<Answer>> SqliteStore::commit(std::span<const Append> group) {
  TELEMETRYD_TRY(usable());
  if (const auto refusal = disk_refusal()) return all_refused(group.size(), *refusal);
  auto answers = commit_group(group);
  if (!answers && answers.error().code() == ErrorCode::kUnavailable) {
    write_pause_.failed(clock_.boot_ms(), answers.error().message());
  }
  return answers;
}

Result<std::vector<Answer>> SqliteStore::commit_group(std::span<const Append> group) {
  TELEMETRYD_TRY(checkpoint_if_above(checkpoint_threshold()));
  TELEMETRYD_TRY(write_due_witness());
  expire_due();
  TELEMETRYD_ASSIGN(CommitPlan plan, plan_group(group));
  if (plan.writes_nothing()) return std::move(plan.answers);
  TELEMETRYD_ASSIGN(const std::optional<Refusal> cramped, growth_refusal(plan));
  if (cramped) return all_refused(group.size(), *cramped);

  std::uint64_t evict_bytes = 0;
  int stuck = 0;
  for (int attempt = 0; attempt < kEvictAttemptsMax;) {
    const bool later = plan.rows_say_it_all && evict_bytes == 0 && !unbooked_.full();
    const Booking booking = later ? Booking::kLater : Booking::kNow;
    Eviction eviction;
    if (evict_bytes > 0) {
      TELEMETRYD_ASSIGN(eviction, plan_eviction(evict_bytes));
    }
    const auto write = [&]() -> Result<void> {
      TELEMETRYD_TRY(write_eviction(eviction));
      return write_plan(plan, booking);
    };
    const auto written = transact_within_quota(write, booking);
    if (written) {
      write_pause_.worked();
      apply_eviction(eviction);
      apply_plan(plan, booking);
      floor_.note_stored(plan.bytes);
      tell_observer(plan);
      return std::move(plan.answers);
    }
    if (eviction.stuck && ++stuck <= kEvictStuckMax) {
      unreadable_.note(*eviction.stuck, *eviction.stuck + 1, clock_.boot_ms(), written.error());
      continue;
    }
    const bool full = written.error().code() == ErrorCode::kResourceExhausted;
    if (!full) return fail(written.error());
    TELEMETRYD_ASSIGN(const bool by_quota, at_page_limit(plan.footprint));
    if (!by_quota) return fail(ErrorCode::kUnavailable, written.error().message());
    const bool nothing_left = evict_bytes > 0 && eviction.empty();
    if (options_.when_full == WhenFull::kRefuse || nothing_left) return all_full(group.size());
    evict_bytes = std::max({kEvictBytesMin, plan.bytes + plan.bytes / 4, evict_bytes * 2});
    ++attempt;
  }
  return all_full(group.size());
}

}  // namespace telemetryd::store
