// server/credentials.h: tokens looked up in SQLite, afresh for each request.
//
// Owns:    a reading connection of its own, behind a lock.
// Thread:  any.

#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
  [[nodiscard]] Result<std::vector<Credential>> find_active(std::string_view organization,
                                                            std::string_view application) override;

 private:
  SqliteCredentials(Database database, Sealer sealer, const Clock& clock)
      : database_(std::move(database)), sealer_(std::move(sealer)), clock_(clock) {}

  // A row with its secret still sealed.
  struct Row {
    Credential credential;
    std::string sealed;
    Digest token_digest{};
  };

  // All rows of a statement that is bound, which is ready again afterwards.
  [[nodiscard]] Result<std::vector<Row>> read_rows(Statement& select) TELEMETRYD_REQUIRES(mutex_);
  [[nodiscard]] Result<std::vector<Credential>> unseal(std::vector<Row> rows) const;

  Mutex mutex_;
  Database database_ TELEMETRYD_GUARDED_BY(mutex_);
  Statement by_token_ TELEMETRYD_GUARDED_BY(mutex_);
  Statement by_application_ TELEMETRYD_GUARDED_BY(mutex_);
  Statement mutes_ TELEMETRYD_GUARDED_BY(mutex_);
  const Sealer sealer_;
  const Clock& clock_;
};

}  // namespace telemetryd::server
