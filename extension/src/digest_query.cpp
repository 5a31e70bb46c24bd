// See digest_query.hpp.
#include "digest_query.hpp"

#include "pg/leaf.hpp"
#include "table_plan.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
}

namespace tandem {
namespace {

// Arguments of one aggregate call: FUNC_MAX_ARGS counts the state and the secret. Further columns go in rows of so many.
constexpr int columns_in_call = 80;

// The aggregate knows its arguments by their types only.
void append_argument(StringInfo out, const ComparedTable *compared, int number) {
    const char *name = quote_identifier(compared->columns[number]->name);
    if (compared->canonical[number].as_numeric)
        appendStringInfo(out, "CAST(t.%s AS pg_catalog.numeric)", name);
    else
        appendStringInfo(out, "t.%s", name);
}

// One key column with the value it is compared with. The left side is the target's column, unless that cannot hold the value.
struct Bound {
    char *left;
    Oid left_type;
    char *right;
    Oid right_type;
    bool plain; // operators of pg_catalog compare them in the order of the index
};

struct TextValue {
    Oid type;
    char *text;
    Datum value;
};

void read_text(void *argument) {
    auto work = static_cast<TextValue *>(argument);
    Oid function;
    Oid parameter;
    getTypeInputInfo(work->type, &function, &parameter);
    work->value = OidInputFunctionCall(function, work->text, parameter, -1);
}

bool in_pg_catalog(Oid type) {
    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    const bool inside = HeapTupleIsValid(tuple) && reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple))->typnamespace == PG_CATALOG_NAMESPACE;
    if (HeapTupleIsValid(tuple))
        ReleaseSysCache(tuple);
    return inside;
}

Bound make_bound(Query *query, const SourceTable *table, int number, char *text) {
    const TargetColumn *column = table->target_key[number];
    Bound bound;
    SqlError error;
    TextValue work = {column->base_type, text, (Datum)0};
    bound.left = psprintf("t.%s", quote_identifier(column->name));
    bound.left_type = column->base_type;
    if (!run_in_subtransaction(read_text, &work, &error)) {
        // The old side's key is beyond what the target's column can hold: compared as a value of the old side's type.
        if (!error.is_class("22") && !error.is_class("23"))
            ereport(ERROR, (errcode(error.code), errmsg_internal("%s", error.message)));
        const ImageColumn *image = table->key_columns[number];
        work.type = image->type;
        read_text(&work);
        bound.left = psprintf("CAST(%s AS %s)", bound.left, unbounded_type(image->type));
        bound.left_type = image->type;
    }
    bound.right = psprintf("$%d", add_parameter(query, work.type, work.value));
    bound.right_type = work.type;
    bound.plain = in_pg_catalog(bound.left_type);
    return bound;
}

void append_comparison(StringInfo out, const Bound &bound, int strategy) {
    const TypeCacheEntry *entry = lookup_type_cache(bound.left_type, TYPECACHE_BTREE_OPFAMILY);
    const Oid comparison = OidIsValid(entry->btree_opf) ? get_opfamily_member(entry->btree_opf, entry->btree_opintype,
                                                                              entry->btree_opintype, static_cast<std::int16_t>(strategy))
                                                        : InvalidOid;
    if (!OidIsValid(comparison))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("type %s has no order", format_type_be(bound.left_type))));
    generate_operator_clause(out, bound.left, bound.left_type, comparison, bound.right, bound.right_type);
}

