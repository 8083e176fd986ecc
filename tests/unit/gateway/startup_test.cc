#include "gateway/startup.h"

#include <filesystem>
#include <fstream>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "gateway/remote.h"
#include "loop/loop.h"
#include "support/temp_dir.h"

namespace telemetryd::gateway {
namespace {

TEST(CommandLine, TakesItsFlagsAndNoOthers) {
  const char* const words[] = {"telemetryd-gateway", "--config", "/c", "--fd=7", "--listen", "/s"};
  const auto parsed = parse_arguments(words);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->config, "/c");
  EXPECT_EQ(parsed->fd, 7);
  EXPECT_EQ(parsed->listen, "/s");
  for (const char* const bad : {"--peer=x", "x", "--fd=x", "--fd=-1", "--config"}) {
    const char* const line[] = {"telemetryd-gateway", bad};
    EXPECT_FALSE(parse_arguments(line)) << bad;
  }
}

// Of the process that asks: 0 for taken, 1 for refused, 2 for something else.
int take_it(int listening) {
  const auto taken = take_listener(listening);
  if (taken) return 0;
  return taken.error().code() == ErrorCode::kCancelled ? 1 : 2;
}

int status_of(pid_t child) {
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Listener, IsTakenFromTheParentThatListens) {
  const test::TempDir folder;
  const auto socket = loop::listen_unix((folder / "grpc.sock").native(), 0600, 1);
  ASSERT_TRUE(socket);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(take_it(socket->get()));
  EXPECT_EQ(status_of(child), 0);
}

TEST(Listener, OfAParentThatEndedBeforeIsRefused) {
  const test::TempDir folder;
  int answer[2] = {};
  ASSERT_EQ(::pipe(answer), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    const auto socket = loop::listen_unix((folder / "grpc.sock").native(), 0600, 1);
    if (!socket) ::_exit(1);
    const pid_t before = ::getpid();
    if (::fork() != 0) ::_exit(0);
    while (::getppid() == before) ::sched_yield();
    const auto said = static_cast<char>(take_it(socket->get()));
    ::_exit(::write(answer[1], &said, 1) == 1 ? 0 : 1);
  }
  EXPECT_EQ(status_of(parent), 0);
  ::close(answer[1]);
  char said = 0;
  ASSERT_EQ(::read(answer[0], &said, 1), 1);
  EXPECT_EQ(said, 1);
  ::close(answer[0]);
}

TEST(Tcp, IsBoundWhereTheAddressSaysOnlyThere) {
  const auto bound = listen_tcp("127.0.0.1:0");
  ASSERT_TRUE(bound) << bound.error().message();
  ASSERT_EQ(bound->size(), 1u);
  EXPECT_TRUE(bound->front().remote);
  EXPECT_TRUE(is_loopback(bound->front().socket.get()).value());
  const auto everywhere = listen_tcp("0.0.0.0:0");
  ASSERT_TRUE(everywhere);
  EXPECT_FALSE(is_loopback(everywhere->front().socket.get()).value());
  for (const char* const bad : {"", "nowhere", ":1", "127.0.0.1", "127.0.0.1:99999", "::1:5"}) {
    EXPECT_FALSE(listen_tcp(bad)) << bad;
  }
}

TEST(Tcp, BeyondThisMachineNeedsACertificateAndSomethingToShow) {
  const Remote plain;
  const Remote open{.tls = {.certificate = "c", .key = "k", .client_ca = ""}, .token = ""};
  const Remote by_token{.tls = {.certificate = "c", .key = "k", .client_ca = ""}, .token = "t"};
  const Remote by_certificate{.tls = {.certificate = "c", .key = "k", .client_ca = "a"},
                              .token = ""};
  const Remote token_in_the_clear{.tls = {}, .token = "t"};
  for (const Remote& remote : {plain, open, by_token, by_certificate, token_in_the_clear}) {
    EXPECT_TRUE(check_exposure(true, remote));
  }
  EXPECT_FALSE(check_exposure(false, plain));
  EXPECT_FALSE(check_exposure(false, open));
  EXPECT_FALSE(check_exposure(false, token_in_the_clear));
  EXPECT_TRUE(check_exposure(false, by_token));
  EXPECT_TRUE(check_exposure(false, by_certificate));
}

TEST(Token, IsComparedWholeAfterItsScheme) {
  EXPECT_TRUE(token_matches("Bearer abc", "abc"));
  EXPECT_TRUE(token_matches("bearer abc", "abc"));
  for (const char* const bad :
       {"", "abc", "Bearer ab", "Bearer abd", "Bearer abcd", "Basic  abc"}) {
    EXPECT_FALSE(token_matches(bad, "abc")) << bad;
  }
}

TEST(Token, IsOneWordInAFileThatNotEverybodyMayOpen) {
  const test::TempDir folder;
  config::Config::Gateway gateway;
  gateway.token_file = folder / "token";
  EXPECT_EQ(read_remote(gateway).error().code(), ErrorCode::kNotFound);
  std::ofstream(gateway.token_file) << "  word\n";
  std::filesystem::permissions(gateway.token_file, std::filesystem::perms(0644));
  EXPECT_EQ(read_remote(gateway).error().code(), ErrorCode::kPermissionDenied);
  std::filesystem::permissions(gateway.token_file, std::filesystem::perms(0640));
  EXPECT_EQ(read_remote(gateway).value().token, "word");
  std::ofstream(gateway.token_file) << "two words\n";
  EXPECT_EQ(read_remote(gateway).error().code(), ErrorCode::kInvalidArgument);
  std::ofstream(gateway.token_file) << " \n";
  EXPECT_EQ(read_remote(gateway).error().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace telemetryd::gateway
