#include "kit/write_event.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "base/rfc3339.h"
#include "event/event.h"
#include "event/wire.h"

namespace telemetryd::kit {
namespace {

using nlohmann::json;

constexpr std::uint32_t kContextMachineId = event::tag_of(7, event::kBytes);

// Of the machine where a relayed event was recorded; empty for all others.
std::string_view recorded_machine_id(std::string_view context) {
  event::Cursor cursor(context);
  std::string_view id;
  std::uint32_t tag = 0;
  while (!cursor.at_end() && cursor.tag(tag)) {
    if (!(tag == kContextMachineId ? cursor.bytes(id) : cursor.skip(tag))) return {};
  }
  return event::utf8_valid(id) ? id : std::string_view{};
}

// PostgreSQL's text and jsonb have no place for U+0000.
std::string storable(std::string text) {
  constexpr std::string_view kReplacement = "\xef\xbf\xbd";
  for (std::size_t at = text.find('\0'); at != std::string::npos; at = text.find('\0', at)) {
    text.replace(at, 1, kReplacement);
  }
  return text;
}

json storable(json value) {
  if (!value.is_string()) return value;
  return storable(std::move(value.get_ref<std::string&>()));
}

// The first `characters_max` characters of a UTF-8 text.
std::string cut(std::string text, std::size_t characters_max) {
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xc0) != 0x80;
    if (begins && ++characters > characters_max) {
      text.resize(i);
      break;
    }
  }
  return text;
}

std::string text_of(const json& shown, const char* member) {
  const auto found = shown.find(member);
  return found == shown.end() ? std::string() : storable(found->get<std::string>());
}

std::string known(std::string text) {
  return text.empty() ? "unknown" : std::move(text);
}

// Nine digits of the second, without the groups of three zeros at their end.
std::string shorter(std::string time) {
  time.pop_back();  // Z
  while (time.ends_with("000")) time.resize(time.size() - 3);
  if (time.ends_with('.')) time.pop_back();
  return time + "Z";
}

std::string sent_time(UnixMs unix_ms) {
  std::string time = rfc3339_seconds(unix_ms / 1000);
  time.back() = '.';
  const std::string digits = std::to_string(1000 + unix_ms % 1000);
  return shorter(time.append(digits, 1) + "Z");
}

json service_of(const json& shown) {
  std::string name = text_of(shown, "source");
  if (name.empty()) name = text_of(shown, "app");
  return {{"name", cut(known(std::move(name)), kServiceNameMax)},
          {"version", cut(known(text_of(shown, "app_version")), kServiceVersionMax)},
          {"language", cut(known(text_of(shown, "language")), kServiceLanguageMax)}};
}

// An attribute never hides what the event says itself, nor another attribute.
void put_attribute(json& data, const std::string& key, json value) {
  std::string free = storable(key);
  while (data.contains(free)) free.insert(0, "attribute.");
  // Bytes come as {"base64": "…"}; nothing else is an object.
  if (value.is_object()) value = std::move(value["base64"]);
  data[free] = storable(std::move(value));
}

void put_data(json& data, const json& shown) {
  for (const char* member : {"success", "duration_ms", "exit_code", "severity"}) {
    if (const auto found = shown.find(member); found != shown.end()) data[member] = *found;
  }
  if (const auto error = shown.find("error"); error != shown.end()) {
    for (const auto& [key, value] : error->items()) data["error"][key] = storable(value);
  }
  if (const auto attributes = shown.find("attributes"); attributes != shown.end()) {
    for (const auto& [key, value] : attributes->items()) put_attribute(data, key, value);
  }
}

json event_of(const json& shown) {
  const std::string kind = shown["kind"].get<std::string>();
  const std::string name = text_of(shown, "name");
  std::string category = text_of(shown, "category");
  json written = {{"type", cut(name, kTypeMax)}};
  json data = json::object();
  if (kind == "command") {
    written["type"] = "command_execution";
    data["command"] = name;
    if (category.empty()) category = "usage";
  } else if (kind == "feature") {
    written["type"] = "feature_used";
    data["feature"] = name;
    if (category.empty()) category = "library";
  } else if (written["type"] != name) {
    data["name"] = name;
  }
  if (!category.empty()) written["category"] = cut(category, kCategoryMax);
  if (written.contains("category") && written["category"] != category) data["category"] = category;
  put_data(data, shown);
  written["data"] = std::move(data);
  return written;
}

json environment_of(const Sender& sender) {
  json environment = {{"os", known(sender.os)}};
  if (!sender.arch.empty()) environment["arch"] = sender.arch;
  return environment;
}

}  // namespace

std::string user_id_of(std::string_view user_id, std::string_view machine_id) {
  if (user_id.starts_with("client_") || user_id.starts_with("anon_")) return std::string(user_id);
  if (machine_id.starts_with("client_")) return std::string(machine_id);
  return "client_" + known(std::string(machine_id));
}

Result<WrittenEvent> write_event(std::string_view event,
                                 std::string_view context,
                                 std::string_view machine_id,
                                 const Sender& sender) {
  TELEMETRYD_ASSIGN(const json shown, event::to_json(event, context));
  const std::string_view recorded = recorded_machine_id(context);
  const std::string user_id =
      user_id_of(text_of(shown, "user_id"), recorded.empty() ? machine_id : recorded);
  json written = {{"schema_version", kSchemaVersion},
                  {"event_id", shown["id"]},
                  {"timestamp", shorter(shown["time"].get<std::string>())},
                  {"service", service_of(shown)},
                  {"user_id", cut(storable(user_id), kUserIdMax)},
                  {"environment", environment_of(sender)},
                  {"event", event_of(shown)}};
  if (const std::string session = text_of(shown, "session_id"); !session.empty()) {
    written["session_id"] = "sess_" + session;
  }
  return WrittenEvent{shown["id"].get<std::string>(),
                      written.dump(-1, ' ', false, json::error_handler_t::replace)};
}

std::string write_batch(std::span<const WrittenEvent> events, const Transmission& transmission) {
  const json metadata = {{"sdk_version", transmission.program},
                         {"transmission_timestamp", sent_time(transmission.time_unix_ms)},
                         {"batch_size", events.size()},
                         {"retry_count", transmission.retry_count}};
  const std::string tail = ",\"metadata\":" + metadata.dump() + "}";
  std::size_t size = 32;
  for (const WrittenEvent& event : events) size += event.json.size() + tail.size() + 1;
  std::string body = R"({"events":[)";
  body.reserve(size);
  for (const WrittenEvent& event : events) {
    if (body.back() != '[') body += ',';
    // An object is never empty, so a comma fits where its brace was.
    body.append(event.json, 0, event.json.size() - 1).append(tail);
  }
  return body + "]}";
}

}  // namespace telemetryd::kit
