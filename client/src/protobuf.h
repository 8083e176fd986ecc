// telemetry_core/protobuf.h: the few rules of the protobuf wire format that the client needs.
//
// Writing is by hand because it is four times as fast as the next best way and needs no library.
//
// Thread:  any; nothing here has state.
// Fails:   Reader turns malformed input into `ok() == false` and never reads outside its bytes.

#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace telemetryd::client {

enum class Wire : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

constexpr uint8_t tag_byte(uint32_t field, Wire wire) {
  return static_cast<uint8_t>((field << 3) | static_cast<uint32_t>(wire));
}

inline size_t varint_size(uint64_t value) {
  // Seven payload bits to a byte: (bits + 6) / 7, without the division.
  const unsigned bits = 63u ^ static_cast<unsigned>(__builtin_clzll(value | 1));
  return (bits * 9 + 73) / 64;
}

inline uint64_t zigzag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}

inline uint8_t* put_varint(uint8_t* out, uint64_t value) {
  if (value < 0x80) [[likely]] {
    *out = static_cast<uint8_t>(value);
    return out + 1;
  }
  while (value >= 0x80) {
    *out++ = static_cast<uint8_t>(value | 0x80);
    value >>= 7;
  }
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// Short texts are the rule here, and for them two overlapping word moves beat a call to memcpy.
inline uint8_t* put_raw(uint8_t* out, const void* data, size_t size) {
  const auto* in = static_cast<const uint8_t*>(data);
  if (size > 32) [[unlikely]] {
    memcpy(out, in, size);
  } else if (size < 8) {
    if (size >= 4) {
      __builtin_memcpy(out, in, 4);
      __builtin_memcpy(out + size - 4, in + size - 4, 4);
    } else if (size != 0) {
      // First, last and the one between, which for one and two bytes is one of them.
      out[0] = in[0];
      out[size / 2] = in[size / 2];
      out[size - 1] = in[size - 1];
    }
  } else if (size <= 16) {
    __builtin_memcpy(out, in, 8);
    __builtin_memcpy(out + size - 8, in + size - 8, 8);
  } else {
    __builtin_memcpy(out, in, 16);
    __builtin_memcpy(out + size - 16, in + size - 16, 16);
  }
  return out + size;
}

// Field numbers up to 15 only: their tag is one byte.
inline uint8_t* put_bytes_field(uint8_t* out, uint32_t field, const void* data, size_t size) {
  *out++ = tag_byte(field, Wire::kBytes);
  out = put_varint(out, size);
  return put_raw(out, data, size);
}

inline uint8_t* put_varint_field(uint8_t* out, uint32_t field, uint64_t value) {
  *out++ = tag_byte(field, Wire::kVarint);
  return put_varint(out, value);
}

inline uint8_t* put_fixed64_field(uint8_t* out, uint32_t field, uint64_t value) {
  *out++ = tag_byte(field, Wire::kFixed64);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  __builtin_memcpy(out, &value, sizeof value);
#else
  value = __builtin_bswap64(value);
  __builtin_memcpy(out, &value, sizeof value);
#endif
  return out + sizeof value;
}

inline size_t bytes_field_size(size_t size) {
  return 1 + varint_size(size) + size;
}

// One pass over the fields of a message.
class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

  // Moves to the next field; false at the end or when the bytes are no message.
  bool next() {
    if (!ok_ || at_ == end_) return false;
    const uint64_t tag = varint();
    field_ = static_cast<uint32_t>(tag >> 3);
    wire_ = static_cast<Wire>(tag & 7);
    data_ = nullptr;
    size_ = 0;
    switch (wire_) {
      case Wire::kVarint: value_ = varint(); break;
      case Wire::kFixed64: skip(8); break;
      case Wire::kFixed32: skip(4); break;
      case Wire::kBytes: {
        const uint64_t size = varint();
        data_ = at_;
        size_ = static_cast<size_t>(size);
        skip(size);
        break;
      }
      default: ok_ = false;
    }
    return ok_;
  }

  bool ok() const { return ok_; }

  bool is(uint32_t field, Wire wire) const { return field_ == field && wire_ == wire; }

  uint64_t value() const { return value_; }

  const uint8_t* data() const { return data_; }

  size_t size() const { return size_; }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && at_ < end_; shift += 7) {
      const uint8_t byte = *at_++;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }

  void skip(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) {
      ok_ = false;
    } else {
      at_ += size;
    }
  }

  const uint8_t* at_;
  const uint8_t* end_;
  bool ok_ = true;
  uint32_t field_ = 0;
  Wire wire_ = Wire::kVarint;
  uint64_t value_ = 0;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace telemetryd::client
