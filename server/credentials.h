// server/credentials.h: tokens looked up in SQLite, afresh for each request.
//
// Owns:    a reading connection of its own, behind a lock.
// Thread:  any.

#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "server/database.h"
#include "server/event_store.h"
#include "server/sealer.h"

namespace telemetryd::server {

class SqliteCredentials final : public CredentialStore {
 public:
  [[nodiscard]] static Result<std::unique_ptr<SqliteCredentials>> open(
      const std::filesystem::path& path, Sealer sealer, const Clock& clock);

  [[nodiscard]] Result<std::optional<Credential>> find(const Digest& token_digest) override;

 private:
  SqliteCredentials(Database database, Sealer sealer, const Clock& clock)
      : database_(std::move(database)), sealer_(std::move(sealer)), clock_(clock) {}

  Mutex mutex_;
  Database database_ TELEMETRYD_GUARDED_BY(mutex_);
  Statement select_ TELEMETRYD_GUARDED_BY(mutex_);
  const Sealer sealer_;
  const Clock& clock_;
};

}  // namespace telemetryd::server
