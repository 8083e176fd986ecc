#include "store/row_bytes.h"

#include <zlib.h>

#include "event/fields.h"

namespace telemetryd::store {
namespace {

uLong crc_of(uLong crc, std::string_view bytes) {
  return crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
}

}  // namespace

std::optional<std::string_view> take_event(std::string_view& rest) {
  event::Cursor cursor(rest);
  std::string_view body;
  if (!event::next_event(cursor, body)) return std::nullopt;
  const auto bytes = static_cast<std::size_t>(cursor.position() - rest.data());
  const std::string_view framed = rest.substr(0, bytes);
  rest.remove_prefix(bytes);
  return framed;
}

std::string_view event_body(std::string_view framed) {
  event::Cursor cursor(framed);
  std::string_view body;
  return event::next_event(cursor, body) ? body : std::string_view();
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
