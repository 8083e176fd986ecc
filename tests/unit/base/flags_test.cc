#include "base/flags.h"

#include <array>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace telemetryd {
namespace {

TEST(Flags, AreTakenInBothFormsAndEverythingElseIsNamed) {
  constexpr std::array<std::string_view, 2> kKnown = {"--config", "--fd"};

  const struct {
    std::vector<const char*> words;
    std::string result;  // "flag=value;", or the problem
  } rows[] = {
      {{}, ""},
      {{"--config", "/c", "--fd=7"}, "--config=/c;--fd=7;"},
      {{"--config=/a=b"}, "--config=/a=b;"},
      {{"--help", "--fd", "1", "--version"}, "--fd=1;help version"},
      {{"-h"}, "help"},
      {{"--config"}, "--config needs a value"},
      {{"--config="}, "--config needs a value"},
      {{"--config", ""}, "--config needs a value"},
      {{"--peer=x"}, "unknown argument \"--peer\""},
      {{"x"}, "unknown argument \"x\""},
      {{"--fd", "bad"}, "--fd: not a descriptor: \"bad\""},
  };

  for (const auto& row : rows) {
    std::vector<const char*> words = {"program"};
    words.insert(words.end(), row.words.begin(), row.words.end());
    std::string taken;
    const auto parsed = parse_flags(
        words, kKnown, [&](std::string_view flag, const std::string& value) -> Result<void> {
          if (flag == "--fd") {
            const auto fd = parse_descriptor(flag, value);
            if (!fd) return fail(fd.error());
          }
          taken.append(flag).append("=").append(value).append(";");
          return {};
        });
    if (!parsed) {
      EXPECT_EQ(parsed.error().message(), row.result);
      continue;
    }
    if (parsed->help) taken += "help";
    if (parsed->version) taken += " version";
    EXPECT_EQ(taken, row.result);
  }
}

TEST(Flags, ANumberIsDigitsAndADescriptorHasABound) {
  EXPECT_EQ(parse_number("0"), 0u);
  EXPECT_EQ(parse_number("4294967295"), 4294967295u);
  for (const char* bad : {"", " 1", "1 ", "-1", "+1", "0x1", "1e3", "4294967296"}) {
    EXPECT_FALSE(parse_number(bad)) << bad;
    EXPECT_FALSE(parse_descriptor("--fd", bad)) << bad;
  }
  EXPECT_EQ(parse_descriptor("--fd", "1000000").value(), 1'000'000);
  EXPECT_FALSE(parse_descriptor("--fd", "1000001"));
}

}  // namespace
}  // namespace telemetryd
