// app/notifier.h: tells the service manager how we are, by its datagram protocol.
//
// A few lines instead of libsystemd: the protocol is one datagram of KEY=VALUE lines.
//
// Owns:    the socket to the address in NOTIFY_SOCKET; silent without one. Takes that and the
//          watchdog's variables out of the environment, so that children do not speak for us.
// Thread:  loop.

#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace telemetryd::app {

class Notifier {
 public:
  // Reads and clears the environment: before there are threads.
  Notifier();

  void ready(std::string_view status);
  void reloading();
  void stopping();
  void watchdog_ping();
  // Zero disarms the watchdog.
  void watchdog_interval(std::chrono::microseconds interval);

  // What the service manager asked for; zero when it did not.
  std::chrono::microseconds watchdog() const { return watchdog_; }

 private:
  void send(std::string_view lines);

  UniqueFd fd_;
  std::string address_;
  std::chrono::microseconds watchdog_{0};
};

}  // namespace telemetryd::app
