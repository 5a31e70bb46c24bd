// Rows that differ, column by column: what apply would write, and what is there. See digest.hpp.
#include "digest.hpp"

#include "pg/leaf.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
}

namespace tandem {
namespace {

constexpr int longest_value = 2000; // bytes of a value that are shown

// One side's values of one row.
struct Shown {
    bool present;
    RowHash *hashes; // of each column
    char **texts;    // nullptr: NULL
};

struct Collection {
    ComparedTable *compared;
    Shown *rows;
    FmgrInfo *outputs;
    RowBytes bytes;
    MemoryContext context;
};

struct Difference {
    StringInfoData columns; // elements of a JSON array
    StringInfoData before;
    StringInfoData now;
};

// Two originals of a value that PostgreSQL cannot hold, of the row with this number: noted in the image, kept in tandem.sidecar.
Statement read_differing_originals = {
    "SELECT coalesce(e.number, a.number)::pg_catalog.int4, coalesce(e.name, a.name), e.bytes, a.bytes FROM ("
    "SELECT k.number, l.\"column\" AS name, l.rule, l.bytes "
    "FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY AS k (key, losses, number), "
    "pg_catalog.jsonb_to_recordset(k.losses::pg_catalog.jsonb) AS l (\"column\" pg_catalog.text, rule pg_catalog.text, policy "
    "pg_catalog.text, "
    "bytes pg_catalog.text) WHERE l.policy OPERATOR(pg_catalog.=) 'sidecar') AS e "
    "FULL JOIN (SELECT k.number, s.column_name AS name, s.rule, pg_catalog.encode(s.original, 'hex') AS bytes "
    "FROM pg_catalog.unnest($2) WITH ORDINALITY AS k (key, number) JOIN tandem.sidecar AS s "
    "ON s.table_id OPERATOR(pg_catalog.=) $1 AND s.key OPERATOR(pg_catalog.=) k.key) AS a "
    "ON a.number OPERATOR(pg_catalog.=) e.number AND a.name OPERATOR(pg_catalog.=) e.name "
    "WHERE ROW(e.rule, e.bytes) IS DISTINCT FROM ROW(a.rule, a.bytes) ORDER BY 1, 2",
    3,
    {INT4OID, BYTEAARRAYOID, TEXTARRAYOID},
    nullptr};

Statement read_causes = {
    "SELECT c.number, c.cause FROM tandem._causes($1, $2) AS c WHERE c.cause IS NOT NULL", 2, {INT4OID, INT8ARRAYOID}, nullptr};

void begin_collection(Collection *collection, ComparedTable *compared, int count) {
    collection->compared = compared;
    collection->context = CurrentMemoryContext;
    collection->rows = static_cast<Shown *>(palloc0(sizeof(Shown) * static_cast<Size>(Max(count, 1))));
    collection->outputs = static_cast<FmgrInfo *>(palloc(sizeof(FmgrInfo) * static_cast<Size>(Max(compared->count, 1))));
    begin_row_bytes(&collection->bytes, CurrentMemoryContext);
    for (int i = 0; i < compared->count; i++) {
        Oid function;
        bool varlena;
        getTypeOutputInfo(compared->canonical[i].type, &function, &varlena);
        fmgr_info(function, &collection->outputs[i]);
    }
}

char *shown_text(FmgrInfo *output, Datum value, MemoryContext context) {
    const char *text = OutputFunctionCall(output, value);
    const int length = static_cast<int>(strlen(text));
    MemoryContext before = MemoryContextSwitchTo(context);
    char *shown =
        length <= longest_value ? pstrdup(text) : psprintf("%.*s… (%d bytes)", pg_mbcliplen(text, length, longest_value), text, length);
    MemoryContextSwitchTo(before);
    return shown;
}

void collect_row(void *argument, int number, const Datum *values, const bool *nulls) {
    static const char secret[secret_bytes] = {0}; // columns of the two sides are compared with each other only
    auto collection = static_cast<Collection *>(argument);
    const int count = collection->compared->count;
    Shown *row = &collection->rows[number];
    row->present = true;
    row->hashes = static_cast<RowHash *>(MemoryContextAlloc(collection->context, sizeof(RowHash) * static_cast<Size>(Max(count, 1))));
    row->texts = static_cast<char **>(MemoryContextAllocZero(collection->context, sizeof(char *) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; i++) {
        if (nulls[i]) {
            append_null(&collection->bytes);
        } else {
            append_value(&collection->bytes, &collection->compared->canonical[i], values[i]);
            row->texts[i] = shown_text(&collection->outputs[i], values[i], collection->context);
        }
        row->hashes[i] = take_hash(&collection->bytes, secret);
    }
}

void append_member(StringInfo out, const char *name, const char *text) {
    if (out->len > 0)
        appendStringInfoString(out, ", ");
    escape_json(out, name);
    appendStringInfoString(out, ": ");
    if (text == nullptr)
        appendStringInfoString(out, "null");
    else
        escape_json(out, text);
}

void append_name(StringInfo out, const char *name) {
    if (out->len > 0)
        appendStringInfoString(out, ", ");
    escape_json(out, name);
}

void append_values(StringInfo out, const ComparedTable *compared, const Shown *row) {
    for (int i = 0; i < compared->count; i++)
        append_member(out, compared->columns[i]->name, row->texts[i]);
}

void append_differing(Difference *difference, const ComparedTable *compared, const Shown *before, const Shown *now) {
    for (int i = 0; i < compared->count; i++) {
        if (before->hashes[i].low == now->hashes[i].low && before->hashes[i].high == now->hashes[i].high)
            continue;
        append_name(&difference->columns, compared->columns[i]->name);
        append_member(&difference->before, compared->columns[i]->name, before->texts[i]);
        append_member(&difference->now, compared->columns[i]->name, now->texts[i]);
    }
}

void append_originals(const ComparedTable *compared, const KeyedRow *rows, const Shown *before, const Shown *now, int count,
                      Difference *differences) {
    auto keys = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(count)));
    auto losses = static_cast<Datum *>(palloc0(sizeof(Datum) * static_cast<Size>(count)));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<Size>(count)));
    bool any = compared->has_originals;
    for (int i = 0; i < count; i++) {
        keys[i] = PointerGetDatum(rows[i].key);
        text *noted = before[i].present && now[i].present ? losses_of_image(rows[i].image) : nullptr;
        nulls[i] = noted == nullptr;
        any = any || noted != nullptr;
        losses[i] = PointerGetDatum(noted);
    }
    if (!any)
        return;
    int bounds[] = {1};
    Datum values[] = {Int32GetDatum(compared->table->table_id),
                      PointerGetDatum(construct_array(keys, count, BYTEAOID, -1, false, TYPALIGN_INT)),
                      PointerGetDatum(construct_md_array(losses, nulls, 1, &count, bounds, TEXTOID, -1, false, TYPALIGN_INT))};
    MemoryContext context = CurrentMemoryContext;
    connect_spi();
    const std::uint64_t found = execute_read_only(&read_differing_originals, values);
    for (std::uint64_t i = 0; i < found; i++) {
        const int number = result_int32(i, 1) - 1;
        if (!before[number].present || !now[number].present)
            continue;
        const char *name = psprintf("%s (original)", result_text(i, 2, context));
        append_name(&differences[number].columns, name);
        append_member(&differences[number].before, name, result_text(i, 3, context));
        append_member(&differences[number].now, name, result_text(i, 4, context));
    }
    finish_spi();
}

