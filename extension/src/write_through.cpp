// Trigger of routed views: a write goes to the source of truth of the table's phase (docs/phases.md, "Writing through the view").
//
// New side: the target is written at once, with the rights of its owner, as any view writes with its owner's. Old side: tandem._queue_write keeps
// the write in this transaction. While the truth is being moved the writer waits, so that it meets a pause and no error.
#include "image.hpp"
#include "phase.hpp"

#include "pg/sql.hpp"

#include <initializer_list>

extern "C" {
#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"
}

namespace tandem {
namespace {

constexpr long look_again_ms = 10;
constexpr int longest_wait_ms = 60000; // a cut-over is over, or given up, long before

// Every writer shares this lock of the source to the end of his transaction, and whoever begins to move the truth takes it alone (cutover_begin). A row
// lock on tandem.phase would do, but sharers could follow each other without end.
constexpr std::uint32_t lock_class = 0x74616E64; // "tand"

struct Write {
    const TriggerData *data;
    int table_id, source_id;
    const char *operation;
    HeapTuple former; // nullptr: insert
    HeapTuple later;  // nullptr: delete
};

Oid function_oid(const char *name, int count, const Oid *types) {
    // Past the caller's rights, who may not look into schema tandem: the view is his way in.
    const Oid found = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
                                      PointerGetDatum(buildoidvector(types, count)), ObjectIdGetDatum(get_namespace_oid("tandem", false)));
    if (!OidIsValid(found))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("function tandem.%s does not exist", name)));
    return found;
}

Phase settled_phase(const Write &write) {
    Phase phase;
    LOCKTAG lock;
    SET_LOCKTAG_ADVISORY(lock, MyDatabaseId, lock_class, static_cast<std::uint32_t>(write.source_id), 2);
    for (int waited = 0;; waited += look_again_ms) {
        (void)LockAcquire(&lock, ShareLock, false, false);
        if (!read_phase(write.table_id, &phase))
            ereport(ERROR,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("the table behind this routed view is not known to pg_tandem any more"),
                     errdetail("It was removed with tandem.drop_table."), errhint("Write to the target itself, and drop the view.")));
        if (strcmp(phase.phase, "cutover") != 0 && strcmp(phase.phase, "closing") != 0)
            return phase;
        (void)LockRelease(&lock, ShareLock, false);
        if (waited >= longest_wait_ms)
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("the source of truth is still being moved, in phase \"%s\"", phase.phase),
                            errhint("Try again when that is over; SELECT * FROM tandem.phases; shows it.")));
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, look_again_ms, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

Datum row_datum(HeapTuple row, TupleDesc description) {
    return row == nullptr ? static_cast<Datum>(0) : heap_copy_tuple_as_datum(row, description);
}

// Names of the columns that are NULL in the row as it is to be: sequences fill them.
Datum null_columns(const Write &write, TupleDesc description) {
    auto names = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<std::size_t>(description->natts + 1)));
    int count = 0;
    for (int i = 0; write.later != nullptr && strcmp(write.operation, "insert") == 0 && i < description->natts; i++) {
        const Form_pg_attribute attribute = TupleDescAttr(description, i);
        if (!attribute->attisdropped && heap_attisnull(write.later, i + 1, description))
            names[count++] = text_datum(NameStr(attribute->attname));
    }
    return PointerGetDatum(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

// Rows that a statement of the target's owner gives or changes, of which $1 is the row as it was read and $2 as it is to be.
std::uint64_t run_as(Oid owner, const char *statement, const Write &write) {
    Relation view = write.data->tg_relation;
    TupleDesc description = RelationGetDescr(view);
    Oid types[] = {view->rd_rel->reltype, view->rd_rel->reltype};
    Datum values[] = {row_datum(write.former, description), row_datum(write.later, description)};
    const char nulls[] = {write.former == nullptr ? 'n' : ' ', write.later == nullptr ? 'n' : ' ', '\0'};
    Oid user;
    int security;
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE);
    const int code = SPI_execute_with_args(statement, 2, types, values, nulls, false, 0);
    SetUserIdAndSecContext(user, security);
    if (code < 0)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(code), statement);
    return SPI_processed;
}

