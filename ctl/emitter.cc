#include "ctl/emitter.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "ctl/consent_text.h"
#include "ctl/text.h"
#include "frame/frame.h"

namespace telemetryd::ctl {

Result<Emitter> Emitter::open(const std::string& app, const std::filesystem::path& ingest_socket) {
  telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
  if (!frame::app_name_valid(app.data(), app.size())) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("'{}' is no app's name: 1 to 64 of a-z 0-9 _ -", printable(app)));
  }
  options.app = app.c_str();
  options.language = "cli";
  options.socket_path = ingest_socket.empty() ? nullptr : ingest_socket.c_str();
  telemetry_client_t* client = nullptr;
  switch (telemetry_client_open(&options, &client)) {
    case TELEMETRY_OK: return Emitter(app, client);
    case TELEMETRY_INVALID:
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}: a socket's path is absolute and at most 107 bytes long",
                              printable(ingest_socket.native())));
    default:
      return fail(ErrorCode::kResourceExhausted, "the client cannot have memory or a thread");
  }
}

Emitter::Emitter(Emitter&& other) noexcept
    : app_(std::move(other.app_)), client_(std::exchange(other.client_, nullptr)) {}

Emitter::~Emitter() {
  if (client_ != nullptr) telemetry_client_close(client_, 0, nullptr);
}

Result<void> Emitter::explain_failure() {
  std::array<char, 128> rule{};
  const telemetry_mode_t mode = telemetry_client_mode(client_, rule.data(), rule.size());
  if (mode == TELEMETRY_MODE_OFF) {
    return fail(ErrorCode::kFailedPrecondition, decision_text(app_, "off", rule.data()));
  }
  telemetry_stats_t stats = TELEMETRY_STATS_INIT;
  telemetry_client_stats(client_, &stats);
  if (stats.refused > 0) {
    return fail(ErrorCode::kFailedPrecondition,
                "the daemon refused the event; its log names the rule");
  }
  return fail(ErrorCode::kUnavailable, "no daemon acknowledged the event before the deadline");
}

Result<void> Emitter::emit(const telemetry_event_t& event, std::chrono::milliseconds deadline) {
  const auto until = std::chrono::steady_clock::now() + deadline;
  const auto left = [until] {
    const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    return static_cast<std::uint32_t>(std::max<std::int64_t>(rest.count(), 0));
  };
  switch (telemetry_send(client_, &event, left())) {
    case TELEMETRY_OK: break;
    case TELEMETRY_INVALID:
      return fail(ErrorCode::kInvalidArgument,
                  "the event breaks a limit: the name and keys are 1 to 256 bytes of UTF-8, "
                  "attributes at most 128");
    case TELEMETRY_TOO_LARGE:
      return fail(ErrorCode::kInvalidArgument, "the event is larger than 64 KiB");
    default: return explain_failure();
  }
  const telemetry_status_t flushed = telemetry_flush(client_, left());
  telemetry_stats_t stats = TELEMETRY_STATS_INIT;
  telemetry_client_stats(client_, &stats);
  if (flushed == TELEMETRY_OK && stats.acknowledged > 0) return {};
  return explain_failure();
}

}  // namespace telemetryd::ctl
