// Which keys are in flight after a snapshot P: journalled by transactions that P does not see, or waiting in tandem.retry and the like
// (docs/protocol.md sections 13 and 14; model C: J and W). All of it is read under one snapshot, the caller's.
#include "canonical.hpp"

#include "catalog.hpp"
#include "pg/leaf.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
}

namespace tandem {
namespace {

constexpr Size hash_bytes = 8;

Statement read_journal = {
    "SELECT hashes FROM tandem.journal_keys WHERE table_id OPERATOR(pg_catalog.=) $1 "
    "AND xid OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmin($2) AND NOT pg_catalog.pg_visible_in_snapshot(xid, $2)",
    2,
    {INT4OID, PG_SNAPSHOTOID},
    nullptr};
Statement read_waiting = {"SELECT w.key, w.reason FROM tandem._waiting_key AS w WHERE w.table_id OPERATOR(pg_catalog.=) $1 "
                          "AND w.key OPERATOR(pg_catalog.=) ANY ($2)",
                          2,
                          {INT4OID, BYTEAARRAYOID},
                          nullptr};

// A table without triggers on the old side: nothing there tells of a write that came through a routed view until tandem.write_done asks for the row.
Statement read_written = {"SELECT q.key FROM tandem.write_queue AS q JOIN tandem.source_table AS t USING (table_id) "
                          "WHERE q.table_id OPERATOR(pg_catalog.=) $1 AND t.capture OPERATOR(pg_catalog.=) 'foreign' AND NOT q.given_up",
                          1,
                          {INT4OID},
                          nullptr};
Statement read_requests = {"SELECT r.key_text FROM tandem.request AS r WHERE r.table_id OPERATOR(pg_catalog.=) $1", 1, {INT4OID}, nullptr};
Statement ancestor_waits = {"SELECT tandem._ancestor_waits($1)", 1, {INT4OID}, nullptr};

struct HashedKey {
    std::uint64_t hash;
    Datum key;
    const char *reason;
};

int compare_hashes(const void *left, const void *right) {
    const std::uint64_t a = static_cast<const HashedKey *>(left)->hash;
    const std::uint64_t b = static_cast<const HashedKey *>(right)->hash;
    return a < b ? -1 : a > b ? 1 : 0;
}

void mark(HashedKey *keys, int count, std::uint64_t hash, const char *reason) {
    int low = 0;
    int high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (keys[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < count && keys[low].hash == hash; low++)
        keys[low].reason = reason;
}

void mark_journalled(HashedKey *keys, int count, Datum *values) {
    const std::uint64_t rows = execute_read_only(&read_journal, values);
    for (std::uint64_t i = 0; i < rows; i++) {
        bool is_null;
        const bytea *hashes = DatumGetByteaPP(result_value(i, 1, &is_null));
        const char *at = VARDATA_ANY(hashes);
        const char *end = at + VARSIZE_ANY_EXHDR(hashes);
        for (; at + hash_bytes <= end; at += hash_bytes) {
            std::uint64_t hash;
            memcpy(&hash, at, hash_bytes);
            mark(keys, count, pg_ntoh64(hash), "journal");
        }
        CHECK_FOR_INTERRUPTS();
    }
}

struct RequestedKey {
    const SourceTable *table;
    ArrayType *text;
    bytea *key;
};

void encode_requested(void *argument) {
    auto work = static_cast<RequestedKey *>(argument);
    const SourceTable *table = work->table;
    Datum *elements;
    bool *nulls;
    int count;
    deconstruct_array(work->text, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    if (count != table->key_count)
        return;
    for (int i = 0; i < count; i++)
        if (!nulls[i])
            elements[i] = InputFunctionCall(&table->key_columns[i]->input, TextDatumGetCString(elements[i]),
                                            table->key_columns[i]->input_parameter, table->key_columns[i]->typmod);
    work->key = encode_image(table->key_columns, count, elements, nulls);
}

// Keys that will be fetched again but are not in their outbox yet.
void mark_requested(HashedKey *keys, int count, Datum *values) {
    const std::uint64_t rows = execute_read_only(&read_requests, values);
    if (rows == 0)
        return;
    SPITupleTable *requests = SPI_tuptable;
    SourceTable *table = load_columns(DatumGetInt32(values[0]));
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem requests", ALLOCSET_DEFAULT_SIZES);
    const int level = pin_text_forms();
    for (std::uint64_t i = 0; i < rows && table != nullptr; i++) {
        MemoryContext before = MemoryContextSwitchTo(context);
        bool is_null;
        SqlError ignored; // nobody can fetch such a key
        RequestedKey work = {table, DatumGetArrayTypeP(SPI_getbinval(requests->vals[i], requests->tupdesc, 1, &is_null)), nullptr};
        if (run_in_subtransaction(encode_requested, &work, &ignored) && work.key != nullptr)
            mark(keys, count, hash_of_key(work.key), "request");
        MemoryContextSwitchTo(before);
        MemoryContextReset(context);
        CHECK_FOR_INTERRUPTS();
    }
    AtEOXact_GUC(false, level);
    MemoryContextDelete(context);
}

// Keys that will be asked for once the old side has what was written.
void mark_written(HashedKey *keys, int count, Datum *values) {
    const std::uint64_t rows = execute_read_only(&read_written, values);
    for (std::uint64_t i = 0; i < rows; i++) {
        bool is_null;
        mark(keys, count, hash_of_key(DatumGetByteaPP(result_value(i, 1, &is_null))), "request");
        CHECK_FOR_INTERRUPTS();
    }
}

// A row that an ancestor's cascade removed may not be asked for yet: then nothing is known of any row.
bool any_may_cascade(Datum *values) {
    execute_read_only(&ancestor_waits, values);
    return result_bool(0, 1);
}

} // namespace
} // namespace tandem

using namespace tandem;

TANDEM_FUNCTION(tandem_chunk_in_flight);
extern "C" Datum tandem_chunk_in_flight(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    auto info = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    ArrayType *array = PG_GETARG_ARRAYTYPE_P(2);
    Datum *elements;
    bool *element_nulls;
    int count;
    deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &elements, &element_nulls, &count);
    auto keys = static_cast<HashedKey *>(palloc(sizeof(HashedKey) * static_cast<Size>(Max(count, 1))));
    int known = 0;
    for (int i = 0; i < count; i++)
        if (!element_nulls[i])
            keys[known++] = {hash_of_key(DatumGetByteaPP(elements[i])), elements[i], nullptr};
    qsort(keys, static_cast<Size>(known), sizeof(HashedKey), compare_hashes);

