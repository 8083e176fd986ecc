#include "forward/world.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/log.h"

namespace telemetryd::forward {
namespace {

bool proxy_of_environment() {
  for (const char* name : {"https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return true;
  }
  return false;
}

void earlier(std::optional<BootMs>& at, std::optional<BootMs> candidate) {
  if (candidate) at = std::min(at.value_or(*candidate), *candidate);
}

bool same(const v1::Conditions& a, const v1::Conditions& b) {
  return a.network() == b.network() && a.power() == b.power() &&
         a.battery_percent() == b.battery_percent();
}

}  // namespace

World::World(const Clock& clock)
    : clock_(clock),
      first_by_(clock.boot_ms() + kFirstMax.count()),
      bus_(clock),
      proxy_(proxy_of_environment()) {
  auto routes = Routes::open();
  if (!routes) {
    log::debug("routes_unknown", {{"cause", routes.error().message()}});
    return;
  }
  routes_ = std::move(*routes);
  look_at_routes();
}

void World::by_proxy(bool any) {
  proxy_ = any || proxy_of_environment();
  if (routes_) look_at_routes();
}

void World::look_at_routes() {
  way_out_ = proxy_ ? std::nullopt : Routes::way_out();
}

std::vector<pollfd> World::descriptors() const {
  std::vector<pollfd> all;
  if (const auto bus = bus_.descriptor()) all.push_back(*bus);
  if (routes_ && !routes_again_) all.push_back({routes_->fd(), POLLIN, 0});
  return all;
}

std::optional<BootMs> World::deadline() const {
  std::optional<BootMs> first = bus_.deadline();
  earlier(first, routes_again_);
  if (!told_) earlier(first, first_by_);
  return first;
}

void World::serve() {
  bus_.serve();
  if (!routes_ || (routes_again_ && clock_.boot_ms() < *routes_again_)) return;
  routes_again_.reset();
  if (!routes_->take_changes()) return;
  routes_again_ = clock_.boot_ms() + kRoutesPause.count();
  routes_changed_ = true;
  look_at_routes();
}

std::optional<v1::Conditions> World::news() {
  if (!told_ && !bus_.settled() && clock_.boot_ms() < first_by_) return std::nullopt;
  Facts facts = bus_.facts();
  facts.way_out = way_out_;
  v1::Conditions now = conditions_of(facts);
  if (told_ && same(*told_, now)) return std::nullopt;
  told_ = now;
  return now;
}

bool World::routes_changed() {
  return std::exchange(routes_changed_, false);
}

}  // namespace telemetryd::forward
