// See phase.hpp.
#include "phase.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace tandem {
namespace {

// Columns of tandem.phase, in the order of ddl/21_phases.sql.
constexpr AttrNumber column_table_id = 1;
constexpr AttrNumber column_phase = 2;
constexpr AttrNumber column_epoch = 3;
constexpr AttrNumber column_read_strategy = 4;
constexpr AttrNumber column_direct_writes = 8;

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

} // namespace tandem
