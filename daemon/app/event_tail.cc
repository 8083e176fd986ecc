#include "app/event_tail.h"

#include <limits>

#include "app/api_json.h"
#include "base/log.h"

namespace telemetryd::app {
namespace {

constexpr std::uint32_t kWholeRow = std::numeric_limits<std::uint32_t>::max();
constexpr unsigned kCounterBits = 40;  // of a seq; the rest is the epoch

// The last seq in use, found by halving: the store lists only forwards.
Result<store::Seq> last_seq(store::Store& store, std::uint64_t epoch) {
  store::Seq low = epoch << kCounterBits;
  store::Seq high = (epoch + 1) << kCounterBits;
  while (high - low > 1) {
    const store::Seq middle = low + (high - low) / 2;
    store::EventQuery query;
    query.after_seq = middle - 1;
    query.after_index = kWholeRow;
    query.limit = 1;
    TELEMETRYD_ASSIGN(const auto found, store.list(query));
    (found.empty() ? high : low) = middle;
  }
  return low;
}

}  // namespace

EventTail::EventTail(loop::Loop& loop, store::StoreThread& store, std::uint64_t epoch, Hooks hooks)
    : loop_(loop), store_(store), epoch_(epoch), hooks_(std::move(hooks)) {}

void EventTail::add(const admin::Reply& reply, Filter filter) {
  drop_gone();
  reply.begin_stream();
  readers_.push_back({reply, std::move(filter)});
  if (!watching_) begin();
}

void EventTail::changed() {
  if (watching_) fetch();
}

void EventTail::end() {
  for (const Reader& reader : readers_) reader.reply.end_stream();
  readers_.clear();
}

void EventTail::drop_gone() {
  std::erase_if(readers_, [](const Reader& reader) { return reader.reply.gone(); });
  if (readers_.empty() && watching_) {
    watching_ = false;
    (void)store_.post([watch = hooks_.watch](store::Store& store) { watch(store, false); });
  }
}

void EventTail::begin() {
  watching_ = true;
  fetching_ = true;
  again_ = false;
  const auto posted = store_.post([this](store::Store& store) {
    hooks_.watch(store, true);
    const auto last = last_seq(store, epoch_);
    loop_.post_when_room([this, last] {
      fetching_ = false;
      if (!last) {
        log::warn("tail_start_failed", {{"cause", last.error().message()}});
        return end();
      }
      after_seq_ = *last;
      after_index_ = kWholeRow;
      if (again_) fetch();
    });
  });
  if (!posted) end();
}

void EventTail::fetch() {
  again_ = true;
  if (fetching_) return;
  again_ = false;
  fetching_ = true;
  store::EventQuery query;
  query.after_seq = after_seq_;
  query.after_index = after_index_;
  query.limit = kPageEvents;
  const auto posted = store_.post([this, query](store::Store& store) {
    auto events = store.list(query);
    loop_.post_when_room([this, events = std::move(events)] {
      fetching_ = false;
      if (!events) {
        log::warn("tail_failed", {{"cause", events.error().message()}});
        return end();
      }
      deliver(*events);
    });
  });
  if (!posted) end();
}

void EventTail::deliver(const std::vector<store::ListedEvent>& events) {
  for (const store::ListedEvent& event : events) {
    after_seq_ = event.row.seq;
    after_index_ = event.index;
    const auto json = to_json(event, hooks_.machine_id(event.row.app));
    if (!json) continue;
    const std::string line = dump(*json);
    for (const Reader& reader : readers_) {
      const bool own = !reader.filter.uid || *reader.filter.uid == event.row.uid;
      const bool wanted = reader.filter.app.empty() || reader.filter.app == event.row.app;
      if (own && wanted) (void)reader.reply.push(line);
    }
  }
  drop_gone();
  if (!readers_.empty() && (again_ || events.size() == kPageEvents)) fetch();
}

}  // namespace telemetryd::app
