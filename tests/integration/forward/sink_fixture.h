// integration/forward/sink_fixture.h: a destination over HTTP with its files, and a sink's answer
// waited for.

#pragma once

#include <memory>
#include <optional>
#include <string>

#include <gtest/gtest.h>

#include "base/io.h"
#include "config/config.h"
#include "forward/grpc_channel.h"
#include "forward/http.h"
#include "forward/sink.h"
#include "support/fake_clock.h"
#include "support/temp_dir.h"

namespace telemetryd::test {

inline constexpr char kToken[] = "tk_0123456789";
inline constexpr char kSecret[] = "secret-secret-secret";

class SinkTest : public ::testing::Test {
 protected:
  explicit SinkTest(const char* kind) {
    destination_.name = "main";
    destination_.kind = kind;
    destination_.org = "acme";
    destination_.app = "tools";
    destination_.token_file = dir_ / "token";
    destination_.secret_file = dir_ / "secret";
    EXPECT_TRUE(replace_file(destination_.token_file, std::string(kToken) + "\n", 0600));
    EXPECT_TRUE(replace_file(destination_.secret_file, std::string(kSecret) + "\n", 0600));
  }

  template <typename Sink>
  std::shared_ptr<Sink> sink_to(const std::string& url) {
    destination_.url = url;
    return std::make_shared<Sink>(destination_,
                                  forward::SinkContext{http_, grpc_, clock_, timeout_});
  }

  forward::v1::Outcome send_by(forward::Sink& sink, const forward::v1::Lease& batch) {
    std::optional<forward::v1::Outcome> outcome;
    sink.begin(batch, [&](forward::v1::Outcome given) { outcome = std::move(given); });
    while (!outcome) http_.wait(-1, false);
    return *outcome;
  }

  forward::ProbeOutcome probe_by(forward::Sink& sink) {
    std::optional<forward::ProbeOutcome> outcome;
    sink.probe([&](forward::ProbeOutcome given) { outcome = std::move(given); });
    while (!outcome) http_.wait(-1, false);
    return *outcome;
  }

  TempDir dir_;
  FakeClock clock_;
  forward::Http http_;
  forward::GrpcCalls grpc_{[this] { http_.wake(); }};
  std::chrono::seconds timeout_{20};
  config::Destination destination_;
};

}  // namespace telemetryd::test
