// ingest/uid_limits.h: what one user may take of the daemon, whatever the number of its processes.
//
// Connections are counted; events are metered by a bucket that holds one second's worth. A frame is
// taken whole and may overdraw the bucket; who overdrew it waits until it is level again, so the
// rate holds on average and a frame is never cut. While somebody else sends too, a second bucket
// meters bytes: every few MiB the store must bring its log into the database, everybody's next
// commit waits for that, and so it may not come often on one user's account. What a user's
// connections keep in memory is counted together, and so is what of it is on its way through the
// store while others are there.
//
// Thread:  loop.
// Limits:  one entry per uid that is connected or was within about a second; kept_bytes_max and
//          kept_bytes_per_uid_max are kept by whoever asks room() before reading.

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>

#include "base/clock.h"
#include "ingest/store_share.h"
#include "ingest/token_bucket.h"

namespace telemetryd::ingest {

class UidLimits {
 public:
  struct Options {
    std::uint32_t connections_max = 0;                // all uids
    std::uint32_t connections_per_uid_max = 0;        // one uid
    std::uint32_t events_per_second_per_uid_max = 0;  // 0: none
    std::uint64_t kept_bytes_max = 32u << 20;
    std::uint64_t kept_bytes_per_uid_max = 8u << 20;
  };

  enum class Admission { kAdmitted, kTooMany, kTooManyOfUid };

  UidLimits(const Clock& clock, const Options& options) : clock_(clock), options_(options) {}

  // An admitted connection must leave().
  [[nodiscard]] Admission admit(std::uint32_t uid);
  void leave(std::uint32_t uid);

  // The gateway's connections count for those whom it speaks for, from when it has said who that
  // is: otherwise all users of gRPC would share what one may have. Without a user it leaves by
  // leave_gateway().
  [[nodiscard]] Admission admit_gateway();
  [[nodiscard]] Admission count_for(std::uint32_t uid);
  void leave_gateway();

  // Of one uid, while another has sent within kOthersSendFor; with a rate of 0 there is none.
  static constexpr std::uint32_t kSharedBytesPerSecond = 2u << 20;
  static constexpr std::uint32_t kSharedBytesBurst = 4u << 20;
  static constexpr std::chrono::milliseconds kOthersSendFor{2000};

  // Both say how long this uid should not be read; zero: read on.
  std::chrono::milliseconds charge(std::uint32_t uid,
                                   std::uint32_t events,
                                   std::uint64_t bytes = 0);
  std::chrono::milliseconds wait(std::uint32_t uid);

  // What a connection keeps of unfinished and waiting frames went from `before` to `after` bytes.
  void keep(std::uint32_t uid, std::uint64_t before, std::uint64_t after);
  // How many more bytes this uid's connections may keep.
  std::uint64_t room(std::uint32_t uid) const;

  std::uint64_t kept_bytes() const { return kept_bytes_; }

  // Nothing for a uid that is not connected.
  std::shared_ptr<StoreShare> share(std::uint32_t uid, const std::shared_ptr<ShareWaker>& waker);

  // Nobody is there who could wait for somebody else's frames.
  bool one_uid_alone() const { return connected_uids_ <= 1; }

  std::size_t uids() const { return uids_.size(); }

 private:
  struct Uid {
    std::uint32_t connections = 0;
    TokenBucket events;
    TokenBucket bytes;
    std::uint64_t kept_bytes = 0;
    std::shared_ptr<StoreShare> share;
  };

  struct Sender {
    std::uint32_t uid = 0;
    BootMs sent_boot_ms = 0;
    bool any = false;
  };

  void note_sender(std::uint32_t uid, BootMs now);
  bool others_send(std::uint32_t uid, BootMs now) const;
  // How long until both buckets are level, as far as they count.
  std::chrono::milliseconds owed(std::uint32_t uid, const Uid& of, BootMs now) const;
  void forget_the_gone();

  const Clock& clock_;
  Options options_;
  std::map<std::uint32_t, Uid> uids_;
  std::uint32_t connections_ = 0;
  std::uint32_t connected_uids_ = 0;
  Sender last_sender_;
  Sender sender_before_;  // the last one that was another
  std::uint64_t kept_bytes_ = 0;
};

}  // namespace telemetryd::ingest
