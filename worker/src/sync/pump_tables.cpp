// The life of tables as the pump leads it, and the keys that PostgreSQL asks for. See pump.hpp and live_table.hpp.
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "sync/failpoint.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tandem::sync {

using core::Error;

LiveTable *Pump::find(int table_id) {
    const auto found = tables_.find(table_id);
    return found == tables_.end() ? nullptr : &found->second;
}

std::vector<LiveTable *> Pump::all_tables() {
    std::vector<LiveTable *> all;
    for (auto &[table_id, table] : tables_)
        all.push_back(&table);
    return all;
}

bool Pump::in_flight(int table_id) const {
    return std::ranges::any_of(in_flight_, [&](const Batch &batch) {
        return batch.chunk_table == table_id ||
               std::ranges::any_of(batch.parts, [&](const BatchPart &part) { return part.table_id == table_id; });
    });
}

// Configuration as it is now. What runs keeps its memory: cursors, sizes, what is in flight.
void Pump::load_tables() {
    std::set<int> present;
    for (core::TableConfig &config : api_->tables(row_.connection.source_id)) {
        const int table_id = config.table_id;
        present.insert(table_id);
        if (LiveTable *table = find(table_id))
            take_config(*table, std::move(config));
        else
            tables_.emplace(table_id, make_live_table(std::move(config)));
    }
    std::erase_if(tables_, [&](const auto &entry) {
        if (present.contains(entry.first))
            return false;
        capture_->ignore(entry.first);
        guard_->ignore(entry.first);
        return true;
    });
    // What is read from now on may be more than a barrier under way knows of.
    barrier_.disturb();
}

void Pump::report(LiveTable &table, Stage stage, const std::string &reason) {
    const std::string state = name_of(stage);
    if (table.reported_state == state && table.reported_reason == reason)
        return;
    api_->report_table(table.config.table_id, epoch_, state, reason, nlohmann::json::object());
    log::info("table", {{"source", row_.connection.name}, {"table", table.config.name}, {"state", state}, {"reason", reason}});
    table.reported_state = state;
    table.reported_reason = reason;
}

void Pump::advance_tables() {
    take_capture_news();
    take_guard_news();
    report_guard();
    for (LiveTable *table : all_tables())
        advance(*table);
    follow_backfill();
}

void Pump::wish_capture(LiveTable &table) {
    if (table.stage == Stage::capturing && Clock::now() < table.mend_at)
        return;
    const LiveTable::Wish wish{table.stage, table.version, table.captured, table.may_install()};
    if (table.stage != Stage::dropping && table.wish == wish)
        return;
    table.wish = wish;
    const bool watched =
        table.stage == Stage::backfilling || table.stage == Stage::syncing || (table.stage == Stage::paused && table.captured);
    if (watched)
        guard_->watch(table.config);
    else
        guard_->ignore(table.config.table_id);
    if (table.stage == Stage::capturing)
        capture_->want(table.config, CaptureKeeper::Want::installed, table.may_install());
    else if (watched)
        capture_->want(table.config, CaptureKeeper::Want::measured);
    else if (table.stage != Stage::dropping)
        capture_->ignore(table.config.table_id);
    else if (!in_flight(table.config.table_id) && !backfill_->holds(table.config.table_id))
        capture_->want(table.config, CaptureKeeper::Want::removed);
}

void Pump::advance(LiveTable &table) {
    wish_capture(table);
    switch (table.stage) {
    case Stage::capturing: {
        const bool quiet = table.reported_state == "syncing" && Clock::now() < table.quiet_until;
        if (!table.captured) {
            if (table.reported_state != "capturing" && !quiet)
                report(table, Stage::capturing, table.resync_reason);
            return;
        }
        // Tables tied by cascades are all captured before the history of any is read: a cascade into a table without capture
        // would be missed.
        for (const LiveTable *relative : relatives(table, all_tables()))
            if (!relative->captured) {
                if (!quiet)
                    report(table, Stage::capturing, "waits for capture of table \"" + relative->config.name + "\", tied to it by cascades");
                return;
            }
        if (table.needs_reset)
            return; // the reset goes first, in order
        table.stage = table.backfill_done && !table.resyncing ? Stage::syncing : Stage::backfilling;
        failpoint("lifecycle:after_capture");
        report(table, table.stage, table.resync_reason);
        wish_capture(table);
        return;
    }
    case Stage::backfilling:
        if (!table.sweeping)
            begin_backfill(table);
        end_sweep(table);
        return;
    case Stage::paused:
        if (!in_flight(table.config.table_id))
            report(table, Stage::paused, table.resync_reason);
        return;
    case Stage::dropping:
        if (table.reported_state != "dropping")
            report(table, Stage::dropping);
        return;
    default:
        return;
    }
}

