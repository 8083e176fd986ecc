// base/inherited.h: what a process got from whoever started it.
//
// Thread:  the only one, before there are others: the environment is read and changed.
// Fails:   kInvalidArgument for a LISTEN_FDS that is not what the program can use.

#pragma once

#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace telemetryd {

// Listening stream sockets from the service manager (LISTEN_PID, LISTEN_FDS), close-on-exec from
// here on; none when the variables are absent or meant for another process.
[[nodiscard]] Result<std::vector<UniqueFd>> inherited_listeners(unsigned count_max);

bool is_listening_stream(int fd);

// The process is killed when its parent ends. kCancelled: it ended meanwhile. One that ended before
// is not noticed: what came from it must tell.
[[nodiscard]] Result<void> die_with_parent();

}  // namespace telemetryd
