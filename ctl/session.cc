#include "ctl/session.h"

#include <fmt/format.h>

namespace telemetryd::ctl {

void Session::note(const std::string& line) const {
  if (!quiet) fmt::print(out, "{}\n", line);
}

void Session::print(const std::string& text) const {
  std::fwrite(text.data(), 1, text.size(), out);
}

}  // namespace telemetryd::ctl
