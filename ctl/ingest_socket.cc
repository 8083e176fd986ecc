#include "ctl/ingest_socket.h"

#include "ctl/admin_client.h"
#include "ctl/environment.h"
#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

// A daemon that hangs must not hold up a command that `run` has measured.
constexpr std::chrono::milliseconds kAnswerTime{400};

}  // namespace

std::filesystem::path ingest_socket_of(const Session& session) {
  if (!session.ingest_socket.empty()) return session.ingest_socket;
  if (const auto named = variable("TELEMETRYD_SOCKET")) return *named;
  if (!session.socket_given) return {};
  AdminClient admin(session.socket);
  if (const auto status = admin.get("/v1/status", kAnswerTime)) {
    const std::string told = text_in(member_in(*status, "paths"), "ingest_socket");
    if (!told.empty()) return told;
  }
  return session.socket.parent_path() / "ingest.sock";
}

std::filesystem::path resolved_ingest_socket(const Session& session) {
  const auto named = ingest_socket_of(session);
  return named.empty() ? session.socket.parent_path() / "ingest.sock" : named;
}

}  // namespace telemetryd::ctl
