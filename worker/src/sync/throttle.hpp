// How fast the copy of history may go (docs/settings.md, tandem.backfill_*): pure arithmetic over what was seen of the old side's load.
//
// Work of the application comes first: the share of time in which copiers work falls with every statement that the old server runs for
// others, down to a twentieth, so that a busy server does not stop the copy for ever. Each of the limits stops it between two chunks; a chunk
// that has begun goes on, as a snapshot that waits is itself a load.
#pragma once

#include "mysql/chunk_session.hpp"
#include "postgres/worker_api.hpp"

#include <algorithm>
#include <chrono>
#include <string>

namespace tandem::sync {

struct Pace {
    double share = 1;   // of the time of each copier
    bool waits = false; // no chunk is begun
    std::string reason; // of either; empty: full speed
};

constexpr double least_share = 0.05;

// `load` without our own statements.
inline Pace pace_of(const mysql::OldSideLoad &load, const postgres::Settings &settings) {
    Pace pace;
    const auto number = [](double value) { return std::to_string(static_cast<long long>(value)); };
    if (load.threads_running > 0) {
        pace.share = std::max(least_share, 1 / (1 + static_cast<double>(settings.backfill_yield) * load.threads_running));
        if (pace.share < 0.9)
            pace.reason = number(load.threads_running + 0.5) + " threads running";
        if (settings.backfill_max_threads_running > 0 &&
            load.threads_running >= static_cast<double>(settings.backfill_max_threads_running)) {
            pace.waits = true;
            pace.reason = number(load.threads_running + 0.5) + " threads running";
        }
    }
    if (load.history_list > settings.backfill_max_history_list && settings.backfill_max_history_list > 0) {
        pace.waits = true;
        pace.share = least_share;
        pace.reason = "history list length " + number(static_cast<double>(load.history_list));
    }
    const double most_lag = static_cast<double>(settings.backfill_max_replica_lag.count()) / 1000;
    if (most_lag > 0 && load.replica_lag_s > most_lag) {
        pace.waits = true;
        pace.share = least_share;
        pace.reason = "replica lag " + number(load.replica_lag_s) + " s";
    }
    return pace;
}

// Pause after `worked` so that no more than `share` of the time is work.
inline std::chrono::microseconds pause_after(std::chrono::microseconds worked, double share) {
    if (share >= 1)
        return std::chrono::microseconds(0);
    const double pause = static_cast<double>(worked.count()) * (1 / std::max(share, least_share) - 1);
    return std::chrono::microseconds(static_cast<std::int64_t>(std::min(pause, 2e6)));
}

} // namespace tandem::sync
