#include "app/api_json.h"
#include "app/api_request.h"
#include "app/handlers.h"

namespace telemetryd::app {
namespace {

constexpr std::uint32_t kStepEvents = 64;
constexpr std::size_t kAnswerBytesMax = 1u << 20;

struct Page {
  std::vector<store::ListedEvent> events;
  bool more = false;
};

// In steps, so that a page of large events ends at the answer's bound and not in memory.
Result<Page> list_page(store::Store& store, store::EventQuery query) {
  const std::uint32_t wanted = query.limit;
  Page page;
  std::size_t bytes = 0;
  while (page.events.size() < wanted) {
    query.limit = std::min(kStepEvents, wanted - static_cast<std::uint32_t>(page.events.size()));
    TELEMETRYD_ASSIGN(std::vector<store::ListedEvent> step, store.list(query));
    for (store::ListedEvent& event : step) {
      bytes += event.event.size() + event.context.size();
      query.after_seq = event.row.seq;
      query.after_index = event.index;
      page.events.push_back(std::move(event));
      if (bytes > kAnswerBytesMax) {
        page.more = true;
        return page;
      }
    }
    if (step.size() < query.limit) return page;
  }
  page.more = true;
  return page;
}

Result<store::EventQuery> query_of(const admin::Call& call) {
  TELEMETRYD_TRY(only_words(call, {"app", "after", "limit"}));
  store::EventQuery query;
  query.limit = kListDefault;
  TELEMETRYD_ASSIGN(query.app, app_name(word(call, "app")));
  TELEMETRYD_ASSIGN(const Place after, parse_place(word(call, "after")));
  query.after_seq = after.seq;
  query.after_index = after.index;
  if (const std::string limit = word(call, "limit"); !limit.empty()) {
    TELEMETRYD_ASSIGN(const std::uint64_t value, number(limit, "limit", 1, kListMax));
    query.limit = static_cast<std::uint32_t>(value);
  }
  if (!call.peer.admin) query.uid = call.peer.uid;
  return query;
}

Json page_json(const Parts& parts, const Page& page) {
  Json events = Json::array();
  for (const store::ListedEvent& event : page.events) {
    const std::string& app = event.row.app;
    auto json =
        to_json(event, parts.machine_ids->known({app, machine_id_scheme(parts.config, app)}));
    if (json) events.push_back(std::move(*json));
  }
  Json answer = {{"events", std::move(events)}};
  if (page.more && !page.events.empty()) {
    const store::ListedEvent& last = page.events.back();
    answer["next"] = place_text(last.row.seq, last.index);
  }
  return answer;
}

void list_events(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  const auto query = query_of(call);
  if (!query) return reply.error(query.error());
  ask_store(
      parts,
      reply,
      [query = *query](store::Store& store) { return list_page(store, query); },
      [&parts, reply](const Page& page) { reply.json(200, dump(page_json(parts, page))); });
}

void stream_events(Parts& parts, const admin::Call& call, const admin::Reply& reply) {
  if (const auto known = only_words(call, {"app"}); !known) return reply.error(known.error());
  auto app = app_name(word(call, "app"));
  if (!app) return reply.error(app.error());
  if (!parts.tail) return reply.error(no_store());
  EventTail::Filter filter{.uid = {}, .app = std::move(*app)};
  if (!call.peer.admin) filter.uid = call.peer.uid;
  parts.tail->add(reply, std::move(filter));
}

}  // namespace

void add_event_routes(Parts& parts, Routes& routes) {
  using admin::Access;
  routes.push_back({"GET", "/v1/events", Access::kEverybody, [&](const auto& call, auto reply) {
                      list_events(parts, call, reply);
                    }});
  routes.push_back(
      {"GET", "/v1/events/stream", Access::kEverybody, [&](const auto& call, auto reply) {
         stream_events(parts, call, reply);
       }});
}

}  // namespace telemetryd::app
