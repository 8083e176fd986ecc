#include "forward/native_sink.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/bytes.h"
#include "event/event.h"
#include "forward/native_request.h"
#include "forward/native_verdict.h"
#include "forward/upstream.h"
#include "forward/version.h"

namespace telemetryd::forward {
namespace {

// More than a group and an event in it need beside their bytes.
constexpr std::size_t kGroupBytesMax = 32;
constexpr std::size_t kEventBytesMax = 8;

// A signed upload of rows, and what reads its answer.
struct NativeRequest {
  [[nodiscard]] static Result<NativeRequest> make(const config::Destination& destination,
                                                  const SinkContext& context,
                                                  const v1::Lease& rows);

  v1::Outcome judge(const HttpResponse& response) const {
    v1::Outcome outcome = forward::judge(response, layout);
    credentials.hide(outcome);
    return outcome;
  }

  Credentials credentials;
  BatchLayout layout;
  HttpRequest request;
};

Result<NativeRequest> NativeRequest::make(const config::Destination& destination,
                                          const SinkContext& context,
                                          const v1::Lease& rows) {
  const std::string suffix = "/v1/native/" + destination.org + "/" + destination.app;
  TELEMETRYD_ASSIGN(HttpRequest request,
                    base_request(destination, destination.url, suffix, context));
  TELEMETRYD_ASSIGN(const UrlParts url, split_url(destination.url));
  TELEMETRYD_ASSIGN(Credentials credentials, Credentials::read(destination));
  NativeRequest made{std::move(credentials), BatchLayout(rows), std::move(request)};

  const UnixMs now = context.clock.unix_ms();
  const std::string path = url.path + suffix;
  const std::string timestamp = std::to_string(now / 1000);
  const std::string nonce = uuid_text(random_bytes16());
  set_body(made.request, native_body(rows, now, kSender));
  made.credentials.authorize(made.request);
  auto& headers = made.request.headers;
  headers.push_back("Content-Type: application/x-protobuf");
  headers.push_back("X-Timestamp: " + timestamp);
  headers.push_back("X-Nonce: " + nonce);
  headers.push_back("X-Signature: " + sign(made.credentials.secret(),
                                           {"POST", path, timestamp, nonce, made.request.body}));
  headers.push_back("X-Batch-Size: " + std::to_string(made.layout.events()));
  return made;
}

class NativeUpload final : public Upload {
 public:
  NativeUpload(const config::Destination& destination,
               const SinkContext& context,
               const Division& division)
      : destination_(destination), context_(context), division_(division) {}

  Offer offer(std::size_t item) override {
    const v1::LeasedRow& row = division_.row_of(item);
    const std::size_t group = row.context().size() + row.machine_id().size() + kGroupBytesMax;
    // In equal parts, so that half of the events are half of the bytes.
    const std::size_t share = group / std::max(1u, row.count()) + 1;
    return {.bytes = division_.item(item).event.size() + kEventBytesMax + share};
  }

  void add(std::size_t item) override {
    const Division::Item& added = division_.item(item);
    if (!continues(added)) runs_.push_back({added.row, added.index, 0});
    ++runs_.back().count;
  }

  Result<HttpRequest> request() override {
    TELEMETRYD_ASSIGN(const v1::Lease part, rows());
    TELEMETRYD_ASSIGN(made_, NativeRequest::make(destination_, context_, part));
    return std::move(made_->request);
  }

  UploadAnswer judge(const HttpResponse& response, std::span<const std::size_t> items) override {
    UploadAnswer answer;
    answer.outcome = made_->judge(response);
    if (answer.outcome.verdict() == v1::VERDICT_DELIVERED) {
      answer.kind = UploadAnswer::Kind::kTaken;
      answer.refused = refused(answer.outcome, items);
      answer.duplicates = answer.outcome.duplicates();
      // The server names an event only for what it is itself.
      answer.certain = true;
    } else if (const auto refusal = refusal_of(response)) {
      answer.kind = UploadAnswer::Kind::kRefused;
      answer.refusal = *refusal;
    }
    return answer;
  }

 private:
  // Consecutive events of one row.
  struct Run {
    int row = 0;
    std::uint32_t index = 0;
    std::uint32_t count = 0;
  };

  bool continues(const Division::Item& item) const {
    return !runs_.empty() && runs_.back().row == item.row &&
           runs_.back().index + runs_.back().count == item.index;
  }

  // What was added, as if it were all that was lent.
  Result<v1::Lease> rows() const {
    const v1::Lease& lease = division_.lease();
    v1::Lease part;
    part.set_attempt(lease.attempt());
    for (const Run& run : runs_) {
      const v1::LeasedRow& row = lease.rows(run.row);
      TELEMETRYD_ASSIGN(const std::string_view events,
                        event::slice(row.events(), run.index, run.count));
      v1::LeasedRow* cut = part.add_rows();
      cut->set_seq(row.seq());
      cut->set_first_index(row.first_index() + run.index);
      cut->set_count(run.count);
      cut->set_app(row.app());
      cut->set_machine_id(row.machine_id());
      cut->set_context(row.context());
      cut->set_events(events.data(), events.size());
    }
    return part;
  }

  std::vector<RefusedEvent> refused(const v1::Outcome& outcome,
                                    std::span<const std::size_t> items) const {
    std::vector<RefusedEvent> all;
    if (outcome.rejected_size() == 0) return all;
    std::map<std::pair<std::uint64_t, std::uint32_t>, std::size_t> places;
    for (std::size_t place = 0; place < items.size(); ++place) {
      const v1::LeasedRow& row = division_.row_of(items[place]);
      places[{row.seq(), row.first_index() + division_.item(items[place]).index}] = place;
    }
    for (const v1::RejectedEvents& rejected : outcome.rejected()) {
      all.push_back({places.at({rejected.seq(), rejected.first_index()}), rejected.reason()});
    }
    return all;
  }

  const config::Destination& destination_;
  const SinkContext& context_;
  const Division& division_;
  std::vector<Run> runs_;
  std::optional<NativeRequest> made_;
};

}  // namespace

std::unique_ptr<Upload> NativeSink::make_upload(const Division& division) {
  return std::make_unique<NativeUpload>(destination_, context_, division);
}

void NativeSink::probe(std::function<void(ProbeOutcome)> done) {
  const auto self = std::static_pointer_cast<NativeSink>(shared_from_this());
  probe_health(destination_, destination_.url, context_, describe, done, [self, done] {
    self->probe_upload(done);
  });
}

void NativeSink::probe_upload(std::function<void(ProbeOutcome)> done) {
  v1::Lease empty;
  empty.set_attempt(1);
  auto made = NativeRequest::make(destination_, context_, empty);
  if (!made) return done({false, printable(made.error().message())});
  const auto sent = std::make_shared<NativeRequest>(std::move(*made));
  context_.http.start(std::move(sent->request), [sent, done](const HttpResponse& response) {
    const v1::Outcome outcome = sent->judge(response);
    if (outcome.verdict() == v1::VERDICT_DELIVERED) {
      return done({true, "connected and authenticated; an upload without events was accepted"});
    }
    done({false, "upload without events: " + outcome.error()});
  });
}

}  // namespace telemetryd::forward
