#include "kit/list_event.h"

#include <algorithm>
#include <array>
#include <string>

#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/rfc3339.h"
#include "kit/read_event.h"

namespace telemetryd::kit {
namespace {

using nlohmann::json;

constexpr std::string_view kSessionPrefix = "sess_";
// How the forwarder moves an attribute out of the way of a member of data.
constexpr std::string_view kMovedPrefix = "attribute.";
constexpr std::array kErrorMembers = {"name", "code", "id", "message", "stack"};

const json& member(const json& object, const char* name) {
  static const json kNothing;
  if (!object.is_object()) return kNothing;
  const auto found = object.find(name);
  return found == object.end() ? kNothing : *found;
}

bool is_severity(const json& value) {
  return value.is_number_integer() && value >= 1 && value <= 24;
}

bool is_error(const json& value) {
  return value.is_object() && !value.empty() &&
         std::ranges::all_of(value.items(), [](const auto& item) {
           return item.value().is_string() &&
                  std::ranges::find(kErrorMembers, item.key()) != kErrorMembers.end();
         });
}

class Listing {
 public:
  // Takes what a stored event has for certain from the same reader that let it in.
  Listing(const json& stored, const ReadEvent& read) : stored_(stored) {
    constexpr std::array kKinds = {"event", "command", "feature"};
    out_ = {{"id", uuid_text(read.id)},
            {"kind", kKinds[static_cast<std::size_t>(read.kind)]},
            {"name", read.name},
            {"time", rfc3339_nanos(read.time_unix_nano)},
            {"app", read.app},
            {"machine_id", read.machine_id},
            {"user_id", member(stored, "user_id")}};
    name_member_ = read.kind == Kind::kCommand   ? "command"
                   : read.kind == Kind::kFeature ? "feature"
                                                 : "";
  }

  json run() {
    put_service();
    put_session();
    const json& details = member(stored_, "event");
    put_text("category", member(details, "category"));
    put_data(member(details, "data"));
    put_text("sdk", member(member(stored_, "metadata"), "sdk_version"));
    put_all("environment.", member(stored_, "environment"), {});
    put_all("event.", details, {"type", "category", "data"});
    put_all("",
            stored_,
            {"schema_version",
             "event_id",
             "timestamp",
             "service",
             "user_id",
             "session_id",
             "environment",
             "event",
             "metadata"});
    return std::move(out_);
  }

 private:
  void put_text(const char* name, const json& value) {
    if (value.is_string() && !value.get_ref<const std::string&>().empty()) out_[name] = value;
  }

  void put_attribute(const std::string& name, const json& value) {
    if (value.is_null()) return;
    json& attributes = out_["attributes"];
    if (attributes.is_null()) attributes = json::object();
    attributes.emplace(name, value.is_structured() ? json(value.dump()) : value);
  }

  void put_all(const std::string& prefix,
               const json& object,
               std::initializer_list<std::string_view> but) {
    if (!object.is_object()) return;
    for (const auto& [name, value] : object.items()) {
      if (std::ranges::find(but, name) == but.end()) put_attribute(prefix + name, value);
    }
  }

  void put_service() {
    const json& service = member(stored_, "service");
    put_text("app_version", member(service, "version"));
    put_text("language", member(service, "language"));
    put_all("service.", service, {"name", "version", "language"});
  }

  void put_session() {
    const json& session = member(stored_, "session_id");
    if (!session.is_string()) return;
    const std::string_view text = session.get_ref<const std::string&>();
    const auto id = text.starts_with(kSessionPrefix)
                        ? parse_uuid(text.substr(kSessionPrefix.size()))
                        : std::nullopt;
    if (id) {
      out_["session_id"] = to_hex(*id);
    } else {
      put_attribute("session_id", session);
    }
  }

  void put_data(const json& data) {
    if (!data.is_object()) return put_attribute("data", data);
    for (const auto& [name, value] : data.items()) put_datum(name, value);
  }

  void put_datum(const std::string& name, const json& value) {
    if (name == name_member_ && value == out_["name"]) return;
    const bool has_member =
        (name == "success" && value.is_boolean()) || (name == "duration_ms" && value.is_number()) ||
        (name == "exit_code" && value.is_number_integer()) ||
        (name == "severity" && is_severity(value)) || (name == "error" && is_error(value));
    if (has_member) {
      out_[name] = value;
    } else if (name.starts_with(kMovedPrefix)) {
      put_attribute(name.substr(kMovedPrefix.size()), value);
    } else {
      put_attribute(name, value);
    }
  }

  const json& stored_;
  json out_;
  std::string name_member_;
};

// Feeds the reader from an object instead of from a text.
void tell(EventReader& reader, const json& value) {
  if (value.is_string()) return reader.text(value.get_ref<const std::string&>());
  if (!value.is_structured()) return reader.other();
  reader.open(value.is_object());
  for (const auto& [name, inner] : value.items()) {
    if (value.is_object()) reader.key(name);
    tell(reader, inner);
  }
  reader.close();
}

}  // namespace

Result<json> list_event(std::string_view stored) {
  const json object = json::parse(stored, nullptr, false);
  if (!object.is_object()) return fail(ErrorCode::kDataLoss, "a stored event is not JSON");
  EventReader reader;
  tell(reader, object);
  const auto read = reader.finish();
  if (!read)
    return fail(ErrorCode::kDataLoss, "a stored event: " + std::string(read.error().message));
  return Listing(object, *read).run();
}

}  // namespace telemetryd::kit
