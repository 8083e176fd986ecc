// app/queue_news.h: carries the store's queue changes to the loop, merged by app.
//
// Many commits while the loop is busy become one message per app, so the loop's queue of functions
// cannot fill up with them.
//
// Thread:  tell() on the store thread; `on_change` runs on the loop.
// Limits:  one waiting function; one entry per app.

#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/mutex.h"
#include "loop/loop.h"
#include "store/store.h"

namespace telemetryd::app {

class QueueNews {
 public:
  explicit QueueNews(loop::Loop& loop) : loop_(loop) {}

  // Before the first tell().
  void on_change(std::function<void(const store::QueueChange&)> hear) { hear_ = std::move(hear); }

  void tell(const store::QueueChange& change);

 private:
  void deliver();

  loop::Loop& loop_;
  std::function<void(const store::QueueChange&)> hear_;
  Mutex mutex_;
  std::map<std::string, store::QueueChange> waiting_ TELEMETRYD_GUARDED_BY(mutex_);
  bool posted_ TELEMETRYD_GUARDED_BY(mutex_) = false;
};

}  // namespace telemetryd::app
