#include "app/queue_news.h"

#include <utility>

namespace telemetryd::app {

void QueueNews::tell(const store::QueueChange& change) {
  const MutexLock lock(mutex_);
  auto [entry, added] = waiting_.try_emplace(change.app, change);
  if (!added) {
    const bool urgent = entry->second.urgent || change.urgent;
    entry->second = change;
    entry->second.urgent = urgent;
  }
  // When the loop takes nothing now, the next change tries again.
  if (!posted_) posted_ = loop_.post([this] { deliver(); }).has_value();
}

void QueueNews::deliver() {
  std::map<std::string, store::QueueChange> changes;
  {
    const MutexLock lock(mutex_);
    changes.swap(waiting_);
    posted_ = false;
  }
  for (const auto& [app, change] : changes) hear_(change);
}

}  // namespace telemetryd::app
