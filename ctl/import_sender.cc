#include "ctl/import_sender.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include <fmt/format.h>

#include "ctl/consent_text.h"
#include "ctl/text.h"

namespace telemetryd::ctl {
namespace {

// How often the progress bar and the question "is anything happening?" get their turn.
constexpr std::uint32_t kSliceMs = 200;

}  // namespace

ImportSender::ImportSender(SendSettings settings,
                           const Bytes16& instance,
                           std::function<void(std::uint64_t)> on_progress)
    : settings_(std::move(settings)), on_progress_(std::move(on_progress)) {
  std::copy(instance.begin(), instance.end(), hello_.instance);
  std::copy(instance.begin(), instance.end(), hello_.session_id);
  hello_.app = settings_.app.c_str();
  hello_.language = "cli";
  hello_.sdk = "telemetryctl";
}

Result<void> ImportSender::check_mode() const {
  const client::DaemonMode& mode = stream_.daemon_mode();
  if (!mode.known || mode.mode != client::Collection::kOff) return {};
  return fail(ErrorCode::kFailedPrecondition, decision_text(settings_.app, "off", mode.rule));
}

Result<void> ImportSender::connect() {
  started_ = std::chrono::steady_clock::now();
  const auto deadline =
      std::chrono::duration_cast<std::chrono::milliseconds>(settings_.connect_max);
  const telemetry_status_t status = stream_.connect(
      settings_.socket.c_str(), hello_, static_cast<std::uint32_t>(deadline.count()));
  if (status == TELEMETRY_OK) return check_mode();
  if (status == TELEMETRY_INVALID) {
    return fail(
        ErrorCode::kInvalidArgument,
        "the app's name or the socket's path is not valid; a path is at most 107 bytes long");
  }
  const std::string refusal = printable(stream_.last_refusal());
  return fail(ErrorCode::kUnavailable,
              fmt::format("telemetryd does not take events on {}{}{}",
                          settings_.socket.native(),
                          refusal.empty() ? "" : ": ",
                          refusal));
}

std::uint64_t ImportSender::settled_events() const {
  return stream_.counters().acknowledged_events + stream_.counters().refused_events;
}

Result<void> ImportSender::keep_trying(
    const std::function<telemetry_status_t(std::uint32_t)>& attempt) {
  auto last_progress = std::chrono::steady_clock::now();
  std::uint64_t settled = settled_events();
  while (true) {
    const telemetry_status_t status = attempt(kSliceMs);
    on_progress_(settled_events());
    TELEMETRYD_TRY(check_mode());
    if (status == TELEMETRY_OK) return {};
    if (status != TELEMETRY_TIMEOUT) {
      return fail(ErrorCode::kInternal, fmt::format("a block was not taken: {}", int{status}));
    }
    const auto now = std::chrono::steady_clock::now();
    if (settled_events() != settled) {
      settled = settled_events();
      last_progress = now;
    }
    if (now - last_progress < settings_.idle_max) continue;
    const std::string refusal = printable(stream_.last_refusal());
    return fail(ErrorCode::kUnavailable,
                fmt::format("nothing was acknowledged for {}{}{}. Import again to go on",
                            duration_text(settings_.idle_max),
                            refusal.empty() ? "" : "; the daemon says: ",
                            refusal));
  }
}

void ImportSender::wait_for_rate() {
  if (settings_.events_per_second == 0) return;
  const std::chrono::duration<double> due(static_cast<double>(sent_) /
                                          static_cast<double>(settings_.events_per_second));
  const auto at = started_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(due);
  // What is in flight is settled meanwhile, so that the counts are up to date.
  while (std::chrono::steady_clock::now() < at) {
    stream_.wait_all(kSliceMs / 10);
    const auto left = at - std::chrono::steady_clock::now();
    std::this_thread::sleep_for(
        std::clamp<std::chrono::steady_clock::duration>(left, {}, std::chrono::milliseconds(20)));
    on_progress_(settled_events());
  }
}

Result<void> ImportSender::send(const Block& block) {
  wait_for_rate();
  const client::OutgoingFrame frame{
      .number = block.number,
      .count = block.count,
      .persistence_class = static_cast<std::uint8_t>(block.persistence_class),
      .urgency = static_cast<std::uint8_t>(block.urgency),
      .records = as_bytes(block.batch).data(),
      .size = block.batch.size(),
      .commit_now = false};
  TELEMETRYD_TRY(
      keep_trying([&](std::uint32_t slice) { return stream_.send_frame(frame, slice); }));
  sent_ += block.count;
  block_events_.push_back(block.count);
  return {};
}

Result<void> ImportSender::finish() {
  return keep_trying([&](std::uint32_t slice) { return stream_.wait_all(slice); });
}

SendCounts ImportSender::counts() const {
  SendCounts out;
  out.sent = sent_;
  // What was known before is the beginning of the import, always.
  const auto known =
      std::min<std::uint64_t>(stream_.counters().duplicate_frames, block_events_.size());
  for (std::size_t i = 0; i < known; ++i) out.duplicates += block_events_[i];
  out.acknowledged = stream_.counters().acknowledged_events - out.duplicates;
  out.refused = stream_.counters().refused_events;
  out.refusal = printable(stream_.last_refusal());
  return out;
}

}  // namespace telemetryd::ctl
