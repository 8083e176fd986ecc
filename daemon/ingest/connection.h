// ingest/connection.h: one app on the socket, from HELLO to the end.
//
// hello -> lookup (the store looks up the instance's high water; nothing is read meanwhile)
// -> streaming -> closing (CLOSING waits behind the pending answers). Whenever something is full
// the one frame in hand is parked, reading pauses, and resume() tries again; nothing is read ahead.
// A connection whose user is over the rate, or keeps as much in memory as one may, is held before
// it is read.
//
// Owns:    the stream, the unfinished frame, at most one parked frame, a timer while a HELLO or a
//          frame is incomplete.
// Thread:  loop.
// Limits:  Options of the server; what waits in memory is one frame and one read, and counts for
// the
//          user.

#pragma once

#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "base/clock.h"
#include "consent/consent.h"
#include "ingest/ack_channel.h"
#include "ingest/app_limits.h"
#include "ingest/control.h"
#include "ingest/frame_reader.h"
#include "ingest/ingest_server.h"
#include "ingest/store_share.h"
#include "ingest/uid_limits.h"
#include "loop/loop.h"
#include "store/store_thread.h"

namespace telemetryd::ingest {

class Connection final : public AckChannel::Owner {
 public:
  // What the connections of a server share.
  struct Shared {
    loop::Loop& loop;
    const Clock& clock;
    store::StoreThread& store;
    const Options& options;
    const IngestServer::Decide& decide;
    UidLimits& limits;
    AppLimits& app_limits;
    Stats& stats;
    std::function<void()> on_work;  // called by the next frame, and then forgotten
    // Destroys the connection; it touches nothing of itself afterwards.
    std::function<void(Connection&)> finished;
    // Calls resume() on everybody after about this long.
    std::function<void(std::chrono::milliseconds)> wake_throttled_after;
    // Does so when a user's share of the store has room again.
    std::shared_ptr<ShareWaker> share_waker;
  };

  struct Sender {
    std::uint32_t uid = 0;
    bool gateway = false;  // its HELLO says whose events these are
  };

  // `duplicate` is a second descriptor of `fd`, for the answers.
  Connection(Shared& shared, UniqueFd fd, UniqueFd duplicate, const Sender& sender);
  ~Connection();

  // Whose limit this connection uses up; nobody's while the gateway has not said.
  std::optional<std::uint32_t> counted_for() const {
    return counted_ ? std::optional(uid_) : std::nullopt;
  }

  // Something that was full may have room: tries the parked frame and reads on.
  void resume();
  void refresh_mode();
  void stop();

  // Around everything that the loop calls. A piece of work that finds no memory costs this
  // connection and nothing else: it is hung up on, without a word, for that would need memory too.
  // What had not been acknowledged comes again with the same numbers.
  template <typename Work>
  void guard(Work work) {
    try {
      work();
    } catch (const std::bad_alloc&) {
      shared_.finished(*this);
    }
  }

 private:
  enum class State { kHello, kLookup, kStreaming, kClosing };
  using Next = FrameReader::Next;

  void channel_changed() override {
    guard([this] { follow_channel(); });
  }

  void high_water_known(const Result<std::optional<std::uint64_t>>& high_water) override;

  void follow_channel();
  void welcome(const Result<std::optional<std::uint64_t>>& high_water);

  // How many bytes may be read now; 0: held.
  std::size_t allowance();
  // True: somebody calls resume() when the user may go on.
  bool over_rate();
  std::chrono::milliseconds charge(std::uint32_t events, std::uint64_t bytes = 0);
  void hold();
  void release();
  // What is kept counts for the user; said whenever it may have changed.
  void note_kept();
  void read(std::span<const std::uint8_t> bytes);
  void end();
  void after_reading(const std::optional<Problem>& problem, std::uint64_t frames_before);
  void arm(std::chrono::milliseconds deadline);
  bool overslept() const;
  void on_deadline();
  void close(frame::Code code, const std::string& text);

  Next take(const FrameReader::Frame& frame);
  Next take_hello(std::span<const std::uint8_t> payload);
  // Takes over whose events these are; false: the connection is closing.
  bool settle_sender(const Hello& hello);
  Next take_events(const FrameReader::Frame& frame);
  // For as long as the user is over the rate.
  Next pause_for(std::chrono::milliseconds wait);
  Next take_report(std::span<const std::uint8_t> payload);
  Next take_goodbye();
  Next refuse_protocol(frame::Code code, const std::string& text);

  store::Append append_of(const FrameReader::Frame& frame, const frame::EventsPrefix& prefix) const;
  Result<void> submit(store::Append& append, store::StoreThread::Commit when);
  // Runs `work` now, or parks it when something is full.
  Next attempt(std::function<Result<void>()> work);
  Next after_attempt(const Result<void>& result, std::function<Result<void>()> again);
  Result<void> look_up();
  consent::Decision effective_mode() const;

  Shared& shared_;
  const bool gateway_;
  bool counted_;
  std::uint32_t uid_;  // whose events these are
  std::shared_ptr<AckChannel> channel_;
  FrameReader reader_;
  FrameReader::Visit visit_;
  State state_ = State::kHello;
  bool said_goodbye_ = false;
  bool held_ = false;               // not read, for the user's sake
  std::uint64_t parked_bytes_ = 0;  // of the frame in parked_
  std::uint64_t kept_bytes_ = 0;    // as the limits know it
  std::shared_ptr<TokenBucket> app_bucket_;
  consent::Mode client_consent_ = consent::Mode::kUndecided;
  consent::Decision decision_{};
  std::shared_ptr<const store::ClientInfo> client_;
  std::function<Result<void>()> parked_;
  std::unique_ptr<loop::Timer> deadline_;
  std::chrono::milliseconds deadline_ms_{0};
  BootMs armed_boot_ms_ = 0;
  std::unique_ptr<loop::Poll> writable_;
  loop::Stream stream_;
};

}  // namespace telemetryd::ingest
