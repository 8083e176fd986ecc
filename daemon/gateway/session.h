// gateway/session.h: one gRPC call, without gRPC: what to read, what to answer, when to end.
//
// The network side asks nothing and decides nothing: it hands over messages and carries out what
// the session says, one read and one write at a time. Answers of a stream are cumulative, and while
// one is being written the newer ones are gathered into the next.
//
// Owns:    what is unanswered and unwritten of its call.
// Thread:  loop, but for the constructor.
// Limits:  kWindow unanswered requests, then nothing is read; kWriteDeadline for one
//          answer; as many refusals as the window has wait to be written, and nothing is read
//          while one does.

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "gateway/call.h"
#include "gateway/request.h"
#include "gateway/room.h"
#include "gateway/upstreams.h"

namespace telemetryd::gateway {

class Hub;

class Session final : public Call, public Waiter {
 public:
  enum class Kind { kPublish, kPublishStream };

  static constexpr std::size_t kWindow = 64;

  // `peer`: of the connection, for senders without a uid of their own.
  Session(Hub& hub, std::uint32_t uid, std::string peer, Kind kind);

  // Call. What is on its way when the sender gives up is committed all the same.
  void begin(std::shared_ptr<Caller> caller) override;
  std::function<void()> prepare(std::string_view message) override;
  void half_closed() override;
  void written() override;
  void cancelled() override;
  void end(const Status& status) override;
  void resume() override;

  // Waiter.
  void settled(std::uint64_t number, std::uint64_t acknowledged) override;
  void refused(const Refusal& refusal, std::uint64_t acknowledged) override;
  void lost(const Status& status) override;

 private:
  std::expected<Request, Status> take_in(std::string_view message) const;  // any thread
  std::function<void()> taking(std::expected<Request, Status> taken);
  void take(std::expected<Request, Status> request);
  void take_publish(Request request);
  void take_stream(Request request);
  void submit(Request request);
  void read_more();
  void write_more();
  void on_write_deadline();
  void finish_when_done();

  Hub& hub_;
  const std::shared_ptr<Room> room_;
  const std::uint32_t uid_;
  const std::string peer_;
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
