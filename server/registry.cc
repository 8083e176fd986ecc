#include "server/registry.h"

#include <algorithm>
#include <array>

#include "base/bytes.h"

namespace telemetryd::server {
namespace {

constexpr std::size_t kNameBytesMax = 64;

bool lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

Error bad_name(std::string_view name) {
  return {ErrorCode::kInvalidArgument,
          "\"" + std::string(name) +
              "\" cannot be a name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a "
              "letter or digit"};
}

// Says "exists" for what the unique constraint refused.
Error exists_or(const Error& error, const std::string& what) {
  if (error.code() != ErrorCode::kFailedPrecondition) return error;
  return {ErrorCode::kFailedPrecondition, what + " exists already"};
}

std::optional<UnixMs> optional_time(const Statement& statement, int column) {
  if (statement.column_null(column)) return std::nullopt;
  return statement.column_int(column);
}

Result<Token> read_token(const Statement& row) {
  const auto tier = parse_tier(row.column_text(7));
  if (!tier) {
    return fail(ErrorCode::kDataLoss,
                "token " + std::to_string(row.column_int(0)) + " is damaged in the database");
  }
  return Token{.id = row.column_int(0),
               .organization = row.column_text(1),
               .application = row.column_text(2),
               .created = row.column_int(3),
               .tier = *tier,
               .expires = optional_time(row, 4),
               .revoked = optional_time(row, 5),
               .last_used = optional_time(row, 6)};
}

constexpr std::string_view kSelectTokens =
    "SELECT t.id, o.name, a.name, t.created, t.expires, t.revoked, t.last_used, t.tier FROM "
    "tokens t JOIN applications a ON a.id = t.application JOIN organizations o ON o.id = "
    "a.organization ";

}  // namespace

bool name_valid(std::string_view name) {
  if (name.empty() || name.size() > kNameBytesMax || !lower_or_digit(name.front())) return false;
  return std::ranges::all_of(
      name, [](char c) { return lower_or_digit(c) || c == '.' || c == '_' || c == '-'; });
}

Result<void> Registry::create_organization(std::string_view name) {
  if (!name_valid(name)) return fail(bad_name(name));
  TELEMETRYD_ASSIGN(Statement insert,
                    database_.prepare("INSERT INTO organizations (name, created) VALUES (?1, ?2)"));
  auto done = insert.bind_text(1, name).bind(2, clock_.unix_ms()).run();
  if (!done) return fail(exists_or(done.error(), "organization " + std::string(name)));
  return {};
}

Result<std::vector<Organization>> Registry::organizations() {
  TELEMETRYD_ASSIGN(
      Statement select,
      database_.prepare("SELECT name, created, (SELECT count(*) FROM applications a WHERE "
                        "a.organization = o.id) FROM organizations o ORDER BY name"));
  std::vector<Organization> all;
  for (;;) {
    TELEMETRYD_ASSIGN(const bool row, select.step());
    if (!row) return all;
    all.push_back({.name = select.column_text(0),
                   .created = select.column_int(1),
                   .applications = select.column_int(2)});
  }
}

Result<Application> Registry::create_application(std::string_view organization,
                                                 std::string_view name) {
  if (!name_valid(name)) return fail(bad_name(name));
  const UnixMs now = clock_.unix_ms();
  TELEMETRYD_ASSIGN(Statement insert,
                    database_.prepare("INSERT INTO applications (organization, name, created) "
                                      "SELECT id, ?2, ?3 FROM organizations WHERE name = ?1"));
  auto done = insert.bind_text(1, organization).bind_text(2, name).bind(3, now).run();
  const std::string path = std::string(organization) + "/" + std::string(name);
  if (!done) return fail(exists_or(done.error(), "application " + path));
  if (database_.changes() == 0) {
    return fail(ErrorCode::kNotFound,
                "no organization " + std::string(organization) +
                    "; create it with `telemetry-server org create " + std::string(organization) +
                    "`");
  }
  const std::int64_t id = database_.last_row_id();
  TELEMETRYD_ASSIGN(Statement counters,
                    database_.prepare("INSERT INTO counters (application) VALUES (?1)"));
  TELEMETRYD_TRY(counters.bind(1, id).run());
  return Application{.id = id,
                     .organization = std::string(organization),
                     .name = std::string(name),
                     .created = now};
}

Result<std::vector<Application>> Registry::applications(std::optional<std::string> organization) {
  TELEMETRYD_ASSIGN(
      Statement select,
      database_.prepare("SELECT a.id, o.name, a.name, a.created FROM applications a JOIN "
                        "organizations o ON o.id = a.organization WHERE ?1 IS NULL OR o.name = ?1 "
                        "ORDER BY o.name, a.name"));
  if (organization) select.bind_text(1, *organization);
  std::vector<Application> all;
  for (;;) {
    TELEMETRYD_ASSIGN(const bool row, select.step());
    if (!row) return all;
    all.push_back({.id = select.column_int(0),
                   .organization = select.column_text(1),
                   .name = select.column_text(2),
                   .created = select.column_int(3)});
  }
}

Result<Application> Registry::find_application(std::string_view organization,
                                               std::string_view name) {
  TELEMETRYD_ASSIGN(const std::vector<Application> all, applications(std::string(organization)));
  const auto found = std::ranges::find(all, name, &Application::name);
  if (found != all.end()) return *found;
  return fail(ErrorCode::kNotFound,
              "no application " + std::string(organization) + "/" + std::string(name) +
                  "; `telemetry-server app list` shows those there are");
}

Result<NewToken> Registry::create_token(const Application& application,
                                        const Sealer& sealer,
                                        Tier tier) {
  std::array<std::uint8_t, 32> secret_bytes{};
  fill_random(secret_bytes);
  NewToken fresh;
  fresh.token = "tk_" + to_hex(random_bytes16());
  fresh.secret = base64(secret_bytes);
  const Digest digest = sha256(fresh.token);
  const std::string sealed = sealer.seal(fresh.secret, digest);
  TELEMETRYD_ASSIGN(
      Statement insert,
      database_.prepare("INSERT INTO tokens (application, token_sha256, sealed_secret, created, "
                        "tier) VALUES (?1, ?2, ?3, ?4, ?5)"));
  TELEMETRYD_TRY(insert.bind(1, application.id)
                     .bind_blob(2, as_text(digest))
                     .bind_blob(3, sealed)
                     .bind(4, clock_.unix_ms())
                     .bind_text(5, tier_name(tier))
                     .run());
  fresh.id = database_.last_row_id();
  return fresh;
}

Result<std::vector<Token>> Registry::tokens() {
  TELEMETRYD_ASSIGN(Statement select,
                    database_.prepare(std::string(kSelectTokens) + "ORDER BY t.id"));
  std::vector<Token> all;
  for (;;) {
    TELEMETRYD_ASSIGN(const bool row, select.step());
    if (!row) return all;
    TELEMETRYD_ASSIGN(Token token, read_token(select));
    all.push_back(std::move(token));
  }
}

Result<Token> Registry::find_token(std::int64_t id) {
  TELEMETRYD_ASSIGN(Statement select,
                    database_.prepare(std::string(kSelectTokens) + "WHERE t.id = ?1"));
  TELEMETRYD_ASSIGN(const bool row, select.bind(1, id).step());
  if (row) return read_token(select);
  return fail(
      ErrorCode::kNotFound,
      "no token " + std::to_string(id) + "; `telemetry-server token list` shows those there are");
}

Result<void> Registry::revoke_token(std::int64_t id) {
  TELEMETRYD_TRY(find_token(id));
  TELEMETRYD_ASSIGN(
      Statement update,
      database_.prepare("UPDATE tokens SET revoked = ifnull(revoked, ?2) WHERE id = ?1"));
  return update.bind(1, id).bind(2, clock_.unix_ms()).run();
}

Result<void> Registry::expire_token(std::int64_t id, UnixMs when) {
  TELEMETRYD_TRY(find_token(id));
  TELEMETRYD_ASSIGN(
      Statement update,
      database_.prepare("UPDATE tokens SET expires = min(ifnull(expires, ?2), ?2) WHERE id = ?1"));
  return update.bind(1, id).bind(2, when).run();
}

}  // namespace telemetryd::server
