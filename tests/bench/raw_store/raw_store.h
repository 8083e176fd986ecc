// bench/raw_store/raw_store.h: the least a durable store can do, as a measure for the real one.
//
// Frames' bytes go with one pwrite over blocks that were written before, then one fdatasync per
// group. Nothing can be read back; deduplication is a number in memory.
//
// Owns:    one file.
// Thread:  store thread.

#pragma once

#include <filesystem>
#include <memory>

#include "base/result.h"
#include "store/store.h"

namespace telemetryd::bench {

// `file_bytes` are written with zeros first; the writing goes round and round in them.
[[nodiscard]] Result<std::unique_ptr<store::Store>> open_raw_store(
    const std::filesystem::path& folder, std::uint64_t file_bytes = 64ull << 20);

}  // namespace telemetryd::bench
