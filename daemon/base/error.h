// base/error.h: why something failed, named by what the caller does next.
//
// The codes carry gRPC's names so that mapping to and from the wire is a table. Numbers are stable
// because logs and the admin API show them.
//
// Thread:  any; a value.

#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace telemetryd {

enum class ErrorCode {
  kInvalidArgument = 3,     // the sender is wrong and will be wrong again
  kDeadlineExceeded = 4,    // unknown outcome
  kNotFound = 5,            // no such thing
  kPermissionDenied = 7,    // the peer may not do this
  kResourceExhausted = 8,   // a limit of ours; slow down
  kFailedPrecondition = 9,  // not in this state
  kCancelled = 1,           // we are stopping
  kInternal = 13,           // a bug, seen from outside
  kUnavailable = 14,        // try again later
  kDataLoss = 15,           // stored bytes are wrong
  kUnknownOutcome = 2,      // a commit may or may not be on disk; never report it as failed
};

std::string_view to_string(ErrorCode code);

class Error {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  ErrorCode code() const { return code_; }

  const std::string& message() const { return message_; }

  // Puts the words of the module that passes the error on in front: "opening the store: ...".
  [[nodiscard]] Error with_context(std::string_view context) const {
    return {code_, std::string(context) + ": " + message_};
  }

 private:
  ErrorCode code_;
  std::string message_;
};

}  // namespace telemetryd