void Pump::take_capture_news() {
    for (const CaptureNews &news : capture_->take_news()) {
        LiveTable *table = find(news.table_id);
        if (table == nullptr)
            continue;
        switch (news.kind) {
        case CaptureNews::Kind::installed:
            failpoint("lifecycle:after_outbox");
            api_->note_identity(news.table_id, epoch_, news.identity);
            table->config.identity = news.identity;
            touch(*table);
            table->captured = true;
            table->unreadable = false;
            table->read_errors = 0;
            schedule_.worked();
            break;
        case CaptureNews::Kind::waiting:
            if (table->stage == Stage::capturing || table->stage == Stage::dropping)
                report(*table, table->stage, news.reason);
            break;
        case CaptureNews::Kind::removed:
            failpoint("lifecycle:before_forget");
            api_->forget_table(news.table_id, epoch_);
            log::info("table forgotten", {{"source", row_.connection.name}, {"table", table->config.name}});
            capture_->ignore(news.table_id);
            guard_->ignore(news.table_id);
            tables_.erase(news.table_id);
            break;
        case CaptureNews::Kind::broken:
            lose_capture(*table, news.fault);
            break;
        case CaptureNews::Kind::cost:
            table->capture_cost_us = news.cost_us;
            stats_.worked = true;
            break;
        }
    }
}

void Pump::block(LiveTable &table, const std::string &reason) {
    log::error("table blocked", {{"source", row_.connection.name}, {"table", table.config.name}, {"reason", reason}});
    table.unreadable = true;
    if (table.stage == Stage::dropping)
        return;
    table.stage = Stage::blocked;
    report(table, Stage::blocked, reason);
}

void Pump::chunk_acknowledged(const Batch &batch) {
    LiveTable *table = find(*batch.chunk_table);
    if (table == nullptr)
        return;
    if (batch.resets_backfill)
        return;
    // Not the end of a backfill that was set back meanwhile.
    if (!batch.chunk_done || batch.batch_id != table->last_chunk || !table->chunk_end_sent)
        return;
    table->backfill_done = true;
    table->sweeping = table->resyncing;
    if (table->stage == Stage::backfilling && !table->resyncing) {
        table->stage = Stage::syncing;
        report(*table, Stage::syncing);
    }
}

// Keys that PostgreSQL asks to be fetched again go through the outbox like every other event.
void Pump::move_requests() {
    const std::vector<postgres::Request> requests = api_->take_requests(row_.connection.source_id, 1000);
    if (requests.empty())
        return;
    std::map<std::pair<int, int>, std::vector<postgres::Request>> groups; // table and flags
    std::vector<std::int64_t> ids;
    for (const postgres::Request &request : requests) {
        groups[{request.table_id, request.flags}].push_back(request);
        ids.push_back(request.request_id);
    }
    for (const auto &[group, members] : groups) {
        LiveTable *table = find(group.first);
        // Without an outbox nothing of the table is fetched yet: its backfill comes later than this and finds the row as it is.
        if (table == nullptr || table->stage == Stage::dropping || table->stage == Stage::idle)
            continue;
        insert_requests(*table, members);
    }
    failpoint("request:after_insert");
    api_->finish_requests(ids);
    barrier_.disturb();
    schedule_.worked();
    stats_.worked = true;
}

void Pump::insert_requests(LiveTable &table, const std::vector<postgres::Request> &requests) {
    std::vector<std::vector<std::string>> keys;
    for (const postgres::Request &request : requests)
        keys.push_back(request.key);
    const int flags = requests.front().flags;
    const int removes = (flags & flag_removes_found) != 0 ? 2 : (flags & flag_removes) != 0 ? 1 : 0;
    try {
        for (const auto &[position, problem] : source_->insert_keys(table.config, keys, removes))
            log::error("requested key cannot be a key of the table on the old side and is given up",
                       {{"table", table.config.name}, {"request_id", requests.at(position).request_id}, {"error", problem}});
    } catch (const Error &error) {
        if (error.retryable() || error.side() != core::Side::old_side)
            throw;
        // These requests are given up, so the table must be copied anew before it may go on.
        if (table.captured)
            lose_capture(table, {"outbox", std::string("requested keys cannot be written to its outbox: ") + error.what(), true});
        else
            log::debug("no outbox yet for requested keys", {{"table", table.config.name}, {"error", error.what()}});
    }
}

} // namespace tandem::sync
