// app/machine_ids.h: each app's machine ID, derived once and kept in the store.
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
#include <vector>

#include "loop/loop.h"
#include "store/store_thread.h"

namespace telemetryd::app {

class MachineIds {
 public:
  MachineIds(loop::Loop& loop, store::StoreThread& store, std::filesystem::path uid_file);

  // Calls `done` on the loop, now or later; with "" when the store cannot say, and then asks again
  // next time.
  void ask(const std::string& app, std::function<void(std::string)> done);

  // The ID of an app that was asked for already; "" otherwise.
  std::string known(const std::string& app) const;

 private:
  void answer(const std::string& app, const std::string& machine_id);

  loop::Loop& loop_;
  store::StoreThread& store_;
  const std::filesystem::path uid_file_;
  std::map<std::string, std::string> known_;
  std::map<std::string, std::vector<std::function<void(std::string)>>> waiting_;
};

}  // namespace telemetryd::app
