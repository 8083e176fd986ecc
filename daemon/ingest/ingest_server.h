// ingest/ingest_server.h: accepts apps on ingest.sock, checks every byte, hands frames to the
// store.
//
// Reads frames into one shared buffer, validates events in one pass, and never waits: a full store
// queue pauses the connections that fill it. Answers go from the store thread straight to the
// socket through each connection's AckChannel.
//
// Owns:    the listening socket, the connections.
// Thread:  loop.
// Limits:  Options; docs/formats/frame.md.
// Fails:   a bad client costs itself its connection and nobody else anything.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "consent/consent.h"
#include "loop/loop.h"
#include "store/store_thread.h"

namespace telemetryd::ingest {

struct Options {
  std::uint32_t event_bytes_max = 65536;
  std::uint32_t frame_bytes_max = 1u << 20;
  std::uint32_t connections_max = 1024;
  std::uint32_t connections_per_uid_max = 256;
  std::uint32_t events_per_second_per_uid_max = 100000;  // 0: none
  std::uint32_t events_per_second_per_app_max = 50000;   // 0: none
  std::chrono::milliseconds hello_deadline{10000};
  std::chrono::milliseconds frame_deadline{10000};
};

// Since the start, but for the first two.
struct Stats {
  std::uint64_t connections = 0;  // open now
  std::uint64_t kept_bytes = 0;   // of frames that are unfinished or wait, in memory now
  std::uint64_t connections_total = 0;
  std::uint64_t frames_accepted = 0;
  std::uint64_t events_accepted = 0;
  std::uint64_t connections_refused = 0;  // by a limit
  std::uint64_t protocol_errors = 0;
  std::uint64_t rate_waits = 0;         // a connection was not read: its user was over the rate
  std::uint64_t frames_cut_short = 0;   // the sender went in the middle of a frame
  std::uint64_t peer_uids_refused = 0;  // somebody who is not the gateway spoke for another
};

// Who connected, as the kernel tells.
struct Peer {
  std::int64_t pid = 0;
  std::uint32_t uid = 0;
};

class IngestServer {
 public:
  using IsGateway = std::function<bool(const Peer&)>;
  using Decide = std::function<consent::Decision(std::uint32_t uid, std::string_view app)>;

  IngestServer(loop::Loop& loop,
               UniqueFd listening,
               store::StoreThread& store,
               const Clock& clock,
               Decide decide,
               const Options& options);
  ~IngestServer();

  // Whom to believe when it says in HELLO whose events it brings; nobody until this is set. Asked
  // when the connection is accepted.
  void believe(IsGateway is_gateway);
  // Consent or policy changed: asks Decide again for every connection and sends MODE where the
  // answer differs.
  void refresh_modes();
  // From StoreThread::Hooks::on_room, posted to the loop: paused connections go on.
  void resume_reading();
  // Calls `hook` once, with the next frame that is handed to the store: for what need not run while
  // nobody sends, like a watchdog over commits. Set it again when the work is done.
  void on_work(std::function<void()> hook);
  // Stops accepting and reading, tells clients CLOSING(stopping) after their pending answers.
  void stop();

  Stats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::ingest
