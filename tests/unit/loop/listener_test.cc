#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <gtest/gtest.h>

#include "loop/loop.h"
#include "support/no_more_descriptors.h"
#include "support/temp_dir.h"
#include "until.h"

namespace telemetryd::loop {
namespace {

namespace fs = std::filesystem;

TEST(ListenUnix, MakesASocketWithTheWantedModeAndNoTemporaryLeft) {
  const test::TempDir dir;
  const auto fd = listen_unix(dir / "s.sock", 0622, 16);
  ASSERT_TRUE(fd) << fd.error().message();
  struct stat info{};
  ASSERT_EQ(::stat((dir / "s.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0622u);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), fs::directory_iterator()), 1);
  EXPECT_TRUE(connect_unix(dir / "s.sock"));
}

TEST(ListenUnix, ReplacesADeadSocketOfOurs) {
  const test::TempDir dir;
  {
    ASSERT_TRUE(listen_unix(dir / "s.sock", 0600, 16));
  }
  EXPECT_FALSE(connect_unix(dir / "s.sock"));
  const auto fd = listen_unix(dir / "s.sock", 0600, 16);
  ASSERT_TRUE(fd) << fd.error().message();
  EXPECT_TRUE(connect_unix(dir / "s.sock"));
}

TEST(ListenUnix, LeavesALivingSocketAlone) {
  const test::TempDir dir;
  const auto living = listen_unix(dir / "s.sock", 0600, 16);
  ASSERT_TRUE(living);
  const auto refused = listen_unix(dir / "s.sock", 0600, 16);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kFailedPrecondition);
  EXPECT_NE(refused.error().message().find("another process is listening"), std::string::npos);
  EXPECT_TRUE(connect_unix(dir / "s.sock"));
}

TEST(ListenUnix, LeavesAFileOrASymlinkAlone) {
  const test::TempDir dir;
  std::ofstream(dir / "file") << "precious";
  fs::create_symlink(dir / "elsewhere", dir / "link");
  for (const char* name : {"file", "link"}) {
    const auto refused = listen_unix(dir / name, 0600, 16);
    ASSERT_FALSE(refused) << name;
    EXPECT_NE(refused.error().message().find("is not a socket"), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(dir / "elsewhere"));
  EXPECT_EQ(fs::file_size(dir / "file"), 8u);
}

TEST(ListenUnix, WantsAFolderThatOthersCannotWriteTo) {
  const test::TempDir dir;
  fs::create_directory(dir / "open");
  ASSERT_EQ(::chmod((dir / "open").c_str(), 0777), 0);
  const auto refused = listen_unix((dir / "open") / "s.sock", 0600, 16);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kPermissionDenied);
  ASSERT_EQ(::chmod((dir / "open").c_str(), 01777), 0);
  EXPECT_TRUE(listen_unix((dir / "open") / "s.sock", 0600, 16));
}

TEST(ListenUnix, WantsAFolderOfOurs) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  const test::TempDir dir;
  fs::create_directory(dir / "foreign");
  ASSERT_EQ(::chown((dir / "foreign").c_str(), 12345, 12345), 0);
  const auto refused = listen_unix((dir / "foreign") / "s.sock", 0600, 16);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("uid 12345"), std::string::npos);
}

TEST(ListenUnix, WantsTheFolderItselfAndNoLinkToIt) {
  const test::TempDir dir;
  fs::create_directory(dir / "real");
  fs::create_directory_symlink(dir / "real", dir / "link");
  const auto refused = listen_unix((dir / "link") / "s.sock", 0600, 16);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("symbolic link"), std::string::npos);
  EXPECT_FALSE(fs::exists(dir / "real" / "s.sock"));
}

TEST(ListenUnix, LeavesAStrangersSocketAlone) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a socket away";
  const test::TempDir dir;
  {
    ASSERT_TRUE(listen_unix(dir / "s.sock", 0600, 16));
  }
  ASSERT_EQ(::chown((dir / "s.sock").c_str(), 12345, 12345), 0);
  const auto refused = listen_unix(dir / "s.sock", 0600, 16);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("not ours"), std::string::npos);
}

