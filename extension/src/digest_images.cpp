// What apply would write for images of old rows: the mapping and the filter are evaluated as in apply, each value is converted as the
// assignment to its column converts it. Nothing is written. See digest.hpp.
#include "digest_query.hpp"

#include "coercion.hpp"
#include "pg/leaf.hpp"
#include "table_plan.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/lsyscache.h"
}

namespace tandem {
namespace {

struct ImageReading {
    ComparedTable *compared;
    KeyedRow *rows;
    RowVisitor visitor;
};

struct ValueReceiver {
    DestReceiver base; // first: the server knows only this
    ImageReading *reading;
    Coercion *coercions; // nullptr until the first row tells the types
    MemoryContext context;
    MemoryContext one_row;
    Datum *values;
    bool *nulls;
};

void receiver_starts(DestReceiver *, int, TupleDesc) {}
void receiver_ends(DestReceiver *) {}

void prepare_coercions(ValueReceiver *receiver, TupleDesc desc) {
    const ComparedTable *compared = receiver->reading->compared;
    MemoryContext before = MemoryContextSwitchTo(receiver->context);
    receiver->coercions = static_cast<Coercion *>(palloc(sizeof(Coercion) * static_cast<Size>(Max(compared->count, 1))));
    for (int i = 0; i < compared->count; i++) {
        const FormData_pg_attribute *value = TupleDescAttr(desc, i + 1);
        if (!prepare_coercion(&receiver->coercions[i], value->atttypid, value->atttypmod, compared->columns[i]->type, compared->typmods[i],
                              COERCION_ASSIGNMENT))
            ereport(ERROR,
                    (errcode(ERRCODE_DATATYPE_MISMATCH),
                     errmsg("column \"%s\" of target %s is of type %s but its value is of type %s", compared->columns[i]->name,
                            compared->table->target_name, format_type_be(compared->columns[i]->type), format_type_be(value->atttypid))));
    }
    MemoryContextSwitchTo(before);
}

// The row's number, then the values.
bool receive_values(TupleTableSlot *slot, DestReceiver *self) {
    auto receiver = reinterpret_cast<ValueReceiver *>(self);
    const int count = receiver->reading->compared->count;
    slot_getallattrs(slot);
    if (receiver->coercions == nullptr)
        prepare_coercions(receiver, slot->tts_tupleDescriptor);
    MemoryContextReset(receiver->one_row);
    MemoryContext before = MemoryContextSwitchTo(receiver->one_row);
    for (int i = 0; i < count; i++) {
        receiver->nulls[i] = slot->tts_isnull[i + 1];
        receiver->values[i] = coerce(&receiver->coercions[i], slot->tts_values[i + 1], &receiver->nulls[i]);
    }
    receiver->reading->visitor.row(receiver->reading->visitor.argument, DatumGetInt32(slot->tts_values[0]), receiver->values,
                                   receiver->nulls);
    for (int i = 0; i < count; i++)
        reset_coercion(&receiver->coercions[i]);
    MemoryContextSwitchTo(before);
    return true;
}

char *values_query(const ComparedTable *compared) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "SELECT %s", row_number_sql);
    for (int i = 0; i < compared->count; i++) {
        appendStringInfoString(&sql, ", ");
        append_value(&sql, compared->table, compared->columns[i]);
    }
    appendStringInfo(&sql, " FROM %s", rows_relation);
    if (compared->table->filter != nullptr)
        appendStringInfo(&sql, " WHERE (%s) IS TRUE", compared->table->filter);
    return sql.data;
}

void read_some_images(void *argument, int first, int count) {
    auto reading = static_cast<ImageReading *>(argument);
    SourceTable *table = reading->compared->table;
    const Size space = static_cast<Size>(Max(table->column_count + 1, reading->compared->count + 1));
    ValueReceiver receiver;
    memset(&receiver, 0, sizeof receiver);
    receiver.base.receiveSlot = receive_values;
    receiver.base.rStartup = receiver_starts;
    receiver.base.rShutdown = receiver_ends;
    receiver.base.rDestroy = receiver_ends;
    receiver.base.mydest = DestNone;
    receiver.reading = reading;
    receiver.context = CurrentMemoryContext;
    receiver.one_row = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem row", ALLOCSET_DEFAULT_SIZES);
    receiver.values = static_cast<Datum *>(palloc(sizeof(Datum) * space));
    receiver.nulls = static_cast<bool *>(palloc(sizeof(bool) * space));

    connect_spi();
    Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);
    int stored = 0;
    for (int i = first; i < first + count; i++) {
        if (reading->rows[i].image == nullptr)
            continue;
        MemoryContext before = MemoryContextSwitchTo(receiver.one_row);
        MemoryContextReset(receiver.one_row);
        decode_image(reading->rows[i].image, table->all_columns, table->column_count, receiver.values, receiver.nulls);
        receiver.values[table->column_count] = Int32GetDatum(i);
        receiver.nulls[table->column_count] = false;
        tuplestore_putvalues(rows, table->row_desc, receiver.values, receiver.nulls);
        MemoryContextSwitchTo(before);
        stored++;
    }
    register_rows(rows_relation, table->row_desc, rows, stored);
    if (stored > 0)
        run_as_owner(table, values_query(reading->compared), 0, nullptr, nullptr, &receiver.base);
    tuplestore_end(rows);
    finish_spi();
    MemoryContextDelete(receiver.one_row);
}

// Apply would fail for this row, too.
void cannot_be_written(void *argument, int number, const SqlError &) {
    auto reading = static_cast<ImageReading *>(argument);
    reading->rows[number].failed = true;
    reading->rows[number].present = false;
}

} // namespace

void visit_images(ComparedTable *compared, KeyedRow *rows, int count, RowVisitor visitor) {
    ImageReading reading = {compared, rows, visitor};
    run_contained({read_some_images, cannot_be_written, &reading}, 0, count);
}

} // namespace tandem
