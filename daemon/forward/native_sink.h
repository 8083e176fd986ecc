// forward/native_sink.h: kind `native`: stored bytes, signed, to telemetry-server over HTTPS.
//
// Send time, batch size, attempt and nonce are made when the request is made, so a retry is a new
// request with the same events. Token and secret are read for each request and wiped after it.
//
// Owns:    see forward/upload_sink.h; connections are Http's.
// Thread:  the forwarder's.
// Limits:  those of docs/formats/native.md per request, less where the upstream takes less.
// Fails:   see forward/native_verdict.h; credentials that cannot be read are HOLD.

#pragma once

#include <memory>

#include "config/config.h"
#include "forward/sink.h"
#include "forward/upload_sink.h"

namespace telemetryd::forward {

class NativeSink final : public UploadSink {
 public:
  // The server's, less what a batch and its first and last group need beside the events.
  static constexpr BatchSize::Limits kLimits{10'000, (8u << 20) - (16u << 10)};

  NativeSink(config::Destination destination, const SinkContext& context)
      : UploadSink(std::move(destination), context, BatchSize(kLimits)) {}

  // GET {url}/health, then an upload without events, which passes every check but the storage's.
  void probe(std::function<void(ProbeOutcome)> done) override;

 private:
  std::unique_ptr<Upload> make_upload(const Division& division) override;
  void probe_upload(std::function<void(ProbeOutcome)> done);
};

}  // namespace telemetryd::forward
