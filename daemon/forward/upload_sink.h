// forward/upload_sink.h: what the kinds that upload over HTTP have in common: a lease becomes
// requests, one after the other and in order, and answers become its outcome.
//
// How much goes into a request is BatchSize's to say, and what happens to one that is refused is
// Division's. A kind says how events become a request and what an answer means.
//
// Owns:    what the upstream has let us know of its limits, which telemetryd keeps beyond this
//          process; what is known of the last unsettled lease, until the configuration is read
//          again.
// Thread:  the forwarder's.
// Fails:   a request that cannot be made is HOLD: something is wrong with files or settings.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "forward/batch_size.h"
#include "forward/division.h"
#include "forward/http.h"
#include "forward/lease_progress.h"
#include "forward/sink.h"

namespace telemetryd::forward {

// What an answer means for the events of its request.
struct UploadAnswer {
  enum class Kind {
    kTaken,    // each event is at the upstream, or refused for what it is itself
    kRefused,  // all were refused together
    kFailed,   // nothing is known of them
  };

  Kind kind = Kind::kFailed;
  // kTaken:
  std::vector<RefusedEvent> refused;
  std::size_t duplicates = 0;
  bool certain = false;  // nothing but the events is at fault
  // kRefused:
  Refusal refusal = Refusal::kContent;
  // kFailed: of the lease. kRefused: of the lease if nothing of it is taken.
  v1::Outcome outcome;
};

// One request in the making.
class Upload {
 public:
  virtual ~Upload() = default;

  struct Offer {
    std::size_t bytes = 0;            // that the event adds to the request
    std::optional<std::size_t> twin;  // the item that is in it already and has the same ID
    std::string problem;              // why it cannot be sent
  };

  // Looks at the next event; add() takes the one that was offered last into the request.
  virtual Offer offer(std::size_t item) = 0;
  virtual void add(std::size_t item) = 0;

  [[nodiscard]] virtual Result<HttpRequest> request() = 0;
  // Without our credentials, whatever the upstream quotes. `items` are those that were added.
  virtual UploadAnswer judge(const HttpResponse& response, std::span<const std::size_t> items) = 0;
};

class UploadSink : public Sink, public std::enable_shared_from_this<UploadSink> {
 public:
  void begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) final;

 protected:
  UploadSink(config::Destination destination, const SinkContext& context, BatchSize size)
      : destination_(std::move(destination)), context_(context), size_(size) {}

  // For a request with events of the division, which outlives it.
  virtual std::unique_ptr<Upload> make_upload(const Division& division) = 0;

  // Every event of a lease has its fate.
  virtual void on_finished() {}

  const config::Destination destination_;
  const SinkContext context_;

 private:
  struct Delivery;
  using DeliveryPtr = std::shared_ptr<Delivery>;

  void send_next(const DeliveryPtr& delivery);
  // False when nothing is left to send.
  bool fill(Delivery& delivery) const;
  void answered(const DeliveryPtr& delivery, const HttpResponse& response);
  void end(Delivery& delivery, v1::Outcome outcome);

  BatchSize size_;
  bool recalled_ = false;  // `size_` has taken up what telemetryd kept
  LeaseProgress progress_;
};

}  // namespace telemetryd::forward
