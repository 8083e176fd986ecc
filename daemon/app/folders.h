// app/folders.h: the state and runtime folders and the policy file that clients read.
//
// Thread:  main and loop; small files only.

#pragma once

#include <filesystem>

#include "base/result.h"
#include "consent/consent.h"

namespace telemetryd::app {

// Makes the folder, and those above it, when it is absent; the folder itself gets `mode`.
[[nodiscard]] Result<void> make_folder(const std::filesystem::path& folder, mode_t mode);

// "mode = opt-out\n" as RUNTIME_DIR/policy, readable by everybody, replaced whole.
[[nodiscard]] Result<void> publish_policy(const std::filesystem::path& runtime_dir,
                                          consent::MachinePolicy policy);

}  // namespace telemetryd::app
