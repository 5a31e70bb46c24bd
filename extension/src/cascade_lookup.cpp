// See cascade_lookup.hpp.
#include "cascade_lookup.hpp"

#include "table_plan.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/tstoreReceiver.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/typcache.h"
}

namespace tandem {
namespace {

constexpr const char *refs_relation = "tandem_refs";
constexpr const char *kept_children_relation = "tandem_kept_children";
constexpr const char *purpose = "A foreign key of the old side cascades over it, and the rows concerned are looked up by it.";

Statement read_kept = {"SELECT key, CASE op WHEN 'U' THEN image END FROM tandem.retry WHERE table_id = $1 AND op <> 'D' UNION ALL "
                       "SELECT key, CASE op WHEN 'U' THEN image END FROM tandem.dead_letter WHERE table_id = $1 AND op <> 'D'",
                       1,
                       {INT4OID},
                       nullptr};

int old_column(const SourceTable *table, const char *name) {
    for (int i = 0; i < table->column_count; i++)
        if (strcmp(table->columns[i].name, name) == 0)
            return i;
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("column \"%s\" of old table \"%s\" is not known", name, table->name),
                    errdetail("%s", purpose)));
    return -1;
}

// The target column that holds an old column as it is.
const TargetColumn *plain_target(const SourceTable *table, const char *old_name) {
    const int index = old_column(table, old_name);
    for (int i = 0; i < table->target_count; i++)
        if (table->targets[i].source_column == index)
            return &table->targets[i];
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("column \"%s\" of old table \"%s\" is needed unchanged in the target %s", old_name, table->name, table->target_name),
             errdetail("%s", purpose), errhint("Map the column to a target column without an expression.")));
    return nullptr;
}

// Statements are analysed with our rights, as the owner of a target need not be allowed to use schema tandem, and run with the owner's.
void run_as(Oid owner, const char *sql, Tuplestorestate *into) {
    Oid user;
    int security;
    SPIPlanPtr plan = SPI_prepare(sql, 0, nullptr);
    if (plan == nullptr)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(SPI_result), sql);
    DestReceiver *dest = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(dest, into, CurrentMemoryContext, true, nullptr, nullptr);
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    execute_plan(plan, sql, nullptr, nullptr, dest);
    SetUserIdAndSecContext(user, security);
    dest->rDestroy(dest);
    SPI_freeplan(plan);
}

struct Space {
    Datum *values;
    bool *nulls;
};

Space make_space(int count) {
    const size_t size = static_cast<size_t>(count + 1);
    return {static_cast<Datum *>(palloc(sizeof(Datum) * size)), static_cast<bool *>(palloc(sizeof(bool) * size))};
}

struct Decoding {
    const bytea *bytes;
    ImageColumn *const *columns;
    int count;
    Space space;
};

void decode(void *argument) {
    auto work = static_cast<Decoding *>(argument);
    decode_image(work->bytes, work->columns, work->count, work->space.values, work->space.nulls);
}

bool decode_bytes(const bytea *bytes, ImageColumn *const *columns, int count, Space space, bool careful) {
    Decoding work = {bytes, columns, count, space};
    if (!careful) {
        decode(&work);
        return true;
    }
    SqlError ignored;
    return run_in_subtransaction(decode, &work, &ignored);
}

// The key itself may be what the worker could not represent.
bool decode_key(const SourceTable *table, const Row *row, Space space, bool careful) {
    return decode_bytes(row->key, table->key_columns, table->key_count, space, careful || row->op == 'X');
}

// Referenced columns are key columns: their old values are in the keys themselves.
void refs_from_keys(const CascadeLink &link, const TableRows *set, bool careful, TupleDesc desc, Tuplestorestate *refs) {
    const SourceTable *parent = link.parent;
    Space key = make_space(parent->key_count);
    Space ref = make_space(desc->natts);
    for (int i = 0; i < set->count; i++) {
        if (!expands(set->rows[i]) || !decode_key(parent, set->rows[i], key, careful))
            continue;
        for (int j = 0; j < desc->natts; j++)
            for (int k = 0; k < parent->key_count; k++)
                if (strcmp(parent->key_columns[k]->name, link.cascade->parent_columns[j]) == 0) {
                    ref.values[j] = key.values[k];
                    ref.nulls[j] = key.nulls[k];
                }
        tuplestore_putvalues(refs, desc, ref.values, ref.nulls);
    }
}

