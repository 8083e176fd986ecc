// ingest/control.h: the protobuf messages inside HELLO, REPORT and WELCOME.
//
// Read and written by hand with event/wire.h: four small messages do not justify a protobuf runtime
// in the daemon.
//
// Thread:  any; no state.
// Fails:   kInvalidArgument, in words for the sender.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "consent/consent.h"
#include "frame/frame.h"

namespace telemetryd::ingest {

// Whose events come from a peer on another machine: no process here can have it.
inline constexpr std::uint32_t kForeignUid = 0xffffffff;
inline constexpr std::size_t kMachineIdBytesMax = 128;

// What a client said about itself. Nothing of it is believed: the uid comes from the kernel, or
// from the gateway, which has it from there.
struct Hello {
  Bytes16 instance{};
  std::string app;
  std::string context;  // encoded Context; with a machine ID only for kForeignUid
  std::uint64_t first_frame = 1;
  consent::Mode consent = consent::Mode::kUndecided;
  std::optional<std::uint32_t> peer_uid;  // only the gateway may say it
};

// `message` is the ClientHello behind the prefix of magic and version.
[[nodiscard]] Result<Hello> parse_hello(std::string_view message);

// Losses by reason, as the ledger names them.
[[nodiscard]] Result<std::map<std::string, std::uint64_t>> parse_report(std::string_view message);

struct Welcome {
  consent::Decision decision{};
  std::uint64_t high_water = 0;
  std::uint32_t event_bytes_max = 0;
  std::uint32_t frame_bytes_max = 0;
};

// Whole frames, header included. Texts are cut at frame::kTextBytesMax.
std::string welcome_frame(const Welcome& welcome);
std::string ack_frame(std::uint64_t number);
std::string refuse_frame(const frame::Refuse& refuse, std::string_view text);
std::string mode_frame(const consent::Decision& decision);
std::string closing_frame(frame::Code code, std::string_view text);

}  // namespace telemetryd::ingest
