// integration/daemon/session.h: what the daemon's tests do over and over.

#pragma once

#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/daemon_process.h"
#include "telemetry/telemetry.h"

namespace telemetryd::test {

using Json = nlohmann::json;

constexpr std::uint32_t kNobody = 65534;
inline constexpr const char* kOptOut = "[policy]\nmode = \"opt-out\"\n";

inline Json json_of(const HttpAnswer& answer) {
  const Json json = Json::parse(answer.body, nullptr, false);
  EXPECT_TRUE(json.is_object()) << answer.status << " " << answer.body;
  return json.is_object() ? json : Json::object();
}

inline Json get(const DaemonProcess& daemon, const std::string& target) {
  UnixHttp http = daemon.admin();
  const HttpAnswer answer = http.get(target);
  EXPECT_EQ(answer.status, 200) << target << ": " << answer.body;
  return json_of(answer);
}

inline HttpAnswer post(const DaemonProcess& daemon, const std::string& target, const Json& body) {
  UnixHttp http = daemon.admin();
  return http.post(target, body.dump());
}

// Runs `work` as another user: the kernel tells a thread's own user to the peer.
inline void as_user(std::uint32_t uid, const std::function<void()>& work) {
  std::thread([&] {
    ASSERT_EQ(syscall(SYS_setresuid, -1, uid, -1), 0);
    work();
  }).join();
}

// An app with the client library.
class App {
 public:
  App(const DaemonHome& home, const char* name) {
    const std::string socket = home.ingest_socket();
    telemetry_options_t options = TELEMETRY_OPTIONS_INIT;
    options.app = name;
    options.socket_path = socket.c_str();
    EXPECT_EQ(telemetry_client_open(&options, &client_), TELEMETRY_OK);
  }

  ~App() { telemetry_client_close(client_, 500, nullptr); }

  App(const App&) = delete;
  App& operator=(const App&) = delete;

  telemetry_status_t track(const char* name) {
    telemetry_event_t event = TELEMETRY_EVENT_INIT;
    event.name = name;
    return telemetry_track(client_, &event);
  }

  // Until the daemon has it on disk.
  telemetry_status_t flush() { return telemetry_flush(client_, 10'000); }

  telemetry_client_t* client() { return client_; }

 private:
  telemetry_client_t* client_ = nullptr;
};

}  // namespace telemetryd::test
