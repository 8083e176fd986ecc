// ctl/emitter.h: one event through libtelemetry's C interface, as an app would send it.
//
// Owns:    a client of the library and its thread.
// Thread:  the one that made it.
// Limits:  waits no longer than the deadlines given.

#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "telemetry/telemetry.h"

namespace telemetryd::ctl {

class Emitter {
 public:
  // `ingest_socket` empty: the library looks for it.
  [[nodiscard]] static Result<Emitter> open(const std::string& app,
                                            const std::filesystem::path& ingest_socket);
  ~Emitter();
  Emitter(Emitter&& other) noexcept;
  Emitter& operator=(Emitter&&) = delete;

  // Returns when the event is on stable storage, at the deadline at the latest. Fails with
  // kFailedPrecondition when collection is off (the message names the rule and what turns it on),
  // kUnavailable when no daemon answered, kInvalidArgument when the event breaks a limit.
  [[nodiscard]] Result<void> emit(const telemetry_event_t& event,
                                  std::chrono::milliseconds deadline);

 private:
  Emitter(std::string app, telemetry_client_t* client) : app_(std::move(app)), client_(client) {}

  [[nodiscard]] Result<void> explain_failure();

  std::string app_;
  telemetry_client_t* client_;
};

}  // namespace telemetryd::ctl
