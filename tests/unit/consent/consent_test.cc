#include "consent/consent.h"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace telemetryd::consent {
namespace {

struct Case {
  const char* claim;
  Inputs inputs;
  Mode mode;
  const char* rule;
};

// The order of the rules, documented: the first that applies decides. Off from anybody, then local
// from anybody, then yes from anybody, then the machine's default.
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"nobody has said anything", {}, Mode::kUndecided, "undecided"},
      {"opt-in default", {.machine = MachinePolicy::kOptIn}, Mode::kOff, "opt_in_default"},
      {"opt-out default", {.machine = MachinePolicy::kOptOut}, Mode::kOn, "opt_out_default"},
      {"machine off beats every yes",
       {.machine = MachinePolicy::kOff,
        .tool_variable = Word::kYes,
        .consent_file = Record::kEnabled,
        .app_record = Record::kEnabled},
       Mode::kOff,
       "machine_policy"},
      {"DO_NOT_TRACK beats a yes",
       {.machine = MachinePolicy::kOptOut, .do_not_track = Word::kYes, .tool_variable = Word::kYes},
       Mode::kOff,
       "DO_NOT_TRACK"},
      {"an unknown DO_NOT_TRACK is off",
       {.machine = MachinePolicy::kOptOut, .do_not_track = Word::kUnknown},
       Mode::kOff,
       "DO_NOT_TRACK"},
      {"DO_NOT_TRACK=0 is not consent",
       {.machine = MachinePolicy::kOptIn, .do_not_track = Word::kNo},
       Mode::kOff,
       "opt_in_default"},
      {"DNT", {.machine = MachinePolicy::kOptOut, .dnt = Word::kYes}, Mode::kOff, "DNT"},
      {"an unknown DNT is off",
       {.machine = MachinePolicy::kOptOut, .dnt = Word::kUnknown},
       Mode::kOff,
       "DNT"},
      {"the tool's variable says no",
       {.machine = MachinePolicy::kOptOut,
        .tool_variable = Word::kNo,
        .consent_file = Record::kEnabled},
       Mode::kOff,
       "tool_variable"},
      {"an unknown word in the tool's variable is off",
       {.machine = MachinePolicy::kOptOut, .tool_variable = Word::kUnknown},
       Mode::kOff,
       "tool_variable"},
      {"a disabled file beats a yes in the variable",
       {.machine = MachinePolicy::kOptOut,
        .tool_variable = Word::kYes,
        .consent_file = Record::kDisabled},
       Mode::kOff,
       "consent_file"},
      {"an unreadable file is off",
       {.machine = MachinePolicy::kOptOut, .consent_file = Record::kUnreadable},
       Mode::kOff,
       "consent_file"},
      {"a disabled record of the app",
       {.machine = MachinePolicy::kOptOut,
        .consent_file = Record::kEnabled,
        .app_record = Record::kDisabled},
       Mode::kOff,
       "app_record"},
      {"a disabled record for all tools beats one app's yes",
       {.machine = MachinePolicy::kOptOut,
        .app_record = Record::kEnabled,
        .all_record = Record::kDisabled},
       Mode::kOff,
       "all_record"},
      {"local is tighter than yes",
       {.machine = MachinePolicy::kOptOut,
        .tool_variable = Word::kYes,
        .consent_file = Record::kLocal},
       Mode::kLocal,
       "consent_file"},
      {"local from the app's record",
       {.machine = MachinePolicy::kOptIn,
        .consent_file = Record::kEnabled,
        .app_record = Record::kLocal},
       Mode::kLocal,
       "app_record"},
      {"local from the record for all",
       {.machine = MachinePolicy::kOptIn, .all_record = Record::kLocal},
       Mode::kLocal,
       "all_record"},
      {"off beats local",
       {.consent_file = Record::kLocal, .app_record = Record::kDisabled},
       Mode::kOff,
       "app_record"},
      {"a yes in the variable on an opt-in machine",
       {.machine = MachinePolicy::kOptIn, .tool_variable = Word::kYes},
       Mode::kOn,
       "tool_variable"},
      {"a yes in the file on an opt-in machine",
       {.machine = MachinePolicy::kOptIn, .consent_file = Record::kEnabled},
       Mode::kOn,
       "consent_file"},
      {"a yes in the app's record",
       {.machine = MachinePolicy::kOptIn, .app_record = Record::kEnabled},
       Mode::kOn,
       "app_record"},
      {"a yes for all tools",
       {.machine = MachinePolicy::kOptIn, .all_record = Record::kEnabled},
       Mode::kOn,
       "all_record"},
      {"a yes without a daemon", {.consent_file = Record::kEnabled}, Mode::kOn, "consent_file"},
  };
  return all;
}

TEST(Consent, DecidesByTheDocumentedOrderAndNamesTheRule) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.claim);
    const Decision decision = decide(c.inputs);
    EXPECT_EQ(decision.mode, c.mode);
    EXPECT_STREQ(decision.rule, c.rule);
  }
}

