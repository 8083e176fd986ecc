// forward/ingest_sink.h: kind `ingest`: events as telemetry-kit's JSON, signed, to its servers and
// ours.
//
// A lease becomes as many requests as the upstream's limits ask for, one after the other and in
// order. What is refused as a whole is sent again in halves, down to single events, so that one
// event that the upstream cannot take does not keep the others. A single event is parked only when
// the upstream took another one of the lease: otherwise the fault is not the event's.
//
// A try that ends in the middle settles nothing; when the same rows come again, what the upstream
// has said about their events still holds, and only the others are sent.
//
// Owns:    what the upstream has let us know of its limits and of the last unsettled lease, until
//          the configuration is read again.
// Thread:  the forwarder's.
// Limits:  BatchSize per request; kRefusalsMax refused requests before the first that is taken.
// Fails:   see forward/ingest_verdict.h; credentials that cannot be read are HOLD.

#pragma once

#include <cstdint>
#include <memory>

#include "config/config.h"
#include "forward/batch_size.h"
#include "forward/http.h"
#include "forward/ingest_progress.h"
#include "forward/ingest_verdict.h"
#include "forward/sink.h"

namespace telemetryd::forward {

class IngestSink final : public Sink, public std::enable_shared_from_this<IngestSink> {
 public:
  // Enough to find one bad event among a thousand, wherever it is; then the upstream refuses
  // everything, and asking on would be a flood.
  static constexpr int kRefusalsMax = 64;

  IngestSink(config::Destination destination, const SinkContext& context);

  void begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) override;
  // GET {url}/health, then an upload without events: it passes the checks of signature and token
  // and is refused for being empty.
  void probe(std::function<void(ProbeOutcome)> done) override;

 private:
  struct Delivery;
  struct Batch;
  using DeliveryPtr = std::shared_ptr<Delivery>;
  using BatchPtr = std::shared_ptr<Batch>;

  void send_next(const DeliveryPtr& delivery);
  [[nodiscard]] Batch take_batch(Delivery& delivery) const;
  void answered(const DeliveryPtr& delivery, const Batch& batch, const HttpResponse& response);
  void divide(const DeliveryPtr& delivery, const Batch& batch, const IngestVerdict& verdict);
  void learn(Delivery& delivery, const Batch& batch);
  // What was learned from requests that held one of these items was not about the upstream.
  void unlearn(Delivery& delivery, std::size_t begin, std::size_t end);
  void probe_upload(std::function<void(ProbeOutcome)> done);

  config::Destination destination_;
  SinkContext context_;
  kit::Sender sender_;
  BatchSize size_;
  std::uint32_t unstorable_ = 0;  // tries in a row that ended with what the server could not store
  std::shared_ptr<IngestProgress> progress_ = std::make_shared<IngestProgress>();
};

}  // namespace telemetryd::forward
