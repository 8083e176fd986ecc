// forward/ingest_sink.h: kind `ingest`: events as telemetry-kit's JSON, signed, to its servers and
// ours.
//
// Owns:    see forward/upload_sink.h; how often in a row the upstream could not store something.
// Thread:  the forwarder's.
// Limits:  those of docs/formats/ingest.md per request, less where the upstream takes less.
// Fails:   see forward/ingest_verdict.h; credentials that cannot be read are HOLD.

#pragma once

#include <cstdint>
#include <memory>

#include "config/config.h"
#include "forward/sink.h"
#include "forward/upload_sink.h"
#include "kit/write_event.h"

namespace telemetryd::forward {

class IngestSink final : public UploadSink {
 public:
  static constexpr BatchSize::Limits kLimits{1000, 5u << 20};

  IngestSink(config::Destination destination, const SinkContext& context);

  // GET {url}/health, then an upload without events: it passes the checks of signature and token
  // and is refused for being empty.
  void probe(std::function<void(ProbeOutcome)> done) override;

 private:
  std::unique_ptr<Upload> make_upload(const Division& division) override;

  void on_finished() override { unstorable_ = 0; }

  void probe_upload(std::function<void(ProbeOutcome)> done);

  const kit::Sender sender_;
  std::uint32_t unstorable_ = 0;  // tries in a row that ended with what the server could not store
};

}  // namespace telemetryd::forward
