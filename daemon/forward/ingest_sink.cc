#include "forward/ingest_sink.h"

#include <algorithm>
#include <map>
#include <ranges>
#include <set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/digest.h"
#include "event/event.h"
#include "forward/answer.h"
#include "forward/ingest_request.h"
#include "forward/upstream.h"

namespace telemetryd::forward {
namespace {

// More than write_batch() adds to an event.
constexpr std::size_t kMetadataBytesMax = 256;

struct Range {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// A request was too large: for the upstream, unless it turns out to be for one event in it.
struct Lesson {
  Range range;
  std::size_t events = 0;
  std::size_t bytes = 0;
};

bool upload_was_empty(const HttpResponse& response) {
  if (response.kind != HttpResponse::Kind::kAnswer) return false;
  const nlohmann::json answer = parse_answer(response.body);
  if (response.status == 400) return answer.is_object() && answer.contains("error");
  if (response.status != 200) return response.status == 204;
  return answer.is_object() && count_of(answer, "accepted") == std::uint64_t{0};
}

}  // namespace

// One lease on its way.
struct IngestSink::Delivery {
  struct Item {
    std::string_view event;  // points into `lease`
    int row = 0;
    std::uint32_t index = 0;  // within the row's events
  };

  Delivery(const v1::Lease& lease_arg,
           std::shared_ptr<IngestProgress> progress_arg,
           std::function<void(v1::Outcome)> done_arg)
      : lease(lease_arg), progress(std::move(progress_arg)), done(std::move(done_arg)) {
    for (int i = 0; i < lease.rows_size(); ++i) add_row(i);
    std::size_t end = items.size();
    for (const std::size_t cut : recall() | std::views::reverse) {
      waiting.push_back({cut, end});
      end = cut;
    }
    if (end > 0) waiting.push_back({0, end});
  }

  void add_row(int i) {
    const v1::LeasedRow& row = lease.rows(i);
    std::uint32_t seen = 0;
    const auto visited =
        event::for_each(row.events(), [&](std::uint32_t index, std::string_view bytes) {
          items.push_back({bytes, i, index});
          seen = index + 1;
          return true;
        });
    if (!visited && seen < row.count()) {
      reject(outcome, row, seen, row.count() - seen, "invalid_event: " + visited.error().message());
    }
  }

  // Takes up what earlier tries achieved; where requests were divided then.
  std::set<std::size_t> recall() {
    const IngestProgress::Row* known = nullptr;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i == 0 || items[i].row != items[i - 1].row) known = progress->find(row_of(i));
      if (known == nullptr) continue;
      const std::uint32_t index = items[i].index;
      if (known->taken.contains(index)) taken.insert(i);
      if (known->cuts.contains(index)) cuts.insert(i);
      if (const auto why = known->refused.find(index); why != known->refused.end()) {
        refused.emplace(i, why->second);
      }
    }
    duplicates = std::min(progress->duplicates, taken.size());
    refusals = progress->refusals;
    return cuts;
  }

  // For when the rows come again. Where a person must act a refusal says nothing about the time
  // after that.
  void remember(bool refusals_too) const {
    progress->clear();
    IngestProgress::Row known;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::uint32_t index = items[i].index;
      if (taken.contains(i)) known.taken.insert(index);
      if (refusals_too && cuts.contains(i)) known.cuts.insert(index);
      if (const auto why = refused.find(i); refusals_too && why != refused.end()) {
        known.refused.insert({index, why->second});
      }
      if (i + 1 < items.size() && items[i + 1].row == items[i].row) continue;
      progress->keep(row_of(i), std::exchange(known, {}));
    }
    progress->duplicates = duplicates;
    progress->refusals = refusals_too ? refusals : 0;
  }

  // What is refused now says nothing about the event when all that was taken was taken earlier: one
  // of those is asked for again. False when there is no need, or was already.
  bool ask_again() {
    if (fresh || refused.empty() || taken.empty() || std::exchange(asked_again, true)) return false;
    const std::size_t item = *taken.begin();
    taken.erase(taken.begin());
    waiting.push_back({item, item + 1});
    return true;
  }

  bool settled(std::size_t item) const { return taken.contains(item) || refused.contains(item); }

  const v1::LeasedRow& row_of(std::size_t item) const { return lease.rows(items[item].row); }

  std::uint32_t attempt() const { return std::max(1u, lease.attempt()); }

  void end(v1::Outcome given) {
    if (given.verdict() == v1::VERDICT_DELIVERED) {
      progress->clear();
    } else {
      remember(given.verdict() == v1::VERDICT_RETRY);
    }
    given.set_status(static_cast<std::uint32_t>(status));
    given.set_body_bytes(outcome.body_bytes());
    // Of several bodies there is no one hash.
    given.set_body_sha256(requests == 1 ? outcome.body_sha256() : "");
    done(std::move(given));
  }

  // Everything was sent: what the upstream refused is the events' fault if it took others.
  void finish() {
    if (!refused.empty() && !fresh) {
      return end(hold("none of " + std::to_string(items.size()) +
                      " events was accepted: " + refused.begin()->second));
    }
    refused.merge(unwritable);
    for (const auto& [item, reason] : refused) {
      reject(outcome, row_of(item), items[item].index, 1, reason);
    }
    outcome.set_duplicates(static_cast<std::uint32_t>(std::min(duplicates, taken.size())));
    outcome.set_verdict(v1::VERDICT_DELIVERED);
    end(outcome);
  }

  const v1::Lease lease;
  const std::shared_ptr<IngestProgress> progress;  // the sink's, while this is its one lease
  std::function<void(v1::Outcome)> done;
  std::vector<Item> items;
  std::vector<Range> waiting;  // the next one is the last
  // By item, why: halves are taken up again, and nothing may be parked twice.
  std::map<std::size_t, std::string> refused;
  std::map<std::size_t, std::string> unwritable;
  std::set<std::size_t> taken;  // accepted, or there before; by item
  std::set<std::size_t> cuts;   // where divided requests begin; by item
  std::size_t duplicates = 0;   // of those taken
  bool fresh = false;           // some were taken in this try
  bool asked_again = false;
  int refusals = 0;  // of requests as a whole, since the rows first came
  int requests = 0;
  std::vector<Lesson> lessons;  // learned since `size_before`
  BatchSize size_before;
  long status = 0;
  v1::Outcome outcome;  // grows with the requests
};

