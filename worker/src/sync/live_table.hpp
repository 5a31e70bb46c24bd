// What a pump knows of one table while it runs, and the pure rules of its life (docs/protocol.md section 4):
//
//   capturing → backfilling → syncing            paused, blocked, dropping from anywhere
//
// `desired_state` and `state` come from the catalog; Stage is what this pump does. A table leaves `blocked` only when somebody asks for it
// (tandem.resume sets its state to capturing).
#pragma once

#include "core/types.hpp"
#include "sync/pacing.hpp"
#include "sync/stop.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tandem::sync {

enum class Stage { idle, capturing, backfilling, syncing, paused, blocked, dropping };

struct LiveTable {
    core::TableConfig config;
    Stage stage = Stage::idle;
    bool captured = false;     // outbox and triggers are there, as far as is known
    bool unreadable = false;   // reading failed for good: left alone until it is resumed
    std::string read_error;    // why it is unreadable, while the guard looks whether it was altered
    int read_errors = 0;       // in a row
    std::uint64_t version = 0; // of config: grows with every change

    // Copied anew (docs/protocol.md section 17): reset, chunks, sweep.
    std::int64_t loss = 0;           // number of the last loss
    bool needs_reset = false;        // it is written down, and the batch that sets the backfill back is still to be sent
    bool resyncing = false;          // in sync only after a sweep
    std::string resync_reason;       // shown until then
    Clock::time_point mend_at{};     // not before: trouble often comes in series
    Clock::time_point quiet_until{}; // back from the new side with whole capture: until then it is not said that this is looked at again
    bool sweeping = false;           // all chunks are applied
    bool swept = false;              // all keys of the target are looked up
    std::int64_t settled_by = -1;    // batch after which no event of the sweep is left, once that is known; 0: there is none

    // Backfill. The cursor runs ahead of the catalog's by the chunks in flight; both are dropped together when the pump starts again.
    // In direct mode copiers do it, see backfill.hpp.
    bool begun = false;  // the mode is known
    bool direct = false; // by copiers, until it is done or set back
    std::vector<std::string> cursor;
    bool chunk_end_sent = false;
    bool backfill_done = false;  // acknowledged; the catalog's value at the start, ours from then on
    std::int64_t last_chunk = 0; // batch of the chunk that ended the table

    struct Wish {
        Stage stage;
        std::uint64_t version;
        bool captured, may_install;
        bool operator==(const Wish &) const = default;
    };
    std::optional<Wish> wish; // last told to those who install and watch capture

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
    // Nothing of it is copied, or what is will be copied anew.
    bool may_install() const { return needs_reset || !has_progress(); }
};

LiveTable make_live_table(core::TableConfig config);

// Capture was lost, and that is written down under this number: all of the backfill begins again.
void begin_resync(LiveTable &table, std::int64_t loss, std::string reason);

// Somebody gave the table a new configuration or identity.
void touch(LiveTable &table);

// A newer configuration of the same table.
void take_config(LiveTable &table, core::TableConfig config);

// Tables whose rows change by cascades from `table`, over any number of steps, without itself.
std::vector<LiveTable *> descendants(const LiveTable &table, const std::vector<LiveTable *> &all);

// Tables tied to `table` by cascades, in both directions and over any number of steps, itself included; only those that are to run.
std::vector<const LiveTable *> relatives(const LiveTable &table, const std::vector<LiveTable *> &all);

const char *name_of(Stage stage); // as in tandem.table_state

} // namespace tandem::sync
