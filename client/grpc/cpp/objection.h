// objection.h: whether the user of this process said no to telemetry.
//
// telemetryd sees neither the environment of a sender nor its files, so the sender asks: off wins,
// and whatever cannot be understood is off. The rules are those of libtelemetry, by its resolver.
//
// Thread:  one; reads the environment.
// Limits:  a consent or policy file above 4096 bytes cannot be understood.

#pragma once

#include <optional>
#include <string>

namespace example {

// Why `app` must not send over `socket`; nothing: then telemetryd decides by what it knows.
std::optional<std::string> objection(const std::string& app, const std::string& socket);

}  // namespace example
