// What the old side has and PostgreSQL cannot hold (docs/protocol.md section 11): the worker put NULL or a declared value into the image and
// noted the loss behind it. Here the originals are kept and the losses counted, in the transaction that changes the row and only if it
// does: a row that waits in tandem.retry has its originals as they were.
#include "apply.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
}

namespace tandem {
namespace {

Statement forget_originals = {"DELETE FROM tandem.sidecar s USING pg_catalog.unnest($2) AS k (key) WHERE s.table_id = $1 AND s.key = k.key",
                              2,
                              {INT4OID, BYTEAARRAYOID},
                              nullptr};
// A key that is in the set twice keeps what came last.
Statement keep_originals = {"INSERT INTO tandem.sidecar (table_id, key, column_name, rule, original) "
                            "SELECT DISTINCT ON (r.key, l.\"column\") $1, r.key, l.\"column\", l.rule, pg_catalog.decode(l.bytes, 'hex') "
                            "FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS r (key, losses, position), "
                            "pg_catalog.jsonb_to_recordset(r.losses::jsonb) AS l (\"column\" text, rule text, policy text, bytes text) "
                            "WHERE l.policy = 'sidecar' ORDER BY r.key, l.\"column\", r.position DESC",
                            3,
                            {INT4OID, BYTEAARRAYOID, TEXTARRAYOID},
                            nullptr};
Statement count_losses = {
    "INSERT INTO tandem.mapped_loss AS m (table_id, column_name, rule, policy, times) "
    "SELECT $1, l.\"column\", l.rule, l.policy, pg_catalog.count(*) FROM pg_catalog.unnest($2) AS r (losses), "
    "pg_catalog.jsonb_to_recordset(r.losses::jsonb) AS l (\"column\" text, rule text, policy text) GROUP BY l.\"column\", l.rule, l.policy "
    "ON CONFLICT (table_id, column_name, rule, policy) DO UPDATE "
    "SET times = m.times + excluded.times, last_at = pg_catalog.clock_timestamp()",
    2,
    {INT4OID, TEXTARRAYOID},
    nullptr};

Datum array_of(Datum *elements, int count, Oid type) {
    return PointerGetDatum(construct_array(elements, count, type, -1, false, TYPALIGN_INT));
}

} // namespace

void record_losses(TableRows *set) {
    if (!set->table->has_policies)
        return;
    const size_t space = sizeof(Datum) * static_cast<size_t>(Max(set->count, 1));
    auto applied = static_cast<Datum *>(palloc(space));
    auto keys = static_cast<Datum *>(palloc(space));
    auto losses = static_cast<Datum *>(palloc(space));
    int applied_count = 0;
    int count = 0;
    for (int i = 0; i < set->count; i++) {
        const Row *row = set->rows[i];
        if (row->fate != Fate::applied)
            continue;
        applied[applied_count++] = PointerGetDatum(row->key);
        text *noted = row->op == 'U' && !row->left_out && (row->flags & flag_losses) != 0 ? losses_of_image(row->image) : nullptr;
        if (noted == nullptr)
            continue;
        keys[count] = PointerGetDatum(row->key);
        losses[count++] = PointerGetDatum(noted);
    }
    if (applied_count == 0)
        return;
    Datum values[] = {Int32GetDatum(set->table_id), array_of(applied, applied_count, BYTEAOID), (Datum)0};
    connect_spi();
    execute(&forget_originals, values);
    if (count > 0) {
        values[1] = array_of(keys, count, BYTEAOID);
        values[2] = array_of(losses, count, TEXTOID);
        execute(&keep_originals, values);
        values[1] = values[2];
        execute(&count_losses, values);
    }
    finish_spi();
}

} // namespace tandem
