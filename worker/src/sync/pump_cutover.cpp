// Runs that were asked for; cut-over and rehearsal (docs/model/d_cutover.pml; docs/protocol.md section 18). The other runs: pump_rollback.cpp.
// The pump itself does it, on its own session: the connection that reads and deletes events is the one that holds the lock and makes the
// fence, so no second reader can bring an older row after a newer one, and nothing outlives the connection but the fence.
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "mysql/control_session.hpp"
#include "mysql/blockers.hpp"
#include "mysql/old_fence.hpp"
#include "sync/changed_rows.hpp"
#include "sync/failpoint.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tandem::sync {

using core::Error;
using core::SessionLost;
using nlohmann::json;

namespace {

constexpr Millis between_locks{300};    // the pump goes on meanwhile, so that little is left when the lock is got
constexpr int attempts_before_idle = 3; // for the lock, before idle sessions of those named are ended as well
constexpr Millis begin_timeout{1000};
constexpr Millis guard_patience{10000};
constexpr Millis settle_patience{20000}; // no client waits meanwhile
constexpr double share_for_drain = 0.7;  // of the pause; the rest is for the fence and the commit

json error_json(const Error &error) {
    json object = {{"sqlstate", error.sqlstate()}, {"message", error.what()}};
    if (!error.hint().empty())
        object["hint"] = error.hint();
    return object;
}

} // namespace

std::vector<const core::TableConfig *> Pump::configs_of(const std::vector<int> &table_ids) {
    std::vector<const core::TableConfig *> configs;
    for (const int table_id : table_ids) {
        const LiveTable *table = find(table_id);
        if (table == nullptr)
            CutoverRun::refuse("42704", "table " + std::to_string(table_id) + " is not known to the worker");
        configs.push_back(&table->config);
    }
    return configs;
}

// One run that was asked for. Whatever fails in it, the pump goes on; a lost session ends the pump, and the next one puts back what is left.
void Pump::take_cutover() {
    std::optional<CutoverRun> next = CutoverRun::next(*api_, row_.connection.source_id, epoch_);
    if (!next)
        return;
    CutoverRun &run = *next;
    log::info("run", {{"source", row_.connection.name}, {"run_id", run.id}, {"kind", run.kind}});
    load_tables();
    json error = nullptr;
    try {
        if (run.kind == "rollback")
            roll_back(run);
        else if (run.kind == "contract")
            contract(run);
        else if (run.kind == "mend")
            put_back_remains();
        else
            cut_over(run);
    } catch (const SessionLost &lost) {
        held_.clear();
        try {
            run.end(*api_, error_json(lost));
        } catch (const Error &) {
            // The next worker ends it.
        }
        throw;
    } catch (const Error &failed) {
        log::warning("run failed", {{"source", row_.connection.name}, {"run_id", run.id}, {"kind", run.kind}, {"error", failed.what()}});
        error = error_json(failed);
    }
    held_.clear();
    run.end(*api_, error);
    if (error.is_null())
        log::info("run done", {{"source", row_.connection.name}, {"run_id", run.id}, {"kind", run.kind}});
    load_tables();
    schedule_.worked();
}

// Everything that is in flight is applied and deleted; nothing new is read.
void Pump::settle_in_flight(Clock::time_point deadline) {
    while (!in_flight_.empty()) {
        if (Clock::now() > deadline)
            CutoverRun::refuse("55P03", "batches in flight were not applied in time",
                               "SELECT * FROM tandem.pg_stat_tandem_apply; tells how apply is doing.");
        if (!await_journal(Millis(20)))
            throw SessionLost(core::Side::new_side, "the lease was lost during the run");
    }
}

