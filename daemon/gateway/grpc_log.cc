#include "gateway/grpc_log.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <grpc/support/log.h>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/log.h"

namespace telemetryd::gateway {
namespace {

constexpr std::chrono::milliseconds kInterval{60'000};

std::atomic<std::uint64_t> errors_unsaid{0};
std::atomic<BootMs> next_line_at{0};

// gRPC's own source file, which nobody outside chooses.
std::string place_of(const gpr_log_func_args& said) {
  std::string_view file = said.file;
  file.remove_prefix(file.rfind('/') + 1);
  return std::string(file) + ":" + std::to_string(said.line);
}

void say(const std::string& place) {
  const std::uint64_t errors = errors_unsaid.exchange(0);
  if (errors > 0) log::warn("grpc_errors_counted", {{"errors", errors}, {"last_at", place}});
}

void count(gpr_log_func_args* said) {
  if (said->severity != GPR_LOG_SEVERITY_ERROR) return;
  ++errors_unsaid;
  const BootMs now = SystemClock().boot_ms();
  BootMs due = next_line_at;
  // Of threads that come at once one speaks.
  if (now >= due && next_line_at.compare_exchange_strong(due, now + kInterval.count())) {
    say(place_of(*said));
  }
}

}  // namespace

void take_grpc_log() {
  gpr_set_log_function(count);
}

void finish_grpc_log() {
  say("the end");
}

}  // namespace telemetryd::gateway
