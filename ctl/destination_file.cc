#include "ctl/destination_file.h"

#include <fmt/format.h>

#include "base/io.h"

namespace telemetryd::ctl {
namespace {

constexpr std::size_t kNameBytesMax = 64;

void add_line(std::string& out, std::string_view key, std::string_view value) {
  if (!value.empty()) out += fmt::format("{} = {}\n", key, toml_quoted(value));
}

// The name becomes a file's name.
bool name_valid(std::string_view name) {
  return !name.empty() && name.size() <= kNameBytesMax &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
}

Result<void> check_whole(const std::filesystem::path& main_file) {
  config::Sources sources;
  sources.file = main_file;
  const config::Loaded loaded = config::load(sources);
  if (loaded.config) return {};
  std::string message = "the configuration would not be valid:";
  for (const auto& problem : loaded.problems) message += "\n  " + config::to_string(problem);
  return fail(ErrorCode::kFailedPrecondition, message);
}

}  // namespace

std::string destination_toml(const NewDestination& added) {
  const config::Destination& destination = added.destination;
  std::string out = "# Written by telemetryctl destination add; edit or remove it by hand.\n";
  out += "[[destination]]\n";
  add_line(out, "name", destination.name);
  add_line(out, "kind", destination.kind);
  add_line(out, "url", destination.url);
  add_line(out, "org", destination.org);
  add_line(out, "app", destination.app);
  add_line(out, "token_file", destination.token_file.native());
  add_line(out, "secret_file", destination.secret_file.native());
  if (destination.plain_signature) add_line(out, "signature", "plain");
  add_line(out, "staging_url", destination.staging_url);
  if (destination.staging) out += "staging = true\n";
  add_line(out, "ca_file", destination.ca_file.native());
  add_line(out, "client_cert_file", destination.client_cert_file.native());
  add_line(out, "client_key_file", destination.client_key_file.native());
  add_line(out, "proxy", destination.proxy);
  add_line(out, "proxy_credentials_file", destination.proxy_credentials_file.native());
  if (destination.allow_plain_http) out += "allow_plain_http = true\n";
  if (destination.telemetry_kit_machine_id) add_line(out, "machine_id_scheme", "telemetry-kit");
  for (const auto& pattern : added.routes) {
    out += "\n[[route]]\n";
    add_line(out, "app", pattern);
    add_line(out, "destination", destination.name);
  }
  return out;
}

Result<std::filesystem::path> write_destination(const std::filesystem::path& main_file,
                                                const NewDestination& added) {
  if (!name_valid(added.destination.name)) {
    return fail(ErrorCode::kInvalidArgument,
                "a destination's name is 1 to 64 of a-z 0-9 _ -, because it names a file");
  }
  const auto directory = main_file.parent_path() / "conf.d";
  const auto path = directory / (added.destination.name + ".toml");
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    return fail(ErrorCode::kFailedPrecondition,
                path.native() + " exists already; edit it, or remove it and add it again");
  }
  if (const auto before = check_whole(main_file); !before) {
    return fail(before.error().with_context("before anything was added"));
  }
  std::filesystem::create_directories(directory, error);
  if (error) return fail(error_from_errno(error.value(), "making " + directory.native()));
  TELEMETRYD_TRY(replace_file(path, destination_toml(added), 0644));
  if (auto after = check_whole(main_file); !after) {
    std::filesystem::remove(path, error);
    return fail(after.error());
  }
  return path;
}

}  // namespace telemetryd::ctl
