#include "event/event.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "event/fields.h"
#include "frame/frame.h"

namespace telemetryd::event {
namespace {

constexpr std::size_t kIdBytes = 16;
constexpr std::uint64_t kSeverityMax = 24;

const char* const kMalformed = "it is not a protobuf message";
const char* const kWrongType = "a field has the wrong wire type";
const char* const kNotUtf8 = "a string is not UTF-8";

// Skips what this version does not know; a known number with another type is a broken sender.
const char* skip_unknown(Cursor& cursor, std::uint32_t tag, std::uint32_t field_max) {
  if (tag >> 3 <= field_max) return kWrongType;
  return cursor.skip(tag) ? nullptr : kMalformed;
}

const char* check_text(Cursor& cursor) {
  std::string_view text;
  if (!cursor.bytes(text)) return kMalformed;
  return utf8_valid(text) ? nullptr : kNotUtf8;
}

const char* check_number(Cursor& cursor, std::uint64_t value_max, const char* rule) {
  std::uint64_t value = 0;
  if (!cursor.varint(value)) return kMalformed;
  return value <= value_max ? nullptr : rule;
}

const char* check_attribute(std::string_view attribute) {
  Cursor cursor(attribute);
  bool keyed = false;
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    std::string_view text;
    if (!cursor.tag(tag)) return kMalformed;
    switch (tag) {
      case tag::kKey:
        if (!cursor.bytes(text)) return kMalformed;
        if (text.empty()) return "an attribute has no key";
        if (text.size() > frame::kNameBytesMax)
          return "an attribute's key is longer than 256 bytes";
        if (!utf8_valid(text)) return kNotUtf8;
        keyed = true;
        break;
      case tag::kString:
        if (!cursor.bytes(text)) return kMalformed;
        if (!utf8_valid(text)) return kNotUtf8;
        break;
      case tag::kBool:
      case tag::kInt:
      case tag::kDouble:
      case tag::kBytesValue:
        if (!cursor.skip(tag)) return kMalformed;
        break;
      default:
        if (const char* rule = skip_unknown(cursor, tag, tag::kAttributeFieldMax)) return rule;
    }
  }
  return keyed ? nullptr : "an attribute has no key";
}

// The fields that few events have, out of the way of those that all have.
const char* check_rare_field(Cursor& cursor, std::uint32_t tag) {
  std::string_view bytes;
  std::uint64_t bits = 0;
  switch (tag) {
    case tag::kKind:
      return check_number(cursor, std::numeric_limits<std::int32_t>::max(), "kind is out of range");
    case tag::kSeverity: return check_number(cursor, kSeverityMax, "severity is above 24");
    case tag::kExitCode:
      return check_number(
          cursor, std::numeric_limits<std::uint32_t>::max(), "exit_code is out of range");
    case tag::kSuccess: return cursor.varint(bits) ? nullptr : kMalformed;
    case tag::kDuration:
      if (!cursor.fixed64(bits)) return kMalformed;
      return std::isnan(std::bit_cast<double>(bits)) ? "duration_ms is not a number" : nullptr;
    case tag::kUserId:
    case tag::kSource: return check_text(cursor);
    case tag::kError:
      if (!cursor.bytes(bytes)) return kMalformed;
      return check_strings(bytes, tag::kErrorFieldMax);
    default: return skip_unknown(cursor, tag, tag::kEventFieldMax);
  }
}

const char* check_name(std::string_view name, EventFacts& facts) {
  if (name.empty()) return "the name is missing";
  if (name.size() > frame::kNameBytesMax) return "the name is longer than 256 bytes";
  facts.named = true;
  return utf8_valid(name) ? nullptr : kNotUtf8;
}

const char* check_category(std::string_view category) {
  if (category.size() > frame::kNameBytesMax) return "the category is longer than 256 bytes";
  return utf8_valid(category) ? nullptr : kNotUtf8;
}

const char* check_field(Cursor& cursor, std::uint32_t tag, EventFacts& facts) {
  std::string_view bytes;
  switch (tag) {
    case tag::kAttributes:
      if (!cursor.bytes(bytes)) return kMalformed;
      if (++facts.attributes > frame::kAttributesMax) return "it has more than 128 attributes";
      return check_attribute(bytes);
    case tag::kId:
      if (!cursor.bytes(facts.id)) return kMalformed;
      return facts.id.size() == kIdBytes ? nullptr : "the ID is not 16 bytes";
    case tag::kName: return cursor.bytes(bytes) ? check_name(bytes, facts) : kMalformed;
    case tag::kCategory: return cursor.bytes(bytes) ? check_category(bytes) : kMalformed;
    case tag::kTime: return cursor.fixed64(facts.time_unix_nano) ? nullptr : kMalformed;
    case tag::kUrgency: return cursor.varint(facts.urgency) ? nullptr : kMalformed;
    case tag::kClass: return cursor.varint(facts.persistence_class) ? nullptr : kMalformed;
    case tag::kSessionId:
      if (!cursor.bytes(bytes)) return kMalformed;
      return bytes.empty() || bytes.size() == kIdBytes ? nullptr : "the session ID is not 16 bytes";
    default: return check_rare_field(cursor, tag);
  }
}

std::unexpected<Error> broken(std::uint32_t index, const char* rule) {
  return fail(ErrorCode::kInvalidArgument, "event " + std::to_string(index) + ": " + rule);
}

}  // namespace

