#include "ctl/destination_file.h"

#include <gtest/gtest.h>

#include "base/io.h"
#include "support/temp_dir.h"

namespace telemetryd::ctl {
namespace {

NewDestination native(const std::string& name) {
  NewDestination added;
  added.destination.name = name;
  added.destination.kind = "native";
  added.destination.url = "https://telemetry.example.org";
  added.destination.org = "org";
  added.destination.app = "app";
  added.destination.token_file = "/etc/telemetryd/a \"quoted\" token";
  added.destination.secret_file = "/etc/telemetryd/secret";
  added.routes = {"my-*", "other"};
  return added;
}

TEST(DestinationFile, WhatIsWrittenIsWhatTheDaemonReads) {
  const test::TempDir dir;
  const auto written = write_destination(dir / "telemetryd.toml", native("main"));
  ASSERT_TRUE(written) << written.error().message();
  EXPECT_EQ(*written, dir / "conf.d/main.toml");

  ASSERT_TRUE(replace_file(dir / "telemetryd.toml", "", 0644));
  config::Sources sources;
  sources.file = dir / "telemetryd.toml";
  const auto loaded = config::load(sources);
  ASSERT_TRUE(loaded.config);
  ASSERT_EQ(loaded.config->destinations.size(), 1u);
  EXPECT_EQ(loaded.config->destinations[0].token_file, native("main").destination.token_file);
  EXPECT_EQ(config::route(loaded.config->routes, "my-tool"), "main");
  EXPECT_EQ(config::route(loaded.config->routes, "another"), std::nullopt);
}

TEST(DestinationFile, EveryKeyOfAnUploadIsWritten) {
  const test::TempDir dir;
  NewDestination added = native("kit");
  added.destination.kind = "ingest";
  added.destination.plain_signature = true;
  added.destination.staging_url = "https://staging.example.org";
  added.destination.staging = true;
  added.destination.proxy = "http://proxy.example:3128";
  added.destination.proxy_credentials_file = "/etc/telemetryd/proxy";
  added.destination.telemetry_kit_machine_id = true;
  ASSERT_TRUE(write_destination(dir / "telemetryd.toml", added));

  config::Sources sources;
  sources.file = dir / "telemetryd.toml";
  const auto loaded = config::load(sources);
  ASSERT_TRUE(loaded.config);
  const config::Destination& read = loaded.config->destinations.at(0);
  EXPECT_TRUE(read.plain_signature);
  EXPECT_TRUE(read.staging);
  EXPECT_EQ(read.staging_url, "https://staging.example.org");
  EXPECT_EQ(read.proxy, added.destination.proxy);
  EXPECT_EQ(read.proxy_credentials_file, added.destination.proxy_credentials_file);
  EXPECT_TRUE(read.telemetry_kit_machine_id);
}

TEST(DestinationFile, WhatDoesNotFitIsTakenBack) {
  const test::TempDir dir;
  NewDestination added = native("main");
  added.destination.url = "http://elsewhere.example.org";
  const auto written = write_destination(dir / "telemetryd.toml", added);
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message().find("url"), std::string::npos) << written.error().message();
  EXPECT_FALSE(std::filesystem::exists(dir / "conf.d/main.toml"));
}

TEST(DestinationFile, AnExistingOneIsNotOverwritten) {
  const test::TempDir dir;
  ASSERT_TRUE(write_destination(dir / "telemetryd.toml", native("main")));
  const auto before = read_file(dir / "conf.d/main.toml", 1 << 16).value_or("");
  const auto again = write_destination(dir / "telemetryd.toml", native("main"));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(read_file(dir / "conf.d/main.toml", 1 << 16).value_or("gone"), before);
}

TEST(DestinationFile, ANameCannotLeaveTheFolder) {
  const test::TempDir dir;
  for (const char* name : {"", "../x", "a/b", "A", "."}) {
    EXPECT_FALSE(write_destination(dir / "telemetryd.toml", native(name))) << name;
  }
}

TEST(DestinationFile, AConfigurationThatWasBrokenBeforeIsSaidSo) {
  const test::TempDir dir;
  ASSERT_TRUE(replace_file(dir / "telemetryd.toml", "[store]\nbites_max = 1\n", 0644));
  const auto written = write_destination(dir / "telemetryd.toml", native("main"));
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message().find("before anything was added"), std::string::npos);
}

TEST(DestinationFile, ControlCharactersAreEscapedInToml) {
  EXPECT_EQ(toml_quoted("a\"\\\n"), "\"a\\\"\\\\\\u000A\"");
}

}  // namespace
}  // namespace telemetryd::ctl