// Over every combination: one off is enough, and a tighter machine never loosens.
TEST(Consent, OffWinsAndTheMachineOnlyTightens) {
  const auto rank = [](Mode mode) { return mode == Mode::kUndecided ? 1 : static_cast<int>(mode); };
  std::size_t combinations = 0;
  for (int bits = 0; bits < 4 * 4 * 4 * 5 * 5 * 5; ++bits) {
    int left = bits;
    const auto next = [&left](int base) {
      const int digit = left % base;
      left /= base;
      return digit;
    };
    Inputs in{.do_not_track = static_cast<Word>(next(4)),
              .dnt = static_cast<Word>(next(4)),
              .tool_variable = static_cast<Word>(next(4)),
              .consent_file = static_cast<Record>(next(5)),
              .app_record = static_cast<Record>(next(5)),
              .all_record = static_cast<Record>(next(5))};
    const auto off = [](Record r) { return r == Record::kDisabled || r == Record::kUnreadable; };
    const bool explicit_off = in.do_not_track == Word::kYes || in.do_not_track == Word::kUnknown ||
                              in.dnt == Word::kYes || in.dnt == Word::kUnknown ||
                              in.tool_variable == Word::kNo || in.tool_variable == Word::kUnknown ||
                              off(in.consent_file) || off(in.app_record) || off(in.all_record);
    int previous = 0;
    for (const auto machine :
         {MachinePolicy::kOptOut, MachinePolicy::kOptIn, MachinePolicy::kOff}) {
      in.machine = machine;
      const Decision decision = decide(in);
      ASSERT_TRUE(!explicit_off || decision.mode == Mode::kOff) << bits;
      ASSERT_GE(rank(decision.mode), previous) << bits;
      ASSERT_NE(decision.mode, Mode::kUndecided) << bits;
      previous = rank(decision.mode);
    }
    ASSERT_EQ(decide(in).mode, Mode::kOff);
    ++combinations;
  }
  EXPECT_EQ(combinations, 8000u);
}

TEST(Consent, WordsAreReadInAnyCaseAndTheRestIsUnknown) {
  for (const char* yes : {"1", "true", "TRUE", "on", "Yes", " yes "}) {
    EXPECT_EQ(parse_word(yes), Word::kYes) << yes;
  }
  for (const char* no : {"0", "false", "Off", "NO"}) EXPECT_EQ(parse_word(no), Word::kNo) << no;
  EXPECT_EQ(parse_word(nullptr), Word::kUnset);
  EXPECT_EQ(parse_word(""), Word::kUnset);
  EXPECT_EQ(parse_word("  "), Word::kUnset);
  for (const char* unknown : {"2", "maybe", "y", "truee", "01"}) {
    EXPECT_EQ(parse_word(unknown), Word::kUnknown) << unknown;
  }
}

TEST(Consent, PoliciesAreExactWordsBetweenWhiteSpace) {
  const auto parse = [](std::string_view text) { return parse_policy(text.data(), text.size()); };
  EXPECT_EQ(parse("opt-in"), MachinePolicy::kOptIn);
  EXPECT_EQ(parse(" opt-out\n"), MachinePolicy::kOptOut);
  EXPECT_EQ(parse("off\r\n"), MachinePolicy::kOff);
  for (const char* unknown : {"", "Opt-In", "optin", "off off", "of"}) {
    EXPECT_EQ(parse(unknown), MachinePolicy::kUnknown) << unknown;
  }
  for (const auto policy : {MachinePolicy::kOptIn, MachinePolicy::kOptOut, MachinePolicy::kOff}) {
    EXPECT_EQ(parse(policy_name(policy)), policy);
  }
}

TEST(Consent, APolicyFileIsReadAsTheDaemonWritesItAndOffWhenInDoubt) {
  const auto parse = [](std::string_view text) {
    return parse_policy_file(text.data(), text.size());
  };
  EXPECT_EQ(parse("mode = opt-in\n"), MachinePolicy::kOptIn);
  EXPECT_EQ(parse("mode = \"opt-out\"\nmore\n"), MachinePolicy::kOptOut);
  EXPECT_EQ(parse("opt-out"), MachinePolicy::kOptOut);
  for (const char* off : {"mode = off\n", "", "\n", "=", "mode = on\n", "opt-in off"}) {
    EXPECT_EQ(parse(off), MachinePolicy::kOff) << off;
  }
}

TEST(Consent, AToolsVariableIsItsNameInCapitals) {
  char name[kVariableBytesMax];
  tool_variable_name("my-tool", name, sizeof name);
  EXPECT_STREQ(name, "MY_TOOL_TELEMETRY");
  tool_variable_name("a_b2", name, sizeof name);
  EXPECT_STREQ(name, "A_B2_TELEMETRY");
  tool_variable_name(std::string(64, 'z').c_str(), name, sizeof name);
  EXPECT_EQ(std::string(name), std::string(64, 'Z') + "_TELEMETRY");
}

