// bench/backlog/frames.h: groups of frames as a busy machine sends them, without the sockets.
//
// Eight clients, sixteen frames of a hundred events of 182 bytes each: what the row "100-event
// frames, 8 connections x 16" of docs/performance.md hands to the store at once.
//
// Thread:  one.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "store/store.h"

namespace telemetryd::bench {

inline constexpr std::size_t kEventBytes = 182;
inline constexpr std::uint32_t kClients = 8;
inline constexpr std::uint32_t kFramesEach = 16;
inline constexpr std::uint32_t kEventsPerFrame = 100;
inline constexpr std::uint64_t kEventsPerGroup =
    std::uint64_t{kClients} * kFramesEach * kEventsPerFrame;

class Frames {
 public:
  Frames() {
    // Tag, two bytes of length, and bytes that do not compress.
    std::uint32_t random = 12345;
    for (std::uint32_t event = 0; event < kEventsPerFrame; ++event) {
      batch_ += {'\x0A',
                 static_cast<char>(0x80 | (kEventBytes & 0x7F)),
                 static_cast<char>(kEventBytes >> 7)};
      for (std::size_t i = 0; i < kEventBytes; ++i) {
        random = random * 1664525u + 1013904223u;
        batch_ += static_cast<char>(random >> 24);
      }
    }
    for (std::uint32_t i = 0; i < kClients; ++i) {
      auto client = std::make_shared<store::ClientInfo>();
      client->key = {.uid = 1000, .instance = random_bytes16()};
      client->app = "bench";
      client->context = "\n\5bench";
      clients_.push_back(std::move(client));
    }
  }

  // Every client's next window. The frames are moved into the same vector each time.
  const std::vector<store::Append>& next() {
    group_.clear();
    for (const auto& client : clients_) {
      for (std::uint32_t i = 0; i < kFramesEach; ++i) {
        store::Append frame;
        frame.client = client;
        frame.number = next_ + i;
        frame.summary.count = kEventsPerFrame;
        frame.events = batch_;
        group_.push_back(std::move(frame));
      }
    }
    next_ += kFramesEach;
    return group_;
  }

 private:
  std::string batch_;
  std::vector<std::shared_ptr<const store::ClientInfo>> clients_;
  std::vector<store::Append> group_;
  std::uint64_t next_ = 1;
};

}  // namespace telemetryd::bench
