#include "forward/native_request.h"

#include <algorithm>
#include <array>

#include <google/protobuf/io/coded_stream.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/digest.h"
#include "telemetry/v1/native.pb.h"

namespace telemetryd::forward {
namespace {

using google::protobuf::io::CodedOutputStream;

constexpr char length_delimited(unsigned field) {
  return static_cast<char>(field << 3 | 2);
}

constexpr char kGroups = length_delimited(6);     // NativeBatch.groups
constexpr char kContext = length_delimited(2);    // EventGroup.context
constexpr char kMachineId = length_delimited(3);  // EventGroup.machine_id

void append_varint(std::string& out, std::size_t value) {
  std::array<std::uint8_t, 10> digits{};
  const std::uint8_t* end = CodedOutputStream::WriteVarint64ToArray(value, digits.data());
  out.append(reinterpret_cast<const char*>(digits.data()),
             static_cast<std::size_t>(end - digits.data()));
}

std::size_t field_size(std::string_view content) {
  return 1 + CodedOutputStream::VarintSize64(content.size()) + content.size();
}

void append_field(std::string& out, char tag, std::string_view content) {
  out.push_back(tag);
  append_varint(out, content.size());
  out.append(content);
}

void append_group(std::string& body, const v1::LeasedRow& row) {
  std::size_t size = row.events().size() + field_size(row.context());
  if (!row.machine_id().empty()) size += field_size(row.machine_id());
  body.push_back(kGroups);
  append_varint(body, size);
  body.append(row.events());
  append_field(body, kContext, row.context());
  if (!row.machine_id().empty()) append_field(body, kMachineId, row.machine_id());
}

}  // namespace

BatchLayout::BatchLayout(const v1::Lease& lease) {
  groups_.reserve(static_cast<std::size_t>(lease.rows_size()));
  for (const v1::LeasedRow& row : lease.rows()) {
    groups_.push_back({events_, {row.seq(), row.first_index()}});
    events_ += row.count();
  }
}

BatchLayout::Place BatchLayout::place(std::uint64_t index) const {
  TELEMETRYD_CHECK(index < events_);
  const auto after = std::ranges::upper_bound(groups_, index, {}, &Group::begin);
  const Group& group = *std::prev(after);
  return {group.first.seq, group.first.index + static_cast<std::uint32_t>(index - group.begin)};
}

std::string native_body(const v1::Lease& lease, UnixMs sent_unix_ms, std::string_view sender) {
  v1::NativeBatch head;
  head.set_schema(1);
  head.set_sent_time_unix_nano(static_cast<std::uint64_t>(sent_unix_ms) * 1'000'000);
  std::uint32_t events = 0;
  std::size_t bytes = 128;
  for (const v1::LeasedRow& row : lease.rows()) {
    events += row.count();
    bytes += row.events().size() + row.context().size() + row.machine_id().size() + 32;
  }
  head.set_batch_size(events);
  head.set_attempt(lease.attempt());
  head.set_sender(std::string(sender));

  std::string body;
  body.reserve(bytes);
  head.AppendToString(&body);
  for (const v1::LeasedRow& row : lease.rows()) append_group(body, row);
  return body;
}

std::string string_to_sign(const SignedParts& parts) {
  std::string text = "telemetryd-native-v1\n";
  for (const std::string_view line : {parts.method, parts.path, parts.timestamp, parts.nonce}) {
    text.append(line).push_back('\n');
  }
  return text + to_hex(sha256(parts.body));
}

std::string sign(std::string_view secret, const SignedParts& parts) {
  return to_hex(hmac_sha256(secret, string_to_sign(parts)));
}

}  // namespace telemetryd::forward