// Who wrote the row of the target tells which side went astray; nullptr: nothing tells it.
const char **find_causes(const SourceTable *table, const KeyedRow *rows, int count) {
    auto causes = static_cast<const char **>(palloc0(sizeof(char *) * static_cast<Size>(Max(count, 1))));
    auto writers = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; i++)
        writers[i] = Int64GetDatum(rows[i].writer);
    Datum values[] = {Int32GetDatum(table->table_id),
                      PointerGetDatum(construct_array(writers, count, INT8OID, sizeof(std::int64_t), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE))};
    MemoryContext context = CurrentMemoryContext;
    connect_spi();
    const std::uint64_t found = count == 0 ? 0 : execute_read_only(&read_causes, values);
    for (std::uint64_t i = 0; i < found; i++)
        causes[result_int32(i, 1) - 1] = result_text(i, 2, context);
    finish_spi();
    return causes;
}

struct KeyCheck {
    const SourceTable *table;
    const bytea *key;
    bool same;
};

void write_key_again(void *argument) {
    auto check = static_cast<KeyCheck *>(argument);
    const Size count = static_cast<Size>(check->table->key_count);
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * count));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * count));
    decode_image(check->key, check->table->key_columns, check->table->key_count, values, nulls);
    const bytea *again = encode_image(check->table->key_columns, check->table->key_count, values, nulls);
    check->same = VARSIZE_ANY_EXHDR(again) == VARSIZE_ANY_EXHDR(check->key) &&
                  memcmp(VARDATA_ANY(again), VARDATA_ANY(check->key), VARSIZE_ANY_EXHDR(again)) == 0;
}

