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
    if (key.type == Type::kBoolean && !value.boolean) continue;
    out += fmt::format("{} = {}\n", key.name, toml_literal(key.type, value));
  }
}

// Text wrapped into comment lines of at most 100 columns.
std::string wrapped_comment(std::string_view prefix, std::string_view text) {
  constexpr std::size_t kColumns = 98;
  std::string out;
  std::string line(prefix);
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (line.size() + 1 + word.size() > kColumns) {
      out += line + "\n";
      line = prefix;
    }
    line += ' ';
    line += word;
    text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  }
  return out + line + "\n";
}

template <typename Target>
std::string bounds(const Key<Target>& key) {
  switch (key.type) {
    case Type::kInteger: return fmt::format("{} to {}", key.min, key.max);
    case Type::kBoolean: return "true, false";
    case Type::kPath: return "absolute path";
    case Type::kText: return fmt::format("up to {} bytes", key.max);
    case Type::kWord: {
      std::string words(key.words);
      for (std::size_t at = 0; (at = words.find(' ', at)) != std::string::npos; at += 2) {
        words.replace(at, 1, ", ");
      }
      return words;
    }
  }
  return {};
}

template <typename Target>
std::string key_help(const Key<Target>& key) {
  std::string out = fmt::format("{} ({}", key.help, bounds(key));
  if (!key.default_words.empty()) out += fmt::format("; default: {}", key.default_words);
  return out + ")";
}

template <typename Target>
std::string shown_default(const Key<Target>& key) {
  return key.default_toml.empty() ? "\"…\"" : std::string(key.default_toml);
}

template <typename Target>
void document_keys(std::string& out, std::span<const Key<Target>> keys) {
  out += "\n| key | default | values | meaning |\n| --- | --- | --- | --- |\n";
  for (const Key<Target>& key : keys) {
    const std::string fallback = key.default_toml.empty() ? std::string(key.default_words)
                                                          : fmt::format("`{}`", key.default_toml);
    out += fmt::format("| `{}` | {} | {} | {} |\n", key.name, fallback, bounds(key), key.help);
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
      if (is_empty_text(key.type, value)) {
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

std::string default_toml() {
  std::string out =
      "# Configuration of telemetryd. Every key stands here at its default; remove the # to "
      "change\n"
      "# it. Files in conf.d/*.toml beside this one are read after it, in the order of their "
      "names.\n"
      "# telemetryd --check-config says what is wrong; telemetryd.toml(5) explains.\n";
  for (const Section& section : sections()) {
    out += fmt::format("\n{}[{}]\n", wrapped_comment("#", section.help), section.name);
    for (const Key<Config>& key : section.keys) {
      out += wrapped_comment("#", key_help(key));
      out += fmt::format("#{} = {}\n", key.name, shown_default(key));
    }
  }
  const auto element = [&](std::string_view name, std::string_view help, const auto& keys) {
    out += fmt::format("\n{}#[[{}]]\n", wrapped_comment("#", help), name);
    for (const auto& key : keys) {
      out += wrapped_comment("#", key_help(key));
      out += fmt::format("#{} = {}\n", key.name, shown_default(key));
    }
  };
  element("destination", kDestinationHelp, destination_keys());
  element("route", kRouteHelp, route_keys());
  return out;
}

std::string reference_markdown() {
  std::string out =
      "# Configuration\n\n"
      "This page is made from the table in `daemon/config/keys.cc`; a test compares them.\n\n"
      "`telemetryd.toml`, TOML: `/etc/telemetryd/telemetryd.toml` for root and service users,\n"
      "`$XDG_CONFIG_HOME/telemetryd/telemetryd.toml` otherwise, or `--config FILE`. Files in "
      "`conf.d/*.toml` beside it\n"
      "are read after it in the order of their names; a later one wins per key, while "
      "`[[destination]]` and `[[route]]` add up.\n"
      "A flag stands above `TELEMETRYD_STATE_DIR` and `TELEMETRYD_RUNTIME_DIR`, those above the "
      "files, those above the default.\n\n"
      "An unknown key, a wrong type or an impossible combination stops the start with exit code "
      "78; "
      "all problems are listed at\n"
      "once with file, line and the nearest valid key. `telemetryd --check-config` looks without "
      "starting, `--print-config` and\n"
      "`telemetryctl config show` print every value and where it came from. Reload (SIGHUP, "
      "`telemetryctl`, `POST /v1/reload`)\n"
      "changes `[[destination]]`, `[[route]]` and `[policy]`; other keys need a restart, and the "
      "reload says which.\n";
  for (const Section& section : sections()) {
    out += fmt::format("\n## `[{}]`\n\n{}\n", section.name, section.help);
    document_keys(out, section.keys);
  }
  out += fmt::format("\n## `[[destination]]`\n\n{}\n", kDestinationHelp);
  document_keys(out, destination_keys());
  out += fmt::format("\n## `[[route]]`\n\n{}\n", kRouteHelp);
  document_keys(out, route_keys());
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
