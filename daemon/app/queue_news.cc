#include "app/queue_news.h"

#include <utility>

#include "schedule/queue_number.h"

namespace telemetryd::app {

void QueueNews::tell(const store::QueueChange& change) {
  {
    const MutexLock lock(mutex_);
    Numbered& waiting = waiting_[change.app];
    const bool urgent = waiting.change.urgent || change.urgent;
    waiting = {change, schedule::next_queue_number()};
    waiting.change.urgent = urgent;
    if (std::exchange(posted_, true)) return;
  }
  // There may be no next change to try again with.
  loop_.post_when_room([this] { deliver(); });
}

void QueueNews::deliver() {
  std::map<std::string, Numbered> changes;
  {
    const MutexLock lock(mutex_);
    changes.swap(waiting_);
    posted_ = false;
  }
  for (const auto& [app, news] : changes) hear_(news.change, news.number);
}

}  // namespace telemetryd::app
