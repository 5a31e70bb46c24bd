// Cut-over, rehearsal, rollback, contract, and putting back what a worker left (docs/model/d_cutover.pml; docs/protocol.md section 18).
// The pump itself does it, on its own session: the connection that reads and deletes events is the one that holds the lock and makes the
// fence, so no second reader can bring an older row after a newer one, and nothing outlives the connection but the fence.
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "mysql/control_session.hpp"
#include "mysql/blockers.hpp"
#include "mysql/old_fence.hpp"
#include "mysql/old_tables.hpp"
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

[[noreturn]] void refuse(const std::string &sqlstate, const std::string &message, const std::string &hint = {}) {
    throw Error(core::Side::worker, sqlstate, message, false, hint);
}

} // namespace

std::vector<const core::TableConfig *> Pump::configs_of(const std::vector<int> &table_ids) {
    std::vector<const core::TableConfig *> configs;
    for (const int table_id : table_ids) {
        const LiveTable *table = find(table_id);
        if (table == nullptr)
            refuse("42704", "table " + std::to_string(table_id) + " is not known to the worker");
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
            refuse("55P03", "batches in flight were not applied in time",
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

// Writes through routed views that were committed before the attempt began; no more come. The fence would refuse them.
void Pump::await_queued_writes(CutoverRun &run) {
    const Clock::time_point deadline = Clock::now() + run.max_pause; // their writers wait from here on
    bool waited = false;
    while (const std::int64_t queued = run.queued(*api_)) {
        waited = true;
        if (Clock::now() > deadline)
            refuse("55P03", std::to_string(queued) + " writes through routed views did not reach the old side in time",
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
            refuse("55P03", "the old tables could not be locked within " + std::to_string(run.lock_wait.count()) + " ms",
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
        refuse("55000", "the old side still has a fence of another attempt: " + remains.front().name, "CALL tandem.mend();");
    std::map<int, std::vector<std::string>> taken;
    json next_values = json::object();
    for (const core::TableConfig *config : configs)
        taken[config->table_id] = mysql::taken_events(client, row_.connection, *config);
    client.execute(mysql::create_phase_table(row_.connection), "creating the table of phases on the old side");

    for (const core::TableConfig *config : configs)
        guard_->watch(*config); // a pump that has just begun to lead may not have asked for it yet
    mysql::ControlSession sight(row_.connection);
    const std::unique_ptr<ChangedRows> rows = compare_changed(run);
    failpoint("cutover:after_compare");
    refuse_unless_in_sync(run);
    run.begin(*api_, begin_timeout);
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
            refuse("57014", "the changes could not be drained within the pause: " + left,
                   "Nothing has changed. Call again when the lag is lower, or allow a longer max_pause.");
        run.step("drain");
        failpoint("cutover:after_drain");
        // What no trigger tells (TRUNCATE, a dropped trigger, another table by this name) cannot come any more, and may have come unseen.
        if (const auto fault = guard_->fault_under_lock(sight, client, run.table_ids))
            refuse("55000", "capture of the old tables is not whole: " + *fault,
                   "Nothing has changed. tandem.pg_stat_tandem_tables tells when the table is in sync again.");
        if (rows)
            verify_changed(run, *rows);
        failpoint("cutover:after_verify");
        for (const core::TableConfig *config : configs) {
            const auto [column, next] = mysql::auto_increment(client, row_.connection, *config);
            if (!column.empty() && next > 0)
                next_values[std::to_string(config->table_id)] = {{column, next}};
            mysql::make_fence(client, row_.connection, *config, static_cast<std::uint64_t>(run.attempt), taken[config->table_id],
                              run.moved_to[config->table_id]);
            failpoint("cutover:in_fence");
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
            refuse("57014", "the pause of " + std::to_string(run.max_pause.count()) + " ms was over before the commit",
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

// A TRUNCATE, or an ALTER TABLE that leaves rows out, passes by the fence, and nobody has looked at the old tables meanwhile. As the source
// of truth they would take the target's rows along.
void Pump::refuse_changed_old_tables(const CutoverRun &run, const json &seen) {
    const auto changed = api_->session().query("SELECT c.label, c.reason FROM tandem.old_tables_changed($1) AS c", {seen.dump()});
    if (changed.rows() > 0 && !run.takes_old_tables)
        refuse(
            "55000", "the old table \"" + changed.text(0, 0) + "\" may have lost rows: " + changed.text(0, 1),
            "Nothing has changed. tandem.reconcile tells what it lacks, tandem.repair writes that back; after a clean pass the rollback is "
            "open. Or waive => '{\"old_table\": \"reason\"}': then its rows count as they are.");
}

void Pump::roll_back(CutoverRun &run) {
    mysql::OldTables old_tables(row_.connection, configs_of(run.table_ids));
    refuse_changed_old_tables(run, old_tables.look());
    failpoint("rollback:after_look");
    const Clock::time_point deadline = Clock::now() + run.lock_wait;
    for (;;) {
        run.pause_begins();
        try {
            run.begin(*api_, std::min(run.max_pause / 2, Millis(500)));
            break;
        } catch (const Error &error) {
            if (error.sqlstate() != "55P03" || Clock::now() > deadline)
                throw;
            run.step("close", std::string("not got: ") + error.what());
            run.write_steps(*api_);
            stop_.wait_for(between_locks);
        }
    }
    run.step("close", "epoch " + std::to_string(run.attempt));
    failpoint("rollback:after_close");
    try {
        const Clock::time_point end = run.paused_at() + run.max_pause;
        refuse_changed_old_tables(run, old_tables.look()); // while the last changes are on their way
        std::string left;
        while (!(left = run.obstacle(*api_)).empty()) {
            if (Clock::now() > end)
                refuse("57014", "the old side could not be caught up within the pause: " + left,
                       "Nothing has changed. tandem.pg_stat_tandem_reverse and tandem.reverse_letters tell what is in the way.");
            stop_.wait_for(Millis(2));
        }
        run.step("drain");
        refuse_changed_old_tables(run, old_tables.look_for_empty_ones());
        failpoint("rollback:before_commit");
        run.commit(*api_, json::object(), run.left());
        run.step("commit");
        failpoint("rollback:after_commit");
    } catch (const SessionLost &) {
        throw; // the pump that starts now finds the phase, and goes on from there
    } catch (const Error &) {
        run.abort(*api_);
        run.pause_ends();
        throw;
    }
    unfence(run.table_ids, run.attempt);
    run.pause_ends();
    run.step("unfence");
}

// The old side is the source of truth on PostgreSQL. No batch from there lands any more, capture is whole, and only then the fence goes.
void Pump::unfence(const std::vector<int> &table_ids, std::int64_t up_to) {
    mysql::Client &client = source_->client();
    const auto configs = configs_of(table_ids);
    for (const core::TableConfig *config : configs)
        client.execute(mysql::bump_phase_epoch(row_.connection, *config), "ending the epoch of writes from the new side");
    failpoint("rollback:after_bump");
    const auto fences = mysql::find_fences(client, row_.connection, configs);
    for (const core::TableConfig *config : configs) {
        std::vector<mysql::Fence> past;
        bool replaces_capture = false;
        for (const mysql::Fence &fence : fences)
            if (fence.suffix == config->trigger_suffix && fence.epoch <= static_cast<std::uint64_t>(up_to)) {
                past.push_back(fence);
                replaces_capture = replaces_capture || fence.after;
            }
        if (!replaces_capture && !past.empty()) {
            mysql::ControlSession session(row_.connection);
            if (!session.check_capture(*config).complete)
                session.install_capture(*config, settings_.source_lock_timeout_ms);
        }
        mysql::drop_fences(client, row_.connection, *config, past, false);
        failpoint("rollback:in_unfence");
        client.execute("UPDATE " + mysql::phase_table(row_.connection) + " SET phase = 'old' WHERE outbox = '" + config->outbox + "'",
                       "noting the phase on the old side");
    }
}

void Pump::contract(CutoverRun &run) {
    run.contract(*api_);
    failpoint("contract:after_commit");
    load_tables();
    mysql::Client &client = source_->client();
    for (const core::TableConfig *config : configs_of(run.table_ids)) {
        capture_->ignore(config->table_id);
        for (const mysql::Fence &fence : mysql::find_fences(client, row_.connection, {config})) {
            client.execute("DROP TRIGGER IF EXISTS `" + row_.connection.database + "`.`" + fence.name + "`", "dropping a fence");
            run.step("old side", "fence " + fence.name + " on " + fence.table);
        }
        mysql::ControlSession session(row_.connection);
        const bool complete = session.check_capture(*config).complete;
        const std::vector<std::string> shared = session.remove_capture(*config, settings_.source_lock_timeout_ms);
        if (complete)
            run.step("old side", "capture of " + config->name + ": triggers tandem_ai_, tandem_au_, tandem_ad_" + config->trigger_suffix +
                                     ", outbox " + config->outbox + ", its rows of capture_gap and table_phase");
        for (const std::string &name : shared)
            run.step("old side", "table " + name + " of the metadata database: it was the last table there");
        failpoint("contract:in_removal");
    }
}

// What an attempt left that did not end: by a worker that died, or one that could not reach PostgreSQL (model D: Doctor). First the epoch
// on PostgreSQL ends every such attempt, then its fence goes.
void Pump::put_back_remains() {
    const auto state =
        json::parse(api_->session()
                        .query("SELECT tandem.cutover_state($1, $2)", {std::to_string(row_.connection.source_id), std::to_string(epoch_)})
                        .text(0, 0));
    std::vector<int> all;
    for (const json &group : state)
        if (group.at("phase") != "registered" && group.at("phase") != "contracted")
            for (const int id : group.at("table_ids").get<std::vector<int>>())
                if (find(id) != nullptr && find(id)->config.desired_state != "dropped")
                    all.push_back(id);
    const auto fences = mysql::find_fences(source_->client(), row_.connection, configs_of(all));
    const auto fenced = [&](int id) {
        return std::ranges::any_of(fences, [&](const mysql::Fence &fence) { return fence.suffix == find(id)->config.trigger_suffix; });
    };
    for (const json &group : state) {
        const std::string phase = group.at("phase").get<std::string>();
        const auto epoch = group.at("epoch").get<std::int64_t>();
        std::vector<int> ids;
        for (const int id : group.at("table_ids").get<std::vector<int>>()) {
            const bool known = std::ranges::find(all, id) != all.end();
            const bool half = phase == "cutover" || phase == "closing" || (phase != "new_primary" && known && fenced(id));
            if (known && half)
                ids.push_back(id);
            const auto triggers = std::ranges::count_if(
                fences, [&](const mysql::Fence &fence) { return known && fence.suffix == find(id)->config.trigger_suffix; });
            if (known && phase == "new_primary" && triggers < 3) {
                // Not reachable by the order of steps: somebody took the fence away, or the old side is another server now.
                LiveTable &table = *find(id);
                log::error("the old side had no fence although the new side is the source of truth; it is made anew",
                           {{"source", row_.connection.name}, {"table", table.config.name}});
                mysql::make_fence(source_->client(), row_.connection, table.config, static_cast<std::uint64_t>(epoch),
                                  mysql::taken_events(source_->client(), row_.connection, table.config), "PostgreSQL", fences);
            }
        }
        if (ids.empty())
            continue;
        std::string list = "{";
        for (const int id : ids)
            list += (list.size() > 1 ? "," : "") + std::to_string(id);
        const bool mine =
            api_->session()
                .query("SELECT tandem.cutover_put_back($1, $2, $3, $4, $5)",
                       {std::to_string(row_.connection.source_id), std::to_string(epoch_), list + "}", phase, std::to_string(epoch)})
                .boolean(0, 0);
        log::warning("put back what an attempt had left",
                     {{"source", row_.connection.name}, {"phase", phase}, {"epoch", epoch}, {"tables", ids.size()}, {"done", mine}});
        if (mine && phase != "closing")
            unfence(ids, epoch);
    }
}

} // namespace tandem::sync
