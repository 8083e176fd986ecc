// gateway/session.h: one gRPC call, without gRPC: what to read, what to answer, when to end.
//
// The network side asks nothing and decides nothing: it hands over messages and carries out what
// the session says, one read and one write at a time. Answers of a stream are cumulative, and while
// one is being written the newer ones are gathered into the next.
//
// Owns:    what is unanswered and unwritten of its call.
// Thread:  loop, but for the constructor.
// Limits:  kWindow unanswered requests, then nothing is read; kWriteDeadline for one answer; as
// many
//          refusals as the window has wait to be written, and nothing is read while one does.

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <expected>
#include <memory>
#include <optional>
#include <string>

#include "gateway/request.h"
#include "gateway/upstreams.h"

namespace telemetryd::gateway {

class Hub;

// The network side of a call; every function returns at once, and after finish() or answer() none
// is called.
class Caller {
 public:
  virtual ~Caller() = default;
  // Reads one message: then message() or half_closed() is called.
  virtual void read_next() = 0;
  // Writes one message: then written() is called.
  virtual void write(std::string response) = 0;
  virtual void finish(const Status& status) = 0;
  // Ends the call without waiting for a peer that does not read.
  virtual void abort() = 0;
  // A last message, and OK.
  virtual void answer(std::string response) = 0;
};

class Session final : public Waiter, public std::enable_shared_from_this<Session> {
 public:
  enum class Kind { kPublish, kPublishStream };

  static constexpr std::size_t kWindow = 64;
  static constexpr std::chrono::milliseconds kWriteDeadline{30'000};

  Session(Hub& hub, std::uint32_t uid, Kind kind) : hub_(hub), uid_(uid), kind_(kind) {}

  // The call began; reading starts when there is room.
  void begin(std::shared_ptr<Caller> caller);
  void message(std::expected<Request, Status> request);
  // The sender will send no more on this call, or its message could not be read.
  void half_closed();
  void written();
  // The sender gave up, or its connection went. What is on its way is committed all the same.
  void cancelled();
  // The hub has room again.
  void resume();
  void end(const Status& status);

  std::uint32_t uid() const { return uid_; }

  // Waiter.
  void settled(std::uint64_t number, std::uint64_t acknowledged) override;
  void refused(const Refusal& refusal, std::uint64_t acknowledged) override;
  void lost(const Status& status) override;

 private:
  void take_publish(Request request);
  void take_stream(Request request);
  void submit(Request request);
  void read_more();
  void write_more();
  void on_write_deadline();
  void finish_when_done();

  Hub& hub_;
  const std::uint32_t uid_;
  const Kind kind_;
  std::shared_ptr<Caller> caller_;  // null before begin() and after the end
  std::optional<Bytes16> instance_;
  std::string context_;
  std::size_t unanswered_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool half_closed_ = false;
  std::uint64_t acknowledged_ = 0;
  std::uint64_t written_ = 0;
  std::deque<Refusal> refusals_;
  std::unique_ptr<loop::Timer> write_deadline_;
};

}  // namespace telemetryd::gateway
