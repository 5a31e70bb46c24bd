// What a thread with sessions of its own does for as long as its lease is held: serves, and after an error begins anew with fresh sessions.
#pragma once

#include "sync/lease.hpp"
#include "sync/stop.hpp"

#include <functional>
#include <string>

namespace tandem::sync {

// `what` is in messages ("reverse sync"). `serve` returns when it is asked to stop; `reset` lets go of its sessions, after an error too.
void serve_while_leading(const std::string &what, const std::string &source, const Stop &stop, const Lease &lease,
                         const std::function<void()> &serve, const std::function<void()> &reset);

} // namespace tandem::sync
