// One batch of the queue, one transaction: check the epoch, expand cascades, merge, journal, remove from the queue, commit.
#include "apply.hpp"

#include "guc.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/timestamp.h"
}

namespace tandem {
namespace {

struct Batch {
    std::int64_t batch_id;
    int source_id;
    bool accepted; // of the lease's epoch
    int rows;
    std::int64_t bytes;
    std::int64_t fetch_us;
    bool has_backfill;
    TimestampTz arrived_at;
};

// The epoch is read in the transaction that applies; no lock on the lease row (model A).
Statement next_batch = {
    "SELECT b.batch_id, b.source_id, l.epoch IS NOT DISTINCT FROM b.epoch, b.rows, b.bytes, b.fetch_us, b.backfill IS NOT NULL, "
    "b.arrived_at FROM tandem.batch b LEFT JOIN tandem.lease l USING (source_id) ORDER BY b.arrival LIMIT 1",
    0,
    {},
    nullptr};
Statement read_rows = {"SELECT table_id, op, flags, age_us, key, image FROM tandem.queue WHERE batch_id = $1", 1, {INT8OID}, nullptr};
Statement remove_rows = {"DELETE FROM tandem.queue WHERE batch_id = $1", 1, {INT8OID}, nullptr};
Statement remove_batch = {"DELETE FROM tandem.batch WHERE batch_id = $1", 1, {INT8OID}, nullptr};
Statement write_journal = {
    "INSERT INTO tandem.journal (batch_id, source_id, rows, retried, dead_lettered, apply_us) VALUES ($1, $2, $3, $4, $5, $6)",
    6,
    {INT8OID, INT4OID, INT4OID, INT4OID, INT4OID, INT8OID},
    nullptr};
// Model B2: the chunk becomes done in the transaction that applies its rows. With "reset" the backfill is set back to its beginning. A table
// that is copied anew is in sync only when its sweep is done (model F).
Statement write_backfill = {
    "UPDATE tandem.table_state AS t SET "
    "backfill_rows = CASE WHEN f.backfill ? 'reset' THEN 0 ELSE t.backfill_rows END + coalesce((f.backfill->>'rows')::bigint, 0), "
    "backfill_cursor = CASE WHEN f.backfill ? 'reset' THEN NULL WHEN pg_catalog.jsonb_typeof(f.backfill->'cursor') = 'array' "
    "THEN ARRAY(SELECT pg_catalog.jsonb_array_elements_text(f.backfill->'cursor')) ELSE t.backfill_cursor END, "
    "backfill_done = NOT f.backfill ? 'reset' AND (t.backfill_done OR coalesce((f.backfill->>'done')::boolean, false)), "
    "state = CASE WHEN coalesce((f.backfill->>'done')::boolean, false) AND t.state IN ('capturing', 'backfilling') "
    "AND NOT EXISTS (SELECT FROM tandem.resync AS r WHERE r.table_id = t.table_id AND r.phase <> 'done') THEN 'syncing' ELSE t.state END, "
    "updated_at = pg_catalog.clock_timestamp() "
    "FROM (SELECT backfill FROM tandem.batch WHERE batch_id = $1) AS f WHERE t.table_id = (f.backfill->>'table_id')::integer",
    1,
    {INT8OID},
    nullptr};

// A backfill that is set back goes through the queue from then on: what waits in tandem.retry may be older than a chunk copied beside it.
Statement drop_chunks = {
    "DELETE FROM tandem.backfill_chunk AS c USING tandem.batch AS b WHERE b.batch_id = $1 "
    "AND c.table_id = (b.backfill->>'table_id')::integer AND b.backfill->'cursor' = '[]' AND b.backfill->'done' = 'false'",
    1,
    {INT8OID},
    nullptr};
Statement follow_backfill = {
    "UPDATE tandem.backfill AS t SET mode = CASE WHEN f.back THEN 'ordered' ELSE t.mode END, "
    "mode_reason = CASE WHEN f.back THEN 'it is copied again' ELSE t.mode_reason END, "
    "phase = CASE WHEN f.back THEN 'copying' ELSE 'done' END, started_at = CASE WHEN f.back THEN pg_catalog.clock_timestamp() ELSE "
    "t.started_at END, "
    "ended_at = CASE WHEN f.back THEN NULL ELSE pg_catalog.clock_timestamp() END, "
    "rows = CASE WHEN f.back THEN 0 ELSE s.backfill_rows END "
    "FROM (SELECT (b.backfill->>'table_id')::integer AS table_id, b.backfill->'done' = 'true' AS done, "
    "b.backfill->'cursor' = '[]' AND b.backfill->'done' = 'false' AS back FROM tandem.batch AS b WHERE b.batch_id = $1) AS f "
    "JOIN tandem.table_state AS s USING (table_id) WHERE t.table_id = f.table_id AND (f.done OR f.back)",
    1,
    {INT8OID},
    nullptr};
// Of a later loss than the one that this batch was sent for nothing is taken back.
Statement advance_resync = {"UPDATE tandem.resync AS r SET phase = CASE WHEN b.backfill ? 'reset' THEN 'copying' ELSE 'sweeping' END "
                            "FROM tandem.batch AS b WHERE b.batch_id = $1 AND r.table_id = (b.backfill->>'table_id')::integer "
                            "AND CASE WHEN b.backfill ? 'reset' THEN r.phase = 'due' AND r.loss = (b.backfill->>'reset')::bigint "
                            "ELSE r.phase = 'copying' AND (b.backfill->>'done')::boolean END",
                            1,
                            {INT8OID},
                            nullptr};
// All rows that are there are read again, and rows that are not are looked for: what waits is older than either.
Statement drop_waiting = {"WITH t AS (SELECT (b.backfill->>'table_id')::integer AS table_id FROM tandem.batch AS b WHERE b.batch_id = $1 "
                          "AND b.backfill ? 'reset'), "
                          "r AS (DELETE FROM tandem.retry AS r USING t WHERE r.table_id = t.table_id) "
                          "DELETE FROM tandem.dead_letter AS d USING t WHERE d.table_id = t.table_id",
                          1,
                          {INT8OID},
                          nullptr};

// The table whose backfill ends with this batch.
Statement read_ended_backfill = {
    "SELECT s.table_id FROM tandem.batch b JOIN tandem.table_state s ON s.table_id = (b.backfill->>'table_id')::integer "
    "WHERE b.batch_id = $1 AND (b.backfill->>'done')::boolean AND NOT s.backfill_done",
    1,
    {INT8OID},
    nullptr};
Statement journalled = {"SELECT FROM tandem.journal WHERE batch_id = $1", 1, {INT8OID}, nullptr};

// --- rows of the queue come straight into our own array -----------------------------------------------------------------------------

struct RowReceiver {
    DestReceiver base; // first: the server knows only this
    MemoryContext context;
    Row *rows;
    int count;
    int space;
};

bytea *copy_bytes(Datum value, MemoryContext context) {
    MemoryContext before = MemoryContextSwitchTo(context);
    bytea *copy = DatumGetByteaPCopy(value);
    MemoryContextSwitchTo(before);
    return copy;
}

bool receive_row(TupleTableSlot *slot, DestReceiver *self) {
    auto receiver = reinterpret_cast<RowReceiver *>(self);
    slot_getallattrs(slot);
    if (receiver->count == receiver->space) {
        receiver->space *= 2;
        receiver->rows = static_cast<Row *>(repalloc_huge(receiver->rows, sizeof(Row) * static_cast<size_t>(receiver->space)));
    }
    Row *row = &receiver->rows[receiver->count];
    memset(row, 0, sizeof *row);
    row->table_id = DatumGetInt32(slot->tts_values[0]);
    row->op = DatumGetChar(slot->tts_values[1]);
    row->flags = DatumGetInt16(slot->tts_values[2]);
    row->has_age = !slot->tts_isnull[3];
    row->age_us = row->has_age ? DatumGetInt32(slot->tts_values[3]) : 0;
    row->key = copy_bytes(slot->tts_values[4], receiver->context);
    row->image = slot->tts_isnull[5] ? nullptr : copy_bytes(slot->tts_values[5], receiver->context);
    if (slot->tts_tupleDescriptor->natts > 6) {
        row->from_retry = true;
        row->attempts = DatumGetInt32(slot->tts_values[6]);
        row->first_failed = DatumGetTimestampTz(slot->tts_values[7]);
        row->due = DatumGetBool(slot->tts_values[8]);
    }
    row->position = receiver->count++;
    return true;
}

void receiver_starts(DestReceiver *, int, TupleDesc) {}
void receiver_ends(DestReceiver *) {}

bool fetch_batch(Batch *batch) {
    connect_spi();
    const bool found = execute(&next_batch) > 0;
    if (found) {
        bool is_null;
        batch->batch_id = result_int64(0, 1);
        batch->source_id = result_int32(0, 2);
        batch->accepted = result_bool(0, 3);
        batch->rows = result_int32(0, 4);
        batch->bytes = result_int64(0, 5);
        batch->fetch_us = result_int32(0, 6);
        batch->has_backfill = result_bool(0, 7);
        batch->arrived_at = DatumGetTimestampTz(result_value(0, 8, &is_null));
    }
    finish_spi();
    return found;
}

void end_backfill(const Batch &batch) {
    Datum id = Int64GetDatum(batch.batch_id);
    int table_id = 0;
    connect_spi();
    if (execute(&read_ended_backfill, &id) > 0)
        table_id = result_int32(0, 1);
    finish_spi();
    if (table_id != 0)
        request_orphans(table_id);
}

// A name that was used before can only be a mistake of whoever sent the batch. Its acknowledgement is there and cannot be given again.
bool was_journalled(const Batch &batch) {
    Datum id = Int64GetDatum(batch.batch_id);
    connect_spi();
    const bool found = execute(&journalled, &id) > 0;
    finish_spi();
    if (found)
        ereport(WARNING, (errmsg("batch %lld has been applied before and is dropped", static_cast<long long>(batch.batch_id)),
                          errdetail("A batch with this name is in tandem.journal; this one has %d rows.", batch.rows),
                          errhint("Names of batches are never used twice by tandem-sync: look for another program that calls "
                                  "tandem.submit_batch. Compare the tables concerned with the old side.")));
    return found;
}

void finish_batch(const Batch &batch, const TableRows *tables, int count, std::int64_t apply_us) {
    std::int64_t retried = 0;
    std::int64_t dead = 0;
    for (int i = 0; i < count; i++) {
        retried += tables[i].counts.retried;
        dead += tables[i].counts.dead_lettered;
    }
    Datum values[] = {Int64GetDatum(batch.batch_id),
                      Int32GetDatum(batch.source_id),
                      Int32GetDatum(batch.rows),
                      Int32GetDatum(static_cast<std::int32_t>(retried)),
                      Int32GetDatum(static_cast<std::int32_t>(dead)),
                      Int64GetDatum(apply_us)};
    connect_spi();
    if (batch.accepted) {
        if (batch.has_backfill) {
            execute(&write_backfill, values);
            execute(&drop_chunks, values);
            execute(&follow_backfill, values);
            execute(&advance_resync, values);
            execute(&drop_waiting, values);
        }
        execute(&write_journal, values);
    }
    execute(&remove_rows, values);
    execute(&remove_batch, values);
    finish_spi();
}

void report_batch(const Batch &batch, const TableRows *tables, int count, TimestampTz started) {
    const TimestampTz now = GetCurrentTimestamp();
    const std::int64_t since_fetch = batch.fetch_us + (now - batch.arrived_at);
    stats_batch_applied(batch.source_id, batch.rows, batch.bytes, batch.fetch_us, now - started);
    for (int i = 0; i < count; i++) {
        if (tables[i].narrowed)
            stats_batch_narrowed(batch.source_id);
        for (int j = 0; j < tables[i].count; j++)
            if (tables[i].rows[j]->has_age && tables[i].rows[j]->fate == Fate::applied)
                stats_table_latency(tables[i].table_id, tables[i].rows[j]->age_us + since_fetch);
    }
}

} // namespace

Row *collect_rows(Statement *statement, Datum *values, int expected, int *count) {
    RowReceiver receiver;
    memset(&receiver, 0, sizeof receiver);
    receiver.base.receiveSlot = receive_row;
    receiver.base.rStartup = receiver_starts;
    receiver.base.rShutdown = receiver_ends;
    receiver.base.rDestroy = receiver_ends;
    receiver.base.mydest = DestNone;
    receiver.context = CurrentMemoryContext;
    receiver.space = Max(expected, 16);
    receiver.rows = static_cast<Row *>(MemoryContextAllocHuge(receiver.context, sizeof(Row) * static_cast<size_t>(receiver.space)));
    connect_spi();
    execute(statement, values, nullptr, &receiver.base);
    finish_spi();
    *count = receiver.count;
    return receiver.rows;
}

bool apply_next_batch() {
    Batch batch = {};
    TableRows *tables = nullptr;
    int table_count = 0;
    const TimestampTz started = GetCurrentTimestamp();

    begin_apply_transaction();
    if (!fetch_batch(&batch)) {
        commit_apply_transaction();
        return false;
    }
    batch.accepted = batch.accepted && !was_journalled(batch);
    if (batch.accepted) {
        int row_count = 0;
        Datum id = Int64GetDatum(batch.batch_id);
        Row *rows = collect_rows(&read_rows, &id, batch.rows, &row_count);
        tables = group_rows(rows, row_count, &table_count);
        settle_tables(tables, table_count, batch.batch_id);
        if (batch.has_backfill)
            end_backfill(batch);
    }
    finish_batch(batch, tables, table_count, GetCurrentTimestamp() - started);
    failpoint("apply:before_commit");
    commit_apply_transaction();
    failpoint("apply:after_commit");

    notify_waiters();
    if (batch.accepted)
        report_batch(batch, tables, table_count, started);
    else
        stats_batch_refused(batch.source_id);
    begin_report_transaction(); // keys are decoded for the log
    report_settled(tables, table_count);
    commit_apply_transaction();
    return true;
}

} // namespace tandem
