// support/fake_clock.h: time that moves when the test says so.

#pragma once

#include <chrono>

#include "base/clock.h"

namespace telemetryd::test {

class FakeClock final : public Clock {
 public:
  UnixMs unix_ms() const override { return unix_ms_; }

  BootMs boot_ms() const override { return boot_ms_; }

  // Both clocks, as time passing does.
  void advance(std::chrono::milliseconds by) {
    unix_ms_ += by.count();
    boot_ms_ += by.count();
  }

  // The wall clock alone, as NTP or a person does.
  void jump(std::chrono::milliseconds by) { unix_ms_ += by.count(); }

 private:
  UnixMs unix_ms_ = 1'700'000'000'000;
  BootMs boot_ms_ = 1'000'000;
};

}  // namespace telemetryd::test
