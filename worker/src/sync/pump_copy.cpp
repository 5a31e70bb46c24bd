// The pump's way forward: read_snapshot and copy_batch, for live events and for backfill chunks. See pump.hpp.
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "sync/failpoint.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tandem::sync {

using core::Error;

namespace {

// A snapshot is ended on every way out; if that fails, the next use of the session tells.
class Snapshot {
  public:
    explicit Snapshot(mysql::SourceSession &source) : source_(source) { source_.begin_snapshot(); }
    ~Snapshot() {
        try {
            end();
        } catch (const Error &error) {
            log::debug("snapshot could not be ended", {{"error", error.what()}});
        }
    }
    Snapshot(const Snapshot &) = delete;
    Snapshot &operator=(const Snapshot &) = delete;
    void end() {
        if (std::exchange(open_, false))
            source_.end_snapshot();
    }

  private:
    mysql::SourceSession &source_;
    bool open_ = true;
};

std::chrono::microseconds since(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
}

bool for_good(const Error &error) { return error.side() == core::Side::old_side && !error.retryable(); }

} // namespace

core::IdSet Pump::ids_in_flight(int table_id) const {
    core::IdSet ids;
    for (const Batch &batch : in_flight_)
        for (const BatchPart &part : batch.parts)
            if (part.table_id == table_id)
                ids.merge(part.ids);
    return ids;
}

bool Pump::everything_syncs() const {
    return std::ranges::all_of(tables_, [](const auto &entry) {
        return entry.second.config.desired_state != "running" || !core::old_is_truth(entry.second.config) ||
               (entry.second.stage == Stage::syncing && !entry.second.unreadable);
    });
}

// Which outboxes to read in the next snapshot, the one whose turn it is first.
std::vector<LiveTable *> Pump::tables_with_events(bool all) {
    std::vector<LiveTable *> readable;
    for (LiveTable *table : all_tables())
        if (table->reads_outbox() && (held_.empty() || held_.contains(table->config.table_id)))
            readable.push_back(table);
    if (readable.empty())
        return readable;
    std::ranges::rotate(readable, readable.begin() + static_cast<std::ptrdiff_t>(turn_++ % readable.size()));
    if (all)
        return readable;

    std::vector<mysql::SourceSession::Polled> polled;
    for (const LiveTable *table : readable)
        polled.push_back({&table->config, ids_in_flight(table->config.table_id)});
    std::vector<bool> waiting;
    ++stats_.polls;
    try {
        waiting = source_->poll(polled);
    } catch (const Error &error) {
        if (!for_good(error))
            throw;
        return readable; // one of them cannot be read: reading each on its own tells which
    }
    std::vector<LiveTable *> found;
    for (std::size_t i = 0; i < readable.size(); ++i) {
        if (waiting[i]) {
            found.push_back(readable[i]);
        } else {
            readable[i]->outbox_rows = static_cast<std::int64_t>(polled[i].in_flight.count());
            if (polled[i].in_flight.empty())
                readable[i]->oldest_us = 0;
            nothing_waits(*readable[i], in_flight_.empty() ? 0 : in_flight_.back().batch_id);
        }
    }
    return found;
}

