#include "sync/reconcile_call.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "sync/compare_pass.hpp"
#include "sync/compare_sessions.hpp"

#include <algorithm>

namespace tandem::sync {
namespace {

using core::Error;
using nlohmann::json;

constexpr Millis progress_every{2000};
constexpr Millis skipped_patience{15000};

struct Found {
    core::SourceConnection source;
    core::TableConfig table;
    std::vector<core::TableConfig> ancestors;
};

Found find_table(postgres::WorkerApi &api, int table_id) {
    for (const postgres::SourceRow &row : api.sources()) {
        const std::vector<core::TableConfig> tables = api.tables(row.connection.source_id);
        for (const core::TableConfig &table : tables)
            if (table.table_id == table_id)
                return {row.connection, table, cascade_ancestors(table, tables)};
    }
    throw Error(core::Side::new_side, "42704", "table " + std::to_string(table_id) + " is not of a source that can be reached", false);
}

std::string progress_of(const ComparePass &pass) {
    std::string text = "table \"" + pass.table() + "\": " + std::to_string(pass.rows()) + " rows compared, " +
                       std::to_string(pass.confirmed()) + " differ";
    if (pass.rechecking() && pass.pending() > 0)
        text += ", " + std::to_string(pass.pending()) + " in flight are looked at again";
    return text;
}

} // namespace

void reconcile_for_call(postgres::WorkerApi &api, const std::string &conninfo, const std::string &holder, const json &question,
                        const Stop &stop, const CallSink &tell) {
    const Found found = find_table(api, question.at("table_id").get<int>());
    CompareSessions sessions(conninfo, holder, found.source, "reconcile", [&] { return stop.requested(); });
    json options = {{"kind", "call"}};
    for (const char *name : {"low", "high", "sample", "rows_per_second", "requested_by"})
        if (question.contains(name))
            options[name] = question[name];
    ComparePace pace;
    if (const auto rate = question.find("rows_per_second"); rate != question.end() && rate->is_number())
        pace.rows_per_second = rate->get<double>();

    ComparePass pass(sessions.sides(), found.table, found.ancestors, options);
    try {
        Clock::time_point told = Clock::now();
        Clock::time_point comparable = told; // when it was last
        const auto wanted = [&] {
            if (stop.requested())
                throw Error(core::Side::worker, "57P01", "tandem-sync is being stopped", true);
            if (Clock::now() - told < progress_every)
                return true;
            told = Clock::now();
            return tell({{"progress", progress_of(pass)}});
        };
        // False: nobody waits any more.
        const auto sleep = [&](Clock::duration time) {
            const Clock::time_point until = Clock::now() + time;
            while (Clock::now() < until) {
                if (!wanted())
                    return false;
                stop.wait_for(std::min(Millis(100), std::chrono::duration_cast<Millis>(until - Clock::now()) + Millis(1)));
            }
            return true;
        };
        for (;;) {
            const ComparePass::Step step = pass.step();
            if (step == ComparePass::Step::done || step == ComparePass::Step::cancelled)
                break;
            Clock::duration pause{};
            if (step == ComparePass::Step::waits) {
                pause = pass.pause();
                if (!pass.rechecking() && Clock::now() - comparable > skipped_patience)
                    throw Error(
                        core::Side::new_side, "55000", "table \"" + pass.table() + "\" cannot be compared now", true,
                        "Rows are compared when the table is in sync: running, and its backfill done. See tandem.pg_stat_tandem_tables.");
            } else {
                comparable = Clock::now();
                pause = pause_after_chunk(pace, pass.rows_of_step(), pass.time_of_step());
            }
            if (!wanted() || !sleep(pause)) {
                pass.give_up("cancelled", "");
                return;
            }
        }
        tell(pass.summary());
    } catch (const core::SessionLost &) {
        throw; // the extension closes runs whose session is gone
    } catch (const Error &error) {
        try {
            pass.give_up("failed", error.what());
        } catch (const Error &second) {
            log::warning("a failed reconciliation could not be ended", {{"table", pass.table()}, {"error", second.what()}});
        }
        throw;
    }
}

} // namespace tandem::sync
