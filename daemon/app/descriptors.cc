#include "app/descriptors.h"

#include <algorithm>
#include <limits>
#include <sys/resource.h>

namespace telemetryd::app {
namespace {

// 64 connections to the admin socket, which may have a duplicate each, and everything of our own.
constexpr std::uint64_t kReserved = 192;
constexpr std::uint64_t kPerConnection = 2;
constexpr std::uint64_t kUnknown = 1024;

}  // namespace

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kUnknown;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  return ::setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : before;
}

std::uint32_t connections_that_fit(std::uint64_t descriptors) {
  const std::uint64_t reserved = std::min(kReserved, descriptors / 2);
  const std::uint64_t fit = (descriptors - reserved) / kPerConnection;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(fit, 1, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace telemetryd::app
