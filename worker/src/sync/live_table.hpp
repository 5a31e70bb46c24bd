// What a pump knows of one table while it runs, and the pure rules of its life (docs/protocol.md section 4):
//
//   capturing → backfilling → syncing            paused, blocked, dropping from anywhere
//
// `desired_state` and `state` come from the catalog; Stage is what this pump does. A table leaves `blocked` only when somebody asks for it
// (tandem.resume sets its state to capturing).
#pragma once

#include "core/types.hpp"
#include "sync/pacing.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace tandem::sync {

enum class Stage { idle, capturing, backfilling, syncing, paused, blocked, dropping };

struct LiveTable {
    core::TableConfig config;
    Stage stage = Stage::idle;
    bool captured = false;       // outbox and triggers are there, as far as is known
    bool unreadable = false;     // reading failed for good: left alone until it is resumed
    bool needs_reset = false;    // capture had been lost: its backfill begins again
    std::string blocking_reason; // not empty: becomes blocked when the reset of its backfill is acknowledged

    // Backfill. The cursor runs ahead of the catalog's by the chunks in flight; both are dropped together when the pump starts again.
    // In direct mode copiers do it, see backfill.hpp.
    bool begun = false;  // the mode is known
    bool direct = false; // by copiers, until it is done or set back
    std::vector<std::string> cursor;
    bool chunk_end_sent = false;
    bool backfill_done = false;  // acknowledged; the catalog's value at the start, ours from then on
    std::int64_t last_chunk = 0; // batch of the chunk that ended the table

    RowSize size;
    ChunkSize chunk;
    std::string reported_state, reported_reason; // last report of ours, so that nothing is reported twice

    // Since the last report of statistics.
    std::int64_t captured_events = 0;
    std::int64_t oldest_us = 0;
    std::int64_t outbox_rows = -1; // -1: not known
    double capture_cost_us = -1;

    bool reads_outbox() const {
        if (unreadable || !captured || (stage == Stage::backfilling && !begun))
            return false;
        return stage == Stage::capturing || stage == Stage::backfilling || stage == Stage::syncing || stage == Stage::blocked;
    }
    bool has_progress() const { return backfill_done || direct || !cursor.empty() || chunk_end_sent; }
};

LiveTable make_live_table(core::TableConfig config);

// A newer configuration of the same table.
void take_config(LiveTable &table, core::TableConfig config);

// Tables tied to `table` by cascades, in both directions and over any number of steps, itself included; only those that are to run.
std::vector<const LiveTable *> relatives(const LiveTable &table, const std::vector<LiveTable *> &all);

const char *name_of(Stage stage); // as in tandem.table_state

} // namespace tandem::sync
