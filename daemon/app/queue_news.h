// app/queue_news.h: carries the store's queue changes to the loop, merged by app.
//
// Many commits while the loop is busy become one message per app, so the loop's queue of functions
// cannot fill up with them.
//
// Thread:  tell() on the store thread; `on_change` runs on the loop.
// Limits:  one waiting function; one entry per app.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "base/mutex.h"
#include "loop/loop.h"
#include "store/store.h"

namespace telemetryd::app {

class QueueNews {
 public:
  // With the number that the latest change had when it was told (schedule/queue_number.h).
  using Hear = std::function<void(const store::QueueChange&, std::uint64_t number)>;

  explicit QueueNews(loop::Loop& loop) : loop_(loop) {}

  // Before the first tell().
  void on_change(Hear hear) { hear_ = std::move(hear); }

  void tell(const store::QueueChange& change);

 private:
  struct Numbered {
    store::QueueChange change;
    std::uint64_t number = 0;
  };

  void deliver();

  loop::Loop& loop_;
  Hear hear_;
  Mutex mutex_;
  std::map<std::string, Numbered> waiting_ TELEMETRYD_GUARDED_BY(mutex_);
  bool posted_ TELEMETRYD_GUARDED_BY(mutex_) = false;
};

}  // namespace telemetryd::app
