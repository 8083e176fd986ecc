#include "ctl/attribute.h"

#include <gtest/gtest.h>

namespace telemetryd::ctl {
namespace {

TEST(Attribute, WithoutATypeIsAString) {
  const auto attribute = parse_attribute("target=all=1");
  ASSERT_TRUE(attribute);
  EXPECT_EQ(attribute->key, "target");
  EXPECT_EQ(std::get<std::string>(attribute->value), "all=1");
}

TEST(Attribute, TypesBecomeTheirValues) {
  EXPECT_EQ(std::get<std::int64_t>(parse_attribute("n:int=-3")->value), -3);
  EXPECT_TRUE(std::get<bool>(parse_attribute("b:bool=true")->value));
  EXPECT_DOUBLE_EQ(std::get<double>(parse_attribute("d:double=1.5")->value), 1.5);
  EXPECT_EQ(std::get<std::string>(parse_attribute("a:b:string=x")->value), "x");
}

TEST(Attribute, WhatDoesNotFitItsTypeIsRefused) {
  for (const char* text : {"novalue",
                           "=x",
                           ":int=3",
                           "n:int=3x",
                           "n:int=",
                           "b:bool=yes",
                           "d:double=nan",
                           "n:float=1",
                           "n:int=9223372036854775808"}) {
    const auto attribute = parse_attribute(text);
    ASSERT_FALSE(attribute) << text;
    EXPECT_EQ(attribute.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(attribute.error().message().find(text), std::string::npos);
  }
}

}  // namespace
}  // namespace telemetryd::ctl
