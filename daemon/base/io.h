// base/io.h: whole small files, read with a bound and replaced atomically.
//
// Thread:  any; blocks on the disk, so not for the loop thread while it serves.

#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "base/result.h"

namespace telemetryd {

// The whole file. Fails with kNotFound when there is none, kResourceExhausted above `bytes_max`,
// kPermissionDenied or kUnavailable otherwise.
[[nodiscard]] Result<std::string> read_file(const std::filesystem::path& path,
                                            std::size_t bytes_max);

// Writes beside the target, syncs, renames over it and syncs the directory: readers see the old or
// the new file, never half of one.
[[nodiscard]] Result<void> replace_file(const std::filesystem::path& path,
                                        std::string_view content,
                                        mode_t mode);

[[nodiscard]] Result<void> sync_directory(const std::filesystem::path& path);

// The error of `errno_value` in the words "<what>: <strerror>".
Error error_from_errno(int errno_value, std::string_view what);

}  // namespace telemetryd
