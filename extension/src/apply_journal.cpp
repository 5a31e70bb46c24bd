// Keys that a transaction of apply touched, for reconciliation: written with the rows, so whoever sees one sees the other
// (docs/protocol.md section 13). A hash that two keys share only makes one of them be looked at again.
#include "apply.hpp"

#include "canonical.hpp"
#include "guc.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
}

namespace tandem {
namespace {

constexpr Size hash_bytes = 8;
constexpr int kept_horizons = 8; // one for each turn of maintenance, the oldest is the one that counts

Statement write_keys = {
    "INSERT INTO tandem.journal_keys (table_id, xid, hashes, writers) VALUES ($1, pg_catalog.pg_current_xact_id(), $2, $3)",
    3,
    {INT4OID, BYTEAOID, INT8ARRAYOID},
    nullptr};
Statement read_horizon = {
    "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8", 0, {}, nullptr};
// The counts outlive their rows: they tell how many rows changed since a pass began.
Statement prune_keys = {"WITH gone AS (DELETE FROM tandem.journal_keys WHERE xid < $1::pg_catalog.text::pg_catalog.xid8 "
                        "RETURNING table_id, pg_catalog.length(hashes) / 8 AS keys), "
                        "horizon AS (UPDATE tandem.journal_horizon SET xid = $1::pg_catalog.text::pg_catalog.xid8 WHERE xid < "
                        "$1::pg_catalog.text::pg_catalog.xid8) "
                        "UPDATE tandem.reconcile_ledger AS l SET pruned_changes = l.pruned_changes + g.keys "
                        "FROM (SELECT table_id, sum(keys) AS keys FROM gone GROUP BY table_id) AS g WHERE l.table_id = g.table_id",
                        1,
                        {INT8OID},
                        nullptr};

std::int64_t horizons[kept_horizons];
int horizon_count = 0;

// Rows bear the ids of the subtransactions that wrote them.
Datum writers() {
    TransactionId *children;
    const int count = xactGetCommittedChildren(&children);
    auto ids = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; i++)
        ids[i] = Int64GetDatum(children[i]);
    return PointerGetDatum(construct_array(ids, count, INT8OID, sizeof(std::int64_t), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

} // namespace

void journal_keys(const TableRows *set) {
    if (set->count == 0)
        return;
    const Size length = VARHDRSZ + hash_bytes * static_cast<Size>(set->count);
    auto hashes = static_cast<bytea *>(MemoryContextAllocHuge(CurrentMemoryContext, length));
    SET_VARSIZE(hashes, length);
    char *at = VARDATA(hashes);
    for (int i = 0; i < set->count; i++, at += hash_bytes) {
        const std::uint64_t hash = pg_hton64(hash_of_key(set->rows[i]->key));
        memcpy(at, &hash, hash_bytes);
    }
    Datum values[] = {Int32GetDatum(set->table_id), PointerGetDatum(hashes), writers()};
    connect_spi();
    execute(&write_keys, values);
    finish_spi();
    pfree(hashes);
}

void prune_journal_keys() {
    connect_spi();
    execute(&read_horizon);
    const std::int64_t now = result_int64(0, 1);
    if (horizon_count == kept_horizons) {
        Datum oldest = Int64GetDatum(horizons[0]);
        execute(&prune_keys, &oldest);
        memmove(horizons, horizons + 1, sizeof horizons[0] * (kept_horizons - 1));
        horizon_count--;
    }
    horizons[horizon_count++] = now;
    finish_spi();
}

} // namespace tandem
