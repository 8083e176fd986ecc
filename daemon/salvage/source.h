// salvage/source.h: the folder that events are brought back from.
//
// Owns:    the lock of a state folder, so that no telemetryd changes it meanwhile.
// Thread:  one.
// Fails:   kFailedPrecondition when telemetryd uses the folder, kPermissionDenied,
//          kInvalidArgument when it is no folder; each with the next step.

#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "salvage/page_file.h"

namespace telemetryd::salvage {

struct Source {
  UniqueFd lock;
  PageFile file;
  // Below quarantine/ and nobody's state folder: it may go when its events are safe.
  bool set_aside = false;
  std::optional<std::uint64_t> queued;  // events, by its witness
};

[[nodiscard]] Result<Source> open_source(const std::filesystem::path& folder);

}  // namespace telemetryd::salvage
