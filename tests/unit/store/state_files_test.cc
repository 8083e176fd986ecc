// The state folder's lock, and what is said to whoever comes second.

#include "store/state_files.h"

#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "support/temp_dir.h"

namespace telemetryd::test {
namespace {

TEST(StateLock, TheSecondIsToldWhoLives) {
  const TempDir dir;
  const auto first = store::StateLock::take(dir.path());
  ASSERT_TRUE(first);
  const auto second = store::StateLock::take(dir.path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kFailedPrecondition);
  const std::string who = "(pid " + std::to_string(::getpid()) + ")";
  EXPECT_NE(second.error().message().find(who), std::string::npos) << second.error().message();
}

// telemetryd-salvage locks the file and leaves the last daemon's number in it.
TEST(StateLock, AnEndedDaemonIsNotBlamedForWhoHoldsTheLock) {
  const TempDir dir;
  const pid_t ended = ::fork();
  if (ended == 0) std::_Exit(0);
  ASSERT_EQ(::waitpid(ended, nullptr, 0), ended);
  std::ofstream(dir / "lock") << ended << "\n";
  const int salvage = ::open((dir / "lock").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::flock(salvage, LOCK_SH), 0);
  const auto refused = store::StateLock::take(dir.path());
  ::close(salvage);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("telemetryd-salvage"), std::string::npos);
  EXPECT_EQ(refused.error().message().find("pid"), std::string::npos) << refused.error().message();
}

}  // namespace
}  // namespace telemetryd::test
