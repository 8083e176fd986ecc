// server/registry.h: organisations, their applications, and the tokens that may send to them.
//
// Tokens are kept as SHA-256, secrets sealed; both are shown once, when they are made. An
// application may have several active tokens, which is what lets one be rotated without a gap.
//
// Thread:  as its Database.
// Limits:  names are 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit: they stand in
//          paths.
// Fails:   kInvalidArgument, kNotFound, kFailedPrecondition (exists already), or as Database.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "server/database.h"
#include "server/sealer.h"
#include "server/tier.h"

namespace telemetryd::server {

bool name_valid(std::string_view name);

struct Organization {
  std::string name;
  UnixMs created = 0;
  std::int64_t applications = 0;
};

struct Application {
  std::int64_t id = 0;
  std::string organization;
  std::string name;
  UnixMs created = 0;
};

struct Token {
  std::int64_t id = 0;
  std::string organization;
  std::string application;
  UnixMs created = 0;
  Tier tier = Tier::kEnterprise;
  std::optional<UnixMs> expires;
  std::optional<UnixMs> revoked;
  std::optional<UnixMs> last_used;
};

struct NewToken {
  std::int64_t id = 0;
  std::string token;
  std::string secret;
};

class Registry {
 public:
  Registry(Database& database, const Clock& clock) : database_(database), clock_(clock) {}

  [[nodiscard]] Result<void> create_organization(std::string_view name);
  [[nodiscard]] Result<std::vector<Organization>> organizations();

  [[nodiscard]] Result<Application> create_application(std::string_view organization,
                                                       std::string_view name);
  [[nodiscard]] Result<std::vector<Application>> applications(
      std::optional<std::string> organization);
  [[nodiscard]] Result<Application> find_application(std::string_view organization,
                                                     std::string_view name);

  [[nodiscard]] Result<NewToken> create_token(const Application& application,
                                              const Sealer& sealer,
                                              Tier tier = Tier::kEnterprise);
  [[nodiscard]] Result<std::vector<Token>> tokens();
  [[nodiscard]] Result<Token> find_token(std::int64_t id);
  [[nodiscard]] Result<void> revoke_token(std::int64_t id);
  // Never makes a token live longer than it would have.
  [[nodiscard]] Result<void> expire_token(std::int64_t id, UnixMs when);

 private:
  Database& database_;
  const Clock& clock_;
};

}  // namespace telemetryd::server
