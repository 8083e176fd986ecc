#include "app/api_request.h"

#include <gtest/gtest.h>

namespace telemetryd::app {
namespace {

admin::Call call_with_body(std::string body) {
  return {.peer = {}, .method = "POST", .path = "/x", .query = {}, .body = std::move(body)};
}

TEST(ApiRequest, APlaceIsSeqAndIndex) {
  const auto place = parse_place("1099511627777.3");
  ASSERT_TRUE(place);
  EXPECT_EQ(place->seq, 1099511627777u);
  EXPECT_EQ(place->index, 3u);
  EXPECT_EQ(place_text(place->seq, place->index), "1099511627777.3");
  EXPECT_EQ(parse_place("")->seq, 0u);
}

TEST(ApiRequest, ABrokenPlaceIsRefused) {
  for (const char* text :
       {"1", "1.", ".1", "1.2.3", "-1.2", "1.x", "1.4294967296", " 1.2", "9223372036854775808.0"}) {
    EXPECT_FALSE(parse_place(text)) << text;
  }
}

TEST(ApiRequest, ABodyHasOnlyKnownMembers) {
  EXPECT_TRUE(body_object(call_with_body(""), {"a"}));
  EXPECT_TRUE(body_object(call_with_body("{\"a\":1}"), {"a"}));
  EXPECT_FALSE(body_object(call_with_body("{\"b\":1}"), {"a"}));
  EXPECT_FALSE(body_object(call_with_body("[]"), {"a"}));
  EXPECT_FALSE(body_object(call_with_body("{\"a\":"), {"a"}));
}

TEST(ApiRequest, AMisspeltFilterIsRefused) {
  admin::Call call = call_with_body("");
  call.query["ap"] = "tool";
  EXPECT_FALSE(only_words(call, {"app"}));
}

TEST(ApiRequest, AppNamesAreChecked) {
  EXPECT_TRUE(app_name(""));
  EXPECT_TRUE(app_name("my-tool_2"));
  EXPECT_FALSE(app_name("My Tool"));
  EXPECT_FALSE(app_name(std::string(65, 'a')));
}

}  // namespace
}  // namespace telemetryd::app
