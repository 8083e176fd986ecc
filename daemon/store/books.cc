#include "store/books.h"

#include <algorithm>

#include "base/check.h"

namespace telemetryd::store {
namespace {

// Above everything that a machine can count, and far from where sums of it overflow.
constexpr std::int64_t kValueMax = std::int64_t{1} << 53;
constexpr std::int64_t kAppIdMax = std::int64_t{1} << 31;
// Of an app whose name is lost; a wrong ID in the ledger must leave room for those to come.
constexpr std::int64_t kLostAppIdMax = kAppIdMax / 2;

}  // namespace

void Moves::add(AppId app,
                std::string_view account_name,
                std::string_view reason_name,
                std::int64_t amount) {
  if (amount == 0) return;
  sums_[{app, std::string(account_name), std::string(reason_name)}] += amount;
}

void Moves::add(const Moves& more) {
  for (const auto& [key, amount] : more.sums_) sums_[key] += amount;
}

Result<void> Books::load(Database& db) {
  TELEMETRYD_ASSIGN(insert_app_, db.prepare("INSERT INTO apps(id, name, uid) VALUES(?, ?, ?)"));
  TELEMETRYD_ASSIGN(add_,
                    db.prepare("INSERT INTO ledger(app, account, reason, value) VALUES(?, ?, ?, ?) "
                               "ON CONFLICT DO UPDATE SET value = value + excluded.value"));
  TELEMETRYD_ASSIGN(Statement apps, db.prepare("SELECT id, name, uid FROM apps"));
  NewApps known;
  for (Rows rows = apps.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) break;
    if (rows.integer(0) < 1 || rows.integer(0) > kAppIdMax || rows.bytes(1).empty()) {
      return fail(ErrorCode::kDataLoss, "the table of apps is damaged");
    }
    known.push_back({rows.integer(0), rows.text(1), rows.integer(2)});
  }
  apply(known);
  TELEMETRYD_ASSIGN(Statement ledger, db.prepare("SELECT app, account, reason, value FROM ledger"));
  for (Rows rows = ledger.query();;) {
    TELEMETRYD_ASSIGN(const bool found, rows.next());
    if (!found) break;
    const bool bounded = rows.integer(3) >= -kValueMax && rows.integer(3) <= kValueMax;
    met_unbelievable_ |= !bounded;
    if (!bounded) continue;
    if (!names_.contains(rows.integer(0))) {
      if (rows.integer(0) <= kLostAppIdMax) last_id_ = std::max(last_id_, rows.integer(0));
      orphans_[rows.integer(0)].add(rows.bytes(1), rows.bytes(2), rows.integer(3));
      continue;
    }
    accounts_[rows.integer(0)].add(rows.bytes(1), rows.bytes(2), rows.integer(3));
    note_totals(rows.bytes(1), rows.integer(3));
  }
  // A single wrong number is no app whose name is lost.
  const auto senseless =
      std::erase_if(orphans_, [](const auto& entry) { return entry.second.imbalance() != 0; });
  met_unbelievable_ |= senseless > 0;
  return {};
}

Result<void> Books::drop_unbelievable(Database& db) {
  TELEMETRYD_ASSIGN(Statement drop,
                    db.prepare("DELETE FROM ledger WHERE app NOT IN (SELECT id FROM apps) "
                               "OR CAST(value AS INTEGER) NOT BETWEEN ? AND ?"));
  return drop.run(-kValueMax, kValueMax);
}

std::optional<AppId> Books::find(std::string_view app) const {
  const auto found = ids_.find(app);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string& Books::name(AppId app) const {
  static const std::string unknown;
  const auto found = names_.find(app);
  return found == names_.end() ? unknown : found->second;
}

std::optional<AppId> Books::find_new(std::string_view app, const NewApps& added) const {
  if (const auto known = find(app)) return known;
  const auto found = std::ranges::find(added, app, &NewApp::name);
  if (found == added.end()) return std::nullopt;
  return found->id;
}

AppId Books::add(std::string_view app, std::int64_t uid, NewApps& added) const {
  const AppId id = last_id_ + 1 + static_cast<AppId>(added.size());
  added.push_back({id, std::string(app), uid});
  return id;
}

std::optional<AppId> Books::find_or_add(std::string_view app,
                                        std::uint32_t uid,
                                        NewApps& added) const {
  if (const auto known = find_new(app, added)) return known;
  if (names_.size() + added.size() >= kAppsMax) return std::nullopt;
  const auto brought = brought_.find(uid);
  const std::size_t before = brought == brought_.end() ? 0 : brought->second;
  const auto now = static_cast<std::size_t>(std::ranges::count(added, uid, &NewApp::uid));
  if (before + now >= kAppsPerUidMax) return std::nullopt;
  return add(app, uid, added);
}

AppId Books::find_or_add_other(NewApps& added) const {
  if (const auto known = find_new(kOtherApp, added)) return *known;
  return add(kOtherApp, -1, added);
}

Result<void> Books::write(const NewApps& apps) {
  for (const NewApp& app : apps) {
    TELEMETRYD_TRY(insert_app_.run(app.id, std::string_view(app.name), app.uid));
  }
  return {};
}

Result<void> Books::write(const Moves& moves) {
  for (const auto& [key, amount] : moves.all()) {
    const auto& [app, account_name, reason_name] = key;
    TELEMETRYD_TRY(
        add_.run(app, std::string_view(account_name), std::string_view(reason_name), amount));
  }
  return {};
}

void Books::apply(const NewApps& apps) {
  for (const NewApp& app : apps) {
    ids_.emplace(app.name, app.id);
    names_.emplace(app.id, app.name);
    last_id_ = std::max(last_id_, app.id);
    accounts_.try_emplace(app.id);
    ++brought_[app.uid];
  }
}

void Books::apply(const Moves& moves) {
  for (const auto& [key, amount] : moves.all()) {
    const auto& [app, account_name, reason_name] = key;
    accounts_[app].add(account_name, reason_name, amount);
    note_totals(account_name, amount);
  }
}

void Books::note_totals(std::string_view account_name, std::int64_t amount) {
  if (account_name == account::kQueuedBytes) {
    queued_bytes_ += amount;
    if (amount < 0) freed_bytes_ += static_cast<std::uint64_t>(-amount);
    return;
  }
  if (account_name == account::kAccepted) {
    accepted_total_ += amount;
    return;
  }
  const auto place = std::ranges::find(account::kPlaces, account_name);
  if (place == account::kPlaces.end()) return;
  place_totals_[static_cast<std::size_t>(place - account::kPlaces.begin())] +=
      static_cast<std::uint64_t>(amount);
  // Parked events may be sent again, so only the places without a way back count as removed.
  if (*place != account::kQueued && *place != account::kParked) removed_total_ += amount;
}

const Accounts& Books::accounts(AppId app) const {
  const auto found = accounts_.find(app);
  TELEMETRYD_CHECK(found != accounts_.end());
  return found->second;
}

}  // namespace telemetryd::store
