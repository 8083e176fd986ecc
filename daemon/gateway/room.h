// gateway/room.h: the bytes of requests that lie in this process, counted from the moment they are
// in it until they are answered.
//
// What a call sends is known only when it is here: many calls may be read while little is held, and
// all of them may bring a message. So there are two bounds: above the lower nothing more is asked
// for, and what comes all the same is turned away at the upper, by the thread that has it, before
// it waits anywhere.
//
// Owns:    a count per uid; each Held gives back its own.
// Thread:  any. A Held may outlive whoever made the Room.
// Limits:  kReadBelow and kBytesPerUidMax for a uid, kBytesMax for all. Who holds nothing may
//          always bring one request, or one larger than the bound would never be taken.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "base/mutex.h"

namespace telemetryd::gateway {

class Room : public std::enable_shared_from_this<Room> {
 public:
  static constexpr std::size_t kReadBelow = 8u << 20;
  static constexpr std::size_t kBytesPerUidMax = 16u << 20;
  static constexpr std::size_t kBytesMax = 64u << 20;

  // Bytes that are counted as long as this lives.
  class Held {
   public:
    Held() = default;

    Held(Held&& other) noexcept
        : room_(std::move(other.room_)), uid_(other.uid_), bytes_(other.bytes_) {}

    Held& operator=(Held&& other) noexcept;
    ~Held();
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

   private:
    friend class Room;

    Held(std::shared_ptr<Room> room, std::uint32_t uid, std::size_t bytes)
        : room_(std::move(room)), uid_(uid), bytes_(bytes) {}

    std::shared_ptr<Room> room_;
    std::uint32_t uid_ = 0;
    std::size_t bytes_ = 0;
  };

  // Nothing when the bytes do not fit.
  [[nodiscard]] std::optional<Held> take(std::uint32_t uid, std::size_t bytes);
  // Whether more is to be asked for.
  bool wanted(std::uint32_t uid) const;
  std::size_t held(std::uint32_t uid) const;

 private:
  void give_back(std::uint32_t uid, std::size_t bytes);

  mutable Mutex mutex_;
  std::map<std::uint32_t, std::size_t> held_ TELEMETRYD_GUARDED_BY(mutex_);
  std::size_t total_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
};

}  // namespace telemetryd::gateway
