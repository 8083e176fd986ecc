// ingest/ack_channel.h: the way back to one client, used from two threads.
//
// Answers are written by the store thread the moment their commit is on disk; a hand-over to the
// loop would cost more than the write. The channel owns a descriptor of its own, so that it closes
// only when the last frame on its way through the store has let go: an answer cannot reach whoever
// got the number next.
//
// Order is kept: acknowledgements are cumulative and may swallow older ones, but none passes a
// refusal. A socket that takes nothing costs at most kWaitingBytesMax, then its connection.
//
// Owns:    a duplicate of the connection's descriptor.
// Thread:  any for the sink and close functions; loop where it says so.
// Limits:  kWaitingBytesMax unsent bytes; frame::kFramesInFlightMax unanswered frames.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "ingest/frame_reader.h"
#include "ingest/store_share.h"
#include "loop/loop.h"
#include "store/store_thread.h"

namespace telemetryd::ingest {

class AckChannel final : public store::AckSink, public std::enable_shared_from_this<AckChannel> {
 public:
  static constexpr std::size_t kWaitingBytesMax = 64u << 10;

  // Called on the loop, posted, when one of the questions below has a new answer.
  class Owner {
   public:
    virtual void channel_changed() = 0;
    // The store's answer to the HELLO: the highest settled frame of this instance.
    virtual void high_water_known(const Result<std::optional<std::uint64_t>>& high_water) = 0;

   protected:
    ~Owner() = default;
  };

  AckChannel(loop::Loop& loop, UniqueFd fd) : loop_(loop), fd_(std::move(fd)) {}

  // Loop. Without an owner (before, or after the connection went) answers are still sent, but none
  // waits: a socket that blocks is shut down.
  void attach(Owner* owner);
  void detach();

  Owner* owner() const { return owner_; }

  // Loop. Whose share of the store the frames from now on count for; nobody's before.
  void count_for(std::shared_ptr<StoreShare> share) { share_ = std::move(share); }

  // Loop. Counts frame `number` as unanswered. False when as many are in flight as may be, and the
  // owner hears when there is room again; or when the share would exceed `share_bytes_max`, and its
  // waker does.
  [[nodiscard]] bool reserve(std::uint64_t number,
                             std::uint64_t bytes,
                             std::uint64_t share_bytes_max);
  // Loop. The store did not take the frame after all.
  void unreserve(std::uint64_t number);

  // Any thread. A whole frame, sent behind everything before it.
  void send_frame(std::string frame);
  // Any thread. Sends CLOSING when every frame in flight has its answer, then shuts the socket
  // down.
  void close_after_answers(frame::Code code, std::string_view text);

  // Loop. Bytes wait for the socket: call flush() when it can be written.
  bool blocked();
  void flush();
  // Loop. Nothing will be sent any more.
  bool finished();

  int fd() const { return fd_.get(); }

  void acknowledge(std::uint64_t number) noexcept override;
  void refuse(std::uint64_t number, const store::Refusal& refusal) noexcept override;
  void abandon() noexcept override;

 private:
  struct InFlight {
    std::uint64_t number;
    std::uint64_t bytes;
  };

  // Outside the lock: whoever waits for the share is told through the loop, and the loop takes this
  // lock.
  void give_back(std::uint64_t bytes) noexcept;
  void queue_frame(std::string_view frame) TELEMETRYD_REQUIRES(mutex_);
  void queue_ack() TELEMETRYD_REQUIRES(mutex_);
  void settle_output() TELEMETRYD_REQUIRES(mutex_);
  bool send_waiting() TELEMETRYD_REQUIRES(mutex_);
  void note_answers() TELEMETRYD_REQUIRES(mutex_);
  void break_off() TELEMETRYD_REQUIRES(mutex_);
  void tell_owner() TELEMETRYD_REQUIRES(mutex_);

  loop::Loop& loop_;
  UniqueFd fd_;
  Owner* owner_ = nullptr;  // loop only
  // Set before the first frame and never changed behind it.
  std::shared_ptr<StoreShare> share_;

  Mutex mutex_;
  std::vector<InFlight> in_flight_ TELEMETRYD_GUARDED_BY(mutex_);
  std::string waiting_ TELEMETRYD_GUARDED_BY(mutex_);  // unsent bytes from `sent_` on
  std::size_t sent_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
  // The newest acknowledgement, which comes behind everything in `waiting_`; 0: none.
  std::uint64_t ack_ TELEMETRYD_GUARDED_BY(mutex_) = 0;
  std::string closing_ TELEMETRYD_GUARDED_BY(mutex_);
  bool owned_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  bool wants_room_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  bool blocked_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  bool last_queued_ TELEMETRYD_GUARDED_BY(mutex_) = false;  // CLOSING is in `waiting_`
  bool deaf_ TELEMETRYD_GUARDED_BY(mutex_) = false;         // the peer is gone: answers go nowhere
  bool finished_ TELEMETRYD_GUARDED_BY(mutex_) = false;
  bool told_ TELEMETRYD_GUARDED_BY(mutex_) = false;
};

}  // namespace telemetryd::ingest
