#include <gtest/gtest.h>

#include "config/config.h"
#include "files.h"

namespace telemetryd::config {
namespace {

std::string gateway(std::string_view keys) {
  return "[gateway]\n" + std::string(keys);
}

TEST(Gateway, ReadsItsKeys) {
  Files files;
  const Loaded loaded = files.load(gateway(R"(enabled = false
grpc_socket = "/run/x/grpc.sock"
grpc_listen = "0.0.0.0:4317"
idle_exit_s = 5
start_by = "service_manager"
user = "someone"
program = "/opt/gateway"
tls_cert_file = "/c"
tls_key_file = "/k"
client_ca_file = "/ca"
token_file = "/t"
)"));
  ASSERT_TRUE(loaded.config) << files.problems_of(loaded);
  const auto& read = loaded.config->gateway;
  EXPECT_FALSE(read.enabled);
  EXPECT_EQ(read.grpc_socket, "/run/x/grpc.sock");
  EXPECT_EQ(read.grpc_listen, "0.0.0.0:4317");
  EXPECT_EQ(read.idle_exit, std::chrono::seconds(5));
  EXPECT_TRUE(read.by_service_manager);
  EXPECT_EQ(read.user, "someone");
  EXPECT_EQ(read.program, "/opt/gateway");
  EXPECT_EQ(read.tls_cert_file, "/c");
  EXPECT_EQ(read.tls_key_file, "/k");
  EXPECT_EQ(read.client_ca_file, "/ca");
  EXPECT_EQ(read.token_file, "/t");
}

TEST(Gateway, ListensOnHostAndPort) {
  Files files;
  for (const char* good : {"127.0.0.1:4317", "localhost:1", "[::1]:65535"}) {
    EXPECT_EQ(files.problems(gateway("grpc_listen = \"" + std::string(good) + "\"\n")), "") << good;
  }
  for (const char* bad : {"4317",
                          "127.0.0.1",
                          "127.0.0.1:",
                          "127.0.0.1:65536",
                          ":4317",
                          "::1:4317",
                          "[::1:4317",
                          "[::g]:4317",
                          "127.0.0.1:43x7",
                          "http://127.0.0.1:4317"}) {
    EXPECT_EQ(files.problems(gateway("grpc_listen = \"" + std::string(bad) + "\"\n")),
              "telemetryd.toml:2: gateway.grpc_listen: must be HOST:PORT with a port up to 65535, "
              "such as 127.0.0.1:4317 or [::1]:4317\n")
        << bad;
  }
}

TEST(Gateway, BeyondThisMachineItNeedsTlsAndAKeyToTheDoor) {
  Files files;
  const std::string listen = "grpc_listen = \"0.0.0.0:4317\"\n";
  EXPECT_EQ(files.problems(gateway(listen)),
            "telemetryd.toml:2: gateway.grpc_listen: beyond this machine events travel with TLS "
            "only; set tls_cert_file and tls_key_file, or listen on 127.0.0.1\n"
            "telemetryd.toml:2: gateway.grpc_listen: beyond this machine not everybody may send; "
            "set client_ca_file or token_file\n");
  const std::string tls = listen + "tls_cert_file = \"/c\"\ntls_key_file = \"/k\"\n";
  EXPECT_NE(files.problems(gateway(tls)), "");
  EXPECT_EQ(files.problems(gateway(tls + "token_file = \"/t\"\n")), "");
  EXPECT_EQ(files.problems(gateway(tls + "client_ca_file = \"/a\"\n")), "");
  EXPECT_NE(files.problems(gateway(listen + "token_file = \"/t\"\n")), "");
}

TEST(Gateway, CertificateAndKeyGoTogether) {
  Files files;
  EXPECT_EQ(files.problems(gateway("tls_cert_file = \"/c\"\n")),
            "telemetryd.toml:2: gateway.tls_cert_file: tls_key_file is missing; tls_cert_file and "
            "tls_key_file go together\n");
  EXPECT_EQ(files.problems(gateway("tls_key_file = \"/k\"\n")),
            "telemetryd.toml:2: gateway.tls_key_file: tls_cert_file is missing; tls_cert_file and "
            "tls_key_file go together\n");
  EXPECT_EQ(files.problems(gateway("client_ca_file = \"/a\"\n")),
            "telemetryd.toml:2: gateway.client_ca_file: means nothing without tls_cert_file: only "
            "TLS asks for a client's certificate\n");
}

TEST(Gateway, ItsSocketIsItsOwn) {
  Files files;
  EXPECT_EQ(files.problems(gateway("grpc_socket = \"/runtime/ingest.sock\"\n")),
            "telemetryd.toml:2: gateway.grpc_socket: is a socket of ours already; the gateway "
            "needs its own\n");
  EXPECT_EQ(files.problems(gateway("start_by = \"service_manager\"\nuser = \"\"\n")),
            "telemetryd.toml:3: gateway.user: user is missing; it says whose word about other "
            "users' events counts\n");
}

}  // namespace
}  // namespace telemetryd::config
