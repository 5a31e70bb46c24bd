// The other runs: rollback, contract, and putting back what a worker left (docs/model/d_cutover.pml; docs/protocol.md section 18).
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "mysql/control_session.hpp"
#include "mysql/old_fence.hpp"
#include "mysql/old_tables.hpp"
#include "sync/failpoint.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tandem::sync {

using core::Error;
using core::SessionLost;
using nlohmann::json;

namespace {

constexpr Millis lock_of_contract{200}; // everybody waits behind it

// While changes are on their way, an old table may be empty that is not to be: a queue, whose rows come and go.
json but_for_empty_ones(json seen) {
    for (json &table : seen)
        table["empty"] = false;
    return seen;
}

} // namespace

// A TRUNCATE, or an ALTER TABLE that leaves rows out, passes by the fence, and nobody has looked at the old tables meanwhile. As the source
// of truth they would take the target's rows along.
void Pump::refuse_changed_old_tables(const CutoverRun &run, const json &seen) {
    const auto changed = api_->session().query("SELECT c.label, c.reason FROM tandem.old_tables_changed($1) AS c", {seen.dump()});
    if (changed.rows() > 0 && !run.takes_old_tables)
        CutoverRun::refuse(
            "55000", "the old table \"" + changed.text(0, 0) + "\" may have lost rows: " + changed.text(0, 1),
            "Nothing has changed. tandem.reconcile tells what it lacks, tandem.repair writes that back; after a clean pass the rollback is "
            "open. Or waive => '{\"old_table\": \"reason\"}': then its rows count as they are.");
}

void Pump::roll_back(CutoverRun &run) {
    mysql::OldTables old_tables(row_.connection, configs_of(run.table_ids));
    refuse_changed_old_tables(run, but_for_empty_ones(old_tables.look()));
    failpoint("rollback:after_look");
    patiently(run, "close", [&] {
        run.pause_begins();
        run.begin(*api_, std::min(run.max_pause / 2, Millis(500)));
    });
    run.step("close", "epoch " + std::to_string(run.attempt));
    failpoint("rollback:after_close");
    try {
        const Clock::time_point end = run.paused_at() + run.max_pause;
        refuse_changed_old_tables(run, but_for_empty_ones(old_tables.look())); // while the last changes are on their way
        std::string left;
        while (!(left = run.obstacle(*api_)).empty()) {
            if (Clock::now() > end)
                CutoverRun::refuse(
                    "57014", "the old side could not be caught up within the pause: " + left,
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
    patiently(run, "targets", [&] { run.contract(*api_, lock_of_contract); });
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
                mysql::make_fence(mysql::TriggerMode(source_->client()), row_.connection, table.config, static_cast<std::uint64_t>(epoch),
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
