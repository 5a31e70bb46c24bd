// The one error type of the worker: what happened, where, whether trying again can help, and what the DBA can do.
#pragma once

#include <stdexcept>
#include <string>

namespace tandem::core {

enum class Side { worker, old_side, new_side };

class Error : public std::runtime_error {
  public:
    Error(Side side, std::string sqlstate, const std::string &message, bool retryable, std::string hint = {})
        : std::runtime_error(message), side_(side), sqlstate_(std::move(sqlstate)), retryable_(retryable), hint_(std::move(hint)) {}

    Side side() const noexcept { return side_; }
    const std::string &sqlstate() const noexcept { return sqlstate_; }
    // True when the same call may succeed later without anybody changing anything: lost connection, deadlock, timeout.
    bool retryable() const noexcept { return retryable_; }
    const std::string &hint() const noexcept { return hint_; }
    int native_code = 0; // errno of the MySQL protocol, 0 if none

  private:
    Side side_;
    std::string sqlstate_;
    bool retryable_;
    std::string hint_;
};

// The session is gone: everything read in it must be forgotten (model A: forget).
class SessionLost : public Error {
  public:
    SessionLost(Side side, const std::string &message) : Error(side, "08006", message, true) {}
};

} // namespace tandem::core
