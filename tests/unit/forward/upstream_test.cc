#include "forward/upstream.h"

#include <gtest/gtest.h>

#include "base/io.h"
#include "forward/grpc_channel.h"
#include "forward/http.h"
#include "support/fake_clock.h"
#include "support/temp_dir.h"

namespace telemetryd::forward {
namespace {

TEST(Url, IsTakenApart) {
  const auto parts = split_url("https://Example.ORG:8443/base/");
  ASSERT_TRUE(parts);
  EXPECT_TRUE(parts->tls);
  EXPECT_EQ(parts->host, "example.org");
  EXPECT_EQ(parts->path, "/base");
  EXPECT_EQ(split_url("http://[::1]:80")->host, "::1");
  for (const char* url : {"ftp://x", "https://", "https://a@b", "https://a/?q", "https://a/#f"}) {
    EXPECT_FALSE(split_url(url)) << url;
  }
}

TEST(Url, OnlyThisMachineIsLoopback) {
  for (const char* host : {"localhost", "127.0.0.1", "127.9.9.9", "::1"}) {
    EXPECT_TRUE(is_loopback(host)) << host;
  }
  for (const char* host :
       {"127.example.org", "localhost.example.org", "10.0.0.1", "128.0.0.1", "127.1"}) {
    EXPECT_FALSE(is_loopback(host)) << host;
  }
}

TEST(Credentials, ATokenIsSentWhenThereIsOneAndNeitherIsEverQuoted) {
  test::TempDir dir;
  config::Destination destination;
  destination.secret_file = dir / "secret";
  ASSERT_TRUE(replace_file(destination.secret_file, "s3cret\n", 0600));
  HttpRequest request;
  auto credentials = Credentials::read(destination);
  ASSERT_TRUE(credentials);
  credentials->authorize(request);
  EXPECT_TRUE(request.headers.empty());

  destination.token_file = dir / "token";
  EXPECT_FALSE(Credentials::read(destination));
  ASSERT_TRUE(replace_file(destination.token_file, "tk_1\n", 0600));
  credentials = Credentials::read(destination);
  ASSERT_TRUE(credentials);
  credentials->authorize(request);
  EXPECT_EQ(request.headers, std::vector<std::string>{"Authorization: Bearer tk_1"});
  EXPECT_EQ(credentials->hide("tk_1 with s3cret and tk_1"), "[hidden] with [hidden] and [hidden]");
}

TEST(Files, AProblemWithOneNamesItsKeyAndItself) {
  test::TempDir dir;
  const test::FakeClock clock;
  Http http;
  GrpcCalls grpc([&http] { http.wake(); });
  const SinkContext context{.http = http, .grpc = grpc, .clock = clock};
  config::Destination good;
  good.url = "https://localhost:1";
  good.secret_file = dir / "secret";
  ASSERT_TRUE(replace_file(good.secret_file, "s3cret\n", 0600));
  ASSERT_TRUE(replace_file(dir / "open", "s3cret\n", 0644));
  ASSERT_TRUE(Credentials::read(good));
  ASSERT_TRUE(base_request(good, good.url, "/x", context));

  const struct {
    const char* key;
    std::filesystem::path config::Destination::* file;
    const char* name;
  } rows[] = {
      {"token_file", &config::Destination::token_file, "absent"},
      {"token_file", &config::Destination::token_file, "open"},
      {"secret_file", &config::Destination::secret_file, "absent"},
      {"secret_file", &config::Destination::secret_file, "open"},
      {"ca_file", &config::Destination::ca_file, "absent"},
      {"client_cert_file", &config::Destination::client_cert_file, "absent"},
      {"client_key_file", &config::Destination::client_key_file, "absent"},
  };

  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.key) + " = " + row.name);
    config::Destination destination = good;
    destination.*row.file = dir / row.name;
    const auto credentials = Credentials::read(destination);
    const auto request = base_request(destination, destination.url, "/x", context);
    ASSERT_NE(credentials.has_value(), request.has_value());
    const std::string said =
        credentials ? request.error().message() : credentials.error().message();
    const std::string expected = std::string(row.key) + ": " + (dir / row.name).native() + ": ";
    EXPECT_EQ(said.substr(0, expected.size()), expected) << said;
  }
  // What is not used is not looked at.
  good.url = "http://localhost:1";
  good.ca_file = dir / "absent";
  EXPECT_TRUE(base_request(good, good.url, "/x", context));
}

}  // namespace
}  // namespace telemetryd::forward
