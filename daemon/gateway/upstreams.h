// gateway/upstreams.h: finds or opens the connection to telemetryd that a request belongs to.
//
// A connection speaks for one instance of one uid. Requests without an instance share one per uid
// and context, with an instance that this process made up. Connections that nobody waits on are
// kept for the next request of their sender, and make room for others when a limit is reached.
//
// Owns:    the connections.
// Thread:  loop.
// Limits:  kConnectionsMax, kConnectionsPerUidMax, kConnectionsRemoteMax; the bytes on their
//          way are Room's.
// Fails:   a request that finds no place or no daemon is told Waiter::lost at once.

#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "gateway/upstream.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

class Upstreams {
 public:
  static constexpr std::size_t kConnectionsMax = 192;
  static constexpr std::size_t kConnectionsPerUidMax = 32;
  static constexpr std::size_t kConnectionsRemoteMax = 128;  // all senders of other machines

  // What the daemon has against gateways is the same for all of them.
  static constexpr std::chrono::milliseconds kSayRefusedAgain{60'000};

  // `on_change`: the daemon said something, or a connection ended; there may be room.
  Upstreams(loop::Loop& loop, std::string ingest_socket, Upstream::OnChange on_change);
  ~Upstreams();
  Upstreams(const Upstreams&) = delete;
  Upstreams& operator=(const Upstreams&) = delete;

  // Not from inside a Waiter's calls. `context` is used when a connection has to be opened;
  // `instance` empty: the request stands alone and gets a number of ours.
  void submit(std::uint32_t uid,
              const std::optional<Bytes16>& instance,
              const std::string& context,
              Submission submission);
  // Commits what is on its way for this instance.
  void flush(std::uint32_t uid, const Bytes16& instance);

  std::size_t requests_unanswered() const;

  std::size_t connections() const { return upstreams_.size(); }

  // Whether somebody listens on ingest.sock now.
  bool daemon_reachable() const;

 private:
  // The sender's word: its instance, or its context when it has none.
  struct Key {
    std::uint32_t uid = 0;
    bool alone = false;
    std::string word;
    auto operator<=>(const Key&) const = default;
  };

  struct Entry {
    std::unique_ptr<Upstream> upstream;
    std::uint64_t used = 0;
  };

  Upstream* find_or_open(const Key& key, Upstream::Sender sender, Status& why);
  // Makes room for one more of `uid` by closing the idle one that was not used for longest.
  bool make_room(std::uint32_t uid);
  bool close_idle(const std::function<bool(const Key&)>& may_go);
  std::size_t count_of(std::uint32_t uid) const;
  void changed(Change change);
  void say_refused(const std::string& reason);

  loop::Loop& loop_;
  const std::string ingest_socket_;
  const Upstream::OnChange on_change_;
  std::map<Key, Entry> upstreams_;
  std::uint64_t uses_ = 0;
  loop::Timer said_refused_;
};

}  // namespace telemetryd::gateway