// Bytes that only a row of the target can have: see write_key.
bool is_foreign_key(const SourceTable *table, const bytea *key) {
    KeyCheck check = {table, key, false};
    SqlError ignored;
    return !run_in_subtransaction(write_key_again, &check, &ignored) || !check.same;
}

Datum json_datum(const char *open, const StringInfoData &members, const char *close) {
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("%s%s%s", open, members.data, close)));
}

Datum names_datum(const StringInfoData &names) {
    // JSON array → text[]: names may hold anything.
    Jsonb *array = DatumGetJsonbP(json_datum("[", names, "]"));
    const int count = static_cast<int>(JB_ROOT_COUNT(array));
    auto elements = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; i++) {
        const JsonbValue *name = getIthJsonbValueFromContainer(&array->root, static_cast<std::uint32_t>(i));
        elements[i] = PointerGetDatum(cstring_to_text_with_len(name->val.string.val, name->val.string.len));
    }
    return PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}

} // namespace

void write_differences(ComparedTable *compared, KeyedRow *rows, int count, Tuplestorestate *result, TupleDesc desc) {
    Collection before;
    Collection now;
    begin_collection(&before, compared, count);
    begin_collection(&now, compared, count);
    visit_images(compared, rows, count, {collect_row, &before});
    visit_keys(compared, rows, count, {collect_row, &now});
    auto differences = static_cast<Difference *>(palloc(sizeof(Difference) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; i++) {
        Difference *difference = &differences[i];
        initStringInfo(&difference->columns);
        initStringInfo(&difference->before);
        initStringInfo(&difference->now);
        if (before.rows[i].present && now.rows[i].present)
            append_differing(difference, compared, &before.rows[i], &now.rows[i]);
    }
    if (count > 0)
        append_originals(compared, rows, before.rows, now.rows, count, differences);
    const char **causes = find_causes(compared->table, rows, count);
    for (int i = 0; i < count; i++) {
        Difference *difference = &differences[i];
        const bool was = before.rows[i].present || rows[i].failed;
        const bool is = now.rows[i].present;
        // A key that the old table cannot have is found in no other way than by reading the target: it is there.
        const bool foreign = rows[i].image == nullptr && !is && is_foreign_key(compared->table, rows[i].key);
        if (was == is && difference->columns.len == 0 && !rows[i].failed && !foreign)
            continue;
        const char *kind = rows[i].image == nullptr || !was ? "extra" : is ? "different" : "missing";
        if (strcmp(kind, "extra") == 0 && !is && !foreign)
            continue; // on neither side
        if (!is && before.rows[i].present)
            append_values(&difference->before, compared, &before.rows[i]);
        if (is && !before.rows[i].present)
            append_values(&difference->now, compared, &now.rows[i]);
        const char *cause = rows[i].failed ? "apply" : causes[i];
        Datum values[] = {PointerGetDatum(rows[i].key),          CStringGetTextDatum(kind),
                          names_datum(difference->columns),      json_datum("{", difference->before, "}"),
                          json_datum("{", difference->now, "}"), cause == nullptr ? (Datum)0 : CStringGetTextDatum(cause)};
        bool nulls[] = {false, false, false, !before.rows[i].present, !is, cause == nullptr};
        tuplestore_putvalues(result, desc, values, nulls);
    }
}

} // namespace tandem
