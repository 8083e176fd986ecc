#include "forward/sink.h"

#include "event/event.h"
#include "forward/file_sink.h"
#include "forward/grpc_sink.h"
#include "forward/ingest_sink.h"
#include "forward/native_sink.h"

namespace telemetryd::forward {
namespace {

// Kind `none`: everything counts as delivered and goes nowhere. For tests, and for apps whose
// events are only to be looked at on this machine.
class NoneSink final : public Sink {
 public:
  void begin(const v1::Lease&, std::function<void(v1::Outcome)> done) override {
    done(delivered());
  }

  void probe(std::function<void(ProbeOutcome)> done) override {
    done({true, "kind none: accepts everything, sends nothing"});
  }
};

v1::Outcome outcome_of(v1::Verdict verdict, std::string_view error, v1::Cause cause) {
  v1::Outcome outcome;
  outcome.set_verdict(verdict);
  outcome.set_cause(cause);
  outcome.set_error(printable(error));
  return outcome;
}

}  // namespace

std::shared_ptr<Sink> make_sink(const config::Destination& destination,
                                const SinkContext& context) {
  if (destination.kind == "none") return std::make_shared<NoneSink>();
  if (destination.kind == "file") return std::make_shared<FileSink>(destination.url);
  if (destination.kind == "grpc") return std::make_shared<GrpcSink>(destination, context);
  if (destination.kind == "native") return std::make_shared<NativeSink>(destination, context);
  if (destination.kind == "ingest") return std::make_shared<IngestSink>(destination, context);
  return nullptr;
}

v1::Outcome delivered() {
  v1::Outcome outcome;
  outcome.set_verdict(v1::VERDICT_DELIVERED);
  return outcome;
}

v1::Outcome retry(std::string_view error, v1::Cause cause) {
  return outcome_of(v1::VERDICT_RETRY, error, cause);
}

v1::Outcome hold(std::string_view error, v1::Cause cause) {
  return outcome_of(v1::VERDICT_HOLD, error, cause);
}

void reject(v1::Outcome& outcome,
            const v1::LeasedRow& row,
            std::uint32_t index,
            std::uint32_t count,
            const std::string& reason) {
  v1::RejectedEvents* rejected = outcome.add_rejected();
  rejected->set_seq(row.seq());
  rejected->set_first_index(row.first_index() + index);
  rejected->set_count(count);
  rejected->set_reason(printable(reason));
}

std::string printable(std::string_view text) {
  std::string clean(text.substr(0, kTextBytesMax));
  for (char& c : clean) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = ' ';
  }
  // A cut may have split a character.
  for (int dropped = 0; dropped < 4 && text.size() > kTextBytesMax && !clean.empty(); ++dropped) {
    if (event::utf8_valid(clean)) return clean;
    clean.pop_back();
  }
  if (event::utf8_valid(clean)) return clean;
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) >= 0x80) c = '?';
  }
  return clean;
}

}  // namespace telemetryd::forward
