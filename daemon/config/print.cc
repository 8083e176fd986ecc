#include <fmt/format.h>

#include "config/config.h"
#include "config/keys.h"

namespace telemetryd::config {
namespace {

std::string origin_comment(const Config& config, const std::string& key) {
  const auto origin = config.origins.find(key);
  return origin == config.origins.end() ? "default" : origin->second;
}

bool is_empty_text(Type type, const Value& value) {
  return (type == Type::kPath || type == Type::kText) && value.text.empty();
}

template <typename Target>
void print_element(std::string& out,
                   std::string_view name,
                   const std::string& origin,
                   std::span<const Key<Target>> keys,
                   const Target& target) {
  out += fmt::format("\n[[{}]]  # {}\n", name, origin);
  for (const Key<Target>& key : keys) {
    const Value value = key.get(target);
    if (is_empty_text(key.type, value)) continue;
    const std::string literal = toml_literal(key.type, value);
    if (literal == key.default_toml) continue;
    out += fmt::format("{} = {}\n", key.name, literal);
  }
}

}  // namespace

std::string print(const Config& config) {
  std::string out;
  for (const Section& section : sections()) {
    out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section.name);
    for (const Key<Config>& key : section.keys) {
      const Value value = key.get(config);
      const std::string origin =
          origin_comment(config, fmt::format("{}.{}", section.name, key.name));
      // Where the default is a text, an empty one is a choice.
      if (is_empty_text(key.type, value) && key.default_toml.empty()) {
        out += fmt::format("# {} not set: {}\n", key.name, key.default_words);
      } else {
        out += fmt::format("{} = {}  # {}\n", key.name, toml_literal(key.type, value), origin);
      }
    }
  }
  for (const Destination& destination : config.destinations) {
    print_element(out,
                  "destination",
                  origin_comment(config, fmt::format("destination.{}", destination.name)),
                  destination_keys(),
                  destination);
  }
  for (std::size_t i = 0; i < config.routes.size(); ++i) {
    print_element(out,
                  "route",
                  origin_comment(config, fmt::format("route.{}", i)),
                  route_keys(),
                  config.routes[i]);
  }
  return out;
}

std::vector<std::string> restart_needed(const Config& running, const Config& wanted) {
  std::vector<std::string> keys;
  for (const Section& section : sections()) {
    for (const Key<Config>& key : section.keys) {
      if (key.live) continue;
      if (toml_literal(key.type, key.get(running)) != toml_literal(key.type, key.get(wanted))) {
        keys.push_back(fmt::format("{}.{}", section.name, key.name));
      }
    }
  }
  return keys;
}

}  // namespace telemetryd::config
