#include "consent/consent.h"

#include <initializer_list>
#include <string.h>

namespace telemetryd::consent {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_word(const char* text, size_t size, const char* lower_word) {
  if (strlen(lower_word) != size) return false;
  for (size_t i = 0; i < size; ++i) {
    if (lower(text[i]) != lower_word[i]) return false;
  }
  return true;
}

struct Trimmed {
  const char* text;
  size_t size;
};

Trimmed trim(const char* text, size_t size) {
  while (size > 0 && is_space(*text)) {
    ++text;
    --size;
  }
  while (size > 0 && is_space(text[size - 1])) --size;
  return {text, size};
}

bool is_off(Record record) {
  return record == Record::kDisabled || record == Record::kUnreadable;
}

// A yes to "do not track", or a word nobody understands, which must not lead to more collection.
bool asks_for_privacy(Word word) {
  return word == Word::kYes || word == Word::kUnknown;
}

const char* rule_that_says_off(const Inputs& in) {
  if (in.machine == MachinePolicy::kOff) return "machine_policy";
  if (asks_for_privacy(in.do_not_track)) return "DO_NOT_TRACK";
  if (asks_for_privacy(in.dnt)) return "DNT";
  if (in.tool_variable == Word::kNo || in.tool_variable == Word::kUnknown) return "tool_variable";
  if (is_off(in.consent_file)) return "consent_file";
  if (is_off(in.app_record)) return "app_record";
  if (is_off(in.all_record)) return "all_record";
  return nullptr;
}

const char* rule_with_record(const Inputs& in, Record record) {
  if (in.consent_file == record) return "consent_file";
  if (in.app_record == record) return "app_record";
  if (in.all_record == record) return "all_record";
  return nullptr;
}

}  // namespace

Word parse_word(const char* text) {
  if (text == nullptr) return Word::kUnset;
  const Trimmed word = trim(text, strlen(text));
  if (word.size == 0) return Word::kUnset;
  for (const char* yes : {"1", "true", "on", "yes"}) {
    if (same_word(word.text, word.size, yes)) return Word::kYes;
  }
  for (const char* no : {"0", "false", "off", "no"}) {
    if (same_word(word.text, word.size, no)) return Word::kNo;
  }
  return Word::kUnknown;
}

MachinePolicy parse_policy(const char* text, size_t size) {
  const Trimmed word = trim(text, size);
  for (const MachinePolicy policy :
       {MachinePolicy::kOptIn, MachinePolicy::kOptOut, MachinePolicy::kOff}) {
    const char* name = policy_name(policy);
    if (strlen(name) == word.size && memcmp(name, word.text, word.size) == 0) return policy;
  }
  return MachinePolicy::kUnknown;
}

const char* policy_name(MachinePolicy policy) {
  switch (policy) {
    case MachinePolicy::kUnknown: return "unknown";
    case MachinePolicy::kOptIn: return "opt-in";
    case MachinePolicy::kOptOut: return "opt-out";
    case MachinePolicy::kOff: return "off";
  }
  return "unknown";
}

const char* mode_name(Mode mode) {
  switch (mode) {
    case Mode::kUndecided: return "undecided";
    case Mode::kOn: return "on";
    case Mode::kLocal: return "local";
    case Mode::kOff: return "off";
  }
  return "off";
}

Decision decide(const Inputs& inputs) {
  if (const char* rule = rule_that_says_off(inputs)) return {Mode::kOff, rule};
  if (const char* rule = rule_with_record(inputs, Record::kLocal)) return {Mode::kLocal, rule};
  if (inputs.tool_variable == Word::kYes) return {Mode::kOn, "tool_variable"};
  if (const char* rule = rule_with_record(inputs, Record::kEnabled)) return {Mode::kOn, rule};
  switch (inputs.machine) {
    case MachinePolicy::kOptOut: return {Mode::kOn, "opt_out_default"};
    case MachinePolicy::kUnknown: return {Mode::kUndecided, "undecided"};
    case MachinePolicy::kOptIn:
    case MachinePolicy::kOff: break;
  }
  return {Mode::kOff, "opt_in_default"};
}

void tool_variable_name(const char* tool, char* out, size_t out_size) {
  constexpr char kSuffix[] = "_TELEMETRY";
  if (out_size < sizeof kSuffix) {
    if (out_size > 0) out[0] = '\0';
    return;
  }
  const size_t name_max = out_size - sizeof kSuffix;
  size_t used = 0;
  for (; tool[used] != '\0' && used < name_max; ++used) {
    const char c = tool[used];
    const bool is_lower = c >= 'a' && c <= 'z';
    const bool is_upper_or_digit = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (is_lower) {
      out[used] = static_cast<char>(c - 'a' + 'A');
    } else {
      out[used] = is_upper_or_digit ? c : '_';
    }
  }
  memcpy(out + used, kSuffix, sizeof kSuffix);
}

}  // namespace telemetryd::consent
