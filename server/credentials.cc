#include "server/credentials.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"

namespace telemetryd::server {
namespace {

constexpr std::string_view kSelect =
    "SELECT t.id, t.application, o.name, a.name, t.sealed_secret, t.revoked IS NULL AND "
    "(t.expires IS NULL OR t.expires > ?1) AS active, t.tier, t.token_sha256 FROM tokens t "
    "JOIN applications a ON a.id = t.application JOIN organizations o ON o.id = a.organization ";

}  // namespace

Result<std::unique_ptr<SqliteCredentials>> SqliteCredentials::open(
    const std::filesystem::path& path, Sealer sealer, const Clock& clock) {
  TELEMETRYD_ASSIGN(Database database, Database::open(path, Database::Mode::kReadOnly));
  std::unique_ptr<SqliteCredentials> credentials(
      new SqliteCredentials(std::move(database), std::move(sealer), clock));
  const MutexLock lock(credentials->mutex_);
  TELEMETRYD_ASSIGN(
      credentials->by_token_,
      credentials->database_.prepare(std::string(kSelect) + "WHERE t.token_sha256 = ?2"));
  TELEMETRYD_ASSIGN(
      credentials->by_application_,
      credentials->database_.prepare(
          std::string(kSelect) +
          "WHERE o.name = ?2 AND a.name = ?3 AND active ORDER BY t.id DESC LIMIT ?4"));
  TELEMETRYD_ASSIGN(credentials->mutes_, credentials->database_.prepare(kSelectMutes));
  return credentials;
}

Result<std::optional<Credential>> SqliteCredentials::find(const Digest& token_digest) {
  std::vector<Row> rows;
  {
    const MutexLock lock(mutex_);
    by_token_.bind(1, clock_.unix_ms()).bind_blob(2, as_text(token_digest));
    TELEMETRYD_ASSIGN(rows, read_rows(by_token_));
  }
  if (rows.empty()) return std::nullopt;
  TELEMETRYD_ASSIGN(std::vector<Credential> found, unseal(std::move(rows)));
  return std::optional<Credential>(std::move(found.front()));
}

Result<std::vector<Credential>> SqliteCredentials::find_active(std::string_view organization,
                                                               std::string_view application) {
  std::vector<Row> rows;
  {
    const MutexLock lock(mutex_);
    by_application_.bind(1, clock_.unix_ms())
        .bind_text(2, organization)
        .bind_text(3, application)
        .bind(4, kActiveFoundMax);
    TELEMETRYD_ASSIGN(rows, read_rows(by_application_));
  }
  return unseal(std::move(rows));
}

Result<std::vector<SqliteCredentials::Row>> SqliteCredentials::read_rows(Statement& select) {
  std::vector<Row> rows;
  for (;;) {
    auto more = select.step();
    if (!more) return fail(more.error());
    if (!*more) break;
    Row& row = rows.emplace_back();
    Credential& credential = row.credential;
    credential.token = select.column_int(0);
    credential.application = select.column_int(1);
    credential.organization_name = select.column_text(2);
    credential.application_name = select.column_text(3);
    row.sealed = select.column_blob(4);
    credential.active = select.column_int(5) != 0;
    const auto tier = parse_tier(select.column_text(6));
    const std::string digest = select.column_blob(7);
    if (!tier || digest.size() != row.token_digest.size()) {
      select.reset();
      return fail(ErrorCode::kDataLoss,
                  "token " + std::to_string(credential.token) + " is damaged in the database");
    }
    credential.tier = *tier;
    std::ranges::copy(as_bytes(digest), row.token_digest.begin());
  }
  // Without this the open read would keep the log from ever being emptied.
  select.reset();
  for (Row& row : rows) {
    TELEMETRYD_ASSIGN(row.credential.mutes,
                      read_mutes(mutes_, row.credential.application, clock_.unix_ms()));
  }
  return rows;
}

Result<std::vector<Credential>> SqliteCredentials::unseal(std::vector<Row> rows) const {
  std::vector<Credential> credentials;
  for (Row& row : rows) {
    TELEMETRYD_ASSIGN(row.credential.secret, sealer_.unseal(row.sealed, row.token_digest));
    credentials.push_back(std::move(row.credential));
  }
  return credentials;
}

}  // namespace telemetryd::server
