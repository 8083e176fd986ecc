#include "store/row_bytes.h"

#include <zlib.h>

namespace telemetryd::store {
namespace {

constexpr unsigned char kEventTag = 0x0A;

struct Prefix {
  std::size_t bytes = 0;  // of tag and length
  std::uint64_t length = 0;
};

std::optional<Prefix> read_prefix(std::string_view bytes) {
  if (bytes.empty() || static_cast<unsigned char>(bytes[0]) != kEventTag) return std::nullopt;
  Prefix prefix{1, 0};
  for (unsigned shift = 0; shift < 35; shift += 7) {
    if (prefix.bytes == bytes.size()) return std::nullopt;
    const auto byte = static_cast<unsigned char>(bytes[prefix.bytes++]);
    prefix.length |= static_cast<std::uint64_t>(byte & 0x7Fu) << shift;
    if ((byte & 0x80u) == 0) return prefix;
  }
  return std::nullopt;
}

uLong crc_of(uLong crc, std::string_view bytes) {
  return crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
}

}  // namespace

std::optional<std::string_view> take_event(std::string_view& rest) {
  const auto prefix = read_prefix(rest);
  if (!prefix || prefix->length > rest.size() - prefix->bytes) return std::nullopt;
  const std::string_view event = rest.substr(0, prefix->bytes + prefix->length);
  rest.remove_prefix(event.size());
  return event;
}

std::string_view event_body(std::string_view framed) {
  const auto prefix = read_prefix(framed);
  return prefix ? framed.substr(prefix->bytes) : std::string_view();
}

std::optional<std::uint32_t> count_events(std::string_view blob) {
  std::uint32_t count = 0;
  while (!blob.empty()) {
    if (!take_event(blob)) return std::nullopt;
    ++count;
  }
  return count;
}

std::optional<std::string_view> cut_events(std::string_view blob,
                                           std::uint32_t first,
                                           std::uint32_t count) {
  std::string_view rest = blob;
  for (std::uint32_t i = 0; i < first; ++i) {
    if (!take_event(rest)) return std::nullopt;
  }
  const char* const begin = rest.data();
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!take_event(rest)) return std::nullopt;
  }
  return std::string_view(begin, static_cast<std::size_t>(rest.data() - begin));
}

std::uint32_t row_crc(std::string_view context, std::string_view blob) {
  const uLong crc = crc_of(crc_of(0, context), blob);
  return static_cast<std::uint32_t>(crc);
}

}  // namespace telemetryd::store
