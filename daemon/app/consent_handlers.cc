#include "app/api_json.h"
#include "app/api_request.h"
#include "app/handlers.h"
#include "base/log.h"

namespace telemetryd::app {
namespace {

Result<store::Consent> state_of(const Json& body) {
  const std::string text = body.contains("state") && body["state"].is_string()
                               ? body["state"].get<std::string>()
                               : std::string();
  for (const auto state : {store::Consent::kUnset,
                           store::Consent::kEnabled,
                           store::Consent::kLocal,
                           store::Consent::kDisabled}) {
    if (text == to_word(state)) return state;
  }
  return fail(ErrorCode::kInvalidArgument, "state must be enabled, local, disabled or unset");
}

Result<store::ConsentRecord> record_of(const admin::Call& call, UnixMs now) {
  TELEMETRYD_ASSIGN(const Json body, body_object(call, {"app", "state", "uid"}));
  store::ConsentRecord record;
  record.uid = call.peer.uid;
  record.decided_unix_ms = now;
  TELEMETRYD_ASSIGN(record.state, state_of(body));
  if (body.contains("app")) {
    if (!body["app"].is_string()) return fail(ErrorCode::kInvalidArgument, "app must be a string");
    TELEMETRYD_ASSIGN(record.app, app_name(body["app"].get<std::string>()));
  }
  if (body.contains("uid")) {
    const bool fits = body["uid"].is_number_unsigned() &&
                      body["uid"].get<std::uint64_t>() < 0xffffffffu;  // that is "nobody", -1
    if (!fits) return fail(ErrorCode::kInvalidArgument, "uid must be a user's number");
    record.uid = body["uid"].get<std::uint32_t>();
  }
  if (record.uid != call.peer.uid && !call.peer.admin) {
    return fail(ErrorCode::kPermissionDenied, "only an admin may decide for somebody else");
  }
  return record;
}

void show_consent(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  if (const auto known = only_words(call, {"app"}); !known) return reply.error(known.error());
  const auto app = app_name(word(call, "app"));
  if (!app) return reply.error(app.error());
  Json records = Json::array();
  for (const auto& record : parts.policy->records()) {
    if (record.uid == call.peer.uid) records.push_back(to_json(record));
  }
  reply.json(200,
             dump({{"machine_policy", consent::policy_name(parts.policy->machine())},
                   {"uid", call.peer.uid},
                   {"records", std::move(records)},
                   {"decision", to_json(parts.policy->decide(call.peer.uid, *app))}}));
}

void answer_decision(Parts& parts,
                     const store::ConsentRecord& record,
                     std::uint64_t erased,
                     const admin::Reply& reply) {
  reply.json(200,
             dump({{"decision", to_json(parts.policy->decide(record.uid, record.app))},
                   {"erased_events", erased}}));
}

void apply(Parts& parts, const store::ConsentRecord& record, const admin::Reply& reply) {
  parts.policy->set(record);
  parts.ingest->refresh_modes();
  log::info("consent_changed",
            {{"uid", record.uid}, {"app", record.app}, {"state", to_word(record.state)}});
  if (record.state != store::Consent::kDisabled) {
    // What waited for this word is due now.
    if (parts.scheduler) parts.scheduler->reconsider(record.app);
    return answer_decision(parts, record, 0, reply);
  }
  // After the clients were told: frames that were on their way are committed before this runs.
  ask_store(
      parts,
      reply,
      [record](store::Store& store) { return store.erase(record.uid, record.app); },
      [&parts, record, reply](std::uint64_t erased) {
        answer_decision(parts, record, erased, reply);
      });
}

void set_consent(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  const auto record = record_of(call, parts.clock.unix_ms());
  if (!record) return reply.error(record.error());
  ask_store(
      parts,
      reply,
      [record = *record](store::Store& store) -> Result<bool> {
        TELEMETRYD_TRY(store.set_consent(record));
        return true;
      },
      [&parts, record = *record, reply](bool) { apply(parts, record, reply); });
}

}  // namespace

void add_consent_routes(Parts& parts, Routes& routes) {
  using admin::Access;
  routes.push_back({"GET", "/v1/consent", Access::kEverybody, [&](const auto& call, auto reply) {
                      show_consent(parts, call, reply);
                    }});
  routes.push_back({"POST", "/v1/consent", Access::kEverybody, [&](const auto& call, auto reply) {
                      set_consent(parts, call, reply);
                    }});
}

}  // namespace telemetryd::app
