// support/balanced.h: what every fixture with a store asks of it at its end.

#pragma once

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "store/store.h"

namespace telemetryd::test {

inline void expect_balanced(store::Store& store) {
  const auto check = store.check_ledger();
  ASSERT_TRUE(check) << check.error().message();
  for (const std::string& problem : check->problems) ADD_FAILURE() << problem;
  EXPECT_TRUE(check->balanced);
}

// Of the store that a test has left in a folder, if it made one there.
inline void expect_balanced_in(const store::Options& options, const Clock& clock) {
  if (!std::filesystem::exists(options.state_dir / "events.db")) return;
  const auto opened = store::open_sqlite_store(options, clock);
  ASSERT_TRUE(opened) << opened.error().message();
  expect_balanced(**opened);
}

}  // namespace telemetryd::test
