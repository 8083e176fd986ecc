// admin/admin_server.h: HTTP/1.1 + JSON on admin.sock, by libmicrohttpd on its own thread.
//
// Handlers never wait: a request becomes a Call that is posted to the loop, the connection is
// suspended, and Reply resumes it. Peer credentials are read once per connection; a Call says who
// asks.
//
// Owns:    the listening socket and the HTTP library's thread "tlm-admin".
// Thread:  construction, destruction, accepting and handlers on the loop; Reply from any
//          thread.
// Limits:  64 connections, 16 of one uid, the last 16 for admins only; 10 s inactivity, bodies of
//          64 KiB with a Content-Length, headers within 32 KiB of memory, a stream's unsent bytes
//          of 1 MiB.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "loop/loop.h"

namespace telemetryd::admin {

struct Peer {
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
  bool admin = false;  // root, the daemon's own user, or a member of the admin group
};

struct Call {
  Peer peer;
  std::string method;
  std::string path;
  std::map<std::string, std::string> query;
  std::string body;
};

// Answers one Call, once. Copies share the answer; the last one destroyed without answering answers
// 500.
class Reply {
 public:
  struct State;
  explicit Reply(std::shared_ptr<State> state);
  void json(unsigned status, std::string body) const;
  void text(unsigned status, std::string content_type, std::string body) const;
  // {"error":{"code":...,"message":...}} with the HTTP status that fits the code.
  void error(const Error& error) const;
  // 503, for an answer that there was no memory for.
  void without_memory() const noexcept;
  // Begins a chunked NDJSON stream. push() returns false when the reader is gone or too slow; then
  // stop pushing.
  void begin_stream() const;
  bool push(std::string line) const;
  void end_stream() const;
  // Nobody reads the answer any more; the end of a quiet stream's reader is seen too.
  bool gone() const;

 private:
  std::shared_ptr<State> state_;
};

enum class Access { kEverybody, kAdmin };

struct Route {
  std::string method;
  std::string path;  // exact
  Access access;
  std::function<void(const Call&, Reply)> handle;  // loop thread
};

class AdminServer {
 public:
  // Fails when the library cannot start on the socket.
  [[nodiscard]] static Result<std::unique_ptr<AdminServer>> start(loop::Loop& loop,
                                                                  UniqueFd listening,
                                                                  std::string admin_group,
                                                                  std::vector<Route> routes);
  ~AdminServer();

 private:
  AdminServer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace telemetryd::admin
