// Counters of a pump between two reports to tandem.report_stats (docs/protocol.md section 5).
#pragma once

#include "sync/live_table.hpp"
#include "sync/stop.hpp"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace tandem::sync {

struct PumpStats {
    std::int64_t fetch_us = 0;
    std::int64_t copy_us = 0;
    std::int64_t delete_us = 0;
    std::int64_t polls = 0;
    std::int64_t reconnects = 0;
    bool worked = false; // something moved since the last report
    Clock::time_point reported{};

    bool due(Clock::time_point now) const { return now - reported >= (worked ? Millis(1000) : Millis(5000)); }
    // The report; counters start again from zero.
    nlohmann::json take(const std::vector<LiveTable *> &tables, Clock::time_point now);
};

std::int64_t resident_kb(); // of this process

} // namespace tandem::sync
