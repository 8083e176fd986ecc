#include "gateway/room.h"

namespace telemetryd::gateway {

Room::Held& Room::Held::operator=(Held&& other) noexcept {
  std::swap(room_, other.room_);
  std::swap(uid_, other.uid_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Room::Held::~Held() {
  if (room_) room_->give_back(uid_, bytes_);
}

std::optional<Room::Held> Room::take(std::uint32_t uid, std::size_t bytes) {
  const MutexLock lock(mutex_);
  const auto found = held_.find(uid);
  const std::size_t before = found == held_.end() ? 0 : found->second;
  if (before != 0 && before + bytes > kBytesPerUidMax) return std::nullopt;
  if (total_ != 0 && total_ + bytes > kBytesMax) return std::nullopt;
  held_[uid] = before + bytes;
  total_ += bytes;
  return Held(shared_from_this(), uid, bytes);
}

bool Room::wanted(std::uint32_t uid) const {
  return held(uid) < kReadBelow;
}

std::size_t Room::held(std::uint32_t uid) const {
  const MutexLock lock(mutex_);
  const auto found = held_.find(uid);
  return found == held_.end() ? 0 : found->second;
}

void Room::give_back(std::uint32_t uid, std::size_t bytes) {
  const MutexLock lock(mutex_);
  const auto found = held_.find(uid);
  found->second -= bytes;
  total_ -= bytes;
  if (found->second == 0) held_.erase(found);
}

}  // namespace telemetryd::gateway
