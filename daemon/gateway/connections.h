// gateway/connections.h: counts the connections that gRPC serves, and ends those of a flooder.
//
// gRPC owns an accepted socket and tells nobody when it closes it. So a duplicate of the descriptor
// is kept here and asked for one thing only, that both directions are shut down: the peer's close
// does that, and gRPC's does too.
//
// Other machines share one uid, so there strangers are told from senders: a connection is proven
// by a call that brought what is asked for. One that is not yet goes when its place is needed, and
// after kFirstCallDeadline in any case.
//
// Owns:    one duplicate per connection, the epoll descriptor that watches them, a timer.
// Thread:  loop.
// Limits:  kMax, kPerUidMax, kRemoteMax, kUnprovenPerAddressMax, kFirstCallDeadline.

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

// The other end as gRPC names it, "ipv4:192.0.2.1:4711"; empty for a Unix socket.
std::string peer_of(int fd);
// What one machine has: the address without the port, of IPv6 the network of 64 bits.
std::string address_of(int fd);

class Connections {
 public:
  static constexpr std::size_t kMax = 256;
  static constexpr std::size_t kPerUidMax = 64;

  // Of these kMax, those of other machines.
  static constexpr std::size_t kRemoteMax = 128;
  static constexpr std::size_t kUnprovenPerAddressMax = 8;
  static constexpr std::chrono::milliseconds kFirstCallDeadline{20'000};

  static Result<std::unique_ptr<Connections>> create(
      loop::Loop& loop,
      const Clock& clock,
      std::chrono::milliseconds first_call_deadline = kFirstCallDeadline);
  ~Connections();

  // False when a limit is reached, or a descriptor cannot be had. Remote ones are known by their
  // peer as well.
  [[nodiscard]] bool add(std::uint32_t uid, int fd);
  // A call of this remote peer was accepted.
  void prove(const std::string& peer);
  // Of one peer unless that is empty.
  std::size_t count(std::uint32_t uid, const std::string& peer = {}) const;

  std::size_t count() const { return watched_.size(); }

  // Shuts down every connection of `uid`, of one peer unless that is empty; returns how many.
  std::size_t shut(std::uint32_t uid, const std::string& peer);

 private:
  struct Watched {
    std::uint32_t uid = 0;
    std::string peer;
    std::string address;
    BootMs since = 0;
    bool proven = false;
    UniqueFd fd;
  };

  using Watches = std::map<std::uint64_t, Watched>;  // oldest first

  Connections(loop::Loop& loop, const Clock& clock, std::chrono::milliseconds deadline, UniqueFd);
  bool make_room(std::uint32_t uid, const std::string& address);
  // Of one address unless that is empty.
  Watches::iterator oldest_unproven(const std::string& address);
  bool shut_unproven(const std::string& address);
  void arm_deadline();
  void on_deadline();
  Watches::iterator forget(Watches::iterator each);
  void collect();

  const Clock& clock_;
  const std::chrono::milliseconds first_call_deadline_;
  UniqueFd epoll_;
  Watches watched_;
  std::uint64_t next_ = 1;
  loop::Poll poll_;
  loop::Timer deadline_;
};

}  // namespace telemetryd::gateway