TEST(Consent, AVariableNameNeverLeavesItsBuffer) {
  for (std::size_t size = 0; size < 24; ++size) {
    std::vector<char> name(size + 1, '#');
    tool_variable_name("a-long-tool-name", name.data(), size);
    EXPECT_EQ(name[size], '#');
    EXPECT_TRUE(size == 0 || std::strlen(name.data()) < size);
  }
}

Record parse_file(std::string_view text) {
  return parse_consent_file(text.data(), text.size());
}

TEST(ConsentFile, ReadsTheStatesOfConsentToml) {
  const auto with_state = [](const std::string& state) {
    return parse_file("version = 1\nstate = \"" + state +
                      "\"\ndecided_at = \"2026-11-20T10:00:00Z\"\n");
  };
  EXPECT_EQ(with_state("enabled"), Record::kEnabled);
  EXPECT_EQ(with_state("disabled"), Record::kDisabled);
  EXPECT_EQ(with_state("opted-out"), Record::kDisabled);
  EXPECT_EQ(with_state("local"), Record::kLocal);
  EXPECT_EQ(with_state("unset"), Record::kUnset);
}

TEST(ConsentFile, AllowsCommentsSpacesTablesAndOtherKeys) {
  EXPECT_EQ(parse_file("# mine\r\n\n  state='enabled'  # yes\r\nversion = 1\nnote = \"a # b\"\n"
                       "[other]\nstate = \"disabled\"\n"),
            Record::kEnabled);
}

TEST(ConsentFile, WhatItDoesNotUnderstandCountsAsUnreadable) {
  for (const std::string_view text : {std::string_view(""),
                                      std::string_view("  \n"),
                                      std::string_view("version = 1\n"),
                                      std::string_view("state = enabled\n"),
                                      std::string_view("state = \"Enabled\"\n"),
                                      std::string_view("state = \"enabled\n"),
                                      std::string_view("state = \"enabled\" x\n"),
                                      std::string_view("version = 2\nstate = \"enabled\"\n"),
                                      std::string_view("state = \"enabled\"\nstate = \"unset\"\n"),
                                      std::string_view("state = \"enabled\"\ngarbage\n"),
                                      std::string_view("[a]\nstate = \"enabled\"\n"),
                                      std::string_view("state = \"ena\\u0062led\"\n"),
                                      std::string_view("state = \"enabled\"\n\0", 19),
                                      std::string_view("\x7f\x45\x4c\x46")}) {
    EXPECT_EQ(parse_file(text), Record::kUnreadable) << text;
  }
}

TEST(ConsentFile, ReadsTheStatusOfATelemetryKitFile) {
  const auto with_status = [](const std::string& status) {
    return parse_file("{\n  \"status\": \"" + status +
                      "\",\n  \"timestamp\": \"2026-11-20T10:00:00Z\",\n"
                      "  \"service_name\": \"my \\\"tool\\\"\", \"n\": 1, \"b\": true\n}\n");
  };
  EXPECT_EQ(with_status("Granted"), Record::kEnabled);
  EXPECT_EQ(with_status("Denied"), Record::kDisabled);
  EXPECT_EQ(with_status("OptedOut"), Record::kDisabled);
  EXPECT_EQ(with_status("Unknown"), Record::kUnset);
  EXPECT_EQ(with_status("granted"), Record::kUnreadable);
}

TEST(ConsentFile, BrokenJsonCountsAsUnreadable) {
  for (const char* text : {"{",
                           "{}",
                           "{\"status\": \"Granted\"",
                           "{\"status\": Granted}",
                           "{\"status\": true}",
                           "{\"status\": \"Granted\"} x",
                           "{\"status\": \"Granted\", \"status\": \"Granted\"}",
                           "{\"status\": \"Granted\", \"a\": {\"b\": 1}}",
                           "{\"a\": 1}",
                           "{\"status\": \"Granted\\\"}",
                           "{\"status\" \"Granted\"}"}) {
    EXPECT_EQ(parse_file(text), Record::kUnreadable) << text;
  }
}

// Files are other people's: every prefix and every one-byte change must be survived.
TEST(ConsentFile, NeverReadsOutsideItsBytes) {
  for (const std::string& whole :
       {std::string("version = 1\nstate = \"enabled\" # x\n"),
        std::string("{\"status\": \"Granted\", \"service_name\": \"a\\\"b\", \"n\": 12}")}) {
    for (std::size_t size = 0; size <= whole.size(); ++size) {
      const std::vector<char> exact(whole.begin(), whole.begin() + static_cast<long>(size));
      parse_consent_file(exact.data(), exact.size());
      for (const char c : {'"', '\\', '=', '{', '}', '\n', '#'}) {
        std::vector<char> changed(whole.begin(), whole.end());
        if (size < whole.size()) changed[size] = c;
        parse_consent_file(changed.data(), changed.size());
      }
    }
  }
}

}  // namespace
}  // namespace telemetryd::consent
