#include "app/gateway_starter.h"

#include <csignal>
#include <fstream>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "support/fake_clock.h"
#include "support/temp_dir.h"

namespace telemetryd::app {
namespace {

using std::chrono::milliseconds;

// Shell scripts play the gateway; the processes and the socket are real.
class GatewayStarterTest : public ::testing::Test {
 protected:
  GatewayStarterTest() {
    options_.socket = dir_ / "grpc.sock";
    options_.delay_min = milliseconds(2);
    options_.delay_max = milliseconds(8000);
  }

  // Says that it runs, and then does `what`.
  void play(const std::string& what) {
    const std::string program = dir_ / "gateway";
    std::ofstream(program) << "#!/bin/sh\necho $PPID >>" << log() << "\n" << what << "\n";
    std::filesystem::permissions(program, std::filesystem::perms(0755));
    options_.command = {program};
  }

  std::string path(const std::string& name) { return dir_ / name; }

  std::string log() { return path("log"); }

  int runs() {
    std::ifstream lines(log());
    int count = 0;
    for (std::string line; std::getline(lines, line);) ++count;
    return count;
  }

  GatewayStarter& make() {
    starter_ = std::make_unique<GatewayStarter>(loop_, clock_, options_);
    return *starter_;
  }

  void serve_until(const std::function<bool()>& happened) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!happened()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "it never happened";
      loop_.poll();
      std::this_thread::yield();
    }
  }

  void serve() {
    for (int i = 0; i < 20; ++i) loop_.poll();
  }

  bool in_state(std::string_view state) { return starter_->status().state == state; }

  UniqueFd connect() {
    auto connection = loop::connect_unix(options_.socket.native());
    EXPECT_TRUE(connection) << connection.error().message();
    return connection ? std::move(*connection) : UniqueFd();
  }

  test::TempDir dir_;
  loop::Loop loop_;
  test::FakeClock clock_;
  GatewayStarter::Options options_;
  std::unique_ptr<GatewayStarter> starter_;
};

TEST_F(GatewayStarterTest, TheFirstConnectionStartsItWithTheSocket) {
  play("[ -S /proc/self/fd/3 ] && echo socket >>" + log() + "; exec sleep 1000");
  GatewayStarter& starter = make();
  starter.start();
  serve();
  EXPECT_TRUE(in_state("listening"));
  EXPECT_EQ(starter.status().starts, 0u) << "nobody came";
  const UniqueFd first = connect();
  serve_until([&] { return runs() == 2; });
  EXPECT_TRUE(in_state("running"));
  const UniqueFd second = connect();
  serve();
  EXPECT_EQ(starter.status().starts, 1u) << "the child accepts, not we";
}

TEST_F(GatewayStarterTest, OnlyTheChildThatRunsIsBelieved) {
  play("echo $$ >" + path("pid") + "; while [ ! -e " + path("go") + " ]; do sleep 0.01; done");
  GatewayStarter& starter = make();
  starter.start();
  UniqueFd waiting = connect();
  std::int64_t pid = 0;
  serve_until([&] { return static_cast<bool>(std::ifstream(path("pid")) >> pid); });
  EXPECT_TRUE(starter.is_child({.pid = pid, .uid = ::geteuid()}));
  EXPECT_FALSE(starter.is_child({.pid = pid, .uid = ::geteuid() + 1}));
  EXPECT_FALSE(starter.is_child({.pid = ::getpid(), .uid = ::geteuid()}));
  EXPECT_FALSE(starter.is_child({.pid = 0, .uid = ::geteuid()}));
  options_.delay_min = milliseconds(8000);
  std::ofstream(path("go")) << "";
  serve_until([&] { return !starter.status().last_exit.empty(); });
  EXPECT_FALSE(starter.is_child({.pid = pid, .uid = ::geteuid()}));
}

TEST_F(GatewayStarterTest, WhenItLeavesIdleTheNextConnectionStartsItAgain) {
  play("while [ ! -e " + path("go") + " ]; do sleep 0.01; done");
  GatewayStarter& starter = make();
  starter.start();
  // Nobody accepts, so this connection waits when the child has gone, and starts the next.
  const UniqueFd waiting = connect();
  serve_until([&] { return runs() == 1; });
  clock_.advance(std::chrono::seconds(5));
  std::ofstream(path("go")) << "";
  serve_until([&] { return starter.status().starts >= 2; });
  EXPECT_EQ(starter.status().last_exit, "exit status 0");
}

TEST_F(GatewayStarterTest, ACrashLoopIsSlowedDownAndTold) {
  play("exit 3");
  options_.delay_max = milliseconds(16);
  GatewayStarter& starter = make();
  starter.start();
  const UniqueFd waiting = connect();
  serve_until([&] { return starter.status().starts >= 5; });
  serve_until([&] { return in_state("listening"); });
  const auto status = starter.status();
  EXPECT_EQ(status.last_exit, "exit status 3");
  EXPECT_NE(status.problem.find("times in a row, last with exit status 3"), std::string::npos)
      << status.problem;
}

TEST_F(GatewayStarterTest, OneThatRanAWhileBeforeItWasKilledIsStartedAgainSoon) {
  play("while [ ! -e " + path("go") + " ]; do sleep 0.01; done; rm " + path("go") + "; kill -9 $$");
  GatewayStarter& starter = make();
  starter.start();
  const UniqueFd waiting = connect();
  for (int starts = 1; starts <= 6; ++starts) {
    serve_until([&] { return runs() == starts; });
    clock_.advance(std::chrono::seconds(6));
    std::ofstream(path("go")) << "";
    serve_until([&] { return starter.status().last_exit == "signal 9" && !in_state("running"); });
    EXPECT_NE(starter.status().problem.find("failed once"), std::string::npos)
        << starter.status().problem;
  }
}