// What one request holds.
struct IngestSink::Batch {
  Range range;
  std::vector<std::size_t> items;  // not all of the range when some are no events
  std::vector<kit::WrittenEvent> events;
  // Further events of the range with an ID that is in the request already: they share its fate.
  std::vector<std::pair<std::size_t, std::size_t>> twins;  // their item, and the one sent
  bool full = false;      // more would have been sent if the upstream took it
  std::size_t bytes = 0;  // what it takes, rather too much than too little
  Credentials credentials;
};

IngestSink::IngestSink(config::Destination destination, const SinkContext& context)
    : destination_(std::move(destination)), context_(context), sender_(this_sender()) {}

void IngestSink::begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) {
  send_next(std::make_shared<Delivery>(lease, progress_, std::move(done)));
}

IngestSink::Batch IngestSink::take_batch(Delivery& delivery) const {
  Batch batch;
  const Range range = delivery.waiting.back();
  delivery.waiting.pop_back();
  std::map<std::string, std::size_t> sent;  // by ID, the item
  std::size_t next = range.begin;
  for (; next < range.end; ++next) {
    if (delivery.settled(next)) continue;
    const Delivery::Item& item = delivery.items[next];
    const v1::LeasedRow& row = delivery.row_of(next);
    auto written = kit::write_event(item.event, row.context(), row.machine_id(), sender_);
    if (!written) {
      delivery.unwritable[next] = "invalid_event: " + written.error().message();
      continue;
    }
    if (const auto twin = sent.find(written->id); twin != sent.end()) {
      batch.twins.push_back({next, twin->second});
      continue;
    }
    const std::size_t bytes = batch.bytes + written->json.size() + kMetadataBytesMax;
    batch.full =
        !batch.events.empty() && (batch.events.size() == size_.events() || bytes > size_.bytes());
    if (batch.full) break;
    batch.bytes = bytes;
    batch.items.push_back(next);
    sent.emplace(written->id, next);
    batch.events.push_back(std::move(*written));
  }
  batch.range = {range.begin, next};
  if (next < range.end) delivery.waiting.push_back({next, range.end});
  return batch;
}

void IngestSink::send_next(const DeliveryPtr& delivery) {
  auto batch = std::make_shared<Batch>();
  while (batch->events.empty()) {
    if (delivery->waiting.empty() && !delivery->ask_again()) {
      unstorable_ = 0;
      return delivery->finish();
    }
    *batch = take_batch(*delivery);
  }
  auto credentials = Credentials::read(destination_);
  // Whatever is wrong before the first byte is wrong with files or settings.
  if (!credentials) return delivery->end(hold(credentials.error().message()));
  std::string body = kit::write_batch(
      batch->events, {context_.clock.unix_ms(), delivery->attempt() - 1, sender_.program});
  auto request =
      ingest_request(destination_, context_, *credentials, std::move(body), batch->events.size());
  if (!request) return delivery->end(hold(request.error().message()));
  ++delivery->requests;
  delivery->outcome.set_body_bytes(delivery->outcome.body_bytes() + request->body.size());
  delivery->outcome.set_body_sha256(std::string(as_text(sha256(request->body))));
  batch->credentials = std::move(*credentials);
  context_.http.start(std::move(*request),
                      [self = shared_from_this(), delivery, batch](const HttpResponse& response) {
                        self->answered(delivery, *batch, response);
                      });
}

