// app/event_tail.h: streams events to readers as they are accepted.
//
// Reads new rows from the store after each commit, in store order, once for all readers, and only
// while somebody reads: then the store tells of every commit instead of every batch. A reader that
// is too slow loses its stream (admin/exchange.h has the bound); the store never waits for one.
//
// Owns:    the readers.
// Thread:  loop.
// Limits:  the admin server's connections; kPageEvents events of the store at a time.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "admin/admin_server.h"
#include "loop/loop.h"
#include "store/store_thread.h"

namespace telemetryd::app {

class EventTail {
 public:
  struct Filter {
    std::optional<std::uint32_t> uid;
    std::string app;  // "": all
  };

  struct Hooks {
    // Store thread: tell of every commit, or of batches again.
    std::function<void(store::Store&, bool every_commit)> watch;
    // Loop: an app's machine ID, "" when it is not known.
    std::function<std::string(const std::string& app)> machine_id;
  };

  EventTail(loop::Loop& loop, store::StoreThread& store, std::uint64_t epoch, Hooks hooks);

  void add(const admin::Reply& reply, Filter filter);
  // The store has committed something.
  void changed();
  void end();

 private:
  static constexpr std::uint32_t kPageEvents = 64;

  struct Reader {
    admin::Reply reply;
    Filter filter;
  };

  void drop_gone();
  void begin();
  void fetch();
  void deliver(const std::vector<store::ListedEvent>& events);

  loop::Loop& loop_;
  store::StoreThread& store_;
  const std::uint64_t epoch_;
  const Hooks hooks_;
  std::vector<Reader> readers_;
  bool watching_ = false;
  bool fetching_ = false;
  bool again_ = false;
  store::Seq after_seq_ = 0;
  std::uint32_t after_index_ = 0;
};

}  // namespace telemetryd::app
