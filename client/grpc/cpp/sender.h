// sender.h: hands events to telemetryd over grpc.sock and keeps each request until it is
// acknowledged.
//
// A request has a number within this sender's instance. What was not acknowledged is sent again
// with the same number, so nothing is lost and nothing is stored twice, whatever dies in between.
//
// Thread:  one.
// Limits:  kRequestsKeptMax requests wait; `patience` bounds how long a flush goes on without an
//          acknowledgement.

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <string>
#include <vector>

#include "telemetry/v1/ingest.grpc.pb.h"

namespace example {

namespace v1 = ::telemetry::v1;

// With an ID (UUIDv7) and the time.
v1::Event new_event(const std::string& name);

class Sender {
 public:
  static constexpr std::size_t kRequestsKeptMax = 1000;
  static constexpr std::size_t kUnansweredMax = 64;  // in a stream

  enum class End {
    kAcknowledged,   // nothing is kept any more
    kCollectionOff,  // policy or consent says no: stop making events
    kFailed,         // see problem(); what is kept can be flushed later
  };

  struct Refused {
    std::uint64_t number = 0;
    std::string why;
  };

  Sender(const std::string& socket,
         const std::string& app,
         std::chrono::seconds patience = std::chrono::seconds(60));

  // The user of this process said no, and problem() by which rule: make no events. What is added
  // nevertheless is forgotten.
  bool off() const { return off_; }

  // Makes one request of the events. False: too much is waiting; flush first.
  bool add(std::vector<v1::Event> events);

  // One call per request, each answered after it is on stable storage.
  End flush();
  // Many requests on the way at a time; a stream that ends is opened again.
  End flush_stream();

  const std::string& problem() const { return problem_; }

  std::uint64_t resent() const { return resent_; }

  // Requests that were refused for good.
  const std::vector<Refused>& refused() const { return refused_; }

 private:
  using SteadyTime = std::chrono::steady_clock::time_point;
  using Stream = grpc::ClientReaderWriter<v1::PublishRequest, v1::PublishResponse>;
  enum class Next { kGoOn, kCollectionOff, kFailed };

  static End end_of(Next next);
  grpc::Status stream_once(Next& next);
  // Writes until the window is full or nothing is left; false when the stream broke.
  bool fill(Stream& stream, std::size_t& sent);
  Next take(const v1::PublishResponse& answer, std::size_t& sent);
  const v1::PublishRequest& oldest_first(v1::PublishRequest& request);
  std::size_t settle(std::uint64_t acknowledged);
  void progress();
  // Returns kGoOn when it is time to try again.
  Next wait_after(const grpc::Status& status);
  Next wait(std::chrono::milliseconds delay, const std::string& why);

  std::unique_ptr<v1::IngestService::Stub> stub_;
  v1::Context context_;
  std::string instance_;
  std::chrono::seconds patience_;
  std::uint64_t number_ = 0;
  std::deque<v1::PublishRequest> kept_;  // oldest first
  int failures_ = 0;                     // since the last acknowledgement
  SteadyTime give_up_;
  std::uint64_t resent_ = 0;
  bool off_ = false;
  std::string problem_;
  std::vector<Refused> refused_;
};

}  // namespace example
