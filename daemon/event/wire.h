// event/wire.h: walks protobuf's wire format without copying, allocating or throwing.
//
// A cursor over untrusted bytes: every step checks the end first and says no instead of guessing.
// It takes less than libprotobuf does (no groups, no tag or length longer than five bytes), so what
// passes here parses everywhere. Hand-written because it is short, and because a library that
// throws would make every malformed frame as dear as an exception.
//
// Thread:  any; a value.

#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace telemetryd::event {

enum WireType : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

constexpr std::uint32_t tag_of(std::uint32_t field, WireType type) {
  return (field << 3) | type;
}

constexpr std::int64_t zigzag(std::uint64_t value) {
  return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
}

class Cursor {
 public:
  explicit Cursor(std::string_view bytes)
      : at_(reinterpret_cast<const std::uint8_t*>(bytes.data())), end_(at_ + bytes.size()) {}

  bool at_end() const { return at_ == end_; }

  const char* position() const { return reinterpret_cast<const char*>(at_); }

  bool varint(std::uint64_t& value) {
    if (at_ != end_ && *at_ < 0x80) {
      value = *at_++;
      return true;
    }
    return long_varint(value, 10, ~std::uint64_t{0});
  }

  // Field number and wire type in one word, as tag_of() makes it. Field 0 does not exist.
  bool tag(std::uint32_t& value) {
    std::uint64_t wide = 0;
    if (!short_varint(wide)) return false;
    value = static_cast<std::uint32_t>(wide);
    return value >= 8;
  }

  // A tag in its only encoding. tag() takes padded ones too, as protobuf demands of a reader.
  bool byte(std::uint8_t wanted) {
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }

  bool fixed64(std::uint64_t& value) {
    if (end_ - at_ < 8) return false;
    value = 0;
    for (int i = 7; i >= 0; --i) value = value << 8 | at_[i];
    at_ += 8;
    return true;
  }

  bool bytes(std::string_view& value) {
    std::uint64_t size = 0;
    if (!short_varint(size) || size > static_cast<std::uint64_t>(end_ - at_)) return false;
    value = {reinterpret_cast<const char*>(at_), static_cast<std::size_t>(size)};
    at_ += size;
    return true;
  }

  // Steps over a field's value. Groups are refused: nothing since 2008 writes them, and skipping
  // one needs a recursion that a sender could deepen.
  bool skip(std::uint32_t tag) {
    std::uint64_t number = 0;
    std::string_view text;
    switch (tag & 7) {
      case kVarint: return varint(number);
      case kFixed64: return fixed64(number);
      case kBytes: return bytes(text);
      case kFixed32:
        if (end_ - at_ < 4) return false;
        at_ += 4;
        return true;
      default: return false;
    }
  }

 private:
  bool short_varint(std::uint64_t& value) {
    if (at_ != end_ && *at_ < 0x80) {
      value = *at_++;
      return true;
    }
    return long_varint(value, 5, ~std::uint32_t{0});
  }

  bool long_varint(std::uint64_t& value, int bytes_max, std::uint64_t value_max) {
    value = 0;
    for (int i = 0; i < bytes_max && at_ != end_; ++i) {
      const std::uint8_t byte = *at_++;
      if (i == 9 && byte > 1) return false;
      value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
      if (byte < 0x80) return value <= value_max;
    }
    return false;
  }

  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

}  // namespace telemetryd::event
