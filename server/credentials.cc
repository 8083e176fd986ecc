#include "server/credentials.h"

#include "base/bytes.h"

namespace telemetryd::server {

Result<std::unique_ptr<SqliteCredentials>> SqliteCredentials::open(
    const std::filesystem::path& path, Sealer sealer, const Clock& clock) {
  TELEMETRYD_ASSIGN(Database database, Database::open(path, Database::Mode::kReadOnly));
  std::unique_ptr<SqliteCredentials> credentials(
      new SqliteCredentials(std::move(database), std::move(sealer), clock));
  const MutexLock lock(credentials->mutex_);
  TELEMETRYD_ASSIGN(
      credentials->select_,
      credentials->database_.prepare(
          "SELECT t.id, t.application, o.name, a.name, t.sealed_secret, t.revoked IS NULL AND "
          "(t.expires IS NULL OR t.expires > ?2) FROM tokens t JOIN applications a ON a.id = "
          "t.application JOIN organizations o ON o.id = a.organization WHERE t.token_sha256 = ?1"));
  return credentials;
}

Result<std::optional<Credential>> SqliteCredentials::find(const Digest& token_digest) {
  Credential credential;
  std::string sealed;
  {
    const MutexLock lock(mutex_);
    select_.reset();
    auto row = select_.bind_blob(1, as_text(token_digest)).bind(2, clock_.unix_ms()).step();
    if (!row) return fail(row.error());
    if (!*row) {
      select_.reset();
      return std::nullopt;
    }
    credential.token = select_.column_int(0);
    credential.application = select_.column_int(1);
    credential.organization_name = select_.column_text(2);
    credential.application_name = select_.column_text(3);
    sealed = select_.column_blob(4);
    credential.active = select_.column_int(5) != 0;
    // Without this the open read would keep the log from ever being emptied.
    select_.reset();
  }
  TELEMETRYD_ASSIGN(credential.secret, sealer_.unseal(sealed, token_digest));
  return std::optional<Credential>(std::move(credential));
}

}  // namespace telemetryd::server
