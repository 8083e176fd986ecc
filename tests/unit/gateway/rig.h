// unit/gateway/rig.h: requests as bytes, a call that remembers what was said to it, and a loop that
// turns until something is so.

#pragma once

#include <chrono>
#include <optional>
#include <sched.h>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "event/wire.h"
#include "gateway/call.h"
#include "gateway/hub.h"
#include "gateway/session.h"
#include "loop/loop.h"
#include "support/fake_clock.h"
#include "support/fake_daemon.h"
#include "support/temp_dir.h"

namespace telemetryd::gateway {

using test::FakeDaemon;

inline std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  return out + static_cast<char>(value);
}

inline std::string field(std::uint32_t number, std::string_view bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

inline std::string field(std::uint32_t number, std::uint64_t value) {
  return varint(number << 3) + varint(value);
}

inline std::string event_bytes(const std::string& name = "e", const std::string& more = "") {
  return field(
             1,
             std::string("\x01\x8b\xcf\xe5\x68\x00\x70\x00\x80\x00\x00\x00\x00\x00\x00\x01", 16)) +
         field(3, name) + "\x29" + std::string("\x00\x00\x2a\x36\xfe\x9c\x97\x17", 8) + more;
}

inline std::string instance_bytes(char fill = 'i') {
  return std::string(16, fill);
}

inline Bytes16 instance_of(char fill = 'i') {
  Bytes16 instance{};
  instance.fill(static_cast<std::uint8_t>(fill));
  return instance;
}

inline const std::string kContext = field(1, "tool");

inline std::string request_bytes(std::uint64_t number,
                                 const std::string& name = "e",
                                 std::uint64_t oldest = 0) {
  std::string request = field(1, event_bytes(name)) + field(2, instance_bytes());
  request += field(3, number);
  if (oldest != 0) request += field(4, oldest);
  return request + field(5, kContext);
}

// What a PublishResponse says, in short: "ack 3", "ack 3 refused 4 STORE_FULL again after 250".
inline std::string words_of(const std::string& response) {
  event::Cursor cursor(response);
  std::uint64_t acknowledged = 0;
  std::string refused;
  for (std::uint32_t tag = 0; !cursor.at_end();) {
    EXPECT_TRUE(cursor.tag(tag));
    std::string_view message;
    if (tag >> 3 == 1) {
      EXPECT_TRUE(cursor.varint(acknowledged));
    } else {
      EXPECT_TRUE(cursor.bytes(message));
      event::Cursor inner(message);
      std::uint64_t number = 0;
      std::uint64_t again = 0;
      std::uint64_t after = 0;
      std::string_view code;
      std::string_view text;
      for (std::uint32_t each = 0; !inner.at_end();) {
        EXPECT_TRUE(inner.tag(each));
        switch (each >> 3) {
          case 1: EXPECT_TRUE(inner.varint(number)); break;
          case 2: EXPECT_TRUE(inner.bytes(code)); break;
          case 3: EXPECT_TRUE(inner.varint(again)); break;
          case 4: EXPECT_TRUE(inner.varint(after)); break;
          default: EXPECT_TRUE(inner.bytes(text)); break;
        }
      }
      refused = " refused " + std::to_string(number) + " " + std::string(code);
      if (again != 0) refused += " again after " + std::to_string(after);
    }
  }
  return "ack " + std::to_string(acknowledged) + refused;
}

// The network side of one call. `reads` and `said` are what the deciding side did.
class RecordingCaller final : public Caller {
 public:
  void read_next() override { ++reads; }

  void write(std::string response) override { said.push_back(std::move(response)); }

  void finish(const Status& status) override { ended = status; }

  void abort() override { aborted = true; }

  void answer(std::string response) override {
    said.push_back(std::move(response));
    ended = Status{};
  }

  bool over() const { return ended.has_value() || aborted; }

  int reads = 0;
  std::vector<std::string> said;
  std::optional<Status> ended;
  bool aborted = false;
};

// The bound is for broken code only.
template <typename Condition>
bool turn_until(loop::Loop& loop, Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    loop.poll();
    ::sched_yield();
  }
  return true;
}

// A scripted daemon and the hub in front of it.
class HubRig {
 public:
  explicit HubRig(std::chrono::milliseconds idle_exit = std::chrono::hours(1),
                  std::chrono::milliseconds write_deadline = std::chrono::hours(1))
      : daemon((folder / "ingest.sock").native()),
        hub(loop,
            clock,
            {.ingest_socket = daemon.path(),
             .idle_exit = idle_exit,
             .exits_when_idle = true,
             .write_deadline = write_deadline},
            {.on_stopping = [this] { ++stopping; },
             .on_stopped = [this] { ++stopped; },
             .on_flood = [this](std::uint32_t uid,
                                const std::string& peer) { floods.emplace_back(uid, peer); },
             .connections = [this](std::uint32_t, const std::string&) { return connections; },
             .on_proven = [this](const std::string& peer) { proven.push_back(peer); }}) {}

  ~HubRig() { daemon.stop(); }

  HubRig(const HubRig&) = delete;
  HubRig& operator=(const HubRig&) = delete;

  struct Running {
    std::shared_ptr<Session> session;
    std::shared_ptr<RecordingCaller> caller = std::make_shared<RecordingCaller>();

    // The network read this.
    void send(const std::string& message) const { session->prepare(message)(); }
  };

  Running begin(Session::Kind kind, std::uint32_t uid = 1000) {
    Running running;
    running.session = std::make_shared<Session>(hub, uid, "", kind);
    running.session->begin(running.caller);
    return running;
  }

  test::TempDir folder;
  FakeDaemon daemon;
  loop::Loop loop;
  test::FakeClock clock;
  int stopping = 0;
  int stopped = 0;
  std::size_t connections = 1;
  std::vector<std::pair<std::uint32_t, std::string>> floods;
  std::vector<std::string> proven;
  Hub hub;
};

}  // namespace telemetryd::gateway