TEST_F(GatewayStarterTest, OneFailureIsToldUntilTheNextOneRuns) {
  play("[ -e " + path("second") + " ] && exec sleep 1000; : >" + path("second") + "; kill -9 $$");
  options_.delay_min = milliseconds(200);
  GatewayStarter& starter = make();
  starter.start();
  const UniqueFd waiting = connect();
  serve_until([&] { return !starter.status().last_exit.empty(); });
  EXPECT_EQ(starter.status().problem,
            "telemetryd-gateway failed once, with signal 9; its log says why, and events over gRPC "
            "wait meanwhile");
  serve_until([&] { return in_state("running"); });
  EXPECT_EQ(starter.status().problem, "") << "it serves";
  EXPECT_EQ(starter.status().last_exit, "signal 9");
}

TEST_F(GatewayStarterTest, AfterSeveralFailuresTheNextOneMustHold) {
  play("echo >>" + path("tries") + "; [ $(wc -l <" + path("tries") +
       ") -gt 2 ] && exec sleep 1000; exit 3");
  GatewayStarter& starter = make();
  starter.start();
  const UniqueFd waiting = connect();
  serve_until([&] { return starter.status().starts == 3; });
  EXPECT_TRUE(in_state("running"));
  EXPECT_NE(starter.status().problem.find("failed 2 times in a row, last with exit status 3"),
            std::string::npos)
      << starter.status().problem;
  clock_.advance(std::chrono::seconds(1));
  EXPECT_EQ(starter.status().problem, "");
}

TEST_F(GatewayStarterTest, ExitingAtOnceIsAFailureToo) {
  play("exit 0");
  options_.delay_min = milliseconds(4000);
  GatewayStarter& starter = make();
  starter.start();
  const UniqueFd waiting = connect();
  serve_until([&] { return !starter.status().problem.empty(); });
  serve();
  EXPECT_EQ(starter.status().starts, 1u) << "it waits";
}

TEST_F(GatewayStarterTest, AMissingProgramIsSaidAndConnectionsAreRefused) {
  options_.command = {dir_ / "gateway"};
  GatewayStarter& starter = make();
  starter.start();
  EXPECT_TRUE(in_state("off"));
  EXPECT_TRUE(starter.status().missing);
  EXPECT_NE(starter.status().problem.find("cannot be run; install it and reload"),
            std::string::npos);
  EXPECT_FALSE(loop::connect_unix(options_.socket.native()));
  play("exec sleep 1000");
  starter.start();
  EXPECT_TRUE(in_state("listening")) << "a reload finds it";
  EXPECT_EQ(starter.status().problem, "");
}

TEST_F(GatewayStarterTest, AProgramThatVanishesLaterIsTriedAgain) {
  play("exec sleep 1000");
  const std::string program = options_.command.front();
  GatewayStarter& starter = make();
  starter.start();
  std::filesystem::rename(program, program + ".away");
  const UniqueFd waiting = connect();
  serve_until([&] { return !starter.status().problem.empty(); });
  EXPECT_NE(starter.status().problem.find("no such file"), std::string::npos)
      << starter.status().problem;
  std::filesystem::rename(program + ".away", program);
  serve_until([&] { return in_state("running"); });
}

TEST_F(GatewayStarterTest, StoppingLetsItFinishAndRemovesTheSocket) {
  play("trap 'echo finished >>" + log() + "; exit 0' TERM; echo ready >>" + log() +
       "; while :; do sleep 0.01; done");
  GatewayStarter& starter = make();
  starter.start();
  const UniqueFd waiting = connect();
  serve_until([&] { return runs() == 2; });
  bool done = false;
  starter.stop([&] { done = true; });
  EXPECT_FALSE(std::filesystem::exists(options_.socket));
  EXPECT_FALSE(done) << "it is still at work";
  serve_until([&] { return done; });
  EXPECT_EQ(runs(), 3) << "it could finish";
  EXPECT_TRUE(in_state("off"));
}

TEST_F(GatewayStarterTest, WhatDoesNotStopIsKilled) {
  options_.stop_max = milliseconds(20);
  play("trap '' TERM; echo ready >>" + log() + "; while :; do sleep 0.01; done");
  GatewayStarter& starter = make();
  starter.start();
  const UniqueFd waiting = connect();
  serve_until([&] { return runs() == 2; });
  bool done = false;
  starter.stop([&] { done = true; });
  serve_until([&] { return done; });
  EXPECT_TRUE(in_state("off"));
}

TEST_F(GatewayStarterTest, StoppingWithoutAChildIsDoneAtOnce) {
  play("exit 0");
  GatewayStarter& starter = make();
  starter.start();
  bool done = false;
  starter.stop([&] { done = true; });
  EXPECT_TRUE(done);
}

TEST_F(GatewayStarterTest, WantedAgainWhileItStopsItListensAgain) {
  play("trap 'exit 0' TERM; echo ready >>" + log() + "; while :; do sleep 0.01; done");
  GatewayStarter& starter = make();
  starter.start();
  {
    const UniqueFd waiting = connect();
    serve_until([&] { return runs() == 2; });
  }
  starter.stop({});
  starter.start();
  serve_until([&] { return in_state("listening"); });
  const UniqueFd waiting = connect();
  serve_until([&] { return starter.status().starts == 2; });
}

TEST_F(GatewayStarterTest, OneThatListensElsewhereTooIsStartedAtOnceAndKept) {
  options_.always = true;
  play("[ -e " + path("second") + " ] && exec sleep 1000; : >" + path("second"));
  GatewayStarter& starter = make();
  starter.start();
  EXPECT_TRUE(in_state("running"));
  serve_until([&] { return starter.status().starts == 2; });
}

}  // namespace
}  // namespace telemetryd::app
