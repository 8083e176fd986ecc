// store/damaged_row.h: the one line of the log about a row that is removed because it is damaged.
//
// Thread:  store thread; no state.

#pragma once

#include <cstdint>

#include "base/log.h"
#include "store/row_parts.h"

namespace telemetryd::store {

inline void log_damaged(const StoredRow& row, std::int64_t events) {
  log::error("row_damaged", {{"seq", row.seq}, {"events", events}, {"bytes", row.bytes}});
}

}  // namespace telemetryd::store