// One snapshot over all outboxes that hold events → one batch. False: there was nothing to read.
bool Pump::copy_live_batch() {
    const bool whole = barrier_.wanted() && held_.empty() && everything_syncs();
    const std::vector<LiveTable *> tables = tables_with_events(whole);
    if (tables.empty() && !whole)
        return false;
    if (whole)
        barrier_.before_snapshot();
    const core::ChunkReading chunks = read_chunks(tables);
    std::map<int, std::map<int, core::IdSet>> not_started; // events by table and chunk

    const Clock::time_point started = Clock::now();
    Batch batch;
    batch.batch_id = next_batch_id();
    bool complete = whole;
    bool discarded = false;
    LiveTable *reading = nullptr;
    try {
        Snapshot snapshot(*source_); // read_snapshot
        postgres::CopyWriter writer(api_->session(), batch.batch_id);
        BatchBudget budget(settings_.batch_rows, settings_.batch_bytes, tables.size());
        for (LiveTable *table : tables) {
            reading = table;
            const auto states = chunks.find(table->config.table_id);
            const core::TableChunks *copying = states == chunks.end() || states->second.done ? nullptr : &states->second;
            if (copying != nullptr && copying->held)
                continue;
            const std::int64_t limit = budget.next_limit(table->size);
            if (limit == 0) {
                complete = false;
                break;
            }
            const core::IdSet in_flight_ids = ids_in_flight(table->config.table_id);
            core::EventSet events = source_->read_events(table->config, in_flight_ids, static_cast<std::size_t>(limit), copying);
            if (!events.not_started.empty())
                not_started[table->config.table_id] = std::move(events.not_started);
            complete = complete && !events.limited;
            const std::int64_t count = static_cast<std::int64_t>(events.ids.count());
            table->outbox_rows = events.limited ? -1 : count + static_cast<std::int64_t>(in_flight_ids.count());
            could_read(*table);
            if (!events.limited)
                nothing_waits(*table, count > 0 ? batch.batch_id : in_flight_.empty() ? 0 : in_flight_.back().batch_id);
            if (count == 0)
                continue;
            failpoint("pump:after_read_snapshot");
            if (!writer.started())
                failpoint("pump:before_copy_batch");
            const CopiedTable copied = copy_events(*source_, table->config, events, writer);
            table->size.learn(copied.rows, copied.bytes);
            table->oldest_us = copied.oldest_us;
            table->captured_events += count;
            budget.spend(count, copied.bytes);
            batch.parts.push_back({table->config.table_id, std::move(events.ids), copied.removes, {}});
            const bool verifies = reconciler_->applied().wanted(table->config.table_id),
                       remembers = changed_.watches(table->config.table_id);
            for (core::KeyEvent &event : events.keys) {
                if (event.key_error)
                    continue;
                if (remembers)
                    changed_.add(table->config.table_id, event.key);
                if (verifies)
                    batch.parts.back().keys.push_back(std::move(event.key));
            }
            changed_.trim(batch.batch_id, started);
        }
        snapshot.end();
        if (!batch.parts.empty())
            submit(writer, std::move(batch), started, std::nullopt);
        discarded = look_again(not_started);
    } catch (const Error &error) {
        barrier_.after_snapshot(false, 0);
        if (!for_good(error) || reading == nullptr)
            throw;
        suspect(*reading, std::string("it cannot be read on the old side: ") + error.what());
        return true;
    }
    const std::int64_t last = in_flight_.empty() ? 0 : in_flight_.back().batch_id;
    barrier_.after_snapshot(complete, last);
    barrier_.finished_up_to(in_flight_.empty() ? 0 : in_flight_.front().batch_id);
    return discarded || (!in_flight_.empty() && in_flight_.back().submitted >= started);
}

// Makes what was copied a batch: one transaction with its rows.
void Pump::submit(postgres::CopyWriter &writer, Batch batch, Clock::time_point started, const std::optional<std::string> &backfill) {
    const std::int64_t fetch_us = since(started).count();
    const Clock::time_point copied_at = Clock::now();
    failpoint("pump:before_make_durable");
    source_->make_durable();
    writer.finish();
    api_->submit_batch(batch.batch_id, row_.connection.source_id, epoch_, writer.rows(), writer.bytes(), fetch_us, backfill);
    failpoint("pump:after_copy_batch");
    stats_.fetch_us += fetch_us;
    stats_.copy_us += since(copied_at).count();
    stats_.worked = true;
    batch.submitted = Clock::now();
    in_flight_.push_back(std::move(batch));
}

bool Pump::backfills_now(const LiveTable &table) const {
    return table.stage == Stage::backfilling && table.begun && !table.direct && !table.chunk_end_sent && !table.unreadable &&
           !table.needs_reset;
}

// Next chunk of one table whose history is not copied yet, in snapshot order with the live batches (model B2: one reader).
bool Pump::copy_chunk_batch() {
    std::vector<LiveTable *> candidates;
    for (LiveTable *table : all_tables())
        if (backfills_now(*table))
            candidates.push_back(table);
    if (candidates.empty() || !backfill_->may_read_ordered(settings_))
        return false;
    LiveTable &table = *candidates[turn_ % candidates.size()];

    const Clock::time_point started = Clock::now();
    Batch batch;
    batch.batch_id = next_batch_id();
    batch.chunk_table = table.config.table_id;
    try {
        Snapshot snapshot(*source_);
        postgres::CopyWriter writer(api_->session(), batch.batch_id);
        const std::int64_t limit = std::min(table.chunk.rows(), table.size.rows_for(settings_.batch_bytes));
        mysql::ChunkEnd end = copy_chunk(*source_, table.config, table.cursor, static_cast<std::size_t>(limit), writer);
        snapshot.end();
        backfill_->read_ordered(static_cast<std::int64_t>(end.rows), since(started));
        table.size.learn(static_cast<std::int64_t>(end.rows), static_cast<std::int64_t>(end.bytes));
        batch.chunk_done = end.done;
        const std::string backfill = backfill_json(table.config.table_id, end.cursor, end.done, end.rows);
        failpoint("backfill:before_submit");
        submit(writer, std::move(batch), started, backfill);
        failpoint("backfill:after_submit");
        table.chunk.learn(static_cast<std::int64_t>(end.rows), since(started));
        table.cursor = std::move(end.cursor);
        table.chunk_end_sent = end.done;
        table.last_chunk = in_flight_.back().batch_id;
    } catch (const Error &error) {
        if (!for_good(error))
            throw;
        suspect(table, std::string("it cannot be read on the old side: ") + error.what());
    }
    return true;
}

} // namespace tandem::sync
