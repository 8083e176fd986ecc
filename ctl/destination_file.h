// ctl/destination_file.h: adds a destination as a file of its own below conf.d.
//
// A file of its own can be written whole, taken back whole, and removed by hand. The configuration
// is read with it, as the daemon will read it, before the file counts; what does not fit is taken
// back.
//
// Thread:  any; blocks on the disk.
// Fails:   kFailedPrecondition with every problem or when the file exists, kInvalidArgument for a
// name,
//          kPermissionDenied.

#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "config/toml_text.h"

namespace telemetryd::ctl {

struct NewDestination {
  config::Destination destination;
  std::vector<std::string> routes;  // patterns of apps
};

// The TOML text: [[destination]] and one [[route]] for each pattern.
std::string destination_toml(const NewDestination& added);

using config::toml_quoted;

// Writes <config_dir>/conf.d/<name>.toml, mode 0644: it names secrets' files and holds no secret.
// `main_file` is the daemon's configuration file, which may be absent. Returns the new path.
[[nodiscard]] Result<std::filesystem::path> write_destination(
    const std::filesystem::path& main_file, const NewDestination& added);

}  // namespace telemetryd::ctl