    Datum values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
    bool nulls[] = {false, false};
    connect_spi();
    if (any_may_cascade(values))
        for (int i = 0; i < known; i++)
            keys[i].reason = "cascade";
    mark_journalled(keys, known, values);
    mark_requested(keys, known, values);
    mark_written(keys, known, values);
    values[1] = PointerGetDatum(array);
    const std::uint64_t waiting = execute_read_only(&read_waiting, values);
    for (std::uint64_t i = 0; i < waiting; i++) {
        Datum row[] = {result_value(i, 1, &nulls[0]), result_value(i, 2, &nulls[1])};
        tuplestore_putvalues(info->setResult, info->setDesc, row, nulls);
    }
    finish_spi();
    for (int i = 0; i < known; i++) {
        if (keys[i].reason == nullptr)
            continue;
        Datum row[] = {keys[i].key, CStringGetTextDatum(keys[i].reason)};
        tuplestore_putvalues(info->setResult, info->setDesc, row, nulls);
    }
    return (Datum)0;
}

TANDEM_FUNCTION(tandem_has_hash);
extern "C" Datum tandem_has_hash(PG_FUNCTION_ARGS) {
    const bytea *hashes = PG_GETARG_BYTEA_PP(0);
    const std::uint64_t wanted = pg_hton64(hash_of_key(PG_GETARG_BYTEA_PP(1)));
    const char *at = VARDATA_ANY(hashes);
    const char *end = at + VARSIZE_ANY_EXHDR(hashes);
    for (; at + hash_bytes <= end; at += hash_bytes)
        if (memcmp(at, &wanted, hash_bytes) == 0)
            PG_RETURN_BOOL(true);
    PG_RETURN_BOOL(false);
}

// For those who touch rows of a table in another way than apply, and must journal their keys as it does.
TANDEM_FUNCTION(tandem_key_hashes);
extern "C" Datum tandem_key_hashes(PG_FUNCTION_ARGS) {
    Datum *keys;
    int count;
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), BYTEAOID, -1, false, TYPALIGN_INT, &keys, nullptr, &count);
    const Size length = VARHDRSZ + hash_bytes * static_cast<Size>(count);
    auto hashes = static_cast<bytea *>(palloc(length));
    SET_VARSIZE(hashes, length);
    for (int i = 0; i < count; i++) {
        const std::uint64_t hash = pg_hton64(hash_of_key(DatumGetByteaPP(keys[i])));
        memcpy(VARDATA(hashes) + hash_bytes * static_cast<Size>(i), &hash, hash_bytes);
    }
    PG_RETURN_BYTEA_P(hashes);
}
