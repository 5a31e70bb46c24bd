#include "sync/live_table.hpp"

#include <algorithm>
#include <atomic>

namespace tandem::sync {
namespace {

constexpr Millis quiet_return{10000}; // a look at capture takes a tenth of a second, on a busy server a few

Stage stage_of_running(const core::TableConfig &config) {
    if (config.state == "blocked")
        return Stage::blocked;
    if (config.state == "backfilling" || config.state == "syncing")
        return config.backfill_done && !config.resync.under_way() ? Stage::syncing : Stage::backfilling;
    // Registered, capturing, and paused before: capture is looked at, and made whole where it is not.
    return Stage::capturing;
}

Stage stage_of(const core::TableConfig &config) {
    if (!core::old_is_truth(config) && config.desired_state != "dropped")
        return Stage::idle;
    if (config.desired_state == "running")
        return stage_of_running(config);
    if (config.desired_state == "paused")
        return config.state == "blocked" ? Stage::blocked : Stage::paused;
    // Dropped, or its backfill was cancelled: what is on the old side goes, and PostgreSQL decides what becomes of the rest.
    if (config.desired_state == "dropped" || (config.desired_state == "registered" && config.state == "dropping"))
        return Stage::dropping;
    return Stage::idle;
}

bool cascades_between(const LiveTable &parent, const LiveTable &child) {
    return std::ranges::find(child.config.cascade_parents, parent.config.name) != child.config.cascade_parents.end();
}

std::uint64_t next_version() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

} // namespace

void touch(LiveTable &table) { table.version = next_version(); }

void begin_resync(LiveTable &table, std::int64_t loss, std::string reason) {
    table.loss = loss;
    table.needs_reset = table.resyncing = true;
    table.resync_reason = std::move(reason);
    table.sweeping = table.swept = false;
    table.settled_by = -1;
    table.last_chunk = 0; // the end of a copy that is still on its way ends nothing any more
    table.config.identity.clear();
    touch(table);
}

LiveTable make_live_table(core::TableConfig config) {
    LiveTable table;
    table.stage = stage_of(config);
    table.cursor = config.backfill_cursor;
    table.chunk_end_sent = table.backfill_done = config.backfill_done;
    table.direct = config.backfill_mode == "direct" && !config.backfill_done;
    const bool once_captured = config.backfill_done || table.direct || !config.backfill_cursor.empty();
    table.captured = config.state == "backfilling" || config.state == "syncing" || (once_captured && config.state != "registered");
    // Not yet proven again: the keeper looks first.
    if (table.stage == Stage::capturing)
        table.captured = false;
    table.reported_state = config.state;
    table.loss = config.resync.loss;
    table.resyncing = config.resync.under_way();
    table.resync_reason = table.resyncing ? config.resync.reason : "";
    table.needs_reset = config.resync.phase == "due";
    table.sweeping = config.resync.phase == "sweeping";
    table.begun = table.sweeping; // nothing is copied any more
    table.config = std::move(config);
    touch(table);
    return table;
}

void take_config(LiveTable &table, core::TableConfig config) {
    const bool asked_again = config.desired_state == "running" && (config.state == "registered" || config.state == "capturing");
    const bool was_paused = table.stage == Stage::paused || table.stage == Stage::idle;
    if (config.desired_state == "dropped") {
        table.stage = Stage::dropping;
    } else if (!core::old_is_truth(config)) {
        table.stage = Stage::idle;
    } else if (config.desired_state == "paused") {
        if (table.stage != Stage::blocked)
            table.stage = Stage::paused;
    } else if (config.desired_state == "running") {
        if (table.stage == Stage::idle && config.state == "syncing")
            table.quiet_until = Clock::now() + quiet_return;
        if (was_paused || (asked_again && table.stage != Stage::capturing)) {
            table.stage = config.state == "blocked" ? Stage::blocked : Stage::capturing;
            table.captured = table.captured && table.stage != Stage::capturing;
            table.unreadable = false;
            table.read_errors = 0;
        }
    } else {
        table.stage = stage_of(config);
    }
    // Somebody asked for it to be copied anew; a loss that this pump found itself is known already.
    const bool lost_again = config.resync.loss > table.loss && config.resync.phase == "due";
    if (table.reported_state != config.state)
        table.reported_reason.clear();
    table.reported_state = config.state;
    table.config = std::move(config);
    touch(table);
    if (lost_again)
        begin_resync(table, table.config.resync.loss, table.config.resync.reason);
}

std::vector<LiveTable *> descendants(const LiveTable &table, const std::vector<LiveTable *> &all) {
    std::vector<LiveTable *> found;
    std::vector<const LiveTable *> parents{&table};
    for (std::size_t i = 0; i < parents.size(); ++i)
        for (LiveTable *other : all)
            if (other != &table && cascades_between(*parents[i], *other) && std::ranges::find(found, other) == found.end()) {
                found.push_back(other);
                parents.push_back(other);
            }
    return found;
}

std::vector<const LiveTable *> relatives(const LiveTable &table, const std::vector<LiveTable *> &all) {
    std::vector<const LiveTable *> found{&table};
    for (std::size_t i = 0; i < found.size(); ++i)
        for (const LiveTable *other : all)
            if (other->config.desired_state == "running" && (cascades_between(*found[i], *other) || cascades_between(*other, *found[i])) &&
                std::ranges::find(found, other) == found.end())
                found.push_back(other);
    return found;
}

const char *name_of(Stage stage) {
    switch (stage) {
    case Stage::idle:
        return "registered";
    case Stage::capturing:
        return "capturing";
    case Stage::backfilling:
        return "backfilling";
    case Stage::syncing:
        return "syncing";
    case Stage::paused:
        return "paused";
    case Stage::blocked:
        return "blocked";
    case Stage::dropping:
        break;
    }
    return "dropping";
}

} // namespace tandem::sync
