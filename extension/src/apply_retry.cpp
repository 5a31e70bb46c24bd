// Rows put aside (tandem.retry) and rows given up (tandem.dead_letter).
//
// A retry row was accepted under its epoch and is not checked against a later one (model A, mutant RETRYEPOCH); it holds the latest
// image of its key, because any later image removes it in its own transaction (mutant NOSUPERSEDE).
#include "apply.hpp"

#include "guc.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "common/pg_prng.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"
}

namespace tandem {
namespace {

constexpr int notified_letters = 100; // of one table and transaction
constexpr int longest_payload = 7000; // of a notification

Statement has_dead = {"SELECT FROM tandem.dead_letter WHERE table_id = $1 LIMIT 1", 1, {INT4OID}, nullptr};
Statement has_retry = {"SELECT FROM tandem.retry WHERE table_id = $1 LIMIT 1", 1, {INT4OID}, nullptr};
// With the place of the key in the array and the image, for cascade parents.
Statement take_dead = {"DELETE FROM tandem.dead_letter d USING pg_catalog.unnest($2) WITH ORDINALITY AS k (key, position) "
                       "WHERE d.table_id = $1 AND d.key = k.key RETURNING k.position, CASE d.op WHEN 'U' THEN d.image END",
                       2,
                       {INT4OID, BYTEAARRAYOID},
                       nullptr};
Statement take_retry = {"DELETE FROM tandem.retry r USING pg_catalog.unnest($2) WITH ORDINALITY AS k (key, position) "
                        "WHERE r.table_id = $1 AND r.key = k.key RETURNING k.position, CASE r.op WHEN 'U' THEN r.image END",
                        2,
                        {INT4OID, BYTEAARRAYOID},
                        nullptr};
Statement remove_dead = {"DELETE FROM tandem.dead_letter d USING pg_catalog.unnest($2) AS k (key) WHERE d.table_id = $1 AND d.key = k.key",
                         2,
                         {INT4OID, BYTEAARRAYOID},
                         nullptr};
Statement remove_retry = {"DELETE FROM tandem.retry r USING pg_catalog.unnest($2) AS k (key) WHERE r.table_id = $1 AND r.key = k.key",
                          2,
                          {INT4OID, BYTEAARRAYOID},
                          nullptr};
Statement write_retry = {
    "INSERT INTO tandem.retry (table_id, key, op, flags, image, attempts, sqlstate, message, next_attempt) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, pg_catalog.clock_timestamp() + $9 * interval '1 ms') "
    "ON CONFLICT (table_id, key) DO UPDATE SET op = excluded.op, flags = excluded.flags, image = excluded.image, "
    "attempts = excluded.attempts, sqlstate = excluded.sqlstate, message = excluded.message, next_attempt = excluded.next_attempt",
    9,
    {INT4OID, BYTEAOID, CHAROID, INT2OID, BYTEAOID, INT4OID, TEXTOID, TEXTOID, FLOAT8OID},
    nullptr};
Statement write_dead = {
    "INSERT INTO tandem.dead_letter (table_id, key, op, flags, image, attempts, sqlstate, message, detail, first_failed) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
    "ON CONFLICT (table_id, key) DO UPDATE SET op = excluded.op, flags = excluded.flags, image = excluded.image, "
    "attempts = excluded.attempts, sqlstate = excluded.sqlstate, message = excluded.message, detail = excluded.detail, "
    "first_failed = excluded.first_failed, dead_since = excluded.dead_since",
    10,
    {INT4OID, BYTEAOID, CHAROID, INT2OID, BYTEAOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
    nullptr};
// Rows of paused and blocked tables wait for tandem.resume. A row that somebody is about to discard is left to him. Rows of a table that
// violate a unique constraint go together, due or not: one may hold what another waits for.
Statement read_due = {"SELECT r.table_id, r.op, r.flags, NULL::integer, r.key, r.image, r.attempts, r.first_failed, "
                      "r.next_attempt <= pg_catalog.statement_timestamp() "
                      "FROM tandem.retry r JOIN tandem.source_table t USING (table_id) JOIN tandem.table_state s USING (table_id) "
                      "WHERE t.desired_state = 'running' AND s.state <> 'blocked' AND (r.next_attempt <= pg_catalog.statement_timestamp() "
                      "OR r.sqlstate IN ('23505', '23P01') AND EXISTS (SELECT FROM tandem.retry d WHERE d.table_id = r.table_id "
                      "AND d.sqlstate IN ('23505', '23P01') AND d.next_attempt <= pg_catalog.statement_timestamp())) "
                      "ORDER BY r.next_attempt LIMIT $1 FOR UPDATE OF r SKIP LOCKED",
                      1,
                      {INT8OID},
                      nullptr};
Statement read_next_due = {"SELECT pg_catalog.min(r.next_attempt) FROM tandem.retry r "
                           "JOIN tandem.source_table t USING (table_id) JOIN tandem.table_state s USING (table_id) "
                           "WHERE t.desired_state = 'running' AND s.state <> 'blocked'",
                           0,
                           {},
                           nullptr};

Datum key_array(const TableRows *set, bool (*wanted)(const Row *), int *count) {
    auto keys = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(Max(set->count, 1))));
    *count = 0;
    for (int i = 0; i < set->count; i++)
        if (wanted(set->rows[i]))
            keys[(*count)++] = PointerGetDatum(set->rows[i]->key);
    return PointerGetDatum(construct_array(keys, *count, BYTEAOID, -1, false, TYPALIGN_INT));
}

bool any_row(const Row *) { return true; }
bool leaves_retry(const Row *row) { return row->from_retry && row->fate != Fate::retry; }

// Doubles with every attempt; the jitter keeps rows that failed together from failing together again.
double backoff_ms(int attempts) {
    double pause = retry_backoff_min;
    for (int i = 1; i < attempts && pause < retry_backoff_max; i++)
        pause *= 2;
    return Min(pause, static_cast<double>(retry_backoff_max)) * (0.5 + 0.5 * pg_prng_double(&pg_global_prng_state));
}

void write_retry_row(const Row *row, bool waits_for_table) {
    const int attempts = waits_for_table ? row->attempts : row->attempts + 1;
    Datum values[] = {
        Int32GetDatum(row->table_id),     PointerGetDatum(row->key),       CharGetDatum(row->op),
        Int16GetDatum(row->flags),        PointerGetDatum(row->image),     Int32GetDatum(attempts),
        text_datum(row->error->sqlstate), text_datum(row->error->message), Float8GetDatum(waits_for_table ? 0.0 : backoff_ms(attempts))};
    char nulls[] = "         ";
    if (row->image == nullptr)
        nulls[4] = 'n';
    execute(&write_retry, values, nulls);
}

void write_dead_row(const Row *row) {
    const TimestampTz first = row->from_retry ? row->first_failed : GetCurrentTimestamp();
    Datum values[] = {Int32GetDatum(row->table_id),     PointerGetDatum(row->key),       CharGetDatum(row->op),
                      Int16GetDatum(row->flags),        PointerGetDatum(row->image),     Int32GetDatum(row->attempts + 1),
                      text_datum(row->error->sqlstate), text_datum(row->error->message), text_datum(row->error->detail),
                      TimestampTzGetDatum(first)};
    char nulls[] = "          ";
    if (row->image == nullptr)
        nulls[4] = 'n';
    if (row->error->detail[0] == '\0')
        nulls[8] = 'n';
    execute(&write_dead, values, nulls);
}

void notify_dead(const TableRows *set, const Row *row) {
    StringInfoData payload;
    initStringInfo(&payload);
    appendStringInfo(&payload, "{\"table_id\": %d, \"table\": ", set->table_id);
    escape_json(&payload, set->table->name);
    const char *key = key_as_json(row->key, set->table->key_columns, set->table->key_count);
    if (strlen(key) < longest_payload)
        appendStringInfo(&payload, ", \"key\": %s", key);
    appendStringInfo(&payload, ", \"sqlstate\": \"%s\"}", row->error->sqlstate);
    if (payload.len < longest_payload)
        Async_Notify("tandem_dead_letter", payload.data);
}

// 0: something is due; -1: nothing waits.
long time_until_due() {
    long wait = -1;
    connect_spi();
    if (execute(&read_next_due) > 0 && !result_is_null(0, 1)) {
        bool is_null;
        const TimestampTz due = DatumGetTimestampTz(result_value(0, 1, &is_null));
        const TimestampTz now = GetCurrentTransactionStartTimestamp();
        wait = due <= now ? 0 : Max(TimestampDifferenceMilliseconds(now, due), 1);
    }
    finish_spi();
    return wait;
}

// Also notes superseded images where children may refer to values that only they hold.
std::int64_t take_superseded(TableRows *set, Statement *remove, Statement *take, Datum *values) {
    ListCell *cell;
    bool noted = false;
    foreach (cell, set->table->cascades)
        noted = noted || !static_cast<Cascade *>(lfirst(cell))->by_key;
    if (!noted)
        return static_cast<std::int64_t>(execute(remove, values));
    const std::uint64_t count = execute(take, values);
    for (std::uint64_t i = 0; i < count; i++) {
        bool is_null;
        const Datum image = result_value(i, 2, &is_null);
        if (is_null)
            continue;
        MemoryContext before = MemoryContextSwitchTo(CurTransactionContext);
        set->rows[result_int64(i, 1) - 1]->superseded = DatumGetByteaPCopy(image);
        MemoryContextSwitchTo(before);
    }
    return static_cast<std::int64_t>(count);
}

} // namespace

