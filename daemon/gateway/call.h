// gateway/call.h: the two sides of a gRPC call: what the network can do, and who decides.
//
// Between them lies the hand-over to the loop. So everything that decides is tested without gRPC.

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/status.h"

namespace telemetryd::gateway {

// The network side. Every function returns at once; after finish() or answer() only abort() is
// called, and after that none.
class Caller {
 public:
  virtual ~Caller() = default;
  // Reads one message: then Call::prepare() and what it returned are called, or half_closed().
  virtual void read_next() = 0;
  // Writes one message: then Call::written() is called.
  virtual void write(std::string response) = 0;
  virtual void finish(const Status& status) = 0;
  // Ends the call without waiting for a peer that does not read.
  virtual void abort() = 0;
  // A last message, and OK.
  virtual void answer(std::string response) = 0;
};

// The deciding side. Thread: loop, but for the constructor and prepare().
class Call : public std::enable_shared_from_this<Call> {
 public:
  virtual ~Call() = default;
  virtual void begin(std::shared_ptr<Caller> caller) = 0;
  // Any thread: makes of a message what is then run on the loop.
  virtual std::function<void()> prepare(std::string_view message) = 0;
  // The message could not be had from the network.
  virtual void half_closed() = 0;
  virtual void written() = 0;
  // The sender gave up, or its connection went.
  virtual void cancelled() = 0;
  virtual void end(const Status& status) = 0;

  // Hub::wait_for_room() was called, and there may be room.
  virtual void resume() {}
};

}  // namespace telemetryd::gateway
