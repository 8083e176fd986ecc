#include <array>
#include <cstdlib>
#include <pwd.h>
#include <system_error>
#include <unistd.h>
#include <vector>

#include "config/config.h"

namespace telemetryd::config {
namespace {

// Root, and the users that packages and the service manager make for services.
bool is_service_user(uid_t uid) {
  constexpr uid_t kFirstPerson = 1000;
  constexpr uid_t kDynamicMin = 61184;
  constexpr uid_t kDynamicMax = 65519;
  return uid < kFirstPerson || (uid >= kDynamicMin && uid <= kDynamicMax);
}

// These run before there are threads.
std::filesystem::path variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  // The XDG specification says to ignore relative ones.
  if (value == nullptr || *value != '/') return {};
  return value;
}

std::filesystem::path home() {
  if (auto from_environment = variable("HOME"); !from_environment.empty()) return from_environment;
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr) {
    return entry.pw_dir;
  }
  return "/";
}

std::filesystem::path xdg(const char* name, const char* below_home) {
  auto folder = variable(name);
  return folder.empty() ? home() / below_home : folder;
}

std::filesystem::path beside_us(const char* program) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (error ? std::filesystem::path("/usr/bin") : self.parent_path()) / program;
}

bool matches(std::string_view pattern, std::string_view text) {
  // Remembers the last star only: that suffices for patterns of stars and plain text, and keeps
  // the time at pattern x text.
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

std::optional<std::string> route(const std::vector<Route>& routes, std::string_view app) {
  for (const Route& route : routes) {
    if (matches(route.app, app)) return route.destination;
  }
  return std::nullopt;
}

std::filesystem::path default_config_file() {
  if (is_service_user(geteuid())) return "/etc/telemetryd/telemetryd.toml";
  return xdg("XDG_CONFIG_HOME", ".config") / "telemetryd/telemetryd.toml";
}

std::filesystem::path default_state_dir() {
  if (is_service_user(geteuid())) return "/var/lib/telemetryd";
  return xdg("XDG_STATE_HOME", ".local/state") / "telemetryd";
}

std::filesystem::path default_runtime_dir() {
  if (is_service_user(geteuid())) return "/run/telemetryd";
  const auto folder = variable("XDG_RUNTIME_DIR");
  // Without a session there is no folder that only we can write but our own state.
  return folder.empty() ? default_state_dir() / "run" : folder / "telemetryd";
}

std::filesystem::path default_forward_program() {
  return beside_us("telemetryd-forward");
}

std::filesystem::path default_gateway_program() {
  return beside_us("telemetryd-gateway");
}

}  // namespace telemetryd::config