void append_refs(StringInfo sql, const CascadeLink &link) {
    for (int i = 0; i < link.cascade->column_count; i++) {
        const ImageColumn *column = &link.parent->columns[old_column(link.parent, link.cascade->parent_columns[i])];
        const TargetColumn *target = plain_target(link.parent, link.cascade->parent_columns[i]);
        appendStringInfo(sql, "%sCAST(t.%s AS %s)", i > 0 ? ", " : "", quote_identifier(target->name), column->type_name);
    }
}

// Parents whose referenced columns are no key columns: which of them must be looked at, and what their superseded images referred to.
struct OldValues {
    Tuplestorestate *keys;    // look in their rows here
    Tuplestorestate *changed; // the same if the row here differs from this image
};

void sort_parents(const CascadeLink &link, const TableRows *set, bool careful, TupleDesc desc, Tuplestorestate *refs, OldValues *old) {
    const SourceTable *parent = link.parent;
    Space now = make_space(Max(parent->column_count, parent->key_count));
    Space before = make_space(parent->column_count);
    Space ref = make_space(desc->natts);
    for (int i = 0; i < set->count; i++) {
        const Row *row = set->rows[i];
        const bool always = expands(row);
        const bool is_image = row->op == 'U' && !row->from_retry;
        if (!always && !is_image)
            continue;
        if (!always && !decode_bytes(row->image, parent->all_columns, parent->column_count, now, careful))
            continue;
        if (row->superseded != nullptr && decode_bytes(row->superseded, parent->all_columns, parent->column_count, before, true)) {
            bool same = !always;
            for (int j = 0; j < desc->natts; j++) {
                const int k = old_column(parent, link.cascade->parent_columns[j]);
                const TypeCacheEntry *type = lookup_type_cache(parent->columns[k].type, 0);
                ref.values[j] = before.values[k];
                ref.nulls[j] = before.nulls[k];
                same = same && before.nulls[k] == now.nulls[k] &&
                       (now.nulls[k] || datum_image_eq(before.values[k], now.values[k], type->typbyval, type->typlen));
            }
            if (same) // its children were asked for when that image came
                continue;
            tuplestore_putvalues(refs, desc, ref.values, ref.nulls);
        }
        if (!always) {
            now.values[parent->column_count] = Int32GetDatum(i);
            now.nulls[parent->column_count] = false;
            tuplestore_putvalues(old->changed, parent->row_desc, now.values, now.nulls);
        } else if (decode_key(parent, row, now, careful)) {
            tuplestore_putvalues(old->keys, parent->key_desc, now.values, now.nulls);
        }
    }
}

void append_parents(StringInfo sql, const CascadeLink &link, const char *relation, bool with_new_values) {
    appendStringInfoString(sql, "SELECT ");
    append_refs(sql, link);
    appendStringInfo(sql, " FROM %s AS t, (SELECT ", link.parent->target_name);
    append_key_values(sql, link.parent);
    for (int i = 0; with_new_values && i < link.cascade->column_count; i++)
        appendStringInfo(sql, ", %s AS tandem_n%d", quote_identifier(link.cascade->parent_columns[i]), i + 1);
    appendStringInfo(sql, " FROM %s) AS s WHERE ", relation);
    append_key_match(sql, link.parent);
}

void refs_from_parents(const CascadeLink &link, const TableRows *set, bool careful, TupleDesc desc, Tuplestorestate *refs) {
    SourceTable *parent = link.parent;
    OldValues old = {tuplestore_begin_heap(false, false, work_mem), tuplestore_begin_heap(false, false, work_mem)};
    sort_parents(link, set, careful, desc, refs, &old);
    register_rows(keys_relation, parent->key_desc, old.keys);
    register_rows(rows_relation, parent->row_desc, old.changed);

    StringInfoData sql;
    if (tuplestore_tuple_count(old.keys) > 0) {
        initStringInfo(&sql);
        append_parents(&sql, link, keys_relation, false);
        run_as(parent->owner, sql.data, refs);
    }
    if (tuplestore_tuple_count(old.changed) > 0) {
        initStringInfo(&sql);
        append_parents(&sql, link, rows_relation, true);
        appendStringInfoString(&sql, " AND CAST(ROW(");
        append_refs(&sql, link);
        appendStringInfoString(&sql, ") AS pg_catalog.record) OPERATOR(pg_catalog.*<>) CAST(ROW(");
        for (int i = 0; i < link.cascade->column_count; i++)
            appendStringInfo(&sql, "%ss.tandem_n%d", i > 0 ? ", " : "", i + 1);
        appendStringInfoString(&sql, ") AS pg_catalog.record)");
        run_as(parent->owner, sql.data, refs);
    }
    SPI_unregister_relation(keys_relation);
    SPI_unregister_relation(rows_relation);
    tuplestore_end(old.keys);
    tuplestore_end(old.changed);
}