// Reads and applies until nothing is left. Empty: done; else what was left at the deadline.
std::string Pump::drain_held(const CutoverRun &run, Clock::time_point deadline) {
    for (;;) {
        const std::size_t depth = static_cast<std::size_t>(settings_.pipeline_depth);
        const bool worked = in_flight_.size() < depth && copy_live_batch();
        std::string left = "changes are still in the outbox";
        if (!worked && in_flight_.empty()) {
            left = run.obstacle(*api_);
            if (left.empty())
                return left;
        }
        if (Clock::now() > deadline)
            return left;
        if (!await_journal(Millis(worked ? 1 : 5)))
            throw SessionLost(core::Side::new_side, "the lease was lost during the run");
        if (Clock::now() > deadline)
            return left;
    }
}

// Again and again for `lock_wait` while somebody in PostgreSQL is in the way (55P03). In between the pump goes on, and no client waits.
void Pump::patiently(CutoverRun &run, const std::string &step, const std::function<void()> &attempt) {
    const Clock::time_point deadline = Clock::now() + run.lock_wait;
    for (;;) {
        try {
            return attempt();
        } catch (const Error &error) {
            if (error.sqlstate() != "55P03" || Clock::now() > deadline)
                throw;
            run.step(step, std::string("not yet: ") + error.what());
            run.write_steps(*api_);
        }
        go_on_for(run, between_locks);
    }
}

void Pump::go_on_for(const CutoverRun &run, Millis time) {
    const Clock::time_point end = Clock::now() + time;
    do {
        go_on_beside(run);
        if (!await_journal(Millis(20)))
            throw SessionLost(core::Side::new_side, "the lease was lost during the run");
    } while (Clock::now() < end);
}

// Writes through routed views that were committed before the attempt began; no more come. The fence would refuse them.
void Pump::await_queued_writes(CutoverRun &run) {
    const Clock::time_point deadline = Clock::now() + run.max_pause; // their writers wait from here on
    bool waited = false;
    while (const std::int64_t queued = run.queued(*api_)) {
        waited = true;
        if (Clock::now() > deadline)
            CutoverRun::refuse("55P03", std::to_string(queued) + " writes through routed views did not reach the old side in time",
                               "Nothing has changed. SELECT * FROM tandem.queued_writes; tells what holds them up.");
        const bool worked = copy_live_batch();
        if (!await_journal(Millis(worked ? 1 : 5)))
            throw SessionLost(core::Side::new_side, "the lease was lost during the run");
    }
    if (waited)
        run.step("queued writes");
}

// LOCK TABLES, in slices: while it waits behind a long transaction, new writers queue behind it.
void Pump::lock_old_tables(CutoverRun &run) {
    const Clock::time_point deadline = Clock::now() + run.lock_wait;
    const std::set<int> group(run.table_ids.begin(), run.table_ids.end());
    for (int attempt = 1;; ++attempt) {
        // Close behind the writers, and nothing of other tables in flight: their outboxes cannot be reached under the lock.
        held_ = group;
        for (int round = 0; round < 50 && copy_live_batch(); ++round)
            settle_in_flight(Clock::now() + settle_patience);
        settle_in_flight(Clock::now() + settle_patience);
        run.pause_begins();
        if (mysql::lock_tables(source_->client(), row_.connection, configs_of(run.table_ids), std::min(run.max_pause / 2, Millis(500)))) {
            source_->hold(true);
            run.step("lock", attempt == 1 ? "" : "attempt " + std::to_string(attempt));
            return;
        }
        run.step("lock", "not got: a transaction or lock of a client is in the way; writers waited for it meanwhile");
        if (!run.kill.empty())
            for (const mysql::EndedSession &one :
                 mysql::end_blockers(source_->client(), row_.connection, run.kill, attempt >= attempts_before_idle))
                run.step("kill", "session " + one.id + " of " + one.user + "@" + one.host +
                                     (one.trouble.empty() ? " ended" : " could not be ended: " + one.trouble));
        run.write_steps(*api_);
        held_.clear();
        if (Clock::now() > deadline)
            CutoverRun::refuse(
                "55P03", "the old tables could not be locked within " + std::to_string(run.lock_wait.count()) + " ms",
                "A transaction, LOCK TABLES or ALTER TABLE of a client holds them: tandem.cutover_check names long transactions. "
                "Nothing has changed; call again, or name users whose sessions may be ended: kill => '{report}'.");
        const Clock::time_point again = Clock::now() + between_locks;
        while (Clock::now() < again) {
            const bool worked = copy_live_batch();
            if (!await_journal(Millis(worked ? 1 : 20)))
                throw SessionLost(core::Side::new_side, "the lease was lost during the run");
        }
    }
}

