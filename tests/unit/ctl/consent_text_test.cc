#include "ctl/consent_text.h"

#include <gtest/gtest.h>

namespace telemetryd::ctl {
namespace {

TEST(ConsentText, TheWrittenFileIsWhatTheClientReads) {
  for (const char* state : {"enabled", "local", "disabled", "unset"}) {
    const std::string text = consent_file_text(state, 1'795'176'000);
    EXPECT_EQ(consent::parse_consent_file(text.data(), text.size()), record_of(state)) << text;
  }
}

TEST(ConsentText, OffNamesTheRuleAndTheCommandThatTurnsItOn) {
  const std::string text = decision_text("my-tool", "off", "opt_in_default");
  EXPECT_NE(text.find("telemetryctl consent enable --app my-tool"), std::string::npos) << text;
}

TEST(ConsentText, OffByAVariableNamesTheVariable) {
  EXPECT_NE(decision_text("my-tool", "off", "tool_variable").find("MY_TOOL_TELEMETRY"),
            std::string::npos);
  EXPECT_NE(decision_text("my-tool", "off", "DO_NOT_TRACK").find("unset that variable"),
            std::string::npos);
}

TEST(ConsentText, NobodyIsToldToEnableWhatTheMachineForbids) {
  EXPECT_EQ(decision_text("t", "off", "machine_policy").find("consent enable"), std::string::npos);
}

TEST(ConsentText, AnUnknownStateCountsAsUnreadable) {
  EXPECT_EQ(record_of("maybe"), consent::Record::kUnreadable);
}

}  // namespace
}  // namespace telemetryd::ctl
