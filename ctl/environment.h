// ctl/environment.h: the variables and standard places that telemetryctl looks at.
//
// The only file of this module that reads the environment.
//
// Thread:  the main thread, before others are started.

#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "consent/consent.h"

namespace telemetryd::ctl {

// Nothing when the variable is unset or empty.
std::optional<std::string> variable(const char* name);

// The admin socket: the system's when it exists, else the user's.
std::filesystem::path default_admin_socket();

// $XDG_CONFIG_HOME/APP/consent.toml, or below ~/.config.
// Of one tool, or of all tools when `app` is empty: that one lies under the name "telemetryd".
std::filesystem::path consent_file_path(const std::string& app);

// Everything that this side knows about the decision for `app` (empty: all tools): variables, the
// consent file, and the policy that the daemon beside `admin_socket` has published.
consent::Inputs local_consent_inputs(const std::string& app,
                                     const std::filesystem::path& admin_socket);

// Why `consent enable` should not be taken for a person's decision: the name of the variable that
// speaks against it, or nothing.
std::optional<std::string> objection_to_enabling();

}  // namespace telemetryd::ctl
