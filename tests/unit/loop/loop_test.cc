#include "loop/loop.h"

#include <csignal>
#include <optional>
#include <sys/socket.h>
#include <thread>

#include <gtest/gtest.h>

#include "until.h"

namespace telemetryd::loop {
namespace {

using std::chrono::milliseconds;

TEST(Loop, RunsEverythingPostedBeforeTheStop) {
  Loop loop;
  std::vector<int> order;
  ASSERT_TRUE(loop.post([&] { order.push_back(1); }));
  std::thread other([&] {
    EXPECT_FALSE(loop.on_loop_thread());
    EXPECT_TRUE(loop.post([&] {
      EXPECT_TRUE(loop.on_loop_thread());
      order.push_back(2);
    }));
    loop.stop();
  });
  loop.run();
  other.join();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(Loop, RefusesPostsAfterTheStop) {
  Loop loop;
  loop.stop();
  const auto refused = loop.post([] { ADD_FAILURE() << "ran after the stop"; });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kCancelled);
  loop.run();
}

TEST(Loop, BoundsWhatWaits) {
  Loop loop;
  std::size_t ran = 0;
  for (std::size_t i = 0; i < Loop::kPostsMax; ++i) ASSERT_TRUE(loop.post([&] { ++ran; }));
  const auto refused = loop.post([] {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kResourceExhausted);
  loop.poll();
  EXPECT_EQ(ran, Loop::kPostsMax);
  EXPECT_TRUE(loop.post([] {}));
}

TEST(Loop, AnAnswerWaitsForRoomInsteadOfBeingLost) {
  Loop loop;
  for (std::size_t i = 0; i < Loop::kPostsMax; ++i) ASSERT_TRUE(loop.post([] {}));
  bool answered = false;
  std::thread other([&] { loop.post_when_room([&] { answered = true; }); });
  serve_until(loop, [&] { return answered; });
  other.join();
}

TEST(Loop, ServesWhatAPostedFunctionPosts) {
  Loop loop;
  bool second = false;
  ASSERT_TRUE(loop.post([&] { ASSERT_TRUE(loop.post([&] { second = true; })); }));
  serve_until(loop, [&] { return second; });
}

TEST(LoopDeathTest, AHandleThatOutlivesTheLoopAborts) {
  EXPECT_DEATH(
      {
        auto loop = std::make_unique<Loop>();
        Timer leaked(*loop, [] {});
        loop.reset();
      },
      "uv_is_closing");
}

TEST(Timer, FiresOncePerStart) {
  Loop loop;
  int fired = 0;
  Timer timer(loop, [&] { ++fired; });
  EXPECT_FALSE(timer.active());
  timer.start_once(milliseconds(1));
  EXPECT_TRUE(timer.active());
  serve_until(loop, [&] { return fired == 1; });
  EXPECT_FALSE(timer.active());
  timer.start_once(milliseconds(-5));
  serve_until(loop, [&] { return fired == 2; });
}

TEST(Timer, IsSilentWhenStopped) {
  Loop loop;
  Timer stopped(loop, [] { ADD_FAILURE() << "a stopped timer fired"; });
  bool later = false;
  Timer witness(loop, [&] { later = true; });
  stopped.start_once(milliseconds(1));
  witness.start_once(milliseconds(3));
  stopped.stop();
  serve_until(loop, [&] { return later; });
}

TEST(Timer, IsSilentOnceDestroyed) {
  Loop loop;
  auto doomed = std::make_unique<Timer>(loop, [] { ADD_FAILURE() << "a dead timer fired"; });
  bool later = false;
  // Both are due in the same turn; the first to fire destroys the other.
  Timer killer(loop, [&] { doomed.reset(); });
  Timer witness(loop, [&] { later = true; });
  killer.start_once(milliseconds(0));
  doomed->start_once(milliseconds(0));
  witness.start_once(milliseconds(2));
  serve_until(loop, [&] { return later; });
}

TEST(Timer, MayDestroyItselfInItsCallback) {
  Loop loop;
  std::unique_ptr<Timer> timer;
  const auto token = std::make_shared<int>(7);
  int seen = 0;
  timer = std::make_unique<Timer>(loop, [&timer, &seen, token] {
    timer.reset();
    seen = *token;  // the function itself is still alive
  });
  timer->start_once(milliseconds(0));
  serve_until(loop, [&] { return seen == 7; });
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Signal, CallsOnTheLoop) {
  Loop loop;
  int seen = 0;
  std::optional<Signal> signal;
  signal.emplace(loop, SIGUSR1, [&] {
    ++seen;
    EXPECT_TRUE(loop.on_loop_thread());
  });
  ::raise(SIGUSR1);
  serve_until(loop, [&] { return seen == 1; });
}

TEST(Signal, MayDestroyItselfInItsCallback) {
  Loop loop;
  bool seen = false;
  std::unique_ptr<Signal> signal;
  signal = std::make_unique<Signal>(loop, SIGUSR2, [&] {
    signal.reset();
    seen = true;
  });
  ::raise(SIGUSR2);
  serve_until(loop, [&] { return seen; });
}

TEST(Poll, TellsWhenADescriptorIsReadyUntilStopped) {
  Loop loop;
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd here(pair[0]);
  const UniqueFd there(pair[1]);
  int readable = 0;
  Poll poll(loop, here.get(), [&] { ++readable; });
  poll.start(Poll::Until::kReadable);
  loop.poll();
  EXPECT_EQ(readable, 0);
  ASSERT_EQ(::send(there.get(), "x", 1, 0), 1);
  serve_until(loop, [&] { return readable > 0; });
  poll.stop();
  const int before = readable;
  loop.poll();
  EXPECT_EQ(readable, before);
  poll.start(Poll::Until::kWritable);
  serve_until(loop, [&] { return readable > before; });
}

TEST(Poll, MayDestroyItselfInItsCallback) {
  Loop loop;
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd here(pair[0]);
  const UniqueFd there(pair[1]);
  std::unique_ptr<Poll> poll;
  poll = std::make_unique<Poll>(loop, here.get(), [&] { poll.reset(); });
  poll->start(Poll::Until::kWritable);
  serve_until(loop, [&] { return poll == nullptr; });
}

}  // namespace
}  // namespace telemetryd::loop
