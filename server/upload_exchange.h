// server/upload_exchange.h: an upload between its headers and its answer, whatever its wire format.
//
// A format says how a body is checked and read, and how what was stored is told; this hands it to
// the storage and puts the headers on every answer that say a rate or what is muted.
//
// Thread:  one at a time; the answer to submit() is made on the storage's thread.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/endpoint.h"
#include "server/event_store.h"
#include "server/gate.h"

namespace telemetryd::server {

class UploadExchange : public Exchange {
 public:
  std::optional<Answer> receive(std::string body) final;
  void submit(std::function<void(Answer)> reply) final;

 protected:
  using Tell = std::function<Answer(const Stored&)>;

  UploadExchange(Gate& gate, EventStore& events, std::optional<RateState> rate)
      : gate_(gate), events_(events), rate_(rate) {}

  // All checks of the body, in order. Without an answer submission() is filled.
  virtual std::optional<Answer> read(std::string body) = 0;
  // What to answer once it is stored; must not refer to the exchange.
  virtual Tell tell() = 0;

  Gate& gate() { return gate_; }

  // For a format that learns only from the body whose rate it is.
  void set_rate(std::optional<RateState> rate) { rate_ = rate; }

  Submission& submission() { return submission_; }

  // 409 or 429, or the nonce is part of the submission from here on. The sender is known to be
  // who it says, so that every answer from here on says what the application does not want.
  std::optional<Answer> check_fresh(const Credential& credential, const Bytes16& nonce);

 private:
  // The value of Telemetry-Mute; empty when nothing is.
  std::string muted() const;

  Gate& gate_;
  EventStore& events_;
  std::optional<RateState> rate_;
  std::vector<Mute> mutes_;
  Submission submission_;
};

}  // namespace telemetryd::server
