// See phase.hpp. Also what routed views ask while they are planned (docs/phases.md, "Routed views").
#include "phase.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace tandem {
namespace {

// Columns of tandem.phase, in the order of ddl/21_phases.sql.
constexpr AttrNumber column_table_id = 1;
constexpr AttrNumber column_phase = 2;
constexpr AttrNumber column_epoch = 3;
constexpr AttrNumber column_read_strategy = 4;
constexpr AttrNumber column_direct_writes = 8;

// A routed view asks for its strategy once per branch. Between two calls the strategy may change; a plan with branches of two strategies would
// return rows twice or not at all. So what the first call of a planning saw holds for that planning. A change that came too late for it makes the
// plan invalid, as one that came after it.
std::uint64_t last_planning = 0;
std::uint64_t current_planning = 0; // 0: none
planner_hook_type next_planner = nullptr;

constexpr int remembered_tables = 16;
struct Remembered {
    std::uint64_t planning;
    int table_id;
    Phase phase;
} remembered[remembered_tables];
int next_remembered = 0;

PlannedStmt *count_planning(Query *query, const char *text, int options, ParamListInfo parameters) {
    const std::uint64_t outer = current_planning;
    PlannedStmt *volatile plan = nullptr;
    current_planning = ++last_planning;
    PG_TRY();
    {
        plan =
            next_planner != nullptr ? next_planner(query, text, options, parameters) : standard_planner(query, text, options, parameters);
    }
    PG_FINALLY();
    { current_planning = outer; }
    PG_END_TRY();
    return plan;
}

bool phase_of_this_planning(int table_id, Phase *phase) {
    for (const Remembered &r : remembered)
        if (current_planning != 0 && r.planning == current_planning && r.table_id == table_id) {
            *phase = r.phase;
            return true;
        }
    if (!read_phase(table_id, phase))
        return false;
    remembered[next_remembered] = {current_planning, table_id, *phase};
    next_remembered = (next_remembered + 1) % remembered_tables;
    return true;
}

void copy_text(char *to, HeapTuple tuple, AttrNumber column, TupleDesc desc) {
    bool is_null;
    const Datum value = heap_getattr(tuple, column, desc, &is_null);
    to[0] = '\0';
    if (!is_null)
        strlcpy(to, TextDatumGetCString(value), phase_name_length);
}

} // namespace

bool read_phase(int table_id, Phase *phase) {
    const Oid schema = get_namespace_oid("tandem", false);
    const Oid table = get_relname_relid("phase", schema);
    if (!OidIsValid(table))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table tandem.phase does not exist")));
    Relation relation = table_open(table, AccessShareLock);
    Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
    ScanKeyData key;
    ScanKeyInit(&key, column_table_id, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(table_id));
    SysScanDesc scan = systable_beginscan(relation, RelationGetPrimaryKeyIndex(relation), true, snapshot, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    const bool found = HeapTupleIsValid(tuple);
    if (found) {
        bool is_null;
        copy_text(phase->phase, tuple, column_phase, RelationGetDescr(relation));
        copy_text(phase->read_strategy, tuple, column_read_strategy, RelationGetDescr(relation));
        copy_text(phase->direct_writes, tuple, column_direct_writes, RelationGetDescr(relation));
        phase->epoch = DatumGetInt64(heap_getattr(tuple, column_epoch, RelationGetDescr(relation), &is_null));
    }
    systable_endscan(scan);
    UnregisterSnapshot(snapshot);
    table_close(relation, AccessShareLock);
    return found;
}

void install_planner_hook() {
    next_planner = planner_hook;
    planner_hook = count_planning;
}

} // namespace tandem

using namespace tandem;

// Declared IMMUTABLE, so that the planner folds it and a side that is not read is not in the plan: mysql_fdw speaks to the old server already when a
// scan of it is planned or begun. What the function depends on does change; then tandem_forget_plans makes every plan that used it invalid.
TANDEM_FUNCTION(tandem_reads);
Datum tandem_reads(PG_FUNCTION_ARGS) {
    const int table_id = PG_GETARG_INT32(0);
    const char *part = text_to_cstring(PG_GETARG_TEXT_PP(1));
    Phase phase;
    if (!phase_of_this_planning(table_id, &phase))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the table behind this routed view is not known to pg_tandem any more"),
                        errdetail("It was removed with tandem.drop_table."), errhint("Read the target itself, and drop the view.")));
    const bool falls_back = strcmp(phase.read_strategy, "new_fallback_old") == 0;
    const bool is_side = strcmp(part, "new") == 0 || strcmp(part, "old") == 0;
    PG_RETURN_BOOL(strcmp(part, phase.read_strategy) == 0 || (is_side && falls_back));
}

// At the commit of the current transaction (and now for itself): plans that read the relation are made again.
TANDEM_FUNCTION(tandem_forget_plans);
Datum tandem_forget_plans(PG_FUNCTION_ARGS) {
    const Oid relation = PG_GETARG_OID(0);
    if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation)))
        CacheInvalidateRelcacheByRelid(relation);
    PG_RETURN_VOID();
}
