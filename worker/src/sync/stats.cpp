#include "sync/stats.hpp"

#include <fstream>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace tandem::sync {

using nlohmann::json;

std::int64_t resident_kb() {
    std::ifstream statm("/proc/self/statm");
    std::int64_t total = 0, resident = 0;
    statm >> total >> resident;
    return resident * (::sysconf(_SC_PAGESIZE) / 1024);
}

json PumpStats::take(const std::vector<LiveTable *> &tables, Clock::time_point now) {
    json entries = json::array();
    for (LiveTable *table : tables) {
        json entry = {{"table_id", table->config.table_id}, {"captured", table->captured_events}, {"oldest_us", table->oldest_us}};
        entry["outbox_rows"] = table->outbox_rows < 0 ? json(nullptr) : json(table->outbox_rows);
        if (table->capture_cost_us >= 0)
            entry["capture_cost_us"] = table->capture_cost_us;
        table->captured_events = 0;
        entries.push_back(std::move(entry));
    }
    json report = {{"tables", std::move(entries)}, {"fetch_us", fetch_us},     {"copy_us", copy_us},
                   {"delete_us", delete_us},       {"polls", polls},           {"reconnects", reconnects},
                   {"rss_kb", resident_kb()},      {"version", TANDEM_VERSION}};
    *this = PumpStats{};
    reported = now;
    return report;
}

} // namespace tandem::sync
