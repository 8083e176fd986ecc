#include "store/row_bytes.h"

#include <array>
#include <libdeflate.h>

#include "base/bytes.h"
#include "event/fields.h"
#include "frame/frame.h"

namespace telemetryd::store {
namespace {

std::uint32_t crc_of(std::uint32_t crc, std::string_view bytes) {
  return libdeflate_crc32(crc, bytes.data(), bytes.size());
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

std::string framed_event(std::string_view body) {
  std::string framed;
  framed.reserve(body.size() + 6);
  framed.push_back('\x0a');
  std::size_t length = body.size();
  for (; length >= 0x80; length >>= 7) framed.push_back(static_cast<char>(0x80 | (length & 0x7f)));
  framed.push_back(static_cast<char>(length));
  framed.append(body);
  return framed;
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

std::uint32_t content_crc(std::string_view context, std::string_view blob) {
  return crc_of(crc_of(0, context), blob);
}

std::uint32_t columns_crc(const RowColumns& columns) {
  if (columns.instance.empty()) return 0;
  std::array<std::uint8_t, 28> numbers{};
  frame::put_u32(numbers.data(), columns.uid);
  frame::put_u64(numbers.data() + 4, static_cast<std::uint64_t>(columns.app));
  frame::put_u64(numbers.data() + 12, static_cast<std::uint64_t>(columns.count));
  frame::put_u64(numbers.data() + 20, columns.last_frame);
  return crc_of(crc_of(0, as_text(numbers)), columns.instance);
}

std::int64_t row_crc(const RowColumns& columns, std::string_view context, std::string_view blob) {
  const std::uint64_t upper = columns_crc(columns);
  return static_cast<std::int64_t>(upper << 32 | content_crc(context, blob));
}

bool columns_match(std::int64_t row_crc, const RowColumns& columns) {
  return static_cast<std::uint64_t>(row_crc) >> 32 == columns_crc(columns);
}

bool content_matches(std::int64_t row_crc, std::string_view context, std::string_view blob) {
  return static_cast<std::uint32_t>(row_crc) == content_crc(context, blob);
}

}  // namespace telemetryd::store
