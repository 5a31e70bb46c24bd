// Keys between their three forms, for the SQL API: jsonb as users write it, bytes as the queue holds it, text[] as requests carry it.
#include "image.hpp"

#include "catalog.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
}

namespace tandem {
namespace {

// The columns of one table, kept for the calls of one query.
SourceTable *columns_of(FunctionCallInfo fcinfo, int table_id) {
    auto table = static_cast<SourceTable *>(fcinfo->flinfo->fn_extra);
    if (table != nullptr && table->table_id == table_id)
        return table;
    MemoryContext before = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
    table = load_columns(table_id);
    MemoryContextSwitchTo(before);
    if (table == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no table with table_id %d in tandem.source_table", table_id)));
    fcinfo->flinfo->fn_extra = table;
    return table;
}

char *key_list(const SourceTable *table) {
    StringInfoData list;
    initStringInfo(&list);
    for (int i = 0; i < table->key_count; i++)
        appendStringInfo(&list, "%s\"%s\" (%s)", i > 0 ? ", " : "", table->key_columns[i]->name, table->key_columns[i]->type_name);
    return list.data;
}

char *key_example(const SourceTable *table) {
    StringInfoData example;
    initStringInfo(&example);
    for (int i = 0; i < table->key_count; i++)
        appendStringInfo(&example, "%s\"%s\": ...", i > 0 ? ", " : "", table->key_columns[i]->name);
    return example.data;
}

[[noreturn]] void refuse_key(const SourceTable *table, char *message) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg_internal("%s", message),
                    errdetail("The key of old table \"%s\" is: %s.", table->name, key_list(table)),
                    errhint("Give all key columns and no others: '{%s}'.", key_example(table))));
    pg_unreachable();
}

// Text of a scalar as the input function of the image type wants it.
char *scalar_text(const SourceTable *table, const ImageColumn *column, const JsonbValue *value) {
    switch (value->type) {
    case jbvString:
        return pnstrdup(value->val.string.val, static_cast<Size>(value->val.string.len));
    case jbvNumeric:
        return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
    case jbvBool:
        return pstrdup(value->val.boolean ? "true" : "false");
    case jbvNull:
        refuse_key(table, psprintf("key column \"%s\" must not be null", column->name));
    default:
        refuse_key(table, psprintf("key column \"%s\" must be a string, a number or a boolean", column->name));
    }
}

void read_key_values(const SourceTable *table, Jsonb *key, Datum *values, bool *nulls) {
    if (!JB_ROOT_IS_OBJECT(key))
        refuse_key(table, pstrdup("a key must be a JSON object"));
    for (int i = 0; i < table->key_count; i++) {
        ImageColumn *column = table->key_columns[i];
        JsonbValue *value = getKeyJsonValueFromContainer(&key->root, column->name, static_cast<int>(strlen(column->name)), nullptr);
        if (value == nullptr)
            refuse_key(table, psprintf("key column \"%s\" is missing", column->name));
        values[i] = InputFunctionCall(&column->input, scalar_text(table, column, value), column->input_parameter, column->typmod);
        nulls[i] = false;
    }
    if (JB_ROOT_COUNT(key) == static_cast<std::uint32_t>(table->key_count))
        return;
    JsonbIterator *iterator = JsonbIteratorInit(&key->root);
    JsonbValue name;
    for (JsonbIteratorToken token; (token = JsonbIteratorNext(&iterator, &name, true)) != WJB_DONE;) {
        if (token != WJB_KEY)
            continue;
        bool known = false;
        for (int i = 0; i < table->key_count && !known; i++)
            known = strlen(table->key_columns[i]->name) == static_cast<size_t>(name.val.string.len) &&
                    memcmp(table->key_columns[i]->name, name.val.string.val, static_cast<size_t>(name.val.string.len)) == 0;
        if (!known)
            refuse_key(table, psprintf("\"%.*s\" is not a key column", name.val.string.len, name.val.string.val));
    }
}

struct KeyValues {
    Datum *values;
    bool *nulls;
};

KeyValues key_space(const SourceTable *table) {
    const size_t count = static_cast<size_t>(Max(table->key_count, 1));
    return {static_cast<Datum *>(palloc0(sizeof(Datum) * count)), static_cast<bool *>(palloc0(sizeof(bool) * count))};
}

} // namespace
} // namespace tandem

using namespace tandem;

TANDEM_FUNCTION(tandem_encode_key);
extern "C" Datum tandem_encode_key(PG_FUNCTION_ARGS) {
    SourceTable *table = columns_of(fcinfo, PG_GETARG_INT32(0));
    KeyValues key = key_space(table);
    const int level = pin_text_forms();
    read_key_values(table, PG_GETARG_JSONB_P(1), key.values, key.nulls);
    bytea *bytes = encode_image(table->key_columns, table->key_count, key.values, key.nulls);
    AtEOXact_GUC(false, level);
    PG_RETURN_BYTEA_P(bytes);
}

TANDEM_FUNCTION(tandem_decode_key);
extern "C" Datum tandem_decode_key(PG_FUNCTION_ARGS) {
    SourceTable *table = columns_of(fcinfo, PG_GETARG_INT32(0));
    const int level = pin_text_forms();
    const char *json = key_as_json(PG_GETARG_BYTEA_PP(1), table->key_columns, table->key_count);
    AtEOXact_GUC(false, level);
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

TANDEM_FUNCTION(tandem_key_text);
extern "C" Datum tandem_key_text(PG_FUNCTION_ARGS) {
    SourceTable *table = columns_of(fcinfo, PG_GETARG_INT32(0));
    KeyValues key = key_space(table);
    const int level = pin_text_forms();
    decode_image(PG_GETARG_BYTEA_PP(1), table->key_columns, table->key_count, key.values, key.nulls);
    for (int i = 0; i < table->key_count; i++)
        if (!key.nulls[i])
            key.values[i] = CStringGetTextDatum(OutputFunctionCall(&table->key_columns[i]->output, key.values[i]));
    AtEOXact_GUC(false, level);
    int dimensions[] = {table->key_count};
    int bounds[] = {1};
    PG_RETURN_ARRAYTYPE_P(construct_md_array(key.values, key.nulls, 1, dimensions, bounds, TEXTOID, -1, false, TYPALIGN_INT));
}
