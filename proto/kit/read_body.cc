#include "kit/read_body.h"

#include <cstddef>
#include <iterator>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

namespace telemetryd::kit {
namespace {

using nlohmann::json;

BodyFlaw malformed(std::string message) {
  return {.message = std::move(message)};
}

// Walks over the text and leaves word of how far it came: the parser tells of a bracket right
// after reading it, which makes the borders of events exact.
class Position {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Position() = default;

  Position(const char* at, const char** reached) : at_(at), reached_(reached) {}

  reference operator*() const { return *at_; }

  Position& operator++() {
    *reached_ = ++at_;
    return *this;
  }

  Position operator++(int) {
    Position before = *this;
    ++*this;
    return before;
  }

  bool operator==(const Position& other) const { return at_ == other.at_; }

 private:
  const char* at_ = nullptr;
  const char** reached_ = nullptr;
};

// What the parser calls; the names are the library's. False ends the parse, with `refused_` set.
class BodyReader {
 public:
  explicit BodyReader(BodyShape shape)
      : shape_(shape), list_depth_(shape == BodyShape::kArray ? 1 : 2) {}

  std::expected<Body, BodyFlaw> run(std::string_view body);

  bool null() { return scalar(); }

  bool boolean(bool) { return scalar(); }

  bool number_integer(json::number_integer_t) { return scalar(); }

  bool number_unsigned(json::number_unsigned_t) { return scalar(); }

  bool number_float(json::number_float_t, const json::string_t&) { return scalar(); }

  bool string(json::string_t& value);

  bool binary(json::binary_t&) { return scalar(); }

  bool start_object(std::size_t) { return open(true); }

  bool end_object() { return close(); }

  bool start_array(std::size_t) { return open(false); }

  bool end_array() { return close(); }

  bool key(json::string_t& name);
  bool parse_error(std::size_t position, const std::string& token, const json::exception& error);

 private:
  bool in_event() const { return in_list_ && depth_ > list_depth_; }

  bool scalar();
  bool open(bool object);
  bool close();
  // Before the outermost value, and before the value of "events".
  bool shape_fits(bool object, bool array);
  bool begin_element();
  void end_event();
  void reject(const Flaw& flaw);
  bool refuse(BodyFlaw flaw);

  const BodyShape shape_;
  const std::size_t list_depth_;
  std::size_t depth_ = 0;
  bool expect_list_ = false;  // the key "events" was read
  bool in_list_ = false;
  bool seen_list_ = false;
  const char* reached_ = nullptr;
  const char* event_start_ = nullptr;
  EventReader reader_;
  Body body_;
  std::optional<BodyFlaw> refused_;
};

std::expected<Body, BodyFlaw> BodyReader::run(std::string_view body) {
  // The parser would pass over a byte order mark, and take a zero byte for the end.
  if (body.starts_with("\xef\xbb\xbf")) {
    return std::unexpected(malformed("the body begins with a byte order mark"));
  }
  if (body.contains('\0')) {
    return std::unexpected(malformed("the body holds a zero byte, which JSON has none of"));
  }
  reached_ = body.data();
  const Position first(body.data(), &reached_);
  const Position last(body.data() + body.size(), &reached_);
  if (!json::sax_parse(first, last, this)) return std::unexpected(std::move(*refused_));
  if (!seen_list_) return std::unexpected(malformed("the member events is missing"));
  return std::move(body_);
}

bool BodyReader::string(json::string_t& value) {
  if (!in_event()) return scalar();
  reader_.text(value);
  return true;
}

bool BodyReader::key(json::string_t& name) {
  if (in_event()) {
    reader_.key(name);
  } else if (depth_ == 1) {
    expect_list_ = name == "events";
    if (expect_list_ && seen_list_) {
      return refuse(malformed("the member events is there twice"));
    }
  }
  return true;
}

bool BodyReader::parse_error(std::size_t position, const std::string&, const json::exception&) {
  return refuse(malformed("the body is not JSON in UTF-8; see byte " + std::to_string(position)));
}

bool BodyReader::scalar() {
  if (in_event()) {
    reader_.other();
    return true;
  }
  if (!shape_fits(false, false)) return false;
  if (!in_list_) return true;
  if (!begin_element()) return false;
  reject({.code = kInvalidSchema, .message = "an event must be an object"});
  return true;
}

bool BodyReader::open(bool object) {
  if (depth_ == kDepthMax) return refuse(malformed("the body is nested deeper than 32"));
  if (!in_event()) {
    if (!shape_fits(object, !object)) return false;
    if (in_list_) {
      if (!begin_element()) return false;
      event_start_ = reached_ - 1;
    } else if (!object && depth_ + 1 == list_depth_) {
      in_list_ = expect_list_ || shape_ == BodyShape::kArray;
      seen_list_ |= in_list_;
    }
    expect_list_ = false;
  }
  ++depth_;
  if (in_event()) reader_.open(object);
  return true;
}

bool BodyReader::close() {
  if (in_event()) reader_.close();
  --depth_;
  if (!in_list_) return true;
  if (depth_ == list_depth_) end_event();
  if (depth_ < list_depth_) in_list_ = false;
  return true;
}

bool BodyReader::shape_fits(bool object, bool array) {
  if (depth_ == 0 && shape_ == BodyShape::kObject && !object) {
    return refuse(malformed("the body must be an object with the member events"));
  }
  if (depth_ == 0 && shape_ == BodyShape::kArray && !array) {
    return refuse(malformed("the body must be an array of events"));
  }
  if (expect_list_ && !array) return refuse(malformed("the member events must be an array"));
  return true;
}

bool BodyReader::begin_element() {
  if (body_.total == kEventsMax) {
    return refuse({.too_many = true, .message = "more than 1000 events in one request"});
  }
  ++body_.total;
  return true;
}

void BodyReader::end_event() {
  const std::string_view payload(event_start_, static_cast<std::size_t>(reached_ - event_start_));
  auto event = reader_.finish();
  if (!event) return reject(event.error());
  if (payload.size() > kEventBytesMax) {
    return reject(
        {.code = kInvalidSchema, .message = "the event is larger than 64 KiB", .id = event->id});
  }
  body_.events.push_back(std::move(*event));
  body_.payloads.push_back(payload);
}

void BodyReader::reject(const Flaw& flaw) {
  body_.rejected.push_back({.index = body_.total - 1,
                            .id = flaw.id.value_or(Bytes16{}),
                            .code = flaw.code,
                            .message = flaw.message});
}

bool BodyReader::refuse(BodyFlaw flaw) {
  refused_ = std::move(flaw);
  return false;
}

}  // namespace

std::expected<Body, BodyFlaw> read_body(std::string_view body,
                                        BodyShape shape,
                                        std::optional<std::uint64_t> announced) {
  auto read = BodyReader(shape).run(body);
  if (!read) return read;
  if (read->total == 0) return std::unexpected(malformed("the batch has no events"));
  if (announced && *announced != read->total) {
    return std::unexpected(malformed("X-Batch-Size is not the number of events"));
  }
  return read;
}

}  // namespace telemetryd::kit
