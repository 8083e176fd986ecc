// ctl/import_sender.h: gives the blocks of an import to the daemon until all of them are durable.
//
// The daemon may stop and start meanwhile: blocks keep their numbers, and what it does not have is
// sent again. There is no GOODBYE at the end, so the daemon remembers the instance for 30 days and
// recognises a repetition.
//
// Owns:    the connection.
// Thread:  the one that made it.
// Limits:  8 MiB of blocks in flight.
// Fails:   kFailedPrecondition when collection is off, kUnavailable when `idle_max` passed without
//          progress.

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "ctl/import_plan.h"
#include "telemetry_core/frame_stream.h"

namespace telemetryd::ctl {

struct SendSettings {
  std::filesystem::path socket;
  std::string app;
  std::chrono::seconds connect_max{5};
  std::chrono::seconds idle_max{300};
  std::uint64_t events_per_second = 0;  // 0: as fast as the daemon takes them
};

struct SendCounts {
  std::uint64_t sent = 0;          // handed to the connection
  std::uint64_t acknowledged = 0;  // durable now and not before this import
  std::uint64_t duplicates = 0;    // durable before
  std::uint64_t refused = 0;
  std::string refusal;  // the newest reason
};

class ImportSender {
 public:
  // `on_progress` is told how many events are settled.
  ImportSender(SendSettings settings,
               const Bytes16& instance,
               std::function<void(std::uint64_t)> on_progress);

  [[nodiscard]] Result<void> connect();
  [[nodiscard]] Result<void> send(const Block& block);
  // After the last block.
  [[nodiscard]] Result<void> finish();

  SendCounts counts() const;

 private:
  // Calls `attempt` with a short deadline until it says something else than TIMEOUT.
  [[nodiscard]] Result<void> keep_trying(
      const std::function<telemetry_status_t(std::uint32_t)>& attempt);
  [[nodiscard]] Result<void> check_mode() const;
  std::uint64_t settled_events() const;
  void wait_for_rate();

  SendSettings settings_;
  client::Hello hello_{};
  std::function<void(std::uint64_t)> on_progress_;
  client::FrameStream stream_;
  std::vector<std::uint32_t> block_events_;  // by number - 1
  std::uint64_t sent_ = 0;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace telemetryd::ctl
