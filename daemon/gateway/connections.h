// gateway/connections.h: counts the connections that gRPC serves, and ends those of a flooder.
//
// gRPC owns an accepted socket and tells nobody when it closes it. So a duplicate of the descriptor
// is kept here and asked for one thing only, that both directions are shut down: the peer's close
// does that, and gRPC's does too.
//
// Owns:    one duplicate per connection, the epoll descriptor that watches them.
// Thread:  loop.
// Limits:  kMax, kPerUidMax.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

// The other end as gRPC names it, "ipv4:192.0.2.1:4711"; empty for a Unix socket.
std::string peer_of(int fd);

class Connections {
 public:
  static constexpr std::size_t kMax = 256;
  static constexpr std::size_t kPerUidMax = 64;

  static Result<std::unique_ptr<Connections>> create(loop::Loop& loop);
  ~Connections();

  // False when a limit is reached, or a descriptor cannot be had. Remote ones are known by their
  // peer as well.
  [[nodiscard]] bool add(std::uint32_t uid, int fd);
  std::size_t count(std::uint32_t uid) const;

  std::size_t count() const { return watched_.size(); }

  // Shuts down every connection of `uid`, of one peer unless that is empty; returns how many.
  std::size_t shut(std::uint32_t uid, const std::string& peer);

 private:
  struct Watched {
    std::uint32_t uid = 0;
    std::string peer;
    UniqueFd fd;
  };

  Connections(loop::Loop& loop, UniqueFd epoll);
  void collect();

  UniqueFd epoll_;
  std::map<std::uint64_t, Watched> watched_;
  std::uint64_t next_ = 1;
  loop::Poll poll_;
};

}  // namespace telemetryd::gateway
