// The way back, inside PostgreSQL: the capture on a target that is the source of truth, and running a query with the rights of the
// target's owner. SQL: ddl/67_reverse.sql.
#include "pg/postgres.hpp"

#include "pg/sql.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace tandem {
namespace {

constexpr int max_key_columns = 16; // of MySQL as well

// What a session knows of the capture of one table. Kept for its life; made anew when a type has changed.
struct Capture {
    Capture *next;
    int table_id;
    Oid relation;
    int count;
    Oid types[max_key_columns];
    SPIPlanPtr plan;
};

Capture *captures = nullptr;

Statement statement_of = {"SELECT tandem._capture_back_statement($1)", 1, {INT4OID}, nullptr};

bool fits(const Capture *capture, int table_id, Oid relation, int count, const Oid *types) {
    return capture->table_id == table_id && capture->relation == relation && capture->count == count &&
           memcmp(capture->types, types, sizeof(Oid) * static_cast<size_t>(count)) == 0;
}

// In an SPI connection.
SPIPlanPtr plan_for(int table_id, Oid relation, int count, const Oid *types) {
    for (Capture *known = captures; known != nullptr; known = known->next)
        if (fits(known, table_id, relation, count, types))
            return known->plan;
    Datum id = Int32GetDatum(table_id);
    if (execute(&statement_of, &id) != 1 || result_is_null(0, 1))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no table with table_id %d in tandem.source_table", table_id),
                        errdetail("The trigger tandem_capture_back of this table is a leftover."),
                        errhint("DROP TRIGGER tandem_capture_back ON %s;", get_rel_name(relation))));
    char *text = result_text(0, 1, CurrentMemoryContext);
    SPIPlanPtr plan = SPI_prepare(text, count, const_cast<Oid *>(types));
    if (plan == nullptr)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(SPI_result), text);
    SPI_keepplan(plan);
    auto capture = static_cast<Capture *>(MemoryContextAllocZero(TopMemoryContext, sizeof(Capture)));
    capture->table_id = table_id;
    capture->relation = relation;
    capture->count = count;
    memcpy(capture->types, types, sizeof(Oid) * static_cast<size_t>(count));
    capture->plan = plan;
    capture->next = captures;
    captures = capture;
    return plan;
}

struct Key {
    int count;
    AttrNumber columns[max_key_columns];
    Oid types[max_key_columns];
};

Key key_of(const Trigger *trigger, TupleDesc description) {
    Key key = {};
    key.count = trigger->tgnargs - 1;
    if (key.count < 1 || key.count > max_key_columns)
        elog(ERROR, "trigger %s has a wrong number of arguments", trigger->tgname);
    for (int i = 0; i < key.count; i++) {
        const int column = SPI_fnumber(description, trigger->tgargs[i + 1]);
        if (column <= 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("key column \"%s\" does not exist any more", trigger->tgargs[i + 1]),
                            errdetail("Changes of this table could not be brought back to the old side.")));
        key.columns[i] = static_cast<AttrNumber>(column);
        key.types[i] = SPI_gettypeid(description, column);
    }
    return key;
}

void read_key(const Key &key, HeapTuple row, TupleDesc description, Datum *values, char *nulls) {
    for (int i = 0; i < key.count; i++) {
        bool is_null;
        values[i] = heap_getattr(row, key.columns[i], description, &is_null);
        nulls[i] = is_null ? 'n' : ' ';
    }
    nulls[key.count] = '\0';
}

// By their bytes, as the keys will be: 'abc' and 'ABC' are two keys whatever the type's equality says.
bool same_key(const Key &key, TupleDesc description, const Datum *one, const Datum *other) {
    for (int i = 0; i < key.count; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(description, key.columns[i] - 1);
        if (!datum_image_eq(one[i], other[i], attribute->attbyval, attribute->attlen))
            return false;
    }
    return true;
}

void capture_row(const TriggerData *data) {
    const Trigger *trigger = data->tg_trigger;
    TupleDesc description = RelationGetDescr(data->tg_relation);
    const Key key = key_of(trigger, description);
    const int table_id = pg_strtoint32(trigger->tgargs[0]);
    Datum values[max_key_columns], former[max_key_columns];
    char nulls[max_key_columns + 1], former_nulls[max_key_columns + 1];

    connect_spi();
    SPIPlanPtr plan = plan_for(table_id, RelationGetRelid(data->tg_relation), key.count, key.types);
    read_key(key, data->tg_trigtuple, description, values, nulls);
    execute_plan(plan, "capture of a target", values, nulls);
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
        memcpy(former, values, sizeof former);
        memcpy(former_nulls, nulls, sizeof former_nulls);
        read_key(key, data->tg_newtuple, description, values, nulls);
        if (strcmp(nulls, former_nulls) != 0 || !same_key(key, description, values, former))
            execute_plan(plan, "capture of a target", values, nulls);
    }
    finish_spi();
}

// Rows of the query go straight into the result.
void query_as(Oid owner, const char *query, Datum keys, Datum texts, ReturnSetInfo *result) {
    Oid user;
    int security;
    Oid types[] = {BYTEAARRAYOID, JSONBOID};
    Datum values[] = {keys, texts};
    connect_spi();
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    const int code = SPI_execute_with_args(query, 2, types, values, nullptr, true, 0);
    SetUserIdAndSecContext(user, security);
    if (code != SPI_OK_SELECT)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(code), query);
    for (std::uint64_t i = 0; i < SPI_processed; i++) {
        Datum row[2];
        bool nulls[2];
        for (int column = 0; column < 2; column++)
            row[column] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, column + 1, &nulls[column]);
        tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
    }
    finish_spi();
}

} // namespace
} // namespace tandem

TANDEM_FUNCTION(tandem_capture_back);
Datum tandem_capture_back(PG_FUNCTION_ARGS) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("tandem._capture_back is a trigger")));
    const auto data = reinterpret_cast<const TriggerData *>(fcinfo->context);
    if (!TRIGGER_FIRED_AFTER(data->tg_event) || !TRIGGER_FIRED_FOR_ROW(data->tg_event))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("tandem._capture_back fires AFTER … FOR EACH ROW")));
    tandem::capture_row(data);
    return PointerGetDatum(nullptr);
}

TANDEM_FUNCTION(tandem_query_as_owner);
Datum tandem_query_as_owner(PG_FUNCTION_ARGS) {
    InitMaterializedSRF(fcinfo, 0);
    tandem::query_as(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3),
                     reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    return static_cast<Datum>(0);
}
