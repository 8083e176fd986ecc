#include "forward/upload_sink.h"

#include <utility>

#include "base/bytes.h"
#include "base/digest.h"
#include "forward/answer.h"

namespace telemetryd::forward {

// One lease on its way.
struct UploadSink::Delivery {
  Division division;
  std::function<void(v1::Outcome)> done;
  Part part;                       // what is on its way,
  std::unique_ptr<Upload> upload;  // and how
  std::size_t requests = 0;
  std::size_t body_bytes = 0;
  std::string body_sha256;
  long status = 0;
  v1::Outcome beside;  // what answers said beside their verdicts
};

void UploadSink::begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) {
  // From then on what this process knows is newer.
  if (!std::exchange(recalled_, true)) size_.read(lease.memory());
  send_next(DeliveryPtr(
      new Delivery{.division = Division(lease, size_, progress_), .done = std::move(done)}));
}

void UploadSink::end(Delivery& delivery, v1::Outcome outcome) {
  outcome.set_status(static_cast<std::uint32_t>(delivery.status));
  outcome.set_body_bytes(delivery.body_bytes);
  // Of several bodies there is no one hash.
  if (delivery.requests == 1) outcome.set_body_sha256(delivery.body_sha256);
  *outcome.mutable_mutes() = delivery.beside.mutes();
  outcome.set_certificate_expires_unix_s(delivery.beside.certificate_expires_unix_s());
  const std::string known = size_.text();
  if (known != delivery.division.lease().memory()) outcome.set_memory(known);
  delivery.done(std::move(outcome));
}

bool UploadSink::fill(Delivery& delivery) const {
  Division& division = delivery.division;
  Part& part = delivery.part;
  const auto range = division.next();
  if (!range) return false;
  part = Part();
  std::size_t next = range->begin;
  for (; next < range->end; ++next) {
    if (division.settled(next)) continue;
    Upload::Offer offer = delivery.upload->offer(next);
    if (!offer.problem.empty()) {
      division.unsendable(next, std::move(offer.problem));
      continue;
    }
    if (offer.twin) {
      part.twins.push_back({next, *offer.twin});
      continue;
    }
    const std::size_t bytes = part.bytes + offer.bytes;
    part.full =
        !part.items.empty() && (part.items.size() == size_.events() || bytes > size_.bytes());
    if (part.full) break;
    part.bytes = bytes;
    part.items.push_back(next);
    delivery.upload->add(next);
  }
  part.range = {range->begin, next};
  if (next < range->end) division.put_back({next, range->end});
  return true;
}

void UploadSink::send_next(const DeliveryPtr& delivery) {
  delivery->upload = make_upload(delivery->division);
  do {
    if (!fill(*delivery)) {
      on_finished();
      return end(*delivery, delivery->division.finish());
    }
  } while (delivery->part.items.empty());
  auto request = delivery->upload->request();
  // Whatever is wrong before the first byte is wrong with files or settings.
  if (!request) return end(*delivery, delivery->division.stop(hold(request.error().message())));
  ++delivery->requests;
  delivery->body_bytes += request->body.size();
  delivery->body_sha256.assign(as_text(sha256(request->body)));
  context_.http.start(std::move(*request),
                      [self = shared_from_this(), delivery](const HttpResponse& response) {
                        self->answered(delivery, response);
                      });
}

void UploadSink::answered(const DeliveryPtr& delivery, const HttpResponse& response) {
  delivery->status = response.status;
  note(response, delivery->beside);
  Division& division = delivery->division;
  const Part& part = delivery->part;
  UploadAnswer answer = delivery->upload->judge(response, part.items);
  const bool refused = answer.kind == UploadAnswer::Kind::kRefused;
  // Time heals a server's own errors, unless it did not for long.
  if (refused && answer.refusal == Refusal::kServer && !division.lease().suspect_events()) {
    answer.kind = UploadAnswer::Kind::kFailed;
  }
  switch (answer.kind) {
    case UploadAnswer::Kind::kTaken:
      division.took(part, answer.refused, answer.duplicates, answer.certain);
      break;
    case UploadAnswer::Kind::kRefused:
      if (!division.refused(part, answer.refusal, answer.outcome)) {
        return end(*delivery, division.nothing_taken());
      }
      break;
    case UploadAnswer::Kind::kFailed:
      return end(*delivery, division.stop(std::move(answer.outcome)));
  }
  send_next(delivery);
}

}  // namespace telemetryd::forward
