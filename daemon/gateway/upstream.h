// gateway/upstream.h: one connection to ingest.sock, speaking for one instance of one peer.
//
// HELLO goes out at once; requests wait for the WELCOME, because only its high water tells which
// numbers are settled and which one comes next. Then each becomes a frame, and every answer of the
// daemon finds the request that waits for it. Numbers are never invented for a sender that has its
// own: a gap is sent back with the number that is expected.
//
// Owns:    the socket, what is on its way, a timer.
// Thread:  loop.
// Limits:  kAnswerDeadline without an answer, kIdleMax without a request, kFrameBytesMax from the
//          daemon. How much is on its way is the caller's bound.
// Fails:   everything on its way is told Waiter::lost, and the owner hears closed().

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "gateway/request.h"
#include "gateway/status.h"
#include "loop/loop.h"

namespace telemetryd::gateway {

// Whether a request that was unanswered is so no more.
enum class Change { kNothingAnswered, kAnswered };

// Who waits for the answer to a request. Each request gets exactly one of the three calls.
class Waiter {
 public:
  // Every request of this instance up to `acknowledged`, and so `number`, is settled.
  virtual void settled(std::uint64_t number, std::uint64_t acknowledged) = 0;
  virtual void refused(const Refusal& refusal, std::uint64_t acknowledged) = 0;
  virtual void lost(const Status& status) = 0;

 protected:
  ~Waiter() = default;
};

struct Submission {
  std::uint64_t number = 0;  // 0: the upstream numbers it
  std::uint64_t oldest_number = 0;
  std::string frame;
  Room::Held held;  // given back with the answer
  std::weak_ptr<Waiter> waiter;
};

class Upstream {
 public:
  static constexpr std::chrono::milliseconds kAnswerDeadline{60'000};
  static constexpr std::chrono::milliseconds kIdleMax{10'000};
  static constexpr std::uint32_t kFrameBytesMax = 8192;

  struct Sender {
    std::uint32_t peer_uid = 0;
    Bytes16 instance{};
    std::string context;
    std::uint64_t first_frame = 1;
    bool own_numbers = true;  // false: the numbers are ours, and GOODBYE ends the instance
  };

  using OnChange = std::function<void(Change)>;

  // `on_change` after what the daemon said and at the end; it may destroy the upstream.
  Upstream(loop::Loop& loop, UniqueFd connected, Sender sender, OnChange on_change);
  ~Upstream();
  Upstream(const Upstream&) = delete;
  Upstream& operator=(const Upstream&) = delete;

  void submit(Submission submission);
  // Commits now what has been submitted.
  void flush();

  const Sender& sender() const { return sender_; }

  bool closed() const { return closed_; }

  // Why the daemon would not talk to a gateway at all; empty: it did.
  const std::string& gateway_refused() const { return gateway_refused_; }

  bool idle() const { return in_flight_.empty() && waiting_.empty(); }

  // True when this request can only be placed by a HELLO that begins at its oldest number.
  bool needs_new_hello(const Submission& submission) const;

  std::size_t requests() const { return in_flight_.size() + waiting_.size(); }

 private:
  struct InFlight {
    std::weak_ptr<Waiter> waiter;
    Room::Held held;
  };

  void read(std::span<const std::uint8_t> bytes);
  bool take(std::uint8_t type, std::string_view payload);
  bool take_welcome(std::string_view message);
  void take_ack(std::uint64_t number);
  void take_refuse(std::string_view payload);
  void take_closing(std::string_view payload);
  void place(Submission submission);
  void send(Submission submission);
  void send_waiting();
  void refuse_here(const Submission& submission, const std::string& text) const;
  void arm_timer();
  void on_timer();
  void end(const Status& status);
  // Tells everybody, once.
  void close(const Status& status);

  Sender sender_;
  OnChange on_change_;
  std::string input_;
  std::string gateway_refused_;
  bool welcomed_ = false;
  bool closed_ = false;
  bool flush_waits_ = false;
  std::uint64_t settled_ = 0;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, InFlight> in_flight_;
  std::deque<Submission> waiting_;
  loop::Timer timer_;
  std::unique_ptr<loop::Stream> stream_;
};

}  // namespace telemetryd::gateway
