#include "ctl/environment.h"

#include <array>
#include <cstdlib>
#include <pwd.h>
#include <unistd.h>

#include "base/io.h"

namespace telemetryd::ctl {
namespace {

constexpr std::size_t kConsentFileBytesMax = 64 * 1024;
constexpr std::size_t kPolicyFileBytesMax = 256;

std::filesystem::path home() {
  if (const auto from_environment = variable("HOME")) return *from_environment;
  const passwd* entry = getpwuid(getuid());  // NOLINT(concurrency-mt-unsafe): one thread
  return entry != nullptr && entry->pw_dir != nullptr ? entry->pw_dir : "/";
}

std::filesystem::path user_runtime_dir() {
  if (const auto from_environment = variable("XDG_RUNTIME_DIR")) return *from_environment;
  return "/run/user/" + std::to_string(getuid());
}

}  // namespace

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

std::filesystem::path default_admin_socket() {
  const std::filesystem::path system = "/run/telemetryd/admin.sock";
  std::error_code ignored;
  if (std::filesystem::exists(system, ignored)) return system;
  return user_runtime_dir() / "telemetryd" / "admin.sock";
}

std::filesystem::path consent_file_path(const std::string& app) {
  const auto base = variable("XDG_CONFIG_HOME");
  const std::filesystem::path config_home =
      base ? std::filesystem::path(*base) : home() / ".config";
  return config_home / (app.empty() ? "telemetryd" : app) / "consent.toml";
}

namespace {

consent::Record record_in_file(const std::string& app) {
  const auto file = read_file(consent_file_path(app), kConsentFileBytesMax);
  if (file) return consent::parse_consent_file(file->data(), file->size());
  const bool missing = file.error().code() == ErrorCode::kNotFound;
  return missing ? consent::Record::kUnset : consent::Record::kUnreadable;
}

}  // namespace

consent::Inputs local_consent_inputs(const std::string& app,
                                     const std::filesystem::path& admin_socket) {
  const auto word = [](const char* name) {
    const auto value = variable(name);
    return consent::parse_word(value ? value->c_str() : nullptr);
  };
  consent::Inputs inputs;
  inputs.do_not_track = word("DO_NOT_TRACK");
  inputs.dnt = word("DNT");
  const auto policy = read_file(admin_socket.parent_path() / "policy", kPolicyFileBytesMax);
  if (policy) inputs.machine = consent::parse_policy_file(policy->data(), policy->size());
  inputs.all_record = record_in_file({});
  if (app.empty()) return inputs;

  std::array<char, consent::kVariableBytesMax> name{};
  consent::tool_variable_name(app.c_str(), name.data(), name.size());
  inputs.tool_variable = word(name.data());
  inputs.consent_file = record_in_file(app);
  return inputs;
}

std::optional<std::string> objection_to_enabling() {
  for (const char* name : {"DO_NOT_TRACK", "DNT"}) {
    const auto value = variable(name);
    if (!value) continue;
    const auto word = consent::parse_word(value->c_str());
    if (word == consent::Word::kYes || word == consent::Word::kUnknown) return name;
  }
  const auto ci = variable("CI");
  if (ci && consent::parse_word(ci->c_str()) != consent::Word::kNo) return "CI";
  return std::nullopt;
}

}  // namespace telemetryd::ctl
