// admin/exchange.h: one request and its answer, between the HTTP thread and everybody else.
//
// The HTTP library forbids stopping while a connection is suspended. So one mutex per server
// guards every suspension and resumption, and after `stopping` nothing suspends any more.
//
// Thread:  any; everything is guarded by Shared::mutex. The library calls nothing of ours while
//          it holds a lock that resuming takes.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <sys/types.h>

#include "admin/admin_server.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

struct MHD_Connection;
struct MHD_Response;

namespace telemetryd::admin {

inline constexpr std::size_t kStreamBytesMax = 1u << 20;

class Exchange;

// What all exchanges of one server have in common. Outlives the server by late Replies.
struct Shared {
  Mutex mutex;
  bool stopping TELEMETRYD_GUARDED_BY(mutex) = false;
  std::set<Exchange*> open TELEMETRYD_GUARDED_BY(mutex);
  std::uint64_t last_id TELEMETRYD_GUARDED_BY(mutex) = 0;
  // Begins to watch a stream's connection for its reader's end; any thread, may be called with
  // the mutex held. Set before the first exchange.
  std::function<void(std::shared_ptr<Exchange>)> on_stream;
};

struct Answer {
  unsigned status = 0;       // 0: none yet
  std::string content_type;  // empty: there was no memory for an answer
  std::string body;
};

class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(std::shared_ptr<Shared> shared, MHD_Connection* connection, int fd);
  ~Exchange();

  // Any thread.
  std::uint64_t id() const { return id_; }

  bool answered();
  bool streaming();
  void answer(Answer answer);
  // 503; takes no memory.
  void answer_without_memory() noexcept;
  void begin_stream();
  bool push(std::string line);
  void end_stream();
  bool gone();
  // The reader is gone or the stream is given up.
  void hang_up();
  // A descriptor of its own for the connection; none when it is gone.
  UniqueFd duplicate();

  // HTTP thread.
  // Suspends the connection until there is an answer; false when one is there, or we are stopping.
  bool wait();
  // Takes the answer; status 0 means a stream.
  Answer take();
  ssize_t read(char* out, std::size_t size);
  // The library forgets the connection now.
  void completed();

  // Loop thread, from ~AdminServer: sets `stopping` and lets every connection go.
  static void stop_all(Shared& shared);

 private:
  void resume() TELEMETRYD_REQUIRES(shared_->mutex);

  const std::shared_ptr<Shared> shared_;
  MHD_Connection* connection_;  // null when completed
  const int fd_;
  std::uint64_t id_ = 0;
  bool suspended_ = false;
  bool answered_ = false;
  Answer answer_;
  bool streaming_ = false;
  bool ended_ = false;
  bool gone_ = false;
  std::string unsent_;
  std::size_t unsent_from_ = 0;
};

// The Reply whose last copy answers 500 when nothing else did.
Reply make_reply(std::shared_ptr<Exchange> exchange);

// {"error":{"code":...,"message":...}}.
std::string error_body(std::string_view code, std::string_view message);

}  // namespace telemetryd::admin
