// forward/batch_size.h: how much an upstream takes at once, as far as it has let us know.
//
// Starts at the format's own limits. What was refused for its size is halved until it passes, and
// the size that passed is kept. Many full requests later a little more is tried, so that a proxy
// that was mended or a burst of large events does not make uploads small for ever; each such try
// that fails doubles the patience.
//
// It can be written down and read again, so that an upstream's limit is met once and not after each
// start.
//
// Thread:  one; a value.
// Limits:  those of the format above, one event below; 256 bytes of text.
// Fails:   what cannot be read, or is out of these limits, is as if nothing were known.

#pragma once

#include <cstddef>
#include <string>

namespace telemetryd::forward {

class BatchSize {
 public:
  static constexpr std::size_t kPassesToGrow = 32;
  static constexpr std::size_t kPatienceMax = 4096;

  struct Limits {
    std::size_t events = 0;
    std::size_t bytes = 0;

    bool operator==(const Limits&) const = default;
  };

  explicit BatchSize(Limits format) : format_(format), known_(format) {}

  // What to send at most; an event that is larger alone goes alone.
  std::size_t events() const { return (trying_ ? trial_ : known_).events; }

  std::size_t bytes() const { return (trying_ ? trial_ : known_).bytes; }

  // A request of this size was not too large; `full` when more would have been sent if allowed.
  void passed(bool full);
  void too_large(std::size_t events, std::size_t bytes);

  // What was learned, as text; empty while that is nothing.
  std::string text() const;
  // Takes up what text() said.
  void read(const std::string& text);

 private:
  void grow();

  Limits format_;
  Limits known_;
  Limits trial_;
  bool trying_ = false;
  std::size_t passes_ = 0;
  std::size_t patience_ = kPassesToGrow;
};

}  // namespace telemetryd::forward
