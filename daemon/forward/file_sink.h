// forward/file_sink.h: kind `file`: events as JSON lines in a local file.
//
// One write per batch, under an flock and with O_APPEND, so several writers do not interleave, and
// delivered only after fdatasync. The file is opened for each batch: log rotation needs no signal.
//
// Owns:    nothing between batches.
// Thread:  the forwarder's; blocks on the disk.
// Limits:  kLockWait for another writer; kTailBytesMax looked back for the start of a torn line.
// Fails:   HOLD when a person must act (no folder, no permission, not a regular file); RETRY when
//          the disk is full or the lock is taken.

#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "forward/sink.h"

namespace telemetryd::forward {

class FileSink final : public Sink {
 public:
  static constexpr std::chrono::milliseconds kLockWait{2000};
  static constexpr std::size_t kTailBytesMax = 4u << 20;

  explicit FileSink(std::filesystem::path path) : path_(std::move(path)) {}

  void begin(const v1::Lease& lease, std::function<void(v1::Outcome)> done) override;
  void probe(std::function<void(ProbeOutcome)> done) override;

 private:
  std::filesystem::path path_;
};

// The lease's events as lines; those that cannot be shown as JSON are named in `outcome`.
std::string lines_of(const v1::Lease& lease, v1::Outcome& outcome);

// Appends whole lines durably. A line that a crash tore is cut off first when it is not JSON: its
// batch was never reported as delivered and comes again.
[[nodiscard]] Result<void> append_lines(const std::filesystem::path& path,
                                        const std::string& lines);

}  // namespace telemetryd::forward
