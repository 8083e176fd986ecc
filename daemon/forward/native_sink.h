// forward/native_sink.h: kind `native`: stored bytes, signed, to telemetry-server over HTTPS.
//
// Send time, batch size, attempt and nonce are made when the request is made, so a retry is a new
// request with the same events. Token and secret are read for each request and wiped after it.
//
// Owns:    nothing between leases; connections are Http's.
// Thread:  the forwarder's.
// Fails:   see forward/native_verdict.h; credentials that cannot be read are HOLD.

#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "config/config.h"
#include "forward/http.h"
#include "forward/native_request.h"
#include "forward/sink.h"

namespace telemetryd::forward {

class NativeSink final : public Sink, public std::enable_shared_from_this<NativeSink> {
 public:
  NativeSink(config::Destination destination, const SinkContext& context)
      : destination_(std::move(destination)), context_(context) {}

  void begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) override;
  // GET {url}/health, then an upload without events, which passes every check but the storage's.
  void probe(std::function<void(ProbeOutcome)> done) override;

 private:
  struct Upload;
  [[nodiscard]] Result<std::shared_ptr<Upload>> make_upload(const v1::Lease& lease) const;
  void probe_upload(std::function<void(ProbeOutcome)> done);

  config::Destination destination_;
  SinkContext context_;
};

}  // namespace telemetryd::forward