void Pump::unlock_old_tables() {
    source_->hold(false);
    mysql::unlock_tables(source_->client());
}

// After the abort is certain: our own triggers go, then the lock.
void Pump::drop_own_fences(const CutoverRun &run, bool locked) {
    const auto configs = configs_of(run.table_ids);
    const auto fences = mysql::find_fences(source_->client(), row_.connection, configs);
    for (const core::TableConfig *config : configs) {
        std::vector<mysql::Fence> own;
        for (const mysql::Fence &fence : fences)
            if (fence.suffix == config->trigger_suffix && fence.epoch == static_cast<std::uint64_t>(run.attempt))
                own.push_back(fence);
        mysql::drop_fences(source_->client(), row_.connection, *config, own, locked);
    }
}

// After a rollback capture is looked at once more, which takes a moment. And without a note of what the old table is known by, nothing could tell
// before a rollback whether it was emptied since.
void Pump::await_guard(const CutoverRun &run) {
    const Clock::time_point deadline = Clock::now() + guard_patience;
    const auto waits = [&](int id) {
        const LiveTable *table = find(id);
        return table != nullptr && Clock::now() < deadline &&
               ((table->stage == Stage::capturing && Clock::now() < table->quiet_until) ||
                (table->stage == Stage::syncing && table->config.identity.empty()));
    };
    while (std::ranges::any_of(run.table_ids, waits)) {
        advance_tables();
        if (!await_journal(Millis(10)))
            throw SessionLost(core::Side::new_side, "the lease was lost during the run");
    }
}

