#include "forward/mutes.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>
#include <string>

namespace telemetryd::forward {
namespace {

constexpr std::uint64_t kSecondsMax =
    static_cast<std::uint64_t>(std::chrono::seconds(kMuteMax).count());

// Takes the list apart from left to right; a false answer leaves `rest` where it stands.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  bool at_end() const { return rest_.empty(); }

  void skip_space() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t'))
      rest_.remove_prefix(1);
  }

  bool take(char wanted) {
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  // Behind the next comma that is in no quoted text.
  void skip_entry() {
    bool quoted = false;
    while (!rest_.empty()) {
      const char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == ',' && !quoted) return;
      if (c == '"') quoted = !quoted;
      if (c == '\\' && quoted && !rest_.empty()) rest_.remove_prefix(1);
    }
  }

  // sf-string or sf-token.
  std::optional<std::string> name() { return take('"') ? quoted() : token(); }

  // sf-key
  std::string_view key() {
    return run([](unsigned char c) {
      return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '_' || c == '-' || c == '.' ||
             c == '*';
    });
  }

  // A number, or what has no meaning here: its text.
  std::string_view bare() {
    return run([](unsigned char c) { return std::isgraph(c) != 0 && c != ';' && c != ','; });
  }

 private:
  template <typename Wanted>
  std::string_view run(Wanted wanted) {
    const auto end = std::ranges::find_if_not(rest_, wanted);
    const std::string_view taken = rest_.substr(0, static_cast<std::size_t>(end - rest_.begin()));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  std::optional<std::string> token() {
    if (rest_.empty()) return std::nullopt;
    const auto first = static_cast<unsigned char>(rest_.front());
    if (std::isalpha(first) == 0 && first != '*') return std::nullopt;
    return std::string(run([](unsigned char c) {
      return std::isalnum(c) != 0 ||
             std::string_view("!#$%&'*+-.^_`|~:/").contains(static_cast<char>(c));
    }));
  }

  std::optional<std::string> quoted() {
    std::string text;
    while (!rest_.empty()) {
      char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == '"') return text;
      if (c == '\\') {
        if (rest_.empty() || (rest_.front() != '"' && rest_.front() != '\\')) return std::nullopt;
        c = rest_.front();
        rest_.remove_prefix(1);
      } else if (c < ' ' || c > '~') {
        return std::nullopt;
      }
      text += c;
    }
    return std::nullopt;
  }

  std::string_view rest_;
};

std::optional<std::uint64_t> seconds_of(std::string_view digits) {
  std::uint64_t seconds = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), seconds);
  // RFC 8941 has no integer of more than 15 digits.
  if (error != std::errc() || end != digits.data() + digits.size() || digits.size() > 15) {
    return std::nullopt;
  }
  return std::min(seconds, kSecondsMax);
}

// One entry, up to its comma; nothing when it is none of ours.
std::optional<v1::Mute> read_entry(Reader& reader) {
  const auto app = reader.name();
  if (!app || app->empty() || app->size() > kMuteAppBytesMax) return std::nullopt;
  std::optional<std::uint64_t> seconds;
  while (reader.take(';')) {
    reader.skip_space();
    const std::string_view key = reader.key();
    if (key.empty()) return std::nullopt;
    const std::string_view value = reader.take('=') ? reader.bare() : "";
    if (key == "s") seconds = seconds_of(value);
  }
  reader.skip_space();
  if (!seconds) return std::nullopt;
  v1::Mute mute;
  mute.set_app(*app);
  mute.set_duration_s(*seconds);
  return mute;
}

}  // namespace

std::vector<v1::Mute> parse_mutes(std::string_view list) {
  std::vector<v1::Mute> mutes;
  Reader reader(list.substr(0, kMuteListBytesMax));
  while (!reader.at_end() && mutes.size() < kMutesMax) {
    reader.skip_space();
    Reader entry = reader;
    reader.skip_entry();
    auto mute = read_entry(entry);
    if (mute && (entry.at_end() || entry.take(','))) mutes.push_back(*std::move(mute));
  }
  return mutes;
}

void add_mutes(const std::vector<v1::Mute>& mutes, v1::Outcome& outcome) {
  for (const v1::Mute& mute : mutes) {
    auto& known = *outcome.mutable_mutes();
    const auto same = std::ranges::find(known, mute.app(), &v1::Mute::app);
    if (same != known.end()) {
      *same = mute;
    } else if (outcome.mutes_size() < static_cast<int>(kMutesMax)) {
      *outcome.add_mutes() = mute;
    }
  }
}

}  // namespace telemetryd::forward
