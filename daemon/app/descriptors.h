// app/descriptors.h: how many descriptors the process has, and how many connections they carry.
//
// Whoever opens connections must never be able to use up the descriptors that the store, the
// forwarder and the admin socket need. So connections_max gives way to what is there.
//
// Thread:  main, before the loop runs.

#pragma once

#include <cstdint>

namespace telemetryd::app {

// Raises the soft limit, which is for programs that use select(), to the hard one. Returns what the
// process may open then.
std::uint64_t raise_descriptor_limit();

// Connections to ingest.sock, of two descriptors each, that fit beside everything else.
std::uint32_t connections_that_fit(std::uint64_t descriptors);

}  // namespace telemetryd::app
