#include <algorithm>

#include "store/damaged_row.h"
#include "store/row_bytes.h"
#include "store/sqlite_store.h"

namespace telemetryd::store {
namespace {

// How many rows a search for urgent ones looks at before others get the store: less than the time
// of a commit.
constexpr std::uint32_t kUrgentSliceRows = 2048;

Seq search_from(const Cursor& cursor, const LeaseRequest& request) {
  return request.urgent_only ? std::max(cursor.lease_from, cursor.urgent_from) : cursor.lease_from;
}

void searched(Cursor& cursor, const LeaseRequest& request, Seq reached) {
  Seq& from = request.urgent_only ? cursor.urgent_from : cursor.lease_from;
  from = std::max(from, reached);
}

}  // namespace

Result<std::optional<StoredRow>> SqliteStore::load_row(Seq seq) {
  Rows rows = sql_.load_row.query(seq);
  TELEMETRYD_ASSIGN(const bool found, rows.next());
  if (!found) return std::optional<StoredRow>();
  StoredRow row;
  row.seq = seq;
  row.uid = static_cast<std::uint32_t>(rows.integer(0));
  row.app = rows.integer(1);
  row.persistence_class = static_cast<event::Class>(rows.integer(2));
  row.urgency = static_cast<event::Urgency>(rows.integer(3));
  row.accepted_boot_ms = rows.integer(4);
  row.accepted_unix_ms = rows.integer(5);
  row.count = static_cast<std::uint32_t>(rows.integer(6));
  row.context = rows.text(8);
  row.blob = rows.text(9);
  row.bytes = row.blob.size();
  const RowColumns columns{.uid = row.uid,
                           .app = row.app,
                           .count = rows.integer(6),
                           .instance = rows.bytes(10),
                           .last_frame = static_cast<std::uint64_t>(rows.integer(11))};
  const bool right = columns_match(rows.integer(7), columns) && !books_.name(row.app).empty();
  row.columns_right = right && !columns.instance.empty();
  row.damaged = !right || !content_matches(rows.integer(7), row.context, row.blob);
  // The blob knows better than columns that are not what was written.
  if (!right) row.count = count_events(row.blob).value_or(0);
  if (const auto partial = next_indexes_.find(seq); partial != next_indexes_.end()) {
    row.next_index = partial->second;
  }
  return std::optional(std::move(row));
}

// Where the columns are what was written they say what the rows added to the books. Otherwise, and
// where a part was delivered, which has no checksum, the books follow what is left: a look at all
// rows.
Result<Moves> SqliteStore::moves_of_damaged(const std::vector<StoredRow>& rows,
                                            const std::set<Seq>& seqs) {
  const auto whole = [](const StoredRow& row) { return row.columns_right && row.next_index == 0; };
  if (!std::ranges::all_of(rows, whole)) return follow_rows(seqs);
  Moves moves;
  for (const StoredRow& row : rows) {
    const std::int64_t events = row.count;
    moves.add(row.app, account::kQueued, reason::kNone, -events);
    moves.add(row.app, account::kLost, reason::kDamage, events);
    moves.add(row.app, account::kQueuedBytes, reason::kNone, -static_cast<std::int64_t>(row.bytes));
  }
  return moves;
}

Result<void> SqliteStore::remove_damaged(const std::vector<StoredRow>& rows) {
  std::set<Seq> seqs;
  for (const StoredRow& row : rows) {
    log_damaged(row, row.count - std::min(row.count, row.next_index));
    seqs.insert(row.seq);
  }
  TELEMETRYD_ASSIGN(const Moves moves, moves_of_damaged(rows, seqs));
  const auto written = transact([&]() -> Result<void> {
    for (const Seq seq : seqs) TELEMETRYD_TRY(delete_row(seq));
    return books_.write(moves);
  });
  TELEMETRYD_TRY(written);
  books_.apply(moves);
  for (const StoredRow& row : rows) {
    next_indexes_.erase(row.seq);
    leave_share(row.seq, {row.uid, row.app, row.persistence_class}, row.bytes);
    // No column says how long the blob was, and this one may not be.
    recount_due_ |= count_events(row.blob) != row.count;
  }
  return {};
}

// Rows that somebody met whose columns cannot be booked from.
Result<void> SqliteStore::remove_wrong(const std::vector<Seq>& seqs) {
  std::vector<StoredRow> damaged;
  for (const Seq seq : seqs) {
    TELEMETRYD_ASSIGN(auto row, load_row(seq));
    if (row && row->damaged && !leased_.contains(seq)) damaged.push_back(std::move(*row));
  }
  if (damaged.empty()) return {};
  return remove_damaged(damaged);
}

// Of a scan that has uid, app, count, crc, instance and last_frame in this order from `first` on.
// What they say is for the ledger only when they are what was written.
bool SqliteStore::columns_right(const Rows& rows, int first) const {
  const RowColumns columns{.uid = static_cast<std::uint32_t>(rows.integer(first)),
                           .app = rows.integer(first + 1),
                           .count = rows.integer(first + 2),
                           .instance = rows.bytes(first + 4),
                           .last_frame = static_cast<std::uint64_t>(rows.integer(first + 5))};
  return columns_match(rows.integer(first + 3), columns) && !books_.name(columns.app).empty();
}

bool SqliteStore::readable(Seq from) {
  Rows rows = sql_.scan_rows.query(from);
  return rows.next().has_value();
}

// Where rows can be read again, `at` being where they cannot: a page that the disk does not give
// back holds an unknown number of rows, so the steps double, and halve again towards its end. The
// error itself when it says that a page is wrong, or when there is nothing behind to go on with.
Result<Seq> SqliteStore::skip_unreadable(Seq at, const Error& cause) {
  if (cause.code() == ErrorCode::kDataLoss) return fail(cause);
  if (const auto known = unreadable_.end_after(at)) return *known;
  // What failed once and works now is no place to pass over.
  if (at + 1 >= next_seq_ || readable(at)) return fail(cause);
  const Seq last = next_seq_ - 1;
  Seq bad = at;
  Seq good = at;
  for (Seq step = 1; good == bad; step *= 2) {
    good = step < last - at ? at + step : last;
    if (readable(good)) break;
    TELEMETRYD_TRY(usable());
    if (good == last) return fail(cause);
    bad = good;
  }
  while (good - bad > 1) {
    const Seq middle = bad + (good - bad) / 2;
    (readable(middle) ? good : bad) = middle;
  }
  unreadable_.note(at, good, clock_.boot_ms(), cause);
  return good;
}

// The disk may have got over it.
void SqliteStore::retry_unreadable() {
  const auto from = unreadable_.forget_due(clock_.boot_ms());
  if (!from) return;
  for (auto& [app, cursor] : cursors_) cursor.back_to(*from, true);
  // Nor has anybody counted what could not be read.
  if (*from < shares_looked_) count_shares_anew();
}

Seq SqliteStore::open_cursors(const LeaseRequest& request, std::map<AppId, Cursor*>& cursors) {
  Seq from = next_seq_;
  for (const std::string& name : request.apps) {
    const auto app = books_.find(name);
    if (!app) continue;
    std::set<std::uint32_t> held;
    for (const auto& [uid, held_app] : request.held) {
      if (held_app.empty() || held_app == name) held.insert(uid);
    }
    Cursor& cursor = cursors_[*app];
    if (cursor.held != held) {
      // Rows passed over because they were held may be due now.
      cursor.held = std::move(held);
      cursor.back_to(0, true);
    }
    cursors[*app] = &cursor;
    from = std::min(from, search_from(cursor, request));
  }
  return from;
}

// When the row is old enough; nothing when it is. Rows come in the order of their age, so all
// behind it are younger.
std::optional<BootMs> SqliteStore::young_until(const LeaseRequest& request,
                                               const Rows& rows) const {
  if (request.min_age.count() <= 0) return std::nullopt;
  const BootMs now = clock_.boot_ms();
  const BootMs left =
      request.min_age.count() -
      uptime_.age(static_cast<std::uint64_t>(rows.integer(7)), rows.integer(8), now);
  if (left <= 0) return std::nullopt;
  return now + left;
}

// Chooses rows by their columns alone; nothing is lent yet.
Result<DueRows> SqliteStore::due_rows(const LeaseRequest& request) {
  DueRows due;
  auto& cursors = due.cursors;
  const Seq from = open_cursors(request, cursors);
  std::uint64_t events = 0;
  std::uint64_t bytes = 0;
  std::uint32_t looked_at = 0;
  due.reached = next_seq_;
  Seq at = from;
  std::optional<Rows> scan(sql_.scan_rows.query(at));
  for (;;) {
    const auto found = scan->next();
    if (!found) {
      scan.reset();
      const auto behind = skip_unreadable(at, found.error());
      // What was found so far is not held up by it.
      const bool damaged = !db_.damage().empty();
      if (!behind && (damaged || due.rows.empty())) return fail(behind.error());
      if (!behind) {
        due.reached = at;
        break;
      }
      at = *behind;
      scan.emplace(sql_.scan_rows.query(at));
      continue;
    }
    if (!*found) break;
    const Rows& rows = *scan;
    const auto seq = static_cast<Seq>(rows.integer(0));
    if (request.urgent_only && looked_at++ == kUrgentSliceRows) {
      due.reached = seq;
      due.unfinished = true;
      break;
    }
    at = seq + 1;
    if (request.urgent_only &&
        rows.integer(9) != static_cast<std::int64_t>(event::Urgency::kUrgent))
      continue;
    if (unreadable_.contains(seq)) continue;
    const auto cursor = cursors.find(rows.integer(2));
    if (cursor == cursors.end() || leased_.contains(seq)) continue;
    if (cursor->second->held.contains(static_cast<std::uint32_t>(rows.integer(1)))) continue;
    if (waits_for_erasure(
            seq, static_cast<std::uint32_t>(rows.integer(1)), books_.name(rows.integer(2)))) {
      continue;
    }
    if (const auto until = young_until(request, rows)) {
      due.young_until = until;
      due.reached = seq;
      break;
    }
    const auto partial = next_indexes_.find(seq);
    const std::uint32_t delivered = partial == next_indexes_.end() ? 0 : partial->second;
    const std::uint64_t row_events = static_cast<std::uint64_t>(rows.integer(3)) - delivered;
    const auto row_bytes = static_cast<std::uint64_t>(rows.integer(4));
    const bool fits =
        events + row_events <= request.events_max && bytes + row_bytes <= request.bytes_max;
    if (!fits && !due.rows.empty()) {
      due.reached = seq;
      break;
    }
    due.rows.push_back({seq, !fits});
    events += row_events;
    bytes += row_bytes;
    if (!fits) {
      due.reached = seq + 1;
      break;
    }
  }
  return due;
}

// What of the row goes out; nothing when its bytes contradict its columns. Takes the row's context
// and blob, and leaves the columns.
std::optional<LeasedRow> SqliteStore::lend(StoredRow& row,
                                           const LeaseRequest& request,
                                           bool alone) {
  if (row.damaged || row.next_index >= row.count) return std::nullopt;
  LeasedRow lent;
  lent.meta = {row.seq,
               row.uid,
               books_.name(row.app),
               row.persistence_class,
               row.urgency,
               row.accepted_unix_ms,
               row.accepted_boot_ms,
               row.count};
  lent.first_index = row.next_index;
  lent.count = row.count - row.next_index;
  lent.context = std::move(row.context);
  if (!alone && row.next_index == 0) {
    lent.events = std::move(row.blob);
    return lent;
  }
  const auto rest = cut_events(row.blob, row.next_index, lent.count);
  if (!rest) return std::nullopt;
  if (!alone) {
    lent.events = std::string(*rest);
    return lent;
  }
  std::string_view remaining = *rest;
  std::uint32_t count = 0;
  std::uint64_t bytes = 0;
  while (count < lent.count && count < std::max(request.events_max, 1u)) {
    const auto event = take_event(remaining);
    if (!event) return std::nullopt;
    if (count > 0 && bytes + event->size() > request.bytes_max) break;
    bytes += event->size();
    ++count;
  }
  lent.count = count;
  lent.events = std::string(rest->substr(0, bytes));
  return lent;
}

Result<Lease> SqliteStore::lease(const LeaseRequest& request) {
  TELEMETRYD_TRY(usable());
  expire_due();
  retry_unreadable();
  for (;;) {
    TELEMETRYD_ASSIGN(const DueRows due, due_rows(request));
    Lease lease;
    std::vector<LeasedPart> parts;
    std::vector<StoredRow> damaged;
    for (const Candidate& candidate : due.rows) {
      auto loaded = load_row(candidate.seq);
      if (!loaded) {
        if (loaded.error().code() == ErrorCode::kDataLoss) return fail(loaded.error());
        // The disk does not give it back; the rows behind it are not held up.
        unreadable_.note(candidate.seq, candidate.seq + 1, clock_.boot_ms(), loaded.error());
        continue;
      }
      std::optional<StoredRow>& row = *loaded;
      if (!row) continue;
      auto lent = lend(*row, request, candidate.alone);
      if (!lent) {
        damaged.push_back(std::move(*row));
        continue;
      }
      parts.push_back({row->seq,
                       row->uid,
                       row->app,
                       row->persistence_class,
                       lent->first_index,
                       lent->count,
                       row->count,
                       row->bytes,
                       row->urgency == event::Urgency::kUrgent});
      lease.events += lent->count;
      lease.bytes += lent->events.size();
      lease.rows.push_back(std::move(*lent));
    }
    if (!damaged.empty()) TELEMETRYD_TRY(remove_damaged(damaged));
    // Not before: an error above leaves every row where the next request finds it.
    for (const auto& [app, cursor] : due.cursors) {
      searched(*cursor, request, due.reached);
    }
    if (due.rows.empty()) {
      lease.unfinished = due.unfinished;
      lease.due_boot_ms = due.young_until;
      return lease;
    }
    if (parts.empty()) continue;
    lease.id = next_lease_++;
    for (const LeasedPart& part : parts) leased_[part.seq] = lease.id;
    leases_[lease.id] = std::move(parts);
    return lease;
  }
}

}  // namespace telemetryd::store
