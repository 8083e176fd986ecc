#include "server/batch.h"

#include <algorithm>
#include <limits>

#include <protozero/pbf_message.hpp>

#include "event/event.h"

namespace telemetryd::server {
namespace {

enum class BatchField : protozero::pbf_tag_type { kSchema = 1, kBatchSize = 3, kGroups = 6 };
enum class GroupField : protozero::pbf_tag_type { kEvents = 1, kContext = 2, kMachineId = 3 };

enum class EventField : protozero::pbf_tag_type {
  kId = 1,
  kKind = 2,
  kName = 3,
  kTime = 5,
  kUrgency = 7,
  kClass = 8
};

enum class ContextField : protozero::pbf_tag_type { kApp = 1 };

constexpr std::size_t kMachineIdBytesMax = 128;

std::string_view view(protozero::data_view data) {
  return {data.data(), data.size()};
}

std::unexpected<Answer> bad_request(std::string_view message) {
  return std::unexpected(error_answer(400, "bad_request", message));
}

// What validate() compares an event's class and urgency with is what the event says, because a
// server takes every class.
struct Read {
  NewEvent event;
  std::uint32_t urgency = 0;
  std::uint32_t persistence_class = 0;
};

Read read_columns(std::string_view payload) {
  Read read;
  read.event.payload = payload;
  protozero::pbf_message<EventField> message(payload.data(), payload.size());
  while (message.next()) {
    switch (message.tag()) {
      case EventField::kId: read.event.id = view(message.get_view()); break;
      case EventField::kKind: read.event.kind = message.get_enum(); break;
      case EventField::kName: read.event.name = view(message.get_view()); break;
      case EventField::kTime:
        read.event.time_unix_nano = static_cast<std::int64_t>(std::min<std::uint64_t>(
            message.get_fixed64(), std::numeric_limits<std::int64_t>::max()));
        break;
      case EventField::kUrgency: read.urgency = message.get_uint32(); break;
      case EventField::kClass: read.persistence_class = message.get_uint32(); break;
      default: message.skip();
    }
  }
  return read;
}

class Decoder {
 public:
  // Throws protozero's exceptions for what is no protobuf.
  std::expected<DecodedBatch, Answer> run(std::string_view body, std::uint64_t announced);

 private:
  std::optional<Answer> read_group(std::string_view group);
  std::optional<Answer> read_context(std::string_view context, std::string_view& app);
  // `framed` is the event with tag and length: a batch of one.
  void read_event(std::string_view framed, std::string_view payload);
  void reject(std::string message);

  DecodedBatch batch_;
};

std::expected<DecodedBatch, Answer> Decoder::run(std::string_view body, std::uint64_t announced) {
  std::uint64_t schema = 0;
  std::uint64_t batch_size = 0;
  protozero::pbf_message<BatchField> message(body.data(), body.size());
  while (message.next()) {
    switch (message.tag()) {
      case BatchField::kSchema: schema = message.get_uint64(); break;
      case BatchField::kBatchSize: batch_size = message.get_uint64(); break;
      case BatchField::kGroups:
        if (auto refused = read_group(view(message.get_view()))) {
          return std::unexpected(std::move(*refused));
        }
        break;
      default: message.skip();
    }
  }
  // An empty body is a batch without events: every field is at its default.
  if (schema != 1 && !body.empty()) return bad_request("schema must be 1");
  if (batch_size != batch_.total || announced != batch_.total) {
    return bad_request("X-Batch-Size, batch_size and the number of events must be equal");
  }
  return std::move(batch_);
}

std::optional<Answer> Decoder::read_group(std::string_view group) {
  const std::size_t first = batch_.events.size();
  std::string_view context;
  std::string_view machine_id;
  std::string_view app;
  protozero::pbf_message<GroupField> message(group.data(), group.size());
  for (;;) {
    const char* start = message.data().data();
    if (!message.next()) break;
    switch (message.tag()) {
      case GroupField::kEvents: {
        const std::string_view payload = view(message.get_view());
        if (++batch_.total > kEventsPerBatchMax) {
          return error_answer(413, "payload_too_large", "more than 10000 events in one request");
        }
        const auto framed_bytes = static_cast<std::size_t>(payload.data() + payload.size() - start);
        read_event({start, framed_bytes}, payload);
        break;
      }
      case GroupField::kContext: context = view(message.get_view()); break;
      case GroupField::kMachineId: machine_id = view(message.get_view()); break;
      default: message.skip();
    }
  }
  if (machine_id.size() > kMachineIdBytesMax || !event::utf8_valid(machine_id)) {
    return error_answer(400, "bad_request", "a machine_id is not a short text");
  }
  if (auto refused = read_context(context, app)) return refused;
  for (std::size_t i = first; i < batch_.events.size(); ++i) {
    batch_.events[i].context = context;
    batch_.events[i].machine_id = machine_id;
    batch_.events[i].app = app;
  }
  return std::nullopt;
}

std::optional<Answer> Decoder::read_context(std::string_view context, std::string_view& app) {
  if (context.size() > kContextBytesMax) {
    return error_answer(400, "bad_request", "a context is larger than 8192 bytes");
  }
  protozero::pbf_message<ContextField> message(context.data(), context.size());
  while (message.next()) {
    // All known fields of a context are strings; a later version may add others. The tag is read
    // first: taking the value moves on.
    const ContextField field = message.tag();
    if (message.wire_type() != protozero::pbf_wire_type::length_delimited) {
      message.skip();
      continue;
    }
    const std::string_view text = view(message.get_view());
    if (!event::utf8_valid(text)) {
      return error_answer(400, "bad_request", "a context holds text that is not UTF-8");
    }
    if (field == ContextField::kApp) app = text;
  }
  return std::nullopt;
}

void Decoder::read_event(std::string_view framed, std::string_view payload) {
  Read read;
  try {
    read = read_columns(payload);
  } catch (const protozero::exception&) {
    return reject("it is not an event");
  }
  if (read.urgency > 1) return reject("its urgency is none there is");
  if (read.persistence_class > 2) return reject("its class is none there is");
  const auto valid = event::validate(framed,
                                     static_cast<event::Class>(read.persistence_class),
                                     static_cast<event::Urgency>(read.urgency),
                                     {.event_bytes_max = kEventBytesMax});
  if (!valid) {
    // validate() counts within its batch of one; the answer has the index beside the message.
    std::string_view message = valid.error().message();
    constexpr std::string_view kPrefix = "event 0: ";
    if (message.starts_with(kPrefix)) message.remove_prefix(kPrefix.size());
    return reject(std::string(message));
  }
  batch_.events.push_back(read.event);
}

void Decoder::reject(std::string message) {
  batch_.rejected.push_back(
      {.index = batch_.total - 1, .code = "invalid_event", .message = std::move(message)});
}

}  // namespace

std::expected<DecodedBatch, Answer> decode_batch(std::string_view body, std::uint64_t announced) {
  if (announced > kEventsPerBatchMax) {
    return std::unexpected(
        error_answer(413, "payload_too_large", "more than 10000 events in one request"));
  }
  try {
    return Decoder().run(body, announced);
  } catch (const protozero::exception&) {
    return bad_request("the body is not a NativeBatch");
  }
}

}  // namespace telemetryd::server