void Pump::cut_over(CutoverRun &run) {
    mysql::Client &client = source_->client();
    const auto configs = configs_of(run.table_ids);
    await_guard(run);
    refuse_unless_in_sync(run);
    if (const auto remains = mysql::find_fences(client, row_.connection, configs); !remains.empty())
        CutoverRun::refuse("55000", "the old side still has a fence of another attempt: " + remains.front().name, "CALL tandem.mend();");
    std::map<int, std::vector<std::string>> taken;
    std::map<int, std::string> numbered;
    json next_values = json::object();
    for (const core::TableConfig *config : configs) {
        taken[config->table_id] = mysql::taken_events(client, row_.connection, *config);
        numbered[config->table_id] = mysql::auto_increment_column(client, row_.connection, *config);
    }
    client.execute(mysql::create_phase_table(row_.connection), "creating the table of phases on the old side");

    for (const core::TableConfig *config : configs)
        guard_->watch(*config); // a pump that has just begun to lead may not have asked for it yet
    mysql::ControlSession sight(row_.connection);
    // A VACUUM or an index build on a target would keep the commit from its locks, and clients would have waited for nothing.
    patiently(run, "targets", [&] { run.probe(*api_); });
    const std::unique_ptr<ChangedRows> rows = compare_changed(run);
    failpoint("cutover:after_compare");
    refuse_unless_in_sync(run);
    patiently(run, "begin", [&] { run.begin(*api_, begin_timeout); });
    failpoint("cutover:after_begin");
    run.step("begin", "epoch " + std::to_string(run.attempt));
    for (const int table_id : run.table_ids)
        capture_->ignore(table_id);
    bool locked = false, commit_sent = false;
    const auto give_up = [&] { // the abort of the model: first make the commit impossible
        const bool mine = run.abort(*api_);
        if (mine)
            drop_own_fences(run, locked);
        if (locked)
            unlock_old_tables();
        locked = false;
        return mine;
    };
    try {
        await_queued_writes(run);
        lock_old_tables(run);
        locked = true;
        failpoint("cutover:after_lock");
        const std::string left =
            drain_held(run, run.paused_at() + Millis(static_cast<std::int64_t>(run.max_pause.count() * share_for_drain)));
        if (!left.empty())
            CutoverRun::refuse("57014", "the changes could not be drained within the pause: " + left,
                               "Nothing has changed. Call again when the lag is lower, or allow a longer max_pause.");
        run.step("drain");
        failpoint("cutover:after_drain");
        // What no trigger tells (TRUNCATE, a dropped trigger, another table by this name) cannot come any more, and may have come unseen.
        if (const auto fault = guard_->fault_under_lock(sight, client, run.table_ids))
            CutoverRun::refuse("55000", "capture of the old tables is not whole: " + *fault,
                               "Nothing has changed. tandem.pg_stat_tandem_tables tells when the table is in sync again.");
        if (rows)
            verify_changed(run, *rows);
        failpoint("cutover:after_verify");
        {
            const mysql::TriggerMode mode(client);
            for (const core::TableConfig *config : configs) {
                if (const std::string &column = numbered[config->table_id]; !column.empty())
                    if (const std::uint64_t next = mysql::next_auto_increment(client, row_.connection, *config); next > 0)
                        next_values[std::to_string(config->table_id)] = {{column, next}};
                mysql::make_fence(mode, row_.connection, *config, static_cast<std::uint64_t>(run.attempt), taken[config->table_id],
                                  run.moved_to[config->table_id]);
                failpoint("cutover:in_fence");
            }
        }
        run.step("fence");
        failpoint("cutover:after_fence");
        if (run.kind == "rehearsal") {
            give_up();
            run.pause_ends();
            run.step("put back", "a rehearsal commits nothing");
            return;
        }
        if (Clock::now() - run.paused_at() > run.max_pause)
            CutoverRun::refuse("57014", "the pause of " + std::to_string(run.max_pause.count()) + " ms was over before the commit",
                               "Nothing has changed; call again.");
        failpoint("cutover:before_commit");
        commit_sent = true;
        run.commit(*api_, next_values, run.left());
        failpoint("cutover:after_commit");
        run.step("commit");
    } catch (const SessionLost &lost) {
        if (lost.side() == core::Side::new_side)
            end_unknown(run, locked, commit_sent);
        else
            run.abort(*api_); // the lock is gone with the session; a fence is taken away by the pump that starts now
        throw;
    } catch (const Error &) {
        give_up();
        run.pause_ends();
        throw;
    }
    // The source of truth has changed: only forward.
    reverse_->look();
    unlock_old_tables();
    run.pause_ends();
    run.step("unlock");
    failpoint("cutover:after_unlock");
    for (const core::TableConfig *config : configs)
        client.execute("INSERT INTO " + mysql::phase_table(row_.connection) + " (outbox, phase, epoch) VALUES ('" + config->outbox +
                           "', 'new', 1) ON DUPLICATE KEY UPDATE phase = 'new'",
                       "noting the phase on the old side");
}

// PostgreSQL was lost: did the commit happen, may it still? A new session asks, by making it impossible.
void Pump::end_unknown(const CutoverRun &run, bool locked, bool commit_sent) {
    bool decided = !commit_sent, committed = false;
    try {
        const Clock::time_point deadline = Clock::now() + run.max_pause;
        postgres::WorkerApi fresh(conninfo_, "cut-over " + row_.connection.name, leases_.holder(), [&] { return Clock::now() > deadline; });
        committed = !run.abort(fresh);
        decided = true;
    } catch (const Error &error) {
        log::error("PostgreSQL cannot be asked how the cut-over ended",
                   {{"source", row_.connection.name}, {"run_id", run.id}, {"commit_sent", commit_sent}, {"error", error.what()}});
    }
    // Not known: the fence stays, so that there are never two truths. The pump that starts next asks again.
    if (decided && !committed)
        drop_own_fences(run, locked);
    if (locked)
        unlock_old_tables();
}

} // namespace tandem::sync
