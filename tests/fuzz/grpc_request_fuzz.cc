// Any bytes as a PublishRequest: what becomes a frame is a frame, and says what libprotobuf reads
// from the same bytes; what does not is refused with words and a code of the table.

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/check.h"
#include "event/event.h"
#include "event/fields.h"
#include "frame/frame.h"
#include "gateway/request.h"
#include "gateway/status.h"
#include "telemetry/v1/ingest.pb.h"

using namespace telemetryd;

namespace {

const std::uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

void check_refusal(const gateway::Status& status) {
  TELEMETRYD_CHECK(status.code == gateway::StatusCode::kInvalidArgument);
  TELEMETRYD_CHECK(!status.text.empty() && event::utf8_valid(status.text));
  TELEMETRYD_CHECK(!status.retry_after && gateway::status_details(status).empty());
}

// The daemon's walk over the events must agree with the prefix, byte for byte.
std::string_view check_frame(const gateway::Request& request, std::size_t message_bytes) {
  TELEMETRYD_CHECK(request.frame.size() >= frame::kHeaderBytes + frame::kEventsPrefixBytes);
  TELEMETRYD_CHECK(request.frame.size() <=
                   message_bytes + frame::kHeaderBytes + frame::kEventsPrefixBytes);
  const frame::Header header = frame::decode_header(bytes_of(request.frame));
  TELEMETRYD_CHECK(header.type == frame::Type::kEvents && header.flags == 0);
  TELEMETRYD_CHECK(header.length + frame::kHeaderBytes == request.frame.size());
  const frame::EventsPrefix prefix =
      frame::decode_events_prefix(bytes_of(request.frame) + frame::kHeaderBytes);
  TELEMETRYD_CHECK(prefix.number == request.number);
  const std::string_view batch =
      std::string_view(request.frame).substr(frame::kHeaderBytes + frame::kEventsPrefixBytes);
  event::Cursor cursor(batch);
  std::uint32_t count = 0;
  for (std::string_view each; !cursor.at_end(); ++count) {
    TELEMETRYD_CHECK(event::next_event(cursor, each));
  }
  TELEMETRYD_CHECK(count == prefix.count);
  return batch;
}

// Only where the events are valid: those that are not, libprotobuf may refuse as a whole.
void compare(const gateway::Request& request, std::string_view batch, std::string_view message) {
  const frame::EventsPrefix prefix =
      frame::decode_events_prefix(bytes_of(request.frame) + frame::kHeaderBytes);
  if (prefix.persistence_class > 2 || prefix.urgency > 1) return;
  const auto summary = event::validate(batch,
                                       static_cast<event::Class>(prefix.persistence_class),
                                       static_cast<event::Urgency>(prefix.urgency),
                                       {.event_bytes_max = 4096});
  if (!summary) return;
  telemetry::v1::PublishRequest parsed;
  TELEMETRYD_CHECK(parsed.ParseFromArray(message.data(), static_cast<int>(message.size())));
  TELEMETRYD_CHECK(static_cast<std::uint32_t>(parsed.events_size()) == summary->count);
  TELEMETRYD_CHECK(parsed.number() == request.number);
  TELEMETRYD_CHECK(parsed.oldest_number() == request.oldest_number);
  TELEMETRYD_CHECK(parsed.instance() ==
                   (request.instance ? as_text(*request.instance) : std::string_view()));
  TELEMETRYD_CHECK(parsed.has_context() == request.context.has_value());
  if (!request.context) return;
  telemetry::v1::Context context;
  TELEMETRYD_CHECK(context.ParseFromString(*request.context));
  TELEMETRYD_CHECK(context.SerializeAsString() == parsed.context().SerializeAsString());
  TELEMETRYD_CHECK(frame::app_name_valid(context.app().data(), context.app().size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view message(reinterpret_cast<const char*>(data), size);
  auto request = gateway::convert(message);
  if (!request) {
    check_refusal(request.error());
    return 0;
  }
  const std::string_view batch = check_frame(*request, size);
  compare(*request, batch, message);
  for (const auto& problem :
       {gateway::check_publish(*request), gateway::check_first_of_stream(*request)}) {
    if (problem) check_refusal(*problem);
  }
  TELEMETRYD_CHECK(gateway::check_publish(*request) ||
                   (request->number != 0) == request->instance.has_value());

  gateway::set_commit_now(request->frame);
  gateway::set_number(request->frame, 77);
  const frame::Header header = frame::decode_header(bytes_of(request->frame));
  TELEMETRYD_CHECK(header.flags == frame::kFlagCommitNow);
  TELEMETRYD_CHECK(
      frame::decode_events_prefix(bytes_of(request->frame) + frame::kHeaderBytes).number == 77);
  return 0;
}