// "left = right" for one column of a foreign key. Where the old side compares without regard to case, accents or trailing spaces, we do
// too: rather too many children than too few.
void append_link(StringInfo sql, bool loose, const char *left, Oid left_type, bool left_is_enum, const char *right, Oid right_type) {
    const char *collation = loose ? " COLLATE tandem.loose" : "";
    if (loose)
        appendStringInfo(sql,
                         "pg_catalog.rtrim(CAST(%s AS pg_catalog.text))%s OPERATOR(pg_catalog.=) "
                         "pg_catalog.rtrim(CAST(%s AS pg_catalog.text))%s",
                         left, collation, right, collation);
    else if (left_is_enum) // a value need not be a label of both enums
        appendStringInfo(sql, "CAST(%s AS pg_catalog.text) OPERATOR(pg_catalog.=) CAST(%s AS pg_catalog.text)", left, right);
    else
        append_equality(sql, left, left_type, right, right_type);
}

const char *child_column(const CascadeLink &link, int i) {
    return psprintf("t.%s", quote_identifier(plain_target(link.child, link.cascade->child_columns[i])->name));
}

void append_children(StringInfo sql, const CascadeLink &link, TupleDesc refs) {
    const SourceTable *child = link.child;
    appendStringInfoString(sql, "SELECT DISTINCT ARRAY[");
    for (int i = 0; i < child->key_count; i++)
        appendStringInfo(sql, "%sCAST(CAST(t.%s AS %s) AS pg_catalog.text)", i > 0 ? ", " : "",
                         quote_identifier(plain_target(child, child->key_columns[i]->name)->name), child->key_columns[i]->type_name);
    appendStringInfo(sql, "] FROM %s AS t, %s AS s WHERE ", child->target_name, refs_relation);
    for (int i = 0; i < link.cascade->column_count; i++) {
        const TargetColumn *target = plain_target(child, link.cascade->child_columns[i]);
        if (i > 0)
            appendStringInfoString(sql, " AND ");
        append_link(sql, link.cascade->loose[i], child_column(link, i), target->base_type, target->enum_from_text,
                    psprintf("s.tandem_r%d", i + 1), TupleDescAttr(refs, i)->atttypid);
    }
    append_own_rows(sql, child);
}

// Kept images of the child as rows (key as text, foreign key); keys of those that cannot be read go to `opaque`.
TupleDesc kept_descriptor(const CascadeLink &link) {
    TupleDesc desc = CreateTemplateTupleDesc(link.cascade->column_count + 1);
    TupleDescInitEntry(desc, 1, "tandem_key", TEXTARRAYOID, -1, 0);
    for (int i = 0; i < link.cascade->column_count; i++) {
        const ImageColumn *column = &link.child->columns[old_column(link.child, link.cascade->child_columns[i])];
        TupleDescInitEntry(desc, static_cast<AttrNumber>(i + 2), psprintf("tandem_f%d", i + 1), column->type, column->typmod, 0);
    }
    return desc;
}

Datum text_key(const SourceTable *table, Space key) {
    int dimensions[] = {table->key_count};
    int bounds[] = {1};
    for (int i = 0; i < table->key_count; i++)
        if (!key.nulls[i])
            key.values[i] = CStringGetTextDatum(OutputFunctionCall(&table->key_columns[i]->output, key.values[i]));
    return PointerGetDatum(construct_md_array(key.values, key.nulls, 1, dimensions, bounds, TEXTOID, -1, false, TYPALIGN_INT));
}

