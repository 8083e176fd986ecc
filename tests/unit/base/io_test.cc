#include "base/io.h"

#include <gtest/gtest.h>

#include "support/temp_dir.h"

namespace telemetryd {
namespace {

TEST(Io, ReplaceFileLeavesNoTemporaryBehind) {
  const test::TempDir dir;
  const auto path = dir / "file";
  ASSERT_TRUE(replace_file(path, "one", 0600));
  ASSERT_TRUE(replace_file(path, "two", 0600));
  EXPECT_EQ(read_file(path, 100).value(), "two");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(Io, ReadFileStopsAtItsBound) {
  const test::TempDir dir;
  ASSERT_TRUE(replace_file(dir / "file", std::string(5000, 'x'), 0600));
  const auto content = read_file(dir / "file", 4999);
  ASSERT_FALSE(content);
  EXPECT_EQ(content.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_TRUE(read_file(dir / "file", 5000));
}

TEST(Io, AMissingFileIsNotFound) {
  EXPECT_EQ(read_file("/nonexistent/file", 10).error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace telemetryd