// (k1, k2) > (a, b), or <= with `upper`.
void append_bound(Query *query, const SourceTable *table, ArrayType *key, bool upper) {
    Bound bounds[INDEX_MAX_KEYS];
    Datum *elements;
    bool *nulls;
    int count;
    bool plain = true;
    StringInfo out = &query->sql;
    deconstruct_array(key, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
    if (count != table->key_count)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the key of table \"%s\" has %d columns, not %d", table->name, table->key_count, count)));
    for (int i = 0; i < count; i++) {
        if (nulls[i])
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a key of table \"%s\" has no null", table->name)));
        bounds[i] = make_bound(query, table, i, TextDatumGetCString(elements[i]));
        plain = plain && bounds[i].plain;
    }
    appendStringInfoString(out, " AND ");
    if (count == 1) {
        append_comparison(out, bounds[0], upper ? BTLessEqualStrategyNumber : BTGreaterStrategyNumber);
    } else if (plain) { // one condition of the index
        appendStringInfoString(out, "ROW(");
        for (int i = 0; i < count; i++)
            appendStringInfo(out, "%s%s", i > 0 ? ", " : "", bounds[i].left);
        appendStringInfo(out, ") %s ROW(", upper ? "<=" : ">");
        for (int i = 0; i < count; i++)
            appendStringInfo(out, "%s%s", i > 0 ? ", " : "", bounds[i].right);
        appendStringInfoChar(out, ')');
    } else { // k1 >= a AND (k1 > a OR (k1 = a AND (k2 > b …)))
        append_comparison(out, bounds[0], upper ? BTLessEqualStrategyNumber : BTGreaterEqualStrategyNumber);
        appendStringInfoString(out, " AND ");
        for (int i = 0; i < count; i++) {
            const bool last = i == count - 1;
            appendStringInfoChar(out, '(');
            append_comparison(out, bounds[i],
                              last && upper ? BTLessEqualStrategyNumber
                              : upper       ? BTLessStrategyNumber
                                            : BTGreaterStrategyNumber);
            if (!last) {
                appendStringInfoString(out, " OR (");
                append_comparison(out, bounds[i], BTEqualStrategyNumber);
                appendStringInfoString(out, " AND ");
            }
        }
        for (int i = 0; i < count; i++)
            appendStringInfoString(out, i == count - 1 ? ")" : "))");
    }
}

} // namespace

void begin_query(Query *query) {
    initStringInfo(&query->sql);
    query->count = 0;
}

int add_parameter(Query *query, Oid type, Datum value) {
    query->types[query->count] = type;
    query->values[query->count] = value;
    return ++query->count;
}

void append_key_columns(StringInfo out, const SourceTable *table) {
    for (int i = 0; i < table->key_count; i++)
        appendStringInfo(out, "%st.%s", i > 0 ? ", " : "", quote_identifier(table->target_key[i]->name));
}

void append_from(StringInfo out, const SourceTable *table) {
    appendStringInfo(out, " FROM %s AS t WHERE true", table->target_name);
    append_own_rows(out, table);
}

void append_range(Query *query, const SourceTable *table, KeyRange range) {
    if (range.low != nullptr)
        append_bound(query, table, range.low, false);
    if (range.high != nullptr)
        append_bound(query, table, range.high, true);
}

void append_part_bounds(StringInfo out, const SourceTable *table) {
    const TargetColumn *column = table->target_key[0];
    Bound bound = {psprintf("t.%s", quote_identifier(column->name)), column->base_type, nullptr, column->base_type, true};
    bound.right = pstrdup("i.low");
    appendStringInfoString(out, " AND ");
    append_comparison(out, bound, BTGreaterStrategyNumber);
    bound.right = pstrdup("i.high");
    appendStringInfoString(out, " AND ");
    append_comparison(out, bound, BTLessEqualStrategyNumber);
}

void append_columns(StringInfo out, const ComparedTable *compared) {
    for (int i = 0; i < compared->count; i++)
        appendStringInfo(out, ", t.%s", quote_identifier(compared->columns[i]->name));
}

void append_arguments(StringInfo out, const ComparedTable *compared) {
    const bool in_rows = compared->count > columns_in_call;
    for (int i = 0; i < compared->count; i++) {
        appendStringInfoString(out, in_rows && i % columns_in_call == 0 ? ", ROW(" : ", ");
        append_argument(out, compared, i);
        if (in_rows && (i % columns_in_call == columns_in_call - 1 || i == compared->count - 1))
            appendStringInfoChar(out, ')');
    }
}

} // namespace tandem
