// app/machine_ids.h: each app's machine ID, derived once and kept in the store.
//
// Once per scheme: an app routed to a destination of `machine_id_scheme = "telemetry-kit"` has that
// ID beside its salted one, and gets the old one back when it is routed back.
//
// The stored ID wins over what the machine would give now: it stays when the machine's uid changes.
// A stored random one stands in where the machine has no usable uid.
//
// Owns:    the IDs asked for so far, in memory.
// Thread:  loop.

#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "identity/identity.h"
#include "loop/loop.h"
#include "store/store_thread.h"

namespace telemetryd::app {

// Of the destination that the app is routed to; the salted one without any.
identity::Scheme machine_id_scheme(const config::Config& config, const std::string& app);

class MachineIds {
 public:
  using Key = std::pair<std::string, identity::Scheme>;  // app and scheme

  MachineIds(loop::Loop& loop, store::StoreThread& store, std::filesystem::path uid_file);

  // Calls `done` on the loop, now or later; with "" when the store cannot say, and then asks again
  // next time.
  void ask(const Key& key, std::function<void(std::string)> done);

  // The ID that was asked for already; "" otherwise.
  std::string known(const Key& key) const;

 private:
  void answer(const Key& key, const std::string& machine_id);

  loop::Loop& loop_;
  store::StoreThread& store_;
  const std::filesystem::path uid_file_;
  std::map<Key, std::string> known_;
  std::map<Key, std::vector<std::function<void(std::string)>>> waiting_;
};

}  // namespace telemetryd::app
