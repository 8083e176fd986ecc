// loop/until.h: serves a loop until something has happened, and fails the test when it never does.

#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include <gtest/gtest.h>

#include "loop/loop.h"

namespace telemetryd::loop {

inline void serve_until(Loop& loop, const std::function<bool()>& happened) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!happened()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "it never happened";
    loop.poll();
    std::this_thread::yield();
  }
}

}  // namespace telemetryd::loop
