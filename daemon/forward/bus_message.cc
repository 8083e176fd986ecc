#include "forward/bus_message.h"

#include <string_view>

namespace telemetryd::forward {
namespace {

template <typename Raw, typename T>
bool take(sd_bus_message* message, char type, const std::string& name, BusProperties& properties) {
  Raw raw{};
  if (sd_bus_message_read_basic(message, type, &raw) < 0) return false;
  properties.insert_or_assign(name, T(raw));
  return true;
}

bool read_value(sd_bus_message* message, const std::string& name, BusProperties& properties) {
  char type = 0;
  const char* contents = nullptr;
  if (sd_bus_message_peek_type(message, &type, &contents) <= 0) return false;
  if (type != SD_BUS_TYPE_VARIANT) return false;
  const std::string_view inside(contents == nullptr ? "" : contents);
  if (inside != "b" && inside != "u" && inside != "d" && inside != "s") {
    return sd_bus_message_skip(message, "v") >= 0;
  }
  const char basic = inside.front();
  if (sd_bus_message_enter_container(message, SD_BUS_TYPE_VARIANT, contents) <= 0) return false;
  bool taken = false;
  switch (basic) {
    case 'b': taken = take<int, bool>(message, basic, name, properties); break;
    case 'u': taken = take<std::uint32_t, std::uint32_t>(message, basic, name, properties); break;
    case 'd': taken = take<double, double>(message, basic, name, properties); break;
    default: taken = take<const char*, std::string>(message, basic, name, properties); break;
  }
  return taken && sd_bus_message_exit_container(message) >= 0;
}

// Calls `entry` with the key of each; it reads the value.
bool read_dictionary(sd_bus_message* message,
                     const char* entry_type,
                     char key_type,
                     const std::function<bool(const char*)>& entry) {
  const std::string type = std::string("{") + entry_type + "}";
  if (sd_bus_message_enter_container(message, SD_BUS_TYPE_ARRAY, type.c_str()) < 0) return false;
  for (;;) {
    const int more = sd_bus_message_enter_container(message, SD_BUS_TYPE_DICT_ENTRY, entry_type);
    if (more < 0) return false;
    if (more == 0) break;
    const char* key = nullptr;
    if (sd_bus_message_read_basic(message, key_type, &key) <= 0 || !entry(key)) return false;
    if (sd_bus_message_exit_container(message) < 0) return false;
  }
  return sd_bus_message_exit_container(message) >= 0;
}

}  // namespace

bool read_properties(sd_bus_message* message, BusProperties& properties) {
  return read_dictionary(message, "sv", SD_BUS_TYPE_STRING, [&](const char* name) {
    return read_value(message, name, properties);
  });
}

bool read_objects(sd_bus_message* message,
                  const std::string& interface,
                  const std::function<void(const BusProperties&)>& each) {
  const auto read_interface = [&](const char* name) {
    if (interface != name) return sd_bus_message_skip(message, "a{sv}") >= 0;
    BusProperties properties;
    if (!read_properties(message, properties)) return false;
    each(properties);
    return true;
  };
  return read_dictionary(message, "oa{sa{sv}}", SD_BUS_TYPE_OBJECT_PATH, [&](const char*) {
    return read_dictionary(message, "sa{sv}", SD_BUS_TYPE_STRING, read_interface);
  });
}

}  // namespace telemetryd::forward
