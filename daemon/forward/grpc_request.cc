#include "forward/grpc_request.h"

#include <algorithm>
#include <array>

#include <google/protobuf/io/coded_stream.h>
#include <openssl/sha.h>

#include "event/wire.h"

namespace telemetryd::forward {
namespace {

using event::Cursor;
using event::kBytes;
using event::tag_of;
using event::WireType;
using google::protobuf::io::CodedOutputStream;

// Fields of PublishRequest and Context; the first are the events, tagged as in EventBatch.
constexpr std::uint32_t kInstance = 2;
constexpr std::uint32_t kNumber = 3;
constexpr std::uint32_t kContext = 5;
constexpr std::uint32_t kContextMachineId = 7;

constexpr char kEventTag = 0x0A;
constexpr std::string_view kLabel = "telemetryd relay 1";

void append_varint(std::string& out, std::uint64_t value) {
  std::array<std::uint8_t, 10> digits{};
  const std::uint8_t* end = CodedOutputStream::WriteVarint64ToArray(value, digits.data());
  out.append(as_text({digits.data(), static_cast<std::size_t>(end - digits.data())}));
}

void append_field(std::string& out, std::uint32_t field, std::string_view content) {
  append_varint(out, tag_of(field, kBytes));
  append_varint(out, content.size());
  out.append(content);
}

// Bytes of the event at the beginning of `events`, tag and length included; 0 when none is there.
std::size_t event_size(std::string_view events) {
  Cursor cursor(events);
  std::string_view content;
  if (!cursor.byte(kEventTag) || !cursor.bytes(content)) return 0;
  return static_cast<std::size_t>(cursor.position() - events.data());
}

Error broken(const v1::LeasedRow& row) {
  return {ErrorCode::kDataLoss,
          "stored row " + std::to_string(row.seq()) + " does not hold the " +
              std::to_string(row.count()) + " events it should"};
}

// The context as stored, and the machine where the events were recorded: that of the lease, unless
// they came from a relay and say their own.
std::string context_of(const v1::LeasedRow& row) {
  std::string context = row.context();
  Cursor cursor(context);
  while (!cursor.at_end()) {
    std::uint32_t tag = 0;
    if (!cursor.tag(tag) || tag == tag_of(kContextMachineId, kBytes) || !cursor.skip(tag)) {
      return context;
    }
  }
  if (!row.machine_id().empty()) append_field(context, kContextMachineId, row.machine_id());
  return context;
}

}  // namespace

Result<std::vector<Piece>> cut(const v1::LeasedRow& row) {
  std::vector<Piece> pieces;
  std::string_view rest = row.events();
  for (std::uint32_t index = 0; index < row.count(); ++index) {
    const std::size_t size = event_size(rest);
    if (size == 0) return std::unexpected(broken(row));
    const bool fits = !pieces.empty() && pieces.back().count < kEventsMax &&
                      pieces.back().events.size() + size <= kEventsBytesMax;
    if (!fits) pieces.push_back({&row, row.first_index() + index, 0, rest.substr(0, 0)});
    Piece& piece = pieces.back();
    ++piece.count;
    piece.events = {piece.events.data(), piece.events.size() + size};
    rest.remove_prefix(size);
  }
  if (!rest.empty() || pieces.empty()) return std::unexpected(broken(row));
  return pieces;
}

Result<std::pair<Piece, Piece>> halve(const Piece& piece) {
  const std::uint32_t first_count = piece.count / 2;
  std::size_t first_bytes = 0;
  for (std::uint32_t index = 0; index < first_count; ++index) {
    const std::size_t size = event_size(piece.events.substr(first_bytes));
    if (size == 0) return std::unexpected(broken(*piece.row));
    first_bytes += size;
  }
  return std::pair(
      Piece{piece.row, piece.first_index, first_count, piece.events.substr(0, first_bytes)},
      Piece{piece.row,
            piece.first_index + first_count,
            piece.count - first_count,
            piece.events.substr(first_bytes)});
}

Bytes16 instance_of(std::string_view destination, const Piece& piece) {
  // Each text behind its length, so that no two lists of fields have the same bytes.
  std::string head;
  for (const std::string_view text : {kLabel,
                                      destination,
                                      std::string_view(piece.row->machine_id()),
                                      std::string_view(piece.row->app())}) {
    append_varint(head, text.size());
    head.append(text);
  }
  append_varint(head, piece.row->seq());
  append_varint(head, piece.first_index);
  append_varint(head, piece.count);
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(as_bytes(piece.events).data(), piece.events.size(), digest.data());
  head.append(as_text(digest));
  SHA256(as_bytes(head).data(), head.size(), digest.data());
  Bytes16 instance{};
  std::copy_n(digest.begin(), instance.size(), instance.begin());
  return instance;
}

std::string publish_request(std::string_view destination, const Piece& piece) {
  const std::string context = context_of(*piece.row);
  std::string request;
  request.reserve(piece.events.size() + context.size() + 32);
  request.append(piece.events);
  append_field(request, kInstance, as_text(instance_of(destination, piece)));
  append_varint(request, tag_of(kNumber, WireType::kVarint));
  append_varint(request, 1);
  append_field(request, kContext, context);
  return request;
}

}  // namespace telemetryd::forward
