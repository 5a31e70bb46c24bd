// How busy the old side is, for those who must make room for the application.
#pragma once

#include "mysql/client.hpp"

#include <cstdint>
#include <string>

namespace tandem::mysql {

struct OldSideLoad {
    double threads_running = -1; // of others than our own account; -1: cannot be read
    std::int64_t history_list = -1;
    double replica_lag_s = -1; // not a replica: 0
    std::string unreadable;    // what could not be read, and why
};

class LoadReader {
  public:
    OldSideLoad read(Client &client);

  private:
    bool history_in_status_ = true; // else in information_schema, which needs PROCESS
};

} // namespace tandem::mysql
