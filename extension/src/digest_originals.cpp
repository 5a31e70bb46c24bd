// Originals of values that PostgreSQL cannot hold belong to a row like its columns: each adds a hash of its own to the row's. See digest.hpp.
#include "digest.hpp"

extern "C" {
#include "catalog/pg_type.h"
}

namespace tandem {
namespace {

constexpr int keys_at_once = 10000;

// Entries come with the number of their key.
Statement read_originals = {"SELECT k.number::pg_catalog.int4, s.column_name, s.rule, s.original "
                            "FROM pg_catalog.unnest($2) WITH ORDINALITY AS k (key, number) JOIN tandem.sidecar AS s "
                            "ON s.table_id OPERATOR(pg_catalog.=) $1 AND s.key OPERATOR(pg_catalog.=) k.key",
                            2,
                            {INT4OID, BYTEAARRAYOID},
                            nullptr};
Statement read_losses = {"SELECT l.\"column\", l.rule, pg_catalog.decode(l.bytes, 'hex') "
                         "FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS l (\"column\" pg_catalog.text, rule pg_catalog.text, "
                         "policy pg_catalog.text, bytes pg_catalog.text) WHERE l.policy OPERATOR(pg_catalog.=) 'sidecar'",
                         1,
                         {TEXTOID},
                         nullptr};

void append_part(RowBytes *bytes, const char *data, Size length) {
    // Length and bytes; the tag of the whole stands in front.
    append_field(bytes, ValueClass::sidecar, data, length);
}

void add_entry(RowBytes *bytes, KeyedRow *row, const char *secret, std::uint64_t result_row, int first) {
    bool is_null;
    append_part(bytes, VARDATA_ANY(row->key), VARSIZE_ANY_EXHDR(row->key));
    for (int i = 0; i < 3; i++) {
        const bytea *part = DatumGetByteaPP(result_value(result_row, first + i, &is_null));
        append_part(bytes, VARDATA_ANY(part), VARSIZE_ANY_EXHDR(part));
    }
    const RowHash hash = take_hash(bytes, secret);
    row->hash.low += hash.low;
    row->hash.high += hash.high;
}

} // namespace

void add_originals(const ComparedTable *compared, const bytea *secret, KeyedRow *rows, int count) {
    RowBytes bytes;
    begin_row_bytes(&bytes, CurrentMemoryContext);
    auto keys = static_cast<Datum *>(palloc(sizeof(Datum) * keys_at_once));
    for (int first = 0; first < count; first += keys_at_once) {
        const int some = Min(keys_at_once, count - first);
        for (int i = 0; i < some; i++)
            keys[i] = PointerGetDatum(rows[first + i].key);
        Datum values[] = {Int32GetDatum(compared->table->table_id),
                          PointerGetDatum(construct_array(keys, some, BYTEAOID, -1, false, TYPALIGN_INT))};
        connect_spi();
        const std::uint64_t found = execute_read_only(&read_originals, values);
        for (std::uint64_t i = 0; i < found; i++) {
            KeyedRow *row = &rows[first + result_int32(i, 1) - 1];
            if (row->present)
                add_entry(&bytes, row, secret_of(secret), i, 2);
        }
        finish_spi();
        CHECK_FOR_INTERRUPTS();
    }
}

void add_losses(const bytea *secret, KeyedRow *row) {
    text *losses = losses_of_image(row->image);
    if (losses == nullptr)
        return;
    RowBytes bytes;
    begin_row_bytes(&bytes, CurrentMemoryContext);
    Datum value = PointerGetDatum(losses);
    connect_spi();
    const std::uint64_t found = execute_read_only(&read_losses, &value);
    for (std::uint64_t i = 0; i < found; i++)
        add_entry(&bytes, row, secret_of(secret), i, 1);
    finish_spi();
}

} // namespace tandem
