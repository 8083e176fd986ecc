#include "forward/refusal.h"

namespace telemetryd::forward {

std::optional<Refusal> refusal_of(const HttpResponse& response) {
  if (response.kind != HttpResponse::Kind::kAnswer) return std::nullopt;
  switch (response.status) {
    case 400:
    case 422: return Refusal::kContent;
    case 413: return Refusal::kSize;
    case 500: return Refusal::kServer;
    default: return std::nullopt;
  }
}

}  // namespace telemetryd::forward
