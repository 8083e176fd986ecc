#include "app/api_json.h"
#include "app/api_request.h"
#include "app/handlers.h"
#include "event/event.h"

namespace telemetryd::app {
namespace {

constexpr std::size_t kNameBytesMax = 64;

Result<std::int64_t> letter_id(std::string_view text, std::string_view what) {
  TELEMETRYD_ASSIGN(const std::uint64_t value, number(text, what, 0, INT64_MAX));
  return static_cast<std::int64_t>(value);
}

void only_letter(store::DeadQuery& query, std::int64_t id) {
  query.after_id = id - 1;
  query.up_to_id = id;
}

Result<std::string> destination_name(std::string name) {
  if (name.size() <= kNameBytesMax) return name;
  return fail(ErrorCode::kInvalidArgument, "destination: a name has at most 64 characters");
}

Result<store::DeadQuery> query_of(const admin::Call& call) {
  TELEMETRYD_TRY(only_words(call, {"app", "destination", "id", "after", "limit"}));
  store::DeadQuery query;
  query.limit = kListDefault;
  TELEMETRYD_ASSIGN(query.app, app_name(word(call, "app")));
  TELEMETRYD_ASSIGN(query.destination, destination_name(word(call, "destination")));
  if (const std::string after = word(call, "after"); !after.empty()) {
    TELEMETRYD_ASSIGN(query.after_id, letter_id(after, "after"));
  }
  if (const std::string id = word(call, "id"); !id.empty()) {
    TELEMETRYD_ASSIGN(const std::int64_t wanted, letter_id(id, "id"));
    only_letter(query, wanted);
  }
  if (const std::string limit = word(call, "limit"); !limit.empty()) {
    TELEMETRYD_ASSIGN(const std::uint64_t value, number(limit, "limit", 1, kListMax));
    query.limit = static_cast<std::uint32_t>(value);
  }
  if (!call.peer.admin) query.uid = call.peer.uid;
  return query;
}

Json letter_json(const store::DeadLetter& letter) {
  // One that cannot be read is shown all the same: it can be dropped.
  auto event = event::to_json(letter.event, letter.context);
  return {{"id", letter.id},
          {"uid", letter.uid},
          {"app", letter.app},
          {"destination", letter.destination},
          {"parked", rfc3339(letter.parked_unix_ms)},
          {"reason", letter.reason},
          {"event", event ? std::move(*event) : Json(nullptr)}};
}

void list_dead(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  const auto query = query_of(call);
  if (!query) return reply.error(query.error());
  ask_store(
      parts,
      reply,
      [query = *query](store::Store& store) { return store.dead_letters(query); },
      [reply](const store::DeadPage& page) {
        Json list = Json::array();
        for (const store::DeadLetter& letter : page.letters) list.push_back(letter_json(letter));
        Json answer = {{"dead", std::move(list)}};
        // A page may end at a bound of bytes or of time as well, before there is anything in it.
        if (page.more) answer["next"] = page.last_id;
        reply.json(200, dump(answer));
      });
}

Result<std::string> text_member(const Json& body, const char* name) {
  if (!body.contains(name)) return std::string();
  if (body[name].is_string()) return body[name].get<std::string>();
  return fail(ErrorCode::kInvalidArgument, std::string(name) + " must be a text");
}

Result<std::int64_t> id_member(const Json& body, const char* name, std::int64_t otherwise) {
  if (!body.contains(name)) return otherwise;
  const Json& value = body[name];
  if (value.is_number_unsigned() && value.get<std::uint64_t>() <= INT64_MAX) {
    return value.get<std::int64_t>();
  }
  return fail(ErrorCode::kInvalidArgument, std::string(name) + " must be the number of a letter");
}

// Which letters are meant: nothing at all is an error, because everything is what nobody wants to
// throw away by leaving out a word.
Result<store::DeadQuery> selection_of(const admin::Call& call) {
  TELEMETRYD_ASSIGN(const Json body,
                    body_object(call, {"id", "app", "destination", "all", "after", "up_to"}));
  store::DeadQuery query;
  query.limit = kListMax;
  TELEMETRYD_ASSIGN(std::string app, text_member(body, "app"));
  TELEMETRYD_ASSIGN(query.app, app_name(std::move(app)));
  TELEMETRYD_ASSIGN(std::string destination, text_member(body, "destination"));
  TELEMETRYD_ASSIGN(query.destination, destination_name(std::move(destination)));
  TELEMETRYD_ASSIGN(query.after_id, id_member(body, "after", 0));
  TELEMETRYD_ASSIGN(query.up_to_id, id_member(body, "up_to", INT64_MAX));
  const bool one = body.contains("id");
  if (one) {
    TELEMETRYD_ASSIGN(const std::int64_t id, id_member(body, "id", 0));
    only_letter(query, id);
  }
  const bool all = body.contains("all") && body["all"] == true;
  if (!one && !all && query.app.empty() && query.destination.empty()) {
    return fail(ErrorCode::kInvalidArgument, "say which: id, app, destination, or all = true");
  }
  if (!call.peer.admin) query.uid = call.peer.uid;
  return query;
}

using Move = Result<store::DeadMoved> (store::Store::*)(const store::DeadQuery&);

void move_dead(Parts& parts, const admin::Call& call, const admin::Reply& reply, Move move) {
  const auto query = selection_of(call);
  if (!query) return reply.error(query.error());
  ask_store(
      parts,
      reply,
      [query = *query, move](store::Store& store) { return (store.*move)(query); },
      [reply](const store::DeadMoved& moved) {
        const bool more = moved.last_id != 0 && moved.last_id < moved.up_to_id;
        reply.json(200,
                   dump({{"events", moved.events},
                         {"unreadable", moved.unreadable},
                         {"next", more ? Json(moved.last_id) : Json(nullptr)},
                         {"up_to", moved.up_to_id}}));
      });
}

}  // namespace

void add_dead_routes(Parts& parts, Routes& routes) {
  using admin::Access;
  routes.push_back({"GET", "/v1/dead", Access::kEverybody, [&](const auto& call, auto reply) {
                      list_dead(parts, call, reply);
                    }});
  routes.push_back(
      {"POST", "/v1/dead/replay", Access::kEverybody, [&](const auto& call, auto reply) {
         move_dead(parts, call, reply, &store::Store::replay_dead);
       }});
  routes.push_back({"POST", "/v1/dead/drop", Access::kEverybody, [&](const auto& call, auto reply) {
                      move_dead(parts, call, reply, &store::Store::drop_dead);
                    }});
}

}  // namespace telemetryd::app
