// store/old_refusals.h: what users had said no to, read from a store that was set aside.
//
// A new store knows no decisions, and a policy that asks nobody would then collect from somebody
// who had refused. So the refusals come along, as far as SQLite can still read them. Consent that
// was given does not: whoever gave it can be asked again.
//
// Owns:    nothing; the files are opened for reading and stay as they are.
// Thread:  store thread, or before it starts; the caller holds the StateLock.
// Limits:  kOldRefusalsMax records.

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/clock.h"

namespace telemetryd::store {

inline constexpr std::size_t kOldRefusalsMax = 100'000;

struct OldRefusal {
  std::uint32_t uid = 0;
  std::string app;
  std::string state;  // a word of the table
  UnixMs decided_unix_ms = 0;
};

struct OldRefusals {
  std::vector<OldRefusal> records = {};
  std::string problem = {};  // why there may be more; empty: these are all
  std::string folder = {};   // where they still lie then
};

// Of the database in `folder`, with its write-ahead log.
OldRefusals read_old_refusals(const std::filesystem::path& folder);

}  // namespace telemetryd::store
