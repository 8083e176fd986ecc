#include "app/gateway.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <pwd.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"

namespace telemetryd::app {
namespace {

std::optional<std::uint32_t> uid_of(const std::string& user) {
  std::array<char, 16384> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  int error = 0;
  do {
    error = ::getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  } while (error == EINTR);
  return found == nullptr ? std::nullopt : std::optional<std::uint32_t>(entry.pw_uid);
}

GatewayStarter::Options starter_options(const Parts& parts) {
  const auto& gateway = parts.config.gateway;
  GatewayStarter::Options options;
  options.socket = gateway.grpc_socket;
  options.always = !gateway.grpc_listen.empty();
  options.command = {gateway.program.native(), "--fd", "3"};
  if (!parts.sources.file.empty()) {
    options.command.insert(options.command.end(), {"--config", parts.sources.file.native()});
  }
  return options;
}

// The user is looked up when it is needed first, and kept: a lookup may ask a server.
void believe_user(Parts& parts) {
  const auto uid = uid_of(parts.config.gateway.user);
  if (!uid) {
    parts.gateway_user_problem = fmt::format(
        "events over gRPC are not taken: there is no user {}; create it or correct [gateway] user, "
        "and restart telemetryd",
        parts.config.gateway.user);
    log::warn("gateway_user_unknown",
              {{"user", parts.config.gateway.user},
               {"effect", "nobody is believed about other users' events"}});
    return;
  }
  parts.ingest->believe([uid = *uid](const ingest::Peer& peer) { return peer.uid == uid; });
}

}  // namespace

void open_gateway(Parts& parts) {
  if (!parts.config.gateway.enabled) return;
  if (parts.config.gateway.by_service_manager) return believe_user(parts);
  parts.gateway = std::make_unique<GatewayStarter>(parts.loop, parts.clock, starter_options(parts));
  parts.ingest->believe([&parts](const ingest::Peer& peer) {
    return parts.gateway && parts.gateway->is_child(peer);
  });
}

void follow_policy(Parts& parts) {
  if (!parts.gateway || parts.stopping) return;
  if (parts.policy->machine() == consent::MachinePolicy::kOff) {
    parts.gateway->stop({});
  } else {
    parts.gateway->start();
  }
}

Json gateway_json(const Parts& parts) {
  const auto& config = parts.config.gateway;
  GatewayStarter::Status status;
  if (parts.gateway) status = parts.gateway->status();
  if (parts.store && config.enabled && config.by_service_manager) status.state = "service_manager";
  const auto text = [](const std::string& words) { return words.empty() ? Json() : Json(words); };
  return {{"state", status.state},
          {"starts", status.starts},
          {"last_exit", text(status.last_exit)},
          {"problem",
           text(parts.gateway_user_problem.empty() ? status.problem : parts.gateway_user_problem)}};
}

std::string gateway_problem(const Parts& parts) {
  if (!parts.gateway) return parts.gateway_user_problem;
  const GatewayStarter::Status status = parts.gateway->status();
  // An installation without gRPC is whole, until somebody writes about the gateway.
  const bool asked_for = std::ranges::any_of(parts.config.origins, [](const auto& origin) {
    return origin.first.starts_with("gateway.");
  });
  return status.missing && !asked_for ? std::string() : status.problem;
}

}  // namespace telemetryd::app
