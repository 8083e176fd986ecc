#include "app/watchdog.h"

#include <cstdlib>
#include <sys/socket.h>
#include <sys/un.h>

#include <gtest/gtest.h>

#include "support/temp_dir.h"

namespace telemetryd::app {
namespace {

// Plays the service manager: reads the datagrams and counts the pings.
class WatchdogTest : public ::testing::Test {
 protected:
  WatchdogTest() : manager_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const std::string path = dir_ / "notify";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(manager_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    ::setenv("WATCHDOG_USEC", "2000", 1);        // NOLINT(concurrency-mt-unsafe)
    notifier_ = std::make_unique<Notifier>();
    watchdog_ = std::make_unique<Watchdog>(loop_, *notifier_);
  }

  // The pings that were sent since the last call.
  int pings() {
    int count = 0;
    char text[256];
    for (;;) {
      const ssize_t size = ::recv(manager_.get(), text, sizeof text, 0);
      if (size < 0) return count;
      if (std::string_view(text, static_cast<std::size_t>(size)).find("WATCHDOG=1") !=
          std::string_view::npos) {
        ++count;
      }
    }
  }

  test::TempDir dir_;
  UniqueFd manager_;
  loop::Loop loop_;
  std::unique_ptr<Notifier> notifier_;
  std::unique_ptr<Watchdog> watchdog_;
};

TEST_F(WatchdogTest, AQuestionThatFoundNoRoomIsAskedAgain) {
  int asked = 0;
  watchdog_->ask_with([&](const std::function<void()>& answered) {
    if (++asked <= 2) return false;
    answered();
    return true;
  });
  watchdog_->set_busy(true);
  pings();
  while (asked < 4) loop_.poll();
  EXPECT_GE(pings(), 1);
}

TEST_F(WatchdogTest, SaysWhenItDisarmsSoThatTheNextWorkArmsItAgain) {
  int disarmed = 0;
  watchdog_->on_disarm([&] {
    EXPECT_FALSE(watchdog_->armed());
    ++disarmed;
  });
  for (int round = 1; round <= 2; ++round) {
    watchdog_->work_seen();
    EXPECT_TRUE(watchdog_->armed());
    while (disarmed < round) loop_.poll();
  }
}

TEST_F(WatchdogTest, AnOpenQuestionKeepsThePingBack) {
  int asked = 0;
  watchdog_->ask_with([&](const std::function<void()>&) {
    ++asked;
    return true;
  });
  bool later = false;
  watchdog_->set_busy(true);
  pings();
  loop::Timer timer(loop_, [&] { later = true; });
  timer.start_once(std::chrono::milliseconds(10));
  while (!later) loop_.poll();
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(pings(), 0);
}

TEST_F(WatchdogTest, ARefusedQuestionIsNoProofThatTheOtherThreadLives) {
  int asked = 0;
  watchdog_->ask_with([&](const std::function<void()>&) {
    ++asked;
    return false;
  });
  watchdog_->set_busy(true);
  pings();
  while (asked < 20) loop_.poll();
  EXPECT_EQ(pings(), 0);
}

}  // namespace
}  // namespace telemetryd::app