void read_kept_children(const CascadeLink &link, TupleDesc desc, Tuplestorestate *kept, Tuplestorestate *opaque) {
    const SourceTable *child = link.child;
    Datum id = Int32GetDatum(child->table_id);
    const std::uint64_t count = execute(&read_kept, &id);
    if (count == 0)
        return;
    SPITupleTable *table = SPI_tuptable; // decoding runs in subtransactions and leaves it alone
    TupleDesc opaque_desc = found_descriptor();
    Space key = make_space(child->key_count);
    Space image = make_space(child->column_count);
    Space row = make_space(desc->natts);
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem kept row", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    for (std::uint64_t i = 0; i < count; i++) {
        bool is_null;
        MemoryContextReset(context);
        const bytea *key_bytes = DatumGetByteaPP(SPI_getbinval(table->vals[i], table->tupdesc, 1, &is_null));
        if (!decode_bytes(key_bytes, child->key_columns, child->key_count, key, true))
            continue; // cannot be asked for
        row.values[0] = text_key(child, key);
        row.nulls[0] = false;
        const Datum bytes = SPI_getbinval(table->vals[i], table->tupdesc, 2, &is_null);
        if (is_null || !decode_bytes(DatumGetByteaPP(bytes), child->all_columns, child->column_count, image, true)) {
            tuplestore_putvalues(opaque, opaque_desc, row.values, row.nulls);
            continue;
        }
        for (int j = 0; j < link.cascade->column_count; j++) {
            const int k = old_column(child, link.cascade->child_columns[j]);
            row.values[j + 1] = image.values[k];
            row.nulls[j + 1] = image.nulls[k];
        }
        tuplestore_putvalues(kept, desc, row.values, row.nulls);
    }
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
}

void find_kept_children(const CascadeLink &link, TupleDesc refs, bool opaque_too, Tuplestorestate *found) {
    TupleDesc desc = kept_descriptor(link);
    Tuplestorestate *kept = tuplestore_begin_heap(false, false, work_mem);
    Tuplestorestate *opaque = tuplestore_begin_heap(false, false, work_mem);
    read_kept_children(link, desc, kept, opaque_too ? found : opaque);
    if (tuplestore_tuple_count(kept) > 0) {
        StringInfoData sql;
        initStringInfo(&sql);
        appendStringInfo(&sql, "SELECT DISTINCT t.tandem_key FROM %s AS t, %s AS s WHERE ", kept_children_relation, refs_relation);
        for (int i = 0; i < link.cascade->column_count; i++) {
            if (i > 0)
                appendStringInfoString(&sql, " AND ");
            append_link(&sql, link.cascade->loose[i], psprintf("t.tandem_f%d", i + 1), TupleDescAttr(desc, i + 1)->atttypid, false,
                        psprintf("s.tandem_r%d", i + 1), TupleDescAttr(refs, i)->atttypid);
        }
        register_rows(kept_children_relation, desc, kept, static_cast<double>(tuplestore_tuple_count(kept)));
        run_as(GetUserId(), sql.data, found);
        SPI_unregister_relation(kept_children_relation);
    }
    tuplestore_end(kept);
    tuplestore_end(opaque);
}

// What children refer to, each value once.
void read_referred(const CascadeLink &link, TupleDesc desc, Tuplestorestate *referred) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT DISTINCT ");
    for (int i = 0; i < desc->natts; i++)
        appendStringInfo(&sql, "%sCAST(%s AS %s)", i > 0 ? ", " : "", child_column(link, i),
                         link.parent->columns[old_column(link.parent, link.cascade->parent_columns[i])].type_name);
    appendStringInfo(&sql, " FROM %s AS t WHERE ", link.child->target_name);
    for (int i = 0; i < desc->natts; i++)
        appendStringInfo(&sql, "%s%s IS NOT NULL", i > 0 ? " AND " : "", child_column(link, i));
    append_own_rows(&sql, link.child);
    run_as(link.child->owner, sql.data, referred);

    TupleDesc kept_desc = kept_descriptor(link);
    Tuplestorestate *kept = tuplestore_begin_heap(false, false, work_mem);
    Tuplestorestate *opaque = tuplestore_begin_heap(false, false, work_mem);
    read_kept_children(link, kept_desc, kept, opaque);
    if (tuplestore_tuple_count(kept) > 0) {
        initStringInfo(&sql);
        appendStringInfoString(&sql, "SELECT DISTINCT ");
        for (int i = 0; i < desc->natts; i++)
            appendStringInfo(&sql, "%sCAST(t.tandem_f%d AS %s)", i > 0 ? ", " : "", i + 1,
                             link.parent->columns[old_column(link.parent, link.cascade->parent_columns[i])].type_name);
        appendStringInfo(&sql, " FROM %s AS t", kept_children_relation);
        register_rows(kept_children_relation, kept_desc, kept, static_cast<double>(tuplestore_tuple_count(kept)));
        run_as(GetUserId(), sql.data, referred);
        SPI_unregister_relation(kept_children_relation);
    }
    tuplestore_end(kept);
    tuplestore_end(opaque);
}

} // namespace

