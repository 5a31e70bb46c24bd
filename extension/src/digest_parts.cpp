// Parts of a range: their sums, and the rows of many of them. See digest.hpp.
#include "digest_query.hpp"

#include "table_plan.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
}

namespace tandem {
namespace {

// Texts as values of a column's type.
ArrayType *values_of_column(const TargetColumn *column, Datum *texts, int count) {
    Oid input, parameter;
    std::int16_t length;
    bool by_value;
    char alignment;
    getTypeInputInfo(column->base_type, &input, &parameter);
    get_typlenbyvalalign(column->base_type, &length, &by_value, &alignment);
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(Max(count, 1))));
    for (int i = 0; i < count; i++)
        values[i] = OidInputFunctionCall(input, TextDatumGetCString(texts[i]), parameter, -1);
    return construct_array(values, count, column->base_type, length, by_value, alignment);
}

} // namespace

// width_bucket counts as PostgreSQL orders the column, which is the order of the old side's key (tandem._key_order_is_kept).
bool can_sum_parts(const ComparedTable *compared) {
    const SourceTable *table = compared->table;
    return table->key_count == 1 && !compared->has_originals && !compared->has_row_security &&
           table->target_key[0]->base_type == table->key_columns[0]->type && OidIsValid(get_array_type(table->key_columns[0]->type));
}

RangeSums *sum_parts(ComparedTable *compared, const bytea *secret, KeyRange range, ArrayType *starts, int *count) {
    const TargetColumn *column = compared->table->target_key[0];
    Datum *texts;
    bool *nulls;
    int start_count;
    deconstruct_array(starts, TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &start_count);
    for (int i = 0; i < start_count; i++)
        if (nulls[i])
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the start of a part must not be null")));
    ArrayType *array = values_of_column(column, texts, start_count);

    Query query;
    begin_query(&query);
    (void)secret_of(secret);
    // A row without a key has no place in the order; it is counted before the first part, where nothing of the old side can equal it.
    appendStringInfo(&query.sql, "SELECT tandem._digest(coalesce(pg_catalog.width_bucket(t.%s, $%d), 0), $%d",
                     quote_identifier(column->name), add_parameter(&query, get_array_type(column->base_type), PointerGetDatum(array)),
                     add_parameter(&query, BYTEAOID, PointerGetDatum(secret)));
    append_arguments(&query.sql, compared);
    appendStringInfoChar(&query.sql, ')');
    append_from(&query.sql, compared->table);
    append_range(&query, compared->table, range);
    return collect_sums(compared, &query, count);
}

KeyedRow *read_parts(ComparedTable *compared, const bytea *secret, ArrayType *lows, ArrayType *highs, int *count) {
    Datum *texts[2];
    bool *nulls[2];
    int counts[2];
    deconstruct_array(lows, TEXTOID, -1, false, TYPALIGN_INT, &texts[0], &nulls[0], &counts[0]);
    deconstruct_array(highs, TEXTOID, -1, false, TYPALIGN_INT, &texts[1], &nulls[1], &counts[1]);
    if (counts[0] != counts[1])
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there are %d lower bounds but %d upper ones", counts[0], counts[1])));
    // Those with an end are read together; there are two others at most, the first and the last of a table.
    auto numbers = static_cast<int *>(palloc(sizeof(int) * static_cast<Size>(Max(counts[0], 1))));
    int closed = 0;
    KeyedRow *open_rows[2];
    int open_counts[2];
    int open = 0;
    for (int i = 0; i < counts[0]; i++) {
        if (!nulls[0][i] && !nulls[1][i]) {
            texts[0][closed] = texts[0][i];
            texts[1][closed] = texts[1][i];
            numbers[closed++] = i;
            continue;
        }
        if (open == 2)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("more than two ranges have no end")));
        ArrayType *ends[2];
        for (int side = 0; side < 2; side++)
            ends[side] = nulls[side][i] ? nullptr : construct_array(&texts[side][i], 1, TEXTOID, -1, false, TYPALIGN_INT);
        open_rows[open] = read_range(compared, secret, {ends[0], ends[1]}, &open_counts[open]);
        for (int row = 0; row < open_counts[open]; row++)
            open_rows[open][row].part = i;
        open++;
    }

    KeyedRow *rows = nullptr;
    *count = 0;
    if (closed > 0) {
        const TargetColumn *column = compared->table->target_key[0];
        const Oid array_type = get_array_type(column->base_type);
        Query query;
        begin_query(&query);
        appendStringInfoString(&query.sql, "SELECT ");
        append_key_columns(&query.sql, compared->table);
        append_columns(&query.sql, compared);
        const int low = add_parameter(&query, array_type, PointerGetDatum(values_of_column(column, texts[0], closed)));
        const int high = add_parameter(&query, array_type, PointerGetDatum(values_of_column(column, texts[1], closed)));
        appendStringInfo(
            &query.sql,
            ", i.n FROM ROWS FROM (pg_catalog.unnest($%d), pg_catalog.unnest($%d)) WITH ORDINALITY AS i(low, high, n), %s AS t WHERE true",
            low, high, compared->table->target_name);
        append_own_rows(&query.sql, compared->table);
        append_part_bounds(&query.sql, compared->table);
        const int level = search_by_index();
        rows = collect_rows(compared, &query, secret, count, true);
        AtEOXact_GUC(false, level);
        for (int i = 0; i < *count; i++)
            rows[i].part = numbers[rows[i].part - 1];
    }
    for (int i = 0; i < open; i++) {
        const int all = *count + open_counts[i];
        auto joined =
            static_cast<KeyedRow *>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(KeyedRow) * static_cast<Size>(Max(all, 1))));
        if (*count > 0)
            memcpy(joined, rows, sizeof(KeyedRow) * static_cast<Size>(*count));
        if (open_counts[i] > 0)
            memcpy(joined + *count, open_rows[i], sizeof(KeyedRow) * static_cast<Size>(open_counts[i]));
        rows = joined;
        *count = all;
    }
    return rows;
}

} // namespace tandem
