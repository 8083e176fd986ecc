// store/trouble.h: what is wrong with the store now and may be right again later.
//
// The word is for programs and never changes its meaning; the text says what is wrong and what to
// do next.
//
// Thread:  any; values.

#pragma once

#include <string>
#include <string_view>

namespace telemetryd::store {

namespace trouble {
// The file system has too little room left for others, or gives us no more.
inline constexpr std::string_view kDiskLow = "disk_low";
// Writing failed; it is tried again, less and less often.
inline constexpr std::string_view kDiskFailing = "disk_failing";
// A store was set aside, and what users had refused could not be read from it.
inline constexpr std::string_view kConsentLost = "consent_lost";
}  // namespace trouble

struct Trouble {
  std::string word;
  std::string text;
  bool refuses_events = false;  // new ones are told to come again later
};

}  // namespace telemetryd::store
