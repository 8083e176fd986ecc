// consent/consent.h: one resolver for "may this be collected?", shared by client, CLI and daemon.
//
// Off wins: an explicit off from any side is off, an unknown word counts as off, and the machine
// policy can only tighten. The answer names the deciding rule, so that status can say why. Compiles
// with libc alone.
//
// Thread:  any; no state. It reads no environment and no files itself: callers hand the words in.

#pragma once

#include <stddef.h>
#include <stdint.h>

namespace telemetryd::consent {

enum class Mode : uint8_t { kUndecided = 0, kOn = 1, kLocal = 2, kOff = 3 };

// `[policy] mode`, and the content of the policy file in the runtime folder. kUnknown: no daemon
// has said.
enum class MachinePolicy : uint8_t { kUnknown = 0, kOptIn = 1, kOptOut = 2, kOff = 3 };

// What a person decided, in the daemon's record or in the user's consent file.
enum class Record : uint8_t {
  kUnset = 0,
  kEnabled = 1,
  kLocal = 2,
  kDisabled = 3,
  kUnreadable = 4
};

// A variable's word: 1/true/on/yes, 0/false/off/no in any case; null or empty is unset.
enum class Word : uint8_t { kUnset = 0, kYes = 1, kNo = 2, kUnknown = 3 };

Word parse_word(const char* text);
// "opt-in", "opt-out", "off"; white space around it is allowed.
MachinePolicy parse_policy(const char* text, size_t size);
const char* policy_name(MachinePolicy policy);
const char* mode_name(Mode mode);

// Everything that may decide, from one side or both. The client does not know the daemon's records
// and leaves them unset; the daemon does not know the client's environment: it gets the client's
// verdict by the client not connecting.
struct Inputs {
  MachinePolicy machine = MachinePolicy::kUnknown;
  Word do_not_track = Word::kUnset;   // DO_NOT_TRACK: yes means off
  Word dnt = Word::kUnset;            // DNT: yes means off
  Word tool_variable = Word::kUnset;  // <TOOL>_TELEMETRY: no means off, yes is consent
  Record consent_file = Record::kUnset;
  Record app_record = Record::kUnset;  // the daemon's, for (uid, app)
  Record all_record = Record::kUnset;  // the daemon's, for (uid, all tools)
};

struct Decision {
  Mode mode;
  const char*
      rule;  // static: "machine_policy", "DO_NOT_TRACK", "DNT", "tool_variable", "consent_file",
             // "app_record", "all_record", "opt_out_default", "opt_in_default", "undecided"
};

Decision decide(const Inputs& inputs);

// "my-tool" becomes "MY_TOOL_TELEMETRY". `out_size` of kVariableBytesMax always suffices.
constexpr size_t kVariableBytesMax = 80;
void tool_variable_name(const char* tool, char* out, size_t out_size);

// Reads the text of a consent.toml (version, state, decided_at) or a telemetry-kit JSON file
// (status): kUnset for "unset"/"Unknown", kUnreadable for anything it does not understand, which
// counts as off.
Record parse_consent_file(const char* text, size_t size);

// Reads the text of the daemon's policy file: "opt-out", or "mode = opt-out", quoted or not; its
// first line counts. kOff for anything it does not understand.
MachinePolicy parse_policy_file(const char* text, size_t size);

}  // namespace telemetryd::consent
