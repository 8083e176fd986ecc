#include "base/secret.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "base/io.h"
#include "support/temp_dir.h"

namespace telemetryd {
namespace {

class SecretTest : public ::testing::Test {
 protected:
  std::filesystem::path file(std::string_view content, mode_t mode) {
    const auto path = dir_ / "secret";
    EXPECT_TRUE(replace_file(path, content, mode));
    std::filesystem::permissions(path, static_cast<std::filesystem::perms>(mode));
    return path;
  }

  test::TempDir dir_;
};

TEST_F(SecretTest, IsTheFilesOneLine) {
  EXPECT_EQ(Secret::read(file("tk_abc\n", 0600))->text(), "tk_abc");
  EXPECT_EQ(Secret::read(file("tk_abc\r\n", 0640))->text(), "tk_abc");
  EXPECT_EQ(Secret::read(file("tk_abc", 0400))->text(), "tk_abc");
}

TEST_F(SecretTest, AFileThatEverybodyMayReadIsRefusedWithTheRemedy) {
  const auto secret = Secret::read(file("tk_abc\n", 0644));
  ASSERT_FALSE(secret);
  EXPECT_EQ(secret.error().code(), ErrorCode::kPermissionDenied);
  EXPECT_NE(secret.error().message().find("chmod 0640"), std::string::npos);
  EXPECT_EQ(secret.error().message().find("tk_abc"), std::string::npos);
}

TEST_F(SecretTest, WhatCannotBeAHeaderIsRefused) {
  for (const std::string& content : {std::string(),
                                     std::string("\n"),
                                     std::string("two\nlines"),
                                     std::string("a b"),
                                     std::string("a\0b", 3),
                                     std::string(5000, 'x')}) {
    EXPECT_FALSE(Secret::read(file(content, 0600)));
  }
  EXPECT_FALSE(Secret::read(dir_ / "absent"));
  EXPECT_FALSE(Secret::read(dir_.path()));
}

TEST(Wipe, OverwritesTheBytes) {
  std::string text = "a secret that is longer than the small buffer of a string";
  const char* bytes = text.data();
  wipe(text);
  EXPECT_TRUE(text.empty());
  EXPECT_EQ(bytes[0], '\0');
  EXPECT_EQ(bytes[20], '\0');
}

}  // namespace
}  // namespace telemetryd
