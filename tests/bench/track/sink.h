// A process that acknowledges everything at once and looks at nothing: the cheapest peer there is,
// so that the client is what is measured.

#pragma once

#include <string>
#include <sys/types.h>

namespace telemetryd::bench {

// Listens on `path` in a child process. The child ends with its parent.
pid_t start_sink(const std::string& path);
void stop_sink(pid_t pid);

}  // namespace telemetryd::bench