bool next_event(Cursor& cursor, std::string_view& event) {
  return cursor.byte(tag::kBatchEvents) && cursor.bytes(event);
}

std::uint64_t id_ms(std::string_view id) {
  std::uint64_t ms = 0;
  for (std::size_t i = 0; i < 6; ++i) ms = ms << 8 | static_cast<unsigned char>(id[i]);
  return ms;
}

const char* check_strings(std::string_view message, std::uint32_t field_max) {
  Cursor cursor(message);
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag)) return kMalformed;
    const bool known = tag >> 3 <= field_max && (tag & 7) == kBytes;
    const char* rule = known ? check_text(cursor) : skip_unknown(cursor, tag, field_max);
    if (rule != nullptr) return rule;
  }
  return nullptr;
}

const char* check_event(std::string_view event, EventFacts& facts) {
  Cursor cursor(event);
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag)) return kMalformed;
    if (const char* rule = check_field(cursor, tag, facts)) return rule;
  }
  if (facts.id.empty()) return "the ID is missing";
  if (!facts.named) return "the name is missing";
  if (facts.time_unix_nano == 0) return "the time is missing";
  return nullptr;
}

Result<BatchSummary> validate(std::string_view batch,
                              Class persistence_class,
                              Urgency urgency,
                              const Limits& limits) {
  BatchSummary summary{.count = 0, .id_ms_min = ~std::uint64_t{0}, .id_ms_max = 0};
  Cursor cursor(batch);
  while (!cursor.at_end()) {
    std::string_view event;
    if (!next_event(cursor, event)) return broken(summary.count, "the batch is malformed here");
    if (event.size() > limits.event_bytes_max) {
      return fail(ErrorCode::kInvalidArgument,
                  "event " + std::to_string(summary.count) + ": it is larger than " +
                      std::to_string(limits.event_bytes_max) + " bytes (event_bytes_max)");
    }
    EventFacts facts;
    if (const char* rule = check_event(event, facts)) return broken(summary.count, rule);
    if (facts.persistence_class != static_cast<std::uint64_t>(persistence_class)) {
      return broken(summary.count, "its class is not the frame's");
    }
    if (facts.urgency != static_cast<std::uint64_t>(urgency)) {
      return broken(summary.count, "its urgency is not the frame's");
    }
    const std::uint64_t ms = id_ms(facts.id);
    summary.id_ms_min = std::min(summary.id_ms_min, ms);
    summary.id_ms_max = std::max(summary.id_ms_max, ms);
    if (++summary.count > frame::kEventsPerFrameMax) {
      return fail(ErrorCode::kInvalidArgument, "the batch has more than 65535 events");
    }
  }
  if (summary.count == 0) return fail(ErrorCode::kInvalidArgument, "the batch has no events");
  return summary;
}

Result<void> for_each(std::string_view batch,
                      const std::function<bool(std::uint32_t, std::string_view)>& visit) {
  Cursor cursor(batch);
  for (std::uint32_t index = 0; !cursor.at_end(); ++index) {
    std::string_view event;
    if (!next_event(cursor, event)) return broken(index, "the batch is malformed here");
    if (!visit(index, event)) break;
  }
  return {};
}

Result<std::string_view> slice(std::string_view batch, std::uint32_t first, std::uint32_t count) {
  Cursor cursor(batch);
  const std::uint64_t last = std::uint64_t{first} + count;
  const char* begin = batch.data();
  for (std::uint64_t index = 0; index < last; ++index) {
    std::string_view event;
    if (index == first) begin = cursor.position();
    if (cursor.at_end()) return fail(ErrorCode::kInvalidArgument, "the batch has fewer events");
    if (!next_event(cursor, event)) {
      return broken(static_cast<std::uint32_t>(index), "the batch is malformed here");
    }
  }
  if (count == 0) return std::string_view{};
  return std::string_view(begin, static_cast<std::size_t>(cursor.position() - begin));
}

std::string_view machine_id_of(std::string_view context) {
  Cursor cursor(context);
  std::string_view machine_id;
  std::uint32_t tag = 0;
  while (!cursor.at_end() && cursor.tag(tag)) {
    if (!(tag == tag::kContextMachineId ? cursor.bytes(machine_id) : cursor.skip(tag))) break;
  }
  return machine_id;
}

Result<Bytes16> id_of(std::string_view event) {
  Cursor cursor(event);
  std::string_view id;
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag) || !(tag == tag::kId ? cursor.bytes(id) : cursor.skip(tag))) {
      return fail(ErrorCode::kInvalidArgument, kMalformed);
    }
  }
  Bytes16 bytes{};
  if (id.size() != bytes.size()) return fail(ErrorCode::kInvalidArgument, "the ID is not 16 bytes");
  std::ranges::copy(as_bytes(id), bytes.begin());
  return bytes;
}

}  // namespace telemetryd::event
