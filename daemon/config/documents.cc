// The shipped file, the reference page and the manual page, from the table.

#include <fmt/format.h>

#include "config/config.h"
#include "config/keys.h"

namespace telemetryd::config {
namespace {

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

namespace {

// scdoc gives a meaning to these.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '*' || c == '_' || c == '\\' || c == '#') out += '\\';
    out += c;
  }
  return out;
}

template <typename Target>
void man_keys(std::string& out, std::span<const Key<Target>> keys) {
  for (const Key<Target>& key : keys) {
    const std::string_view fallback =
        key.default_toml.empty() ? key.default_words : key.default_toml;
    out += fmt::format("*{}*\n\t{} Values: {}. Default: {}.\n\n",
                       key.name,
                       escaped(key.help),
                       escaped(bounds(key)),
                       escaped(fallback));
  }
}

}  // namespace

std::string reference_man() {
  std::string out =
      "telemetryd.toml(5)\n\n# NAME\n\ntelemetryd.toml - configuration of telemetryd\n\n"
      "# DESCRIPTION\n\n"
      "TOML. _/etc/telemetryd/telemetryd.toml_ for root and service users,\n"
      "_$XDG\\_CONFIG\\_HOME/telemetryd/telemetryd.toml_ for others, or the file given with "
      "*--config*. Files\n_conf.d/\\*.toml_ beside it are read after it in the order of their "
      "names: "
      "a later one wins per key, while\n*[[destination]]* and *[[route]]* add up. Options stand "
      "above *TELEMETRYD_STATE_DIR* and\n*TELEMETRYD_RUNTIME_DIR*, those above the files.\n\n"
      "An unknown key, a wrong type or an impossible combination is an error; *telemetryd "
      "--check-config* lists them all\nwith file, line and the nearest valid key. A reload takes "
      "over *[[destination]]*, *[[route]]* and *[policy]*; other\nkeys need a restart.\n\n"
      "Secrets stand in files of their own, which only telemetryd-forward reads.\n\n";
  for (const Section& section : sections()) {
    std::string name(section.name);
    out += fmt::format("# [{}]\n\n{}\n\n", name, escaped(section.help));
    man_keys(out, section.keys);
  }
  out += fmt::format("# [[destination]]\n\n{}\n\n", escaped(kDestinationHelp));
  man_keys(out, destination_keys());
  out += fmt::format("# [[route]]\n\n{}\n\n", escaped(kRouteHelp));
  man_keys(out, route_keys());
  out +=
      "# EXAMPLE\n\n```\n[policy]\nmode = \"opt-out\"\n\n[[destination]]\nname = \"home\"\n"
      "kind = \"native\"\nurl = \"https://telemetry.example.org\"\norg = \"example\"\napp = "
      "\"my-tool\"\ntoken_file = \"/etc/telemetryd/home.token\"\nsecret_file = "
      "\"/etc/telemetryd/home.secret\"\n\n[[route]]\napp = \"my-*\"\ndestination = "
      "\"home\"\n```\n\n# SEE ALSO\n\n*telemetryd*(8), *telemetryctl*(1)\n";
  return out;
}

}  // namespace telemetryd::config
