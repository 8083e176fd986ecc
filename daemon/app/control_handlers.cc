#include <algorithm>
#include <chrono>

#include "app/api_json.h"
#include "app/api_request.h"
#include "app/handlers.h"
#include "app/reload.h"

namespace telemetryd::app {
namespace {

constexpr std::uint64_t kFlushDeadlineMs = 60'000;
constexpr std::uint64_t kFlushDeadlineMaxMs = 600'000;

bool may_leave(const Parts& parts, const std::string& app) {
  return config::route(parts.config.routes, app).has_value();
}

void count_remaining(Parts& parts, const admin::Reply& reply) {
  ask_store(
      parts,
      reply,
      [](store::Store& store) -> Result<std::map<std::string, std::uint64_t>> {
        std::map<std::string, std::uint64_t> queued;
        for (const std::string& app : store.apps()) {
          TELEMETRYD_ASSIGN(const store::QueueInfo queue, store.queue(app));
          queued[app] = queue.events;
        }
        return queued;
      },
      [&parts, reply](const std::map<std::string, std::uint64_t>& queued) {
        std::uint64_t remaining = 0;
        for (const auto& [app, events] : queued) {
          if (may_leave(parts, app)) remaining += events;
        }
        reply.json(200, dump({{"remaining_events", remaining}}));
      });
}

void flush(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  const auto body = body_object(call, {"deadline_ms"});
  if (!body) return reply.error(body.error());
  std::uint64_t deadline_ms = kFlushDeadlineMs;
  if (body->contains("deadline_ms")) {
    const Json& value = (*body)["deadline_ms"];
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kFlushDeadlineMaxMs) {
      return reply.error(
          Error(ErrorCode::kInvalidArgument, "deadline_ms must be a number from 0 to 600000"));
    }
    deadline_ms = value.get<std::uint64_t>();
  }
  if (!parts.scheduler) return reply.error(no_store());
  parts.store->commit_now();
  parts.scheduler->flush(
      [&parts, reply](const Result<void>& done) {
        if (!done) {
          return reply.error(Error(ErrorCode::kUnavailable, done.error().message()));
        }
        count_remaining(parts, reply);
      },
      std::chrono::milliseconds(deadline_ms));
}

void show_destinations(Parts& parts, const admin::Reply& reply) {
  if (!parts.scheduler) return reply.json(200, dump({{"destinations", Json::array()}}));
  parts.scheduler->status([reply](const std::vector<schedule::DestinationStatus>& all) {
    Json list = Json::array();
    for (const auto& destination : all) list.push_back(to_json(destination));
    reply.json(200, dump({{"destinations", std::move(list)}}));
  });
}

void test_destination(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  const auto body = body_object(call, {"name"});
  if (!body) return reply.error(body.error());
  if (!body->contains("name") || !(*body)["name"].is_string()) {
    return reply.error(Error(ErrorCode::kInvalidArgument, "name must name a destination"));
  }
  const auto name = (*body)["name"].get<std::string>();
  const bool known = std::ranges::any_of(
      parts.config.destinations, [&](const auto& destination) { return destination.name == name; });
  if (!known) return reply.error(Error(ErrorCode::kNotFound, "there is no such destination"));
  if (!parts.scheduler) return reply.error(no_store());
  parts.scheduler->probe(name, [reply](const Result<std::string>& answer) {
    reply.json(200,
               dump({{"ok", answer.has_value()},
                     {"detail", answer.has_value() ? *answer : answer.error().message()}}));
  });
}

void show_config(Parts& parts, const admin::Reply& reply) {
  Json files = Json::array();
  for (const auto& file : parts.config_files) files.push_back(file.native());
  reply.json(200, dump({{"files", std::move(files)}, {"toml", config::print(parts.config)}}));
}

void reload_config(Parts& parts, const admin::Reply& reply) {
  if (parts.stopping) return reply.error(Error(ErrorCode::kCancelled, "stopping"));
  const Reloaded result = reload(parts);
  if (result.done) {
    return reply.json(
        200, dump({{"generation", parts.generation}, {"restart_needed", result.restart_needed}}));
  }
  Json problems = Json::array();
  for (const auto& problem : result.problems) problems.push_back(config::to_string(problem));
  reply.json(400,
             dump({{"error",
                    {{"code", to_string(ErrorCode::kInvalidArgument)},
                     {"message", "the configuration has problems; nothing was changed"}}},
                   {"problems", std::move(problems)}}));
}

}  // namespace

Error no_store() {
  return {ErrorCode::kFailedPrecondition,
          "the machine's policy is off: nothing is collected or stored"};
}

void add_control_routes(Parts& parts, Routes& routes) {
  using admin::Access;
  routes.push_back({"POST", "/v1/flush", Access::kAdmin, [&](const auto& call, auto reply) {
                      flush(parts, call, reply);
                    }});
  routes.push_back({"GET", "/v1/destinations", Access::kEverybody, [&](const auto&, auto reply) {
                      show_destinations(parts, reply);
                    }});
  routes.push_back(
      {"POST", "/v1/destinations/test", Access::kAdmin, [&](const auto& call, auto reply) {
         test_destination(parts, call, reply);
       }});
  routes.push_back({"GET", "/v1/config", Access::kAdmin, [&](const auto&, auto reply) {
                      show_config(parts, reply);
                    }});
  routes.push_back({"POST", "/v1/reload", Access::kAdmin, [&](const auto&, auto reply) {
                      reload_config(parts, reply);
                    }});
}

}  // namespace telemetryd::app