void IngestSink::answered(const DeliveryPtr& delivery,
                          const Batch& batch,
                          const HttpResponse& response) {
  delivery->status = response.status;
  IngestVerdict verdict = judge_ingest(response, batch.events, unstorable_ + 1);
  verdict.words = batch.credentials.hide(std::move(verdict.words));
  if (verdict.kind == IngestVerdict::Kind::kHold || verdict.kind == IngestVerdict::Kind::kRetry) {
    unstorable_ = verdict.unstorable ? unstorable_ + 1 : 0;
    // A division that is not over may yet end with one event that is too large.
    unlearn(*delivery, batch.range.begin, delivery->items.size());
  }
  switch (verdict.kind) {
    case IngestVerdict::Kind::kHold: return delivery->end(hold(verdict.words));
    case IngestVerdict::Kind::kRetry: {
      v1::Outcome outcome = retry(verdict.words);
      outcome.set_retry_after_ms(static_cast<std::uint64_t>(verdict.retry_after.count()));
      return delivery->end(std::move(outcome));
    }
    case IngestVerdict::Kind::kDivide: return divide(delivery, batch, verdict);
    case IngestVerdict::Kind::kTaken: break;
  }
  for (const IngestVerdict::Refused& refused : verdict.refused) {
    delivery->refused.emplace(batch.items[refused.event], batch.credentials.hide(refused.reason));
  }
  for (const std::size_t item : batch.items) {
    if (delivery->refused.contains(item)) continue;
    delivery->taken.insert(item);
    delivery->fresh = true;
    delivery->refusals = 0;
  }
  // Given up on: the next one that cannot be stored has tries of its own.
  if (verdict.unstorable) unstorable_ = 0;
  delivery->duplicates += verdict.duplicates;
  for (const auto& [item, first] : batch.twins) {
    if (const auto why = delivery->refused.find(first); why != delivery->refused.end()) {
      delivery->refused.emplace(item, why->second);
    } else if (delivery->taken.insert(item).second) {
      ++delivery->duplicates;
    }
  }
  size_.passed(batch.full);
  send_next(delivery);
}

void IngestSink::divide(const DeliveryPtr& delivery,
                        const Batch& batch,
                        const IngestVerdict& verdict) {
  const bool single = batch.events.size() == 1;
  if (verdict.too_large && single) unlearn(*delivery, batch.items.front(), batch.range.end);
  if (verdict.too_large && !single) learn(*delivery, batch);
  if (!delivery->fresh && ++delivery->refusals > kRefusalsMax) {
    unlearn(*delivery, batch.range.begin, delivery->items.size());
    return delivery->end(hold(verdict.words));
  }
  const auto [begin, end] = batch.range;
  if (single) {
    delivery->refused.emplace(batch.items.front(), verdict.words);
    for (const auto& twin : batch.twins) delivery->refused.emplace(twin.first, verdict.words);
  } else {
    // Between two events that were sent, so that neither half is empty.
    const std::size_t middle = batch.items[batch.items.size() / 2];
    delivery->cuts.insert(middle);
    delivery->waiting.push_back({middle, end});
    delivery->waiting.push_back({begin, middle});
  }
  send_next(delivery);
}

void IngestSink::learn(Delivery& delivery, const Batch& batch) {
  if (delivery.lessons.empty()) delivery.size_before = size_;
  delivery.lessons.push_back({batch.range, batch.events.size(), batch.bytes});
  size_.too_large(batch.events.size(), batch.bytes);
}

void IngestSink::unlearn(Delivery& delivery, std::size_t begin, std::size_t end) {
  const auto wrong = [&](const Lesson& lesson) {
    return lesson.range.begin < end && begin < lesson.range.end;
  };
  if (std::erase_if(delivery.lessons, wrong) == 0) return;
  size_ = delivery.size_before;
  for (const Lesson& lesson : delivery.lessons) size_.too_large(lesson.events, lesson.bytes);
}

void IngestSink::probe(std::function<void(ProbeOutcome)> done) {
  const auto url = ingest_url(destination_);
  if (!url) return done({false, printable(url.error().message())});
  probe_health(
      destination_, *url, context_, describe_ingest, done, [self = shared_from_this(), done] {
        self->probe_upload(done);
      });
}

void IngestSink::probe_upload(std::function<void(ProbeOutcome)> done) {
  auto credentials = Credentials::read(destination_);
  if (!credentials) return done({false, printable(credentials.error().message())});
  const kit::Transmission now{context_.clock.unix_ms(), 0, sender_.program};
  auto request = ingest_request(destination_, context_, *credentials, kit::write_batch({}, now), 0);
  if (!request) return done({false, printable(request.error().message())});
  const auto hidden = std::make_shared<Credentials>(std::move(*credentials));
  context_.http.start(
      std::move(*request), [self = shared_from_this(), hidden, done](const HttpResponse& response) {
        if (upload_was_empty(response)) {
          return done({true,
                       "connected and authenticated; an upload without events was refused for "
                       "being empty, as it should be"});
        }
        done({false, hidden->hide("upload without events: " + describe_ingest(response))});
      });
}

}  // namespace telemetryd::forward
