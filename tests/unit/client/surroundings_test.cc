#include "telemetry_core/surroundings.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "support/temp_dir.h"

namespace telemetryd::client {
namespace {

class SurroundingsTest : public testing::Test {
 protected:
  void SetUp() override {
    setenv("XDG_CONFIG_HOME", dir_.path().c_str(), 1);
    for (const char* name : {"DO_NOT_TRACK", "DNT", "SHOP_TELEMETRY"}) unsetenv(name);
    write(dir_ / "policy", "mode = opt-in\n");
  }

  static void write(const std::filesystem::path& path, const std::string& text) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }

  void say(const std::string& tool, const std::string& state) {
    write(dir_.path() / tool / "consent.toml", "version = 1\nstate = \"" + state + "\"\n");
  }

  consent::Decision decision() {
    Surroundings surroundings;
    EXPECT_TRUE(read_surroundings("shop", (dir_ / "ingest.sock").c_str(), surroundings));
    return decide_first(surroundings);
  }

  test::TempDir dir_;
};

TEST_F(SurroundingsTest, WithoutAWordAnOptInMachineIsOff) {
  EXPECT_EQ(decision().mode, consent::Mode::kOff);
}

TEST_F(SurroundingsTest, AYesForAllToolsCountsForEach) {
  say("telemetryd", "enabled");
  EXPECT_EQ(decision().mode, consent::Mode::kOn);
  EXPECT_STREQ(decision().rule, "all_record");
}

TEST_F(SurroundingsTest, ANoForAllToolsBeatsAYesForOne) {
  say("telemetryd", "disabled");
  say("shop", "enabled");
  EXPECT_EQ(decision().mode, consent::Mode::kOff);
}

TEST_F(SurroundingsTest, ANoForOneToolBeatsAYesForAll) {
  say("telemetryd", "enabled");
  say("shop", "disabled");
  EXPECT_EQ(decision().mode, consent::Mode::kOff);
}

TEST_F(SurroundingsTest, AFileNobodyUnderstandsIsOff) {
  write(dir_.path() / "telemetryd" / "consent.toml", "perhaps");
  EXPECT_EQ(decision().mode, consent::Mode::kOff);
}

}  // namespace
}  // namespace telemetryd::client