bool expands(const Row *row) {
    // A row that is tried again was expanded when it came, unless that failed: then it has kept its flag.
    return (row->flags & flag_removes) != 0 || (row->op == 'D' && !row->from_retry) ||
           ((row->flags & flag_cascaded) != 0 && row->op != 'U');
}

TupleDesc refs_descriptor(const CascadeLink &link) {
    TupleDesc desc = CreateTemplateTupleDesc(link.cascade->column_count);
    for (int i = 0; i < link.cascade->column_count; i++) {
        const ImageColumn *column = &link.parent->columns[old_column(link.parent, link.cascade->parent_columns[i])];
        TupleDescInitEntry(desc, static_cast<AttrNumber>(i + 1), psprintf("tandem_r%d", i + 1), column->type, column->typmod, 0);
    }
    return desc;
}

TupleDesc found_descriptor() {
    TupleDesc desc = CreateTemplateTupleDesc(1);
    TupleDescInitEntry(desc, 1, "key_text", TEXTARRAYOID, -1, 0);
    return desc;
}

void refs_of_rows(const CascadeLink &link, const TableRows *set, bool careful, TupleDesc desc, Tuplestorestate *refs) {
    if (link.cascade->by_key)
        refs_from_keys(link, set, careful, desc, refs);
    else
        refs_from_parents(link, set, careful, desc, refs);
}

void refs_of_orphans(const CascadeLink &link, TupleDesc desc, Tuplestorestate *refs) {
    Tuplestorestate *referred = tuplestore_begin_heap(false, false, work_mem);
    read_referred(link, desc, referred);
    if (tuplestore_tuple_count(referred) > 0) {
        StringInfoData sql;
        initStringInfo(&sql);
        appendStringInfo(&sql, "SELECT s.* FROM tandem_referred AS s WHERE NOT EXISTS (SELECT FROM %s AS t WHERE ",
                         link.parent->target_name);
        for (int i = 0; i < desc->natts; i++) {
            const TargetColumn *target = plain_target(link.parent, link.cascade->parent_columns[i]);
            if (i > 0)
                appendStringInfoString(&sql, " AND ");
            append_link(&sql, false, psprintf("t.%s", quote_identifier(target->name)), target->base_type, target->enum_from_text,
                        psprintf("s.tandem_r%d", i + 1), TupleDescAttr(desc, i)->atttypid);
        }
        append_own_rows(&sql, link.parent);
        appendStringInfoChar(&sql, ')');
        register_rows("tandem_referred", desc, referred, static_cast<double>(tuplestore_tuple_count(referred)));
        run_as(link.parent->owner, sql.data, refs);
        SPI_unregister_relation("tandem_referred");
    }
    tuplestore_end(referred);
}

void find_children(const CascadeLink &link, TupleDesc desc, Tuplestorestate *refs, bool opaque_too, Tuplestorestate *found) {
    if (tuplestore_tuple_count(refs) == 0)
        return;
    StringInfoData sql;
    initStringInfo(&sql);
    append_children(&sql, link, desc);
    register_rows(refs_relation, desc, refs, static_cast<double>(tuplestore_tuple_count(refs)));
    run_as(link.child->owner, sql.data, found);
    find_kept_children(link, desc, opaque_too, found);
    SPI_unregister_relation(refs_relation);
}

} // namespace tandem