TEST(ListenUnix, SaysWhatIsWrongWithAPath) {
  EXPECT_EQ(listen_unix("relative", 0600, 1).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(listen_unix("", 0600, 1).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(listen_unix("/tmp/", 0600, 1).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(listen_unix("/" + std::string(200, 'x'), 0600, 1).error().code(),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(listen_unix("/nonexistent/s.sock", 0600, 1).error().code(), ErrorCode::kNotFound);
}

TEST(ConnectUnix, GivesANonBlockingDescriptorThatIsNotInherited) {
  const test::TempDir dir;
  const auto listening = listen_unix(dir / "s.sock", 0600, 16);
  const auto fd = connect_unix(dir / "s.sock");
  ASSERT_TRUE(fd);
  EXPECT_NE(::fcntl(fd->get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ConnectUnix, AFullBacklogIsAnErrorAndNotAWait) {
  const test::TempDir dir;
  const auto listening = listen_unix(dir / "s.sock", 0600, 1);
  std::vector<UniqueFd> waiting;
  auto fd = connect_unix(dir / "s.sock");
  while (fd && waiting.size() < 100) {
    waiting.push_back(std::move(*fd));
    fd = connect_unix(dir / "s.sock");
  }
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code(), ErrorCode::kUnavailable);
}

TEST(Listener, AcceptsEverybodyWhoWaits) {
  const test::TempDir dir;
  Loop loop;
  auto fd = listen_unix(dir / "s.sock", 0600, 256);
  std::vector<UniqueFd> accepted;
  const Listener listener(loop, std::move(*fd), [&](UniqueFd connection) {
    accepted.push_back(std::move(connection));
  });
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(std::move(*connect_unix(dir / "s.sock")));
  serve_until(loop, [&] { return accepted.size() == 100; });
  for (const UniqueFd& connection : accepted) {
    EXPECT_NE(::fcntl(connection.get(), F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(connection.get(), F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST(Listener, MayBeDestroyedInItsCallback) {
  const test::TempDir dir;
  Loop loop;
  auto fd = listen_unix(dir / "s.sock", 0600, 16);
  std::unique_ptr<Listener> listener;
  int accepted = 0;
  listener = std::make_unique<Listener>(loop, std::move(*fd), [&](UniqueFd) {
    ++accepted;
    listener.reset();
  });
  const auto first = connect_unix(dir / "s.sock");
  const auto second = connect_unix(dir / "s.sock");
  serve_until(loop, [&] { return listener == nullptr; });
  EXPECT_EQ(accepted, 1);
  EXPECT_FALSE(connect_unix(dir / "s.sock"));
}

bool hung_up(const UniqueFd& client) {
  char byte = 0;
  return ::recv(client.get(), &byte, 1, 0) == 0;
}

// A socket made before descriptors run out, connected afterwards.
UniqueFd unconnected() {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int connect_to(const UniqueFd& fd, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

TEST(Listener, OutOfDescriptorsItHangsUpAndRests) {
  const test::TempDir dir;
  Loop loop;
  auto fd = listen_unix(dir / "s.sock", 0600, 16);
  std::vector<UniqueFd> accepted;
  const Listener listener(loop, std::move(*fd), [&](UniqueFd connection) {
    accepted.push_back(std::move(connection));
  });
  const auto first = connect_unix(dir / "s.sock");
  const UniqueFd second = unconnected();
  {
    const test::NoMoreDescriptors none;
    serve_until(loop, [&] { return hung_up(*first); });
    ASSERT_EQ(connect_to(second, dir / "s.sock"), 0);
    for (int i = 0; i < 20; ++i) loop.poll();
    EXPECT_FALSE(hung_up(second)) << "accepting rests after it ran out of descriptors";
  }
  EXPECT_EQ(accepted.size(), 0u);
  serve_until(loop, [&] { return accepted.size() == 1; });
  EXPECT_FALSE(hung_up(second));
}

}  // namespace
}  // namespace telemetryd::loop
