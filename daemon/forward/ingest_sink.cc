#include "forward/ingest_sink.h"

#include <algorithm>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "forward/answer.h"
#include "forward/ingest_request.h"
#include "forward/ingest_verdict.h"
#include "forward/upstream.h"

namespace telemetryd::forward {
namespace {

// More than write_batch() adds to an event.
constexpr std::size_t kMetadataBytesMax = 256;

bool upload_was_empty(const HttpResponse& response) {
  if (response.kind != HttpResponse::Kind::kAnswer) return false;
  const nlohmann::json answer = parse_answer(response.body);
  if (response.status == 400) return answer.is_object() && answer.contains("error");
  if (response.status != 200) return response.status == 204;
  return answer.is_object() && count_of(answer, "accepted") == std::uint64_t{0};
}

class IngestUpload final : public Upload {
 public:
  IngestUpload(const config::Destination& destination,
               const SinkContext& context,
               const kit::Sender& sender,
               const Division& division,
               std::uint32_t& unstorable)
      : destination_(destination),
        context_(context),
        sender_(sender),
        division_(division),
        unstorable_(unstorable) {}

  Offer offer(std::size_t item) override {
    const v1::LeasedRow& row = division_.row_of(item);
    auto written =
        kit::write_event(division_.item(item).event, row.context(), row.machine_id(), sender_);
    if (!written) return {.problem = "invalid_event: " + written.error().message()};
    const auto twin = sent_.find(written->id);
    if (twin != sent_.end()) return {.twin = twin->second};
    offered_ = std::move(*written);
    return {.bytes = offered_.json.size() + kMetadataBytesMax};
  }

  void add(std::size_t item) override {
    sent_.emplace(offered_.id, item);
    events_.push_back(std::move(offered_));
  }

  Result<HttpRequest> request() override {
    TELEMETRYD_ASSIGN(credentials_, Credentials::read(destination_));
    const std::uint32_t attempt = std::max(1u, division_.lease().attempt());
    std::string body =
        kit::write_batch(events_, {context_.clock.unix_ms(), attempt - 1, sender_.program});
    return ingest_request(destination_, context_, *credentials_, std::move(body), events_.size());
  }

  UploadAnswer judge(const HttpResponse& response, std::span<const std::size_t>) override {
    IngestVerdict verdict = judge_ingest(response, events_, unstorable_ + 1);
    count(verdict);
    UploadAnswer answer;
    answer.duplicates = verdict.duplicates;
    for (const IngestVerdict::Refused& refused : verdict.refused) {
      answer.refused.push_back({refused.event, credentials_->hide(refused.reason)});
    }
    if (verdict.kind == IngestVerdict::Kind::kTaken) answer.kind = UploadAnswer::Kind::kTaken;
    if (verdict.kind == IngestVerdict::Kind::kDivide) {
      answer.kind = UploadAnswer::Kind::kRefused;
      answer.refusal = verdict.too_large ? Refusal::kSize : Refusal::kContent;
    }
    if (refusal_of(response) == Refusal::kServer) {
      answer.kind = UploadAnswer::Kind::kRefused;
      answer.refusal = Refusal::kServer;
    }
    answer.outcome = outcome_of(verdict);
    return answer;
  }

 private:
  // Tries in a row that ended with what the server could not store.
  void count(const IngestVerdict& verdict) {
    switch (verdict.kind) {
      case IngestVerdict::Kind::kHold:
      case IngestVerdict::Kind::kRetry:
        unstorable_ = verdict.unstorable ? unstorable_ + 1 : 0;
        return;
      case IngestVerdict::Kind::kTaken:
        // Given up on: the next one that cannot be stored has tries of its own.
        if (verdict.unstorable) unstorable_ = 0;
        return;
      case IngestVerdict::Kind::kDivide: return;
    }
  }

  v1::Outcome outcome_of(const IngestVerdict& verdict) const {
    const std::string words = credentials_->hide(verdict.words);
    if (verdict.kind != IngestVerdict::Kind::kRetry) return hold(words, verdict.cause);
    v1::Outcome outcome = retry(words, verdict.cause);
    outcome.set_retry_after_ms(static_cast<std::uint64_t>(verdict.retry_after.count()));
    return outcome;
  }

  const config::Destination& destination_;
  const SinkContext& context_;
  const kit::Sender& sender_;
  const Division& division_;
  std::uint32_t& unstorable_;
  kit::WrittenEvent offered_;
  std::map<std::string, std::size_t> sent_;  // by ID, the item
  std::vector<kit::WrittenEvent> events_;
  std::optional<Credentials> credentials_;
};

}  // namespace

IngestSink::IngestSink(config::Destination destination, const SinkContext& context)
    : UploadSink(std::move(destination), context, BatchSize(kLimits)), sender_(this_sender()) {}

std::unique_ptr<Upload> IngestSink::make_upload(const Division& division) {
  return std::make_unique<IngestUpload>(destination_, context_, sender_, division, unstorable_);
}

void IngestSink::probe(std::function<void(ProbeOutcome)> done) {
  const auto url = ingest_url(destination_);
  if (!url) return done({false, printable(url.error().message())});
  const auto self = std::static_pointer_cast<IngestSink>(shared_from_this());
  probe_health(destination_, *url, context_, describe_ingest, done, [self, done] {
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
  context_.http.start(std::move(*request), [hidden, done](const HttpResponse& response) {
    if (upload_was_empty(response)) {
      return done({true,
                   "connected and authenticated; an upload without events was refused for "
                   "being empty, as it should be"});
    }
    done({false, hidden->hide("upload without events: " + describe_ingest(response))});
  });
}

}  // namespace telemetryd::forward
