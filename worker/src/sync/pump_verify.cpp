// Rows that changed since the last sound pass of reconciliation: their keys are kept while the pump runs, and compared by a cut-over. See changed_keys.hpp.
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "sync/changed_rows.hpp"

#include <limits>
#include <nlohmann/json.hpp>

namespace tandem::sync {

using core::Error;
using nlohmann::json;

namespace {

constexpr Millis told_every{10000}, looked_every{100};
constexpr std::size_t few_keys = 500;     // so many are left for the pause without another round before it
constexpr double share_for_verify = 0.85; // of the pause, from its beginning

std::string rows_text(std::size_t rows) { return std::to_string(rows) + (rows == 1 ? " row" : " rows") + " that changed"; }

} // namespace

// Watches the tables that are in sync, notes moments, and tells PostgreSQL since when every key is known. `now`: tells in any case.
void Pump::follow_changed_keys(bool now) {
    const Clock::time_point at = Clock::now();
    const std::int64_t last = (epoch_ << 32) | batches_;
    for (const auto &[table_id, table] : tables_) {
        const bool steady = table.stage == Stage::syncing && !table.unreadable && core::old_is_truth(table.config) &&
                            table.config.digest.mode != core::DigestPlan::Mode::none;
        if (steady)
            changed_.watch(table_id, table.config.shape, last, at);
        else if (changed_.watches(table_id))
            changed_.forget(table_id);
    }
    // A moment at once: a pass that begins now shall count.
    const std::int64_t oldest = in_flight_.empty() ? std::numeric_limits<std::int64_t>::max() : in_flight_.front().batch_id;
    const std::vector<int> unmarked = changed_.unmarked(oldest);
    if (!now && unmarked.empty() && at - changed_looked_at_ < looked_every)
        return;
    changed_looked_at_ = at;
    if (!unmarked.empty()) {
        const std::int64_t moment = api_->next_moment();
        for (const int table_id : unmarked)
            changed_.mark(table_id, moment);
    }
    json since = json::object();
    for (const auto &[table_id, table] : tables_)
        if (const auto moment = changed_.since(table_id))
            since[std::to_string(table_id)] = *moment;
    if (!now && since == changed_told_ && at - changed_told_at_ < told_every)
        return;
    const json passes = api_->report_changed_keys(row_.connection.source_id, epoch_, since);
    changed_told_ = std::move(since);
    changed_told_at_ = at;
    for (const auto &[table_id, table] : tables_)
        if (const auto known = passes.find(std::to_string(table_id)); known != passes.end())
            changed_.turn(table_id, {known->at("sound").get<std::int64_t>(), known->at("running").get<std::int64_t>()}, last, at);
}

void Pump::refuse_unless_in_sync(const CutoverRun &run) {
    for (const int table_id : run.table_ids) {
        const LiveTable *table = find(table_id);
        if (table == nullptr || table->stage != Stage::syncing || !table->captured)
            throw Error(core::Side::worker, "55000",
                        "table \"" + (table == nullptr ? std::to_string(table_id) : table->config.name) + "\" is " +
                            (table == nullptr ? "gone" : name_of(table->stage)) + ", not in sync",
                        false, "Nothing has changed. tandem.pg_stat_tandem_tables tells why.");
    }
}

// The pump's own work, while a run takes its time before the pause.
void Pump::go_on_beside(const CutoverRun &run) {
    if (stop_.requested())
        throw Error(core::Side::worker, "57P01", "tandem-sync is being stopped", true, "Nothing has changed. Call again.");
    advance_tables();
    for (int turn = 0; turn < 10 && copy_live_batch(); ++turn)
        if (!await_journal(Millis(1)))
            throw core::SessionLost(core::Side::new_side, "the lease was lost during the run");
    report_stats(false);
    if (run.kind == "cutover" || run.kind == "rehearsal")
        refuse_unless_in_sync(run);
}

// Before the pause, beside live writes: what is equal now needs no second look unless it changes once more.
std::unique_ptr<ChangedRows> Pump::compare_changed(CutoverRun &run) {
    follow_changed_keys(true);
    const auto unverified = api_->session().query("SELECT tandem.cutover_unverified($1)", {std::to_string(run.id)});
    if (!unverified.is_null(0, 0))
        throw Error(core::Side::worker, "55000", "gates of the cut-over have closed again: " + unverified.text(0, 0), false,
                    "Nothing has changed. SELECT * FROM tandem.cutover_check(…); shows what helps.");
    relied_on_.clear();
    for (const int table_id : run.table_ids)
        relied_on_[table_id] = changed_.since(table_id);
    if (!run.verifies)
        return nullptr;
    std::vector<core::TableConfig> all;
    for (const auto &[table_id, table] : tables_)
        all.push_back(table.config);
    auto rows = std::make_unique<ChangedRows>(conninfo_, leases_.holder(), row_.connection, source_->client(), all, run.table_ids,
                                              [this] { return gave_up(); });
    for (const int table_id : run.table_ids) {
        const auto accepted = api_->session().query("SELECT encode(k, 'hex') FROM tandem.accepted_keys($1, $2) AS k",
                                                    {std::to_string(run.id), std::to_string(table_id)});
        for (int row = 0; row < accepted.rows(); ++row)
            rows->accept(table_id, postgres::bytes_of(accepted.text(row, 0)));
    }
    // Keys that the last sound pass never saw at rest: whoever suspects a cascade has not seen a change of the row.
    for (const int table_id : run.table_ids) {
        const auto unsettled =
            api_->session().query("SELECT encode(k, 'hex') FROM tandem.unsettled_keys($1) AS k", {std::to_string(table_id)});
        for (int row = 0; row < unsettled.rows(); ++row)
            changed_.add(table_id, postgres::bytes_of(unsettled.text(row, 0)));
    }
    const Clock::time_point deadline = Clock::now() + run.lock_wait;
    std::size_t compared = 0, left = few_keys + 1;
    for (int round = 0; round < 3 && left > few_keys && Clock::now() < deadline; ++round) {
        left = 0;
        for (const int table_id : run.table_ids) {
            const std::vector<std::string> keys = changed_.keys(table_id);
            for (std::size_t first = 0; first < keys.size() && Clock::now() < deadline; first += ChangedRows::keys_at_once) {
                const auto from = keys.begin() + static_cast<std::ptrdiff_t>(first);
                const auto end = keys.begin() + static_cast<std::ptrdiff_t>(std::min(keys.size(), first + ChangedRows::keys_at_once));
                const std::vector<std::string> equal = rows->equal_now(table_id, {from, end});
                changed_.verified(table_id, equal); // nothing was read in between
                compared += equal.size();
                go_on_beside(run);
            }
            left += changed_.keys(table_id).size();
        }
    }
    run.step("compare", rows_text(compared) + " since the last pass: equal");
    return rows;
}

// In the pause, everything is applied and nothing moves (model D: VERIFIED).
void Pump::verify_changed(CutoverRun &run, ChangedRows &rows) {
    const Clock::time_point deadline =
        run.paused_at() + Millis(static_cast<std::int64_t>(static_cast<double>(run.max_pause.count()) * share_for_verify));
    std::size_t compared = 0;
    for (const int table_id : run.table_ids) {
        // So many keys came since that some had to be let go: the gate that these keys opened is closed.
        if (changed_.since(table_id) != relied_on_[table_id])
            throw Error(core::Side::worker, "55000",
                        "gates of the cut-over have closed again: more rows of table \"" + find(table_id)->config.name +
                            "\" changed during the run than the worker remembers",
                        false, "Nothing has changed. Call again in a quieter moment, after another tandem.reconcile.");
        const std::vector<std::string> keys = changed_.keys(table_id);
        rows.verify(table_id, keys, deadline);
        compared += keys.size();
    }
    run.step("verify", rows_text(compared) + ": equal");
}

} // namespace tandem::sync
