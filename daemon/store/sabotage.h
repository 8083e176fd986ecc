// store/sabotage.h: promises that a test build may break, to show that the proofs notice.
//
// Every switch is false unless the build was configured with -DTELEMETRYD_SABOTAGE=<NAME>, which
// also changes the version string. Nothing at run time can turn one on.
//
// Thread:  any; constants.

#pragma once

namespace telemetryd::store::sabotage {

#ifdef TELEMETRYD_SABOTAGE_ACK_BEFORE_COMMIT
inline constexpr bool kAckBeforeCommit = true;
#else
inline constexpr bool kAckBeforeCommit = false;
#endif

#ifdef TELEMETRYD_SABOTAGE_SYNCHRONOUS_OFF
inline constexpr bool kSynchronousOff = true;
#else
inline constexpr bool kSynchronousOff = false;
#endif

#ifdef TELEMETRYD_SABOTAGE_LEDGER_OFF_BY_ONE
inline constexpr bool kLedgerOffByOne = true;
#else
inline constexpr bool kLedgerOffByOne = false;
#endif

#ifdef TELEMETRYD_SABOTAGE_DROPPED_FRAME
inline constexpr bool kDroppedFrame = true;
#else
inline constexpr bool kDroppedFrame = false;
#endif

#ifdef TELEMETRYD_SABOTAGE_REUSED_NUMBER
inline constexpr bool kReusedNumber = true;
#else
inline constexpr bool kReusedNumber = false;
#endif

// Which frames the last two hit.
inline constexpr unsigned kEveryNthFrame = 97;

}  // namespace telemetryd::store::sabotage
