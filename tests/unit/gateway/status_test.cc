#include "gateway/status.h"

#include <gtest/gtest.h>

#include "rig.h"

namespace telemetryd::gateway {
namespace {

Status status_for(frame::Code code, bool retryable) {
  return status_of({.number = 1,
                    .code = code,
                    .retryable = retryable,
                    .retry_after = std::chrono::milliseconds(0),
                    .text = "why"});
}

TEST(Status, EveryCodeOfTheDaemonHasItsPlaceInTheTable) {
  struct Row {
    frame::Code code;
    bool retryable;
    StatusCode status;
    bool retry_info;
  };

  const Row rows[] = {
      {frame::Code::kInvalidEvent, false, StatusCode::kInvalidArgument, false},
      {frame::Code::kFrameTooLarge, false, StatusCode::kResourceExhausted, false},
      {frame::Code::kCollectionOff, false, StatusCode::kPermissionDenied, false},
      {frame::Code::kStoreFull, true, StatusCode::kResourceExhausted, true},
      {frame::Code::kDiskUnavailable, true, StatusCode::kUnavailable, true},
      {frame::Code::kOutOfOrder, true, StatusCode::kAborted, true},
      {frame::Code::kStopping, true, StatusCode::kUnavailable, true},
      {frame::Code::kProtocol, false, StatusCode::kUnavailable, true},
      {frame::Code::kVersionUnsupported, false, StatusCode::kUnavailable, true},
      {frame::Code::kTooManyConnections, true, StatusCode::kUnavailable, true},
      {frame::Code::kDeadline, true, StatusCode::kUnavailable, true},
      {frame::Code::kUnknownOutcome, true, StatusCode::kUnavailable, true},
  };
  for (const Row& row : rows) {
    const Status status = status_for(row.code, row.retryable);
    EXPECT_EQ(status.code, row.status) << code_word(row.code);
    EXPECT_EQ(status.retry_after.has_value(), row.retry_info) << code_word(row.code);
    EXPECT_EQ(status_details(status).empty(), !row.retry_info) << code_word(row.code);
  }
}

// As `protoc --decode google.rpc.Status` reads it: code 8, message "full", one Any with RetryInfo
// of 1.25 s.
TEST(Status, RetryInfoIsWhatGooglesSchemaSays) {
  const Status status = status_of({.number = 1,
                                   .code = frame::Code::kStoreFull,
                                   .retryable = true,
                                   .retry_after = std::chrono::milliseconds(1250),
                                   .text = "full"});
  const std::string duration = field(1, 1) + field(2, 250'000'000);
  EXPECT_EQ(status_details(status),
            field(1, 8) + field(2, "full") +
                field(3,
                      field(1, "type.googleapis.com/google.rpc.RetryInfo") +
                          field(2, field(1, duration))));
}

TEST(Status, ASenderThatIsNotToldWhenComesBackAfterASecond) {
  EXPECT_EQ(status_for(frame::Code::kStoreFull, true).retry_after, kRetryAfterDefault);
}

TEST(Status, ResponsesAreThoseOfTheSchema) {
  const Refusal refusal{.number = 4,
                        .code = frame::Code::kStoreFull,
                        .retryable = true,
                        .retry_after = std::chrono::milliseconds(250),
                        .text = "full"};
  const std::string bytes = publish_response(3, &refusal);
  EXPECT_EQ(bytes,
            field(1, 3) + field(2,
                                field(1, 4) + field(2, "STORE_FULL") + field(3, 1) + field(4, 250) +
                                    field(5, "full")));
  EXPECT_EQ(words_of(bytes), "ack 3 refused 4 STORE_FULL again after 250");
  EXPECT_EQ(publish_response(0), "");
}

}  // namespace
}  // namespace telemetryd::gateway
