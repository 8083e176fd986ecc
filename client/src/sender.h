// telemetry_core/sender.h: the client's one thread: ring to frames to daemon.
//
// It sleeps without a timer when there is nothing to do: no event waits, or everything is sent and
// only the daemon can say more. After it found events it lingers for kLingerNs before it sleeps, so
// that a busy app pays for one wake-up per burst and not per event. Without a daemon it leaves
// events in the ring, where they pack best, until the ring fills up.
//
// Owns:    the connection, through Session.
// Thread:  run() on the sender thread; wake() on any.

#pragma once

#include <stdint.h>

#include "telemetry_core/block.h"
#include "telemetry_core/ring.h"
#include "telemetry_core/session.h"
#include "telemetry_core/surroundings.h"

namespace telemetryd::client {

constexpr uint64_t kLingerNs = 500'000;

class Sender {
 public:
  struct Parts {
    Block* block;
    Ring* ring;
    Session* session;
    const Surroundings* surroundings;
    int wake_fd;  // readable when somebody wants the sender
    uint64_t wake_inode;
    uint32_t frame_bytes_target;
  };

  void reset(const Parts& parts);

  // Returns after block->stop was set and what could still be said was said.
  void run();

 private:
  bool fill_window();
  bool fill_one_frame();
  bool worth_draining();
  bool pending() const;
  void connect_if_due(uint64_t now);
  void switch_off(const char* rule);
  void publish();
  void publish_mode();
  void rest(bool drained);
  bool must_not_sleep(Rest rest);
  void poll_until(uint64_t deadline_ns);
  void take_wake_up();
  void finish();
  void drop_ring();

  Parts parts_ = {};
  bool off_ = false;
  uint64_t linger_until_ = 0;
  bool blocked_ = false;  // a record waits that the window has no room for
};

// Makes a sender that rests look at its work. `wake_fd` is the writing end.
void wake_sender(Block& block, int wake_fd, uint64_t wake_inode);

}  // namespace telemetryd::client