void supersede(TableRows *set) {
    // Dead letters first: a session that turns one into a retry row holds the dead letter's lock, so we wait for it and then see its row.
    Datum values[] = {Int32GetDatum(set->table_id), (Datum)0};
    int count = 0;
    connect_spi();
    if (execute(&has_dead, values) > 0) {
        values[1] = key_array(set, any_row, &count);
        set->counts.superseded += take_superseded(set, &remove_dead, &take_dead, values);
    }
    if (execute(&has_retry, values) > 0) {
        values[1] = key_array(set, any_row, &count);
        set->counts.superseded += take_superseded(set, &remove_retry, &take_retry, values);
    }
    finish_spi();
}

void record_failures(TableRows *set) {
    int notified = 0;
    int leaving = 0;
    // A conflict that nobody resolved in so many attempts is not going to be resolved by another row.
    for (int i = 0; i < set->count; i++) {
        Row *row = set->rows[i];
        if (row->fate == Fate::retry && set->writable && set->table_error == nullptr && classify(*row->error) == ErrorKind::conflict &&
            row->attempts + 1 >= max_attempts && (row->due || !row->from_retry))
            row->fate = Fate::dead;
    }
    connect_spi();
    Datum values[] = {Int32GetDatum(set->table_id), key_array(set, leaves_retry, &leaving)};
    if (leaving > 0)
        execute(&remove_retry, values);
    for (int i = 0; i < set->count; i++) {
        const Row *row = set->rows[i];
        if (row->fate == Fate::retry && row->from_retry && !row->due)
            continue; // stays as it is
        if (row->fate == Fate::retry)
            write_retry_row(row, !set->writable || set->table_error != nullptr);
        else if (row->fate == Fate::dead)
            write_dead_row(row);
    }
    finish_spi();
    for (int i = 0; i < set->count && notified < notified_letters; i++) {
        if (set->rows[i]->fate != Fate::dead)
            continue;
        notify_dead(set, set->rows[i]);
        notified++;
    }
}

bool apply_due_retries(long *next_due_ms) {
    int row_count = 0;
    int table_count = 0;
    Datum limit = Int64GetDatum(batch_rows);

    begin_apply_transaction();
    *next_due_ms = time_until_due();
    if (*next_due_ms != 0) {
        commit_apply_transaction();
        return false;
    }
    Row *rows = collect_rows(&read_due, &limit, 16, &row_count);
    if (row_count == 0) { // somebody else has them locked
        *next_due_ms = retry_backoff_min;
        commit_apply_transaction();
        return false;
    }
    TableRows *tables = group_rows(rows, row_count, &table_count);
    settle_tables(tables, table_count, 0);
    failpoint("apply:before_retry_commit");
    commit_apply_transaction();
    notify_waiters();
    begin_report_transaction();
    report_settled(tables, table_count);
    commit_apply_transaction();
    return true;
}

} // namespace tandem
