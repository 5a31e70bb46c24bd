// The pump beside copiers (docs/model/b1_chunks.pml, process Pump): how a table's history is copied, which events may be applied meanwhile,
// and the news of the copiers. See pump.hpp and backfill.hpp.
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "mysql/chunk_session.hpp"
#include "sync/failpoint.hpp"

#include <algorithm>

namespace tandem::sync {

using core::Error;

// Decided once, by PostgreSQL. Until then nothing of the table is read: what was read before the first chunk is marked could land after it.
void Pump::begin_backfill(LiveTable &table) {
    if (table.begun || in_flight(table.config.table_id))
        return;
    try {
        const mysql::TableSize size = mysql::ChunkSession(row_.connection).size_of(table.config, settings_.backfill_direct_rows);
        const std::string mode =
            api_->begin_backfill(table.config.table_id, epoch_, size.rows_at_least, size.rows_estimate, size.bytes_estimate);
        table.direct = mode == "direct";
        table.begun = true;
        log::info("history",
                  {{"source", row_.connection.name}, {"table", table.config.name}, {"copied", mode}, {"rows", size.rows_estimate}});
        failpoint("backfill:after_begin");
    } catch (const Error &error) {
        if (error.retryable() || error.sqlstate() == "55000")
            throw;
        suspect(table, std::string("its history cannot be copied: ") + error.what());
    }
}

// Tells the copiers what there is to do, and takes their news.
void Pump::follow_backfill() {
    for (const BackfillNews &news : backfill_->take_news()) {
        LiveTable *table = find(news.table_id);
        if (table == nullptr)
            continue;
        if (news.kind != BackfillNews::Kind::ended) {
            if (table->stage == Stage::backfilling && news.kind == BackfillNews::Kind::unreadable)
                suspect(*table, news.reason);
            else if (table->stage == Stage::backfilling)
                block(*table, news.reason);
            continue;
        }
        table->backfill_done = table->chunk_end_sent = true;
        table->direct = false;
        if (table->stage == Stage::backfilling) {
            table->stage = Stage::syncing;
            report(*table, Stage::syncing);
        }
        barrier_.disturb();
        schedule_.worked();
    }
    std::vector<core::TableConfig> tables;
    std::set<int> ids;
    for (LiveTable *table : all_tables()) {
        if (table->stage != Stage::backfilling || !table->direct || !table->begun || table->unreadable || table->needs_reset)
            continue;
        ids.insert(table->config.table_id);
        tables.push_back(table->config);
    }
    if (ids == copying_ && copied_generation_ == generation_)
        return;
    backfill_->copy(tables, settings_);
    copying_ = std::move(ids);
    copied_generation_ = generation_;
}

// read_chunks: before the snapshot, so that an image of it is newer than any chunk that was done.
core::ChunkReading Pump::read_chunks(const std::vector<LiveTable *> &tables) {
    if (std::ranges::none_of(tables, [](const LiveTable *table) { return table->direct; }))
        return {};
    core::ChunkReading reading = api_->read_chunks(row_.connection.source_id);
    failpoint("pump:after_read_chunks");
    return reading;
}

// look_again: after the snapshot. A chunk that is still not started will be read in a later snapshot, which has these changes: their events
// have no more to say. The others stay in the outbox and are fetched again. True: something was discarded.
bool Pump::look_again(const std::map<int, std::map<int, core::IdSet>> &not_started) {
    if (not_started.empty())
        return false;
    const core::ChunkReading reading = api_->read_chunks(row_.connection.source_id);
    bool any = false;
    for (const auto &[table_id, chunks] : not_started) {
        LiveTable *table = find(table_id);
        const auto now = reading.find(table_id);
        if (table == nullptr || now == reading.end())
            continue;
        core::IdSet ids;
        for (const auto &[chunk, events] : chunks)
            if (now->second.not_started(chunk))
                ids.merge(events);
        if (ids.empty())
            continue;
        failpoint("pump:before_discard");
        source_->delete_events(table->config, ids);
        failpoint("pump:after_discard");
        table->captured_events += static_cast<std::int64_t>(ids.count());
        any = true;
    }
    stats_.worked = stats_.worked || any;
    return any;
}

} // namespace tandem::sync
