#include "ctl/line_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/io.h"
#include "support/temp_dir.h"

namespace telemetryd::ctl {
namespace {

class LineReaderTest : public testing::Test {
 protected:
  int open_with(const std::string& content) {
    EXPECT_TRUE(replace_file(dir_ / "file", content, 0600));
    file_.reset(open((dir_ / "file").c_str(), O_RDONLY | O_CLOEXEC));
    return file_.get();
  }

  static std::vector<std::string> lines_of(LineReader& reader) {
    std::vector<std::string> out;
    Line line;
    while (*reader.next(line)) out.push_back(line.too_long ? "(too long)" : std::string(line.text));
    return out;
  }

  test::TempDir dir_;
  UniqueFd file_;
};

TEST_F(LineReaderTest, GivesTheLastLineAlsoWithoutItsEnd) {
  LineReader reader(open_with("a\r\n\nb"), "");
  EXPECT_EQ(lines_of(reader), (std::vector<std::string>{"a", "", "b"}));
}

TEST_F(LineReaderTest, NothingIsNoLine) {
  LineReader reader(open_with(""), "");
  EXPECT_TRUE(lines_of(reader).empty());
}

TEST_F(LineReaderTest, ALineThatIsTooLongCostsItselfOnly) {
  const std::string fits(kLineBytesMax, 'x');
  const std::string content =
      "a\n" + fits + "\n" + fits + "y\n" + std::string(5'000'000, 'z') + "\nb\n";
  LineReader reader(open_with(content), "");
  EXPECT_EQ(lines_of(reader),
            (std::vector<std::string>{"a", fits, "(too long)", "(too long)", "b"}));
}

TEST_F(LineReaderTest, ReadsTheSameTwiceWithTheSameHash) {
  std::string content;
  for (int i = 0; i < 100'000; ++i) content += std::to_string(i) + "\n";
  const int fd = open_with(content);
  LineReader first(fd, "p");
  LineReader second(fd, "p");
  LineReader other(fd, "q");
  const auto lines = lines_of(first);
  EXPECT_EQ(lines.size(), 100'000u);
  EXPECT_EQ(lines.back(), "99999");
  EXPECT_EQ(lines_of(second), lines);
  lines_of(other);
  EXPECT_EQ(first.content_hash(), second.content_hash());
  EXPECT_NE(first.content_hash(), other.content_hash());
}

TEST_F(LineReaderTest, APipeIsCopiedUpToTheBound) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  ASSERT_EQ(write(writing.get(), "one\ntwo\n", 8), 8);
  writing.reset();
  const std::string path = "/proc/self/fd/" + std::to_string(reading.get());
  const auto copy = open_rereadable(path, 8);
  ASSERT_TRUE(copy) << copy.error().message();
  LineReader reader(copy->get(), "");
  EXPECT_EQ(lines_of(reader), (std::vector<std::string>{"one", "two"}));
}

TEST_F(LineReaderTest, APipeAboveTheBoundIsRefused) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  ASSERT_EQ(write(writing.get(), "one\ntwo\n", 8), 8);
  writing.reset();
  const auto copy = open_rereadable("/proc/self/fd/" + std::to_string(reading.get()), 7);
  ASSERT_FALSE(copy);
  EXPECT_EQ(copy.error().code(), ErrorCode::kResourceExhausted);
}

TEST_F(LineReaderTest, AMissingFileAndAFolderAreNamed) {
  EXPECT_EQ(open_rereadable(dir_ / "none", 1).error().code(), ErrorCode::kNotFound);
  EXPECT_FALSE(open_rereadable(dir_.path(), 1));
}

}  // namespace
}  // namespace telemetryd::ctl
