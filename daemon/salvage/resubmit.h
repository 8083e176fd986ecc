// salvage/resubmit.h: one sender's frames, over the ordinary ingest socket.
//
// telemetryd asks consent, counts and deduplicates as for everybody. Whose events they are is the
// kernel's word, so a process of root connects as the user who had sent them.
//
// Owns:    the connection.
// Thread:  the one that made it; it changes the process's effective uid for a moment.
// Limits:  one frame in flight; kAnswerMax for an answer, kRefusedMax of being told "later".
// Fails:   kPermissionDenied when they are another user's, kUnavailable when telemetryd is not
//          there or does not answer.

#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "frame/frame.h"
#include "salvage/plan.h"

namespace telemetryd::salvage {

struct Resubmitted {
  std::uint64_t events = 0;      // durable now and not before
  std::uint64_t duplicates = 0;  // durable before
  std::uint64_t refused = 0;
  std::string refusal;  // the newest reason
};

class Resubmitter {
 public:
  static constexpr std::chrono::seconds kAnswerMax{30};
  static constexpr std::chrono::seconds kRefusedMax{60};

  // Root may speak for every user of the machine, others for themselves.
  static bool may_send_for(std::uint32_t uid);

  [[nodiscard]] static Result<Resubmitter> connect(const std::filesystem::path& socket,
                                                   std::uint32_t uid,
                                                   const std::string& context,
                                                   const Bytes16& instance);

  // telemetryd knows frames up to this one.
  std::uint64_t high_water() const { return high_water_; }

  [[nodiscard]] Result<void> send(const Frame& frame, Resubmitted& counts);

 private:
  struct Message {
    frame::Type type{};
    std::string payload;
  };

  explicit Resubmitter(UniqueFd socket) : socket_(std::move(socket)) {}

  Result<void> write(frame::Type type, std::uint8_t flags, std::string_view payload);
  Result<Message> read();
  Result<Message> answer_to(std::uint64_t number);

  UniqueFd socket_;
  std::uint64_t high_water_ = 0;
};

}  // namespace telemetryd::salvage
