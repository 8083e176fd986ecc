// store/books.h: the ledger and the apps as the database has them, held in memory.
//
// A transaction collects its moves first, writes them, and applies them here only after the commit:
// a rollback needs no undoing.
//
// Thread:  store thread.
// Limits:  kAppsMax apps, of which one user may bring kAppsPerUidMax.

#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/result.h"
#include "store/database.h"
#include "store/ledger.h"

namespace telemetryd::store {

using AppId = std::int64_t;

inline constexpr std::size_t kAppsMax = 4096;
inline constexpr std::size_t kAppsPerUidMax = 512;
// Takes what is refused because its app has no place. Not a name that a client can have.
inline constexpr std::string_view kOtherApp = "(other)";

// What a transaction adds to the ledger.
class Moves {
 public:
  void add(AppId app,
           std::string_view account_name,
           std::string_view reason_name,
           std::int64_t amount);
  void add(const Moves& more);

  using Map = std::map<std::tuple<AppId, std::string, std::string>, std::int64_t>;

  const Map& all() const { return sums_; }

  bool empty() const { return sums_.empty(); }

 private:
  Map sums_;
};

// Apps that a transaction adds.
struct NewApp {
  AppId id = 0;
  std::string name;
  std::int64_t uid = 0;  // who brought it; -1: nobody, it is kOtherApp
};

using NewApps = std::vector<NewApp>;

class Books {
 public:
  [[nodiscard]] Result<void> load(Database& db);

  // The last load met rows of the ledger that nobody can have written: of an app that is not
  // there, or beyond all bounds. They count for nothing here.
  bool met_unbelievable() const { return met_unbelievable_ || !orphans_.empty(); }

  // What the last load found of apps whose names are lost, where it makes sense in itself.
  const std::map<AppId, Accounts>& orphans() const { return orphans_; }

  // In the caller's transaction: takes away what load() left out.
  [[nodiscard]] static Result<void> drop_unbelievable(Database& db);

  std::optional<AppId> find(std::string_view app) const;
  const std::string& name(AppId app) const;
  // The app's ID, a new one noted in `added`; nothing when there are too many apps, or too many
  // that `uid` brought.
  std::optional<AppId> find_or_add(std::string_view app, std::uint32_t uid, NewApps& added) const;
  AppId find_or_add_other(NewApps& added) const;

  // Both inside the caller's transaction.
  [[nodiscard]] Result<void> write(const NewApps& apps);
  [[nodiscard]] Result<void> write(const Moves& moves);

  void apply(const NewApps& apps);
  void apply(const Moves& moves);

  const Accounts& accounts(AppId app) const;

  const std::map<AppId, Accounts>& all() const { return accounts_; }

  const std::map<std::string, AppId, std::less<>>& apps() const { return ids_; }

  // Totals over all apps that only ever grow: what the witness remembers.
  std::int64_t accepted_total() const { return accepted_total_; }

  std::int64_t removed_total() const { return removed_total_; }

  // In the order of account::kPlaces.
  const std::array<std::uint64_t, account::kPlaces.size()>& place_totals() const {
    return place_totals_;
  }

  // Of all apps, now.
  std::int64_t queued_bytes() const { return queued_bytes_; }

  // Bytes of rows that left since the start; it only grows.
  std::uint64_t freed_bytes() const { return freed_bytes_; }

 private:
  std::optional<AppId> find_new(std::string_view app, const NewApps& added) const;
  AppId add(std::string_view app, std::int64_t uid, NewApps& added) const;
  void note_totals(std::string_view account_name, std::int64_t amount);

  std::map<std::string, AppId, std::less<>> ids_;
  std::map<AppId, std::string> names_;
  AppId last_id_ = 0;  // also of apps whose names are lost: rows may still have it
  std::map<std::int64_t, std::size_t> brought_;  // apps by uid
  std::map<AppId, Accounts> accounts_;
  std::int64_t accepted_total_ = 0;
  std::int64_t removed_total_ = 0;
  std::array<std::uint64_t, account::kPlaces.size()> place_totals_{};
  std::int64_t queued_bytes_ = 0;
  std::uint64_t freed_bytes_ = 0;
  std::map<AppId, Accounts> orphans_;
  bool met_unbelievable_ = false;
  Statement insert_app_;
  Statement add_;
};

}  // namespace telemetryd::store
