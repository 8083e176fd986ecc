// salvage/daemon_status.h: what telemetryd says of its store, so that nothing is sent that it would
// have to evict again.
//
// Thread:  the caller's; blocks for kStatusMax at most.
// Limits:  an answer of 1 MiB.
// Fails:   kUnavailable when nobody answers on the admin socket, or not as telemetryd does.

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>

#include "base/result.h"

namespace telemetryd::salvage {

inline constexpr std::chrono::seconds kStatusMax{30};

struct DaemonStatus {
  std::uint64_t store_bytes = 0;  // with what is set aside
  std::uint64_t store_bytes_max = 0;
  std::uint64_t evicted = 0;  // events, since the store was made
};

// The admin socket lies beside the ingest socket. One that belongs to another telemetryd is as if
// it were not there.
[[nodiscard]] Result<DaemonStatus> daemon_status(const std::filesystem::path& ingest_socket);

// What the store has left for rows. It may be a little more: what delivery freed is not counted.
std::uint64_t room_for_rows(const DaemonStatus& status);

// What a batch takes in the store.
std::uint64_t stored_bytes(std::uint64_t batch_bytes, std::uint64_t context_bytes);

}  // namespace telemetryd::salvage
