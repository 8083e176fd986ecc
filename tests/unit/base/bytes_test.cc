#include "base/bytes.h"

#include <gtest/gtest.h>

namespace telemetryd {
namespace {

TEST(Bytes, HexGoesBothWays) {
  const std::string bytes("\x00\x7f\xff", 3);
  EXPECT_EQ(to_hex(as_bytes(bytes)), "007fff");
  EXPECT_EQ(from_hex("007FfF"), bytes);
}

TEST(Bytes, HexRefusesOddLengthsAndOtherCharacters) {
  EXPECT_FALSE(from_hex("abc"));
  EXPECT_FALSE(from_hex("zz"));
}

TEST(Bytes, AUuidIsReadWithAndWithoutHyphens) {
  const auto plain = parse_uuid("0123456789abcdef0123456789abcdef");
  const auto hyphened = parse_uuid("01234567-89AB-cdef-0123-456789abcdef");
  ASSERT_TRUE(plain && hyphened);
  EXPECT_EQ(*plain, *hyphened);
  EXPECT_EQ(uuid_text(*plain), "01234567-89ab-cdef-0123-456789abcdef");
}

TEST(Bytes, AUuidWithHyphensInOtherPlacesIsRefused) {
  EXPECT_FALSE(parse_uuid("0123456-789ab-cdef-0123-456789abcdef"));
  EXPECT_FALSE(parse_uuid(""));
}

}  // namespace
}  // namespace telemetryd