HeapTuple write_directly(const Write &write) {
    Relation view = write.data->tg_relation;
    TupleDesc description = RelationGetDescr(view);
    const Oid types[] = {INT4OID, OIDOID, TEXTOID, TEXTARRAYOID};
    const auto answer = DatumGetArrayTypeP(OidFunctionCall4(function_oid("_direct_statement", 4, types), Int32GetDatum(write.table_id),
                                                            ObjectIdGetDatum(RelationGetRelid(view)), text_datum(write.operation),
                                                            null_columns(write, description)));
    Datum *parts;
    int count;
    deconstruct_array(answer, TEXTOID, -1, false, TYPALIGN_INT, &parts, nullptr, &count);
    const Oid owner = static_cast<Oid>(strtoul(TextDatumGetCString(parts[0]), nullptr, 10));
    const char *statement = TextDatumGetCString(parts[1]);
    const char *changed = TextDatumGetCString(parts[2]);

    connect_spi();
    // nullptr: the row is gone, as for a statement on the target itself, or a trigger of the target left it out. The view has written none.
    HeapTuple written = nullptr;
    if (run_as(owner, statement, write) > 0)
        written = SPI_copytuple(SPI_tuptable->vals[0]);
    else if (write.former != nullptr && run_as(owner, changed, write) > 0)
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("a row of %s was changed by somebody else since it was read", RelationGetRelationName(view)),
                        errhint("Read it again and try once more.")));
    finish_spi();
    return written;
}

void queue(const Write &write) {
    Relation view = write.data->tg_relation;
    TupleDesc description = RelationGetDescr(view);
    constexpr int count = 6;
    const Oid types[count] = {INT4OID, OIDOID, TEXTOID, TEXTOID, TEXTOID, PG_SNAPSHOTOID};
    FmgrInfo function;
    fmgr_info(function_oid("_queue_write", count, types), &function);
    LOCAL_FCINFO(call, count);
    InitFunctionCallInfoData(*call, &function, count, InvalidOid, nullptr, nullptr);
    call->args[0] = {Int32GetDatum(write.table_id), false};
    call->args[1] = {ObjectIdGetDatum(RelationGetRelid(view)), false};
    call->args[2] = {text_datum(write.operation), false};
    const int level = pin_text_forms(); // tandem._queue_write reads the texts under the same
    int argument = 3;
    for (HeapTuple row : {write.former, write.later}) {
        call->args[argument].isnull = row == nullptr;
        if (row != nullptr)
            call->args[argument].value = text_datum(OidOutputFunctionCall(F_RECORD_OUT, row_datum(row, description)));
        argument++;
    }
    AtEOXact_GUC(false, level);
    // Here the active snapshot is still that of the statement which read the row.
    call->args[5] = {OidFunctionCall0(F_PG_CURRENT_SNAPSHOT), false};
    (void)FunctionCallInvoke(call);
}

} // namespace
} // namespace tandem

using namespace tandem;

TANDEM_FUNCTION(tandem_write_through);
Datum tandem_write_through(PG_FUNCTION_ARGS) {
    const auto data = reinterpret_cast<const TriggerData *>(fcinfo->context);
    if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_INSTEAD(data->tg_event) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
        data->tg_trigger->tgnargs != 2)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("tandem._write_through is a trigger of routed views")));
    const auto arguments = data->tg_trigger->tgargs;
    Write write = {data, pg_strtoint32(arguments[0]), pg_strtoint32(arguments[1]), "insert", nullptr, data->tg_trigtuple};
    if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
        write.operation = "update";
        write.former = data->tg_trigtuple;
        write.later = data->tg_newtuple;
    } else if (TRIGGER_FIRED_BY_DELETE(data->tg_event)) {
        write.operation = "delete";
        write.former = data->tg_trigtuple;
        write.later = nullptr;
    }
    const Phase phase = settled_phase(write);
    if (strcmp(phase.phase, "new_primary") == 0 || strcmp(phase.phase, "contracted") == 0) {
        HeapTuple written = write_directly(write);
        return PointerGetDatum(written != nullptr && write.later == nullptr ? write.former : written);
    }
    queue(write);
    return PointerGetDatum(write.later != nullptr ? write.later : write.former);
}
