// gateway/request.h: from the bytes of a PublishRequest to an EVENTS frame, or to the words why
// not.
//
// Events are encoded once: field 1 of a request is field 1 of EventBatch, so their bytes go into
// the frame as they came, and the daemon judges them. What is judged here is what the daemon could
// not: the request around the events, and that nothing but events reaches the frame. A request
// whose events break a rule still becomes a frame, because only the daemon's refusal uses the
// number up.
//
// Thread:  any; no state.
// Limits:  kContextBytesMax, kMachineIdBytesMax here; the message's size is the caller's, the
// frame's the daemon's. Fails:   with the status that ends the call.

#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "gateway/room.h"
#include "gateway/status.h"

namespace telemetryd::gateway {

// So that a HELLO with it stays within frame::kHelloBytesMax.
constexpr std::size_t kContextBytesMax = 4000;

// What telemetryd takes in a HELLO.
constexpr std::size_t kMachineIdBytesMax = 128;

struct Request {
  std::optional<Bytes16> instance;
  std::uint64_t number = 0;
  std::uint64_t oldest_number = 0;
  std::optional<std::string> context;  // encoded Context, as it came
  std::string frame;                   // whole EVENTS frame with `number`
  Room::Held held;                     // for the bytes of `frame`; convert() leaves it empty
};

// Everything about one message that does not depend on what came before it.
[[nodiscard]] std::expected<Request, Status> convert(std::string_view message);

// What Publish asks for in addition, and what PublishStream asks of its first request.
[[nodiscard]] std::optional<Status> check_publish(const Request& request);
[[nodiscard]] std::optional<Status> check_first_of_stream(const Request& request);

// Puts a number, or the wish that the commit be not delayed, into a frame that convert() made.
void set_number(std::string& frame, std::uint64_t number);
void set_commit_now(std::string& frame);

}  // namespace telemetryd::gateway
