// Capture that was lost, and the way back: the backfill is set back, the rows are copied anew, and rows that the old side does not have any
// more are found by a sweep (docs/protocol.md section 17; model F). See pump.hpp.
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "sync/failpoint.hpp"

#include <algorithm>

namespace tandem::sync {

using core::Error;

namespace {

constexpr int keys_in_sweep = 2000;
constexpr Millis mend_after{1000};
constexpr int read_errors_allowed = 3; // while a table is being altered

bool for_good(const Error &error) { return error.side() == core::Side::old_side && !error.retryable(); }

} // namespace

void Pump::take_guard_news() {
    bool reload = false;
    for (const GuardNews &news : guard_->take_news()) {
        LiveTable *table = find(news.table_id);
        if (table == nullptr)
            continue;
        switch (news.kind) {
        case GuardNews::Kind::broken:
            lose_capture(*table, news.fault);
            break;
        case GuardNews::Kind::identity:
            if (table->captured && table->stage != Stage::capturing) {
                api_->note_identity(news.table_id, epoch_, news.text);
                table->config.identity = news.text;
                touch(*table);
            }
            break;
        case GuardNews::Kind::columns:
            // It may leave columns out from now on; a table that could not be read because of them can be read then.
            api_->report_columns(news.table_id, epoch_, news.text);
            reload = reload || table->unreadable;
            break;
        case GuardNews::Kind::fine:
            if (table->read_error.empty())
                break;
            if (table->read_errors < read_errors_allowed) {
                table->unreadable = false;
                schedule_.worked();
            } else {
                block(*table, table->read_error);
            }
            table->read_error.clear();
            break;
        }
    }
    if (reload)
        load_tables();
}

// A look every two seconds is not worth a transaction each; trouble and its end are.
void Pump::report_guard() {
    const auto report = guard_->take_report();
    const Clock::time_point now = Clock::now();
    if (!report || (report->error == guard_error_ && now - guard_told_ < Millis(5000)))
        return;
    api_->report_guard(row_.connection.source_id, epoch_, report->tables, report->look_ms, report->by_number, report->error);
    guard_error_ = report->error;
    guard_told_ = now;
}

// Events were lost, or may have been. That is written down first: whatever ends after it, the table cannot go on as if nothing had
// happened. Rows that cascades from this table change are as unknown as its own.
void Pump::lose_capture(LiveTable &table, const core::CaptureFault &fault) {
    if (table.stage == Stage::dropping || table.stage == Stage::idle)
        return;
    log::error("capture lost",
               {{"source", row_.connection.name}, {"table", table.config.name}, {"cause", fault.cause}, {"reason", fault.reason}});
    barrier_.disturb();
    table.captured = false;
    table.read_error.clear();
    if (!table.has_progress() && !table.resyncing) {
        // Nothing was copied yet, so nothing is lost.
        table.config.identity.clear();
        touch(table);
        table.stage = fault.automatic ? Stage::capturing : Stage::blocked;
        report(table, table.stage, fault.reason);
        return;
    }
    failpoint("guard:before_lost");
    const auto lost = api_->capture_lost(table.config.table_id, epoch_, fault.cause, fault.reason, fault.automatic);
    failpoint("guard:after_lost");
    if (lost.state.empty())
        return; // dropped meanwhile
    begin_resync(table, lost.loss, fault.reason);
    table.mend_at = Clock::now() + mend_after;
    guard_->ignore(table.config.table_id);
    capture_->ignore(table.config.table_id);
    table.stage = lost.state == "blocked" ? Stage::blocked : lost.state == "paused" ? Stage::paused : Stage::capturing;
    table.reported_state = lost.state;
    table.reported_reason = fault.reason;
    schedule_.worked();
    for (LiveTable *child : descendants(table, all_tables()))
        if (!child->needs_reset && child->stage != Stage::blocked)
            lose_capture(*child,
                         {"cascade", "capture of table \"" + table.config.name + "\", whose cascades change this one, was lost", true});
}

// Reading failed for good, as far as the error tells. Often somebody has altered the table, and the guard knows better what that means.
void Pump::suspect(LiveTable &table, const std::string &reason) {
    ++table.read_errors;
    if (!guard_->examine(table.config.table_id)) {
        block(table, reason);
        return;
    }
    log::warning("table cannot be read, the guard looks why",
                 {{"source", row_.connection.name}, {"table", table.config.name}, {"reason", reason}});
    table.unreadable = true;
    table.read_error = reason;
    barrier_.disturb();
}

void Pump::could_read(LiveTable &table) { table.read_errors = 0; }

// Sets the backfill back to its beginning, in order with everything else: a batch without rows.
bool Pump::copy_reset_batch() {
    for (LiveTable *table : all_tables()) {
        if (!table->needs_reset)
            continue;
        Batch batch;
        batch.batch_id = next_batch_id();
        batch.chunk_table = table->config.table_id;
        batch.resets_backfill = true;
        postgres::CopyWriter writer(api_->session(), batch.batch_id);
        submit(writer, std::move(batch), Clock::now(), reset_json(table->config.table_id, table->loss));
        table->needs_reset = false;
        table->cursor.clear();
        table->chunk_end_sent = false;
        table->backfill_done = false;
        table->begun = table->direct = false; // the copiers' chunks go with the apply of this batch; from then on, in order
        failpoint("resync:after_reset");
        return true;
    }
    return false;
}

// One step of a sweep: keys of the target, in the order of its index, are looked up on the old side; those that are not there, byte for
// byte, go into the outbox. The fetch that follows decides in order with everything else, so a wrong suspicion does no harm. A key that is
// there now can only go with an event, since capture was made whole before the sweep.
bool Pump::sweep() {
    std::vector<LiveTable *> candidates;
    for (LiveTable *table : all_tables())
        if (table->sweeping && !table->swept && table->stage == Stage::backfilling && !table->unreadable && !table->needs_reset)
            candidates.push_back(table);
    if (candidates.empty())
        return false;
    LiveTable &table = *candidates[turn_ % candidates.size()];
    const int table_id = table.config.table_id;
    const auto keys = api_->sweep_keys(table_id, epoch_, table.loss, keys_in_sweep);
    if (keys.empty()) {
        table.swept = true;
        return true;
    }
    try {
        const auto missing = source_->missing_keys(table.config, keys);
        if (!missing.empty())
            for (const auto &[position, problem] : source_->insert_keys(table.config, missing, 0))
                log::warning("row of the target cannot be one of the old table and stays",
                             {{"table", table.config.name}, {"key", missing.at(position).front()}, {"error", problem}});
        failpoint("sweep:after_insert");
        api_->report_sweep(table_id, epoch_, table.loss, keys.back(), keys.size(), missing.size(), false);
        failpoint("sweep:after_report");
        stats_.worked = true;
    } catch (const Error &error) {
        if (!for_good(error))
            throw;
        suspect(table, std::string("it cannot be read on the old side: ") + error.what());
    }
    return true;
}

// Everything that is in the outbox of a table, in a snapshot of now, is in this batch or before it.
void Pump::nothing_waits(LiveTable &table, std::int64_t last_batch) {
    if (table.sweeping && table.swept && table.settled_by < 0)
        table.settled_by = last_batch;
}

// In sync when the events of the sweep are applied, too.
void Pump::end_sweep(LiveTable &table) {
    if (table.settled_by < 0 || table.needs_reset || in_flight_up_to(table.settled_by))
        return;
    failpoint("sweep:before_end");
    api_->report_sweep(table.config.table_id, epoch_, table.loss, {}, 0, 0, true);
    log::info("table is in sync again", {{"source", row_.connection.name}, {"table", table.config.name}});
    table.resyncing = table.sweeping = table.swept = false;
    table.settled_by = -1;
    table.resync_reason.clear();
    table.stage = Stage::syncing;
    table.reported_state = name_of(Stage::syncing);
    table.reported_reason.clear();
    barrier_.disturb();
}

} // namespace tandem::sync
