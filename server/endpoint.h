// server/endpoint.h: the seam between HTTP and what the server does.
//
// One class per wire format; the front (http_server.h) knows none of them by name. An endpoint sees
// the headers before any of the body is kept, and may refuse then.
//
// Thread:  any, several at once; an Exchange is one thread's at a time.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "server/answer.h"

namespace telemetryd::server {

struct RequestHead {
  std::string_view method;
  std::string_view path;  // as sent, without the query
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  std::optional<std::uint64_t> content_length;
  Bytes16 network{};  // peer_network()
};

// The value of a header that stands there exactly once: of two, a proxy may have read the other.
std::optional<std::string_view> only_header(const RequestHead& head, std::string_view name);
bool has_header(const RequestHead& head, std::string_view name);
// Header names have no case.
bool same_header_name(std::string_view a, std::string_view b);

class Exchange {
 public:
  virtual ~Exchange() = default;

  // The whole body. An answer ends the exchange; nothing means that submit() follows.
  virtual std::optional<Answer> receive(std::string body) = 0;

  // Calls `reply` exactly once, on any thread, perhaps before it returns.
  virtual void submit(std::function<void(Answer)> reply) = 0;
};

using Admission = std::variant<Answer, std::unique_ptr<Exchange>>;

class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual bool owns(std::string_view path) const = 0;
  // As in the Allow header: "GET, HEAD".
  virtual std::string_view methods() const = 0;
  virtual Admission begin(const RequestHead& head) = 0;
};

}  // namespace telemetryd::server
