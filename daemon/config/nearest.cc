#include "config/nearest.h"

#include <algorithm>

namespace telemetryd::config {
namespace {

// Keys of ours are shorter; a longer text is no misspelling of one.
constexpr std::size_t kTextBytesMax = 96;

std::string_view last_part(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> two_ago(b.size() + 1);
  std::vector<std::size_t> previous(b.size() + 1);
  std::vector<std::size_t> current(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, substitute});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], two_ago[j - 2] + 1);
      }
    }
    std::swap(two_ago, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

std::string nearest(std::string_view wrong, const std::vector<std::string>& candidates) {
  if (wrong.size() > kTextBytesMax) return {};
  const std::string_view wrong_key = last_part(wrong);
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, wrong_key.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::string_view key = last_part(candidate);
    // The right key in the wrong section, or its beginning ("token" for token_file): one step.
    const bool begins = wrong_key.size() >= 4 && key.starts_with(wrong_key);
    const std::size_t key_alone = begins ? 1 : edit_distance(wrong_key, key) + 1;
    const std::size_t distance = std::min(edit_distance(wrong, candidate), key_alone);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace telemetryd::config
