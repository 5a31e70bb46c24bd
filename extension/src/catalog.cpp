// See catalog.hpp.
#include "catalog.hpp"

#include "shmem.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "parser/scansup.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
}

namespace tandem {
namespace {

MemoryContext cache_context = nullptr;
List *cached = NIL; // SourceTable *, in cache_context
std::uint64_t cached_generation = 0;
volatile bool outdated = false;

Statement read_table = {"SELECT t.source_id, t.name, t.target::pg_catalog.oid, t.key_columns, s.database, t.filter, "
                        "EXISTS (SELECT FROM tandem.source_column c WHERE c.table_id OPERATOR(pg_catalog.=) t.table_id "
                        "AND c.policy OPERATOR(pg_catalog.<>) 'dead_letter'), "
                        "EXISTS (SELECT FROM tandem.phase p WHERE p.table_id OPERATOR(pg_catalog.=) t.table_id "
                        "AND p.direct_writes OPERATOR(pg_catalog.=) 'record') "
                        "OR EXISTS (SELECT FROM tandem.direct_write w WHERE w.table_id OPERATOR(pg_catalog.=) t.table_id) "
                        "FROM tandem.source_table t JOIN tandem.source s ON s.source_id OPERATOR(pg_catalog.=) t.source_id "
                        "WHERE t.table_id OPERATOR(pg_catalog.=) $1",
                        1,
                        {INT4OID},
                        nullptr};
Statement read_columns = {"SELECT name, image_type, tandem._column_name(name) FROM tandem.source_column WHERE table_id "
                          "OPERATOR(pg_catalog.=) $1 ORDER BY ordinal",
                          1,
                          {INT4OID},
                          nullptr};
Statement read_targets = {"SELECT name, source_column, expression, key_position, written FROM tandem.target_column "
                          "WHERE table_id OPERATOR(pg_catalog.=) $1 ORDER BY written DESC, key_position NULLS LAST, name",
                          1,
                          {INT4OID},
                          nullptr};
// Actions that change or remove children; a child that is not moved from this source does not concern us.
Statement read_cascades = {
    "SELECT f.name, c.table_id, f.columns, f.ref_columns, ARRAY(SELECT CASE WHEN sc.\"collation\" OPERATOR(pg_catalog.~) '_bin$|^binary$' "
    "OR sc.\"collation\" IS NULL THEN 'exact' ELSE 'loose' END "
    "FROM pg_catalog.unnest(f.columns) WITH ORDINALITY AS k (name, position) LEFT JOIN tandem.source_column sc "
    "ON sc.table_id OPERATOR(pg_catalog.=) c.table_id AND sc.name OPERATOR(pg_catalog.=) k.name ORDER BY k.position) "
    "FROM tandem.source_table p "
    "JOIN tandem.source s ON s.source_id OPERATOR(pg_catalog.=) p.source_id "
    "JOIN tandem.source_fk f ON f.source_id OPERATOR(pg_catalog.=) p.source_id AND f.parent_database OPERATOR(pg_catalog.=) s.database "
    "AND f.parent OPERATOR(pg_catalog.=) p.name AND f.child_database OPERATOR(pg_catalog.=) s.database "
    "JOIN tandem.source_table c ON c.source_id OPERATOR(pg_catalog.=) p.source_id AND c.name OPERATOR(pg_catalog.=) f.child "
    "WHERE p.table_id OPERATOR(pg_catalog.=) $1 AND c.desired_state OPERATOR(pg_catalog.<>) 'dropped' "
    "AND (f.on_delete OPERATOR(pg_catalog.=) ANY (ARRAY['CASCADE', 'SET NULL', 'SET DEFAULT']) "
    "OR f.on_update OPERATOR(pg_catalog.=) ANY (ARRAY['CASCADE', 'SET NULL', 'SET DEFAULT'])) ORDER BY c.table_id, f.name",
    1,
    {INT4OID},
    nullptr};
Statement read_deferrable = {
    "SELECT i.indexrelid::pg_catalog.regclass FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) $1 "
    "AND NOT i.indimmediate LIMIT 1",
    1,
    {OIDOID},
    nullptr};

template <typename T> T *allocate(MemoryContext context, int count) {
    return static_cast<T *>(MemoryContextAllocZero(context, sizeof(T) * static_cast<size_t>(Max(count, 1))));
}

// text[] → strings, cut like identifiers.
const char **text_array(std::uint64_t row, int column, int *count, MemoryContext context) {
    bool is_null;
    Datum *elements;
    const Datum value = result_value(row, column, &is_null);
    deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, nullptr, count);
    auto strings = allocate<const char *>(context, *count);
    for (int i = 0; i < *count; i++) {
        strings[i] = MemoryContextStrdup(context, TextDatumGetCString(elements[i]));
    }
    return strings;
}

int column_index(const SourceTable *table, const char *name) {
    for (int i = 0; i < table->column_count; i++)
        if (strcmp(table->columns[i].name, name) == 0)
            return i;
    return -1;
}

void refuse(SourceTable *table, int code, char *reason, const char *hint, MemoryContext context) {
    if (table->refusal != nullptr)
        return;
    table->refusal_code = code;
    table->refusal = MemoryContextStrdup(context, reason);
    table->refusal_hint = hint == nullptr ? nullptr : MemoryContextStrdup(context, hint);
}

// Source part: needs SPI; false when the table is unknown.
bool read_source_part(SourceTable *table, int table_id, MemoryContext context) {
    Datum id = Int32GetDatum(table_id);
    int key_count = 0;
    if (execute(&read_table, &id) == 0)
        return false;
    table->table_id = table_id;
    table->source_id = result_int32(0, 1);
    table->name = result_text(0, 2, context);
    bool is_null;
    table->target = DatumGetObjectId(result_value(0, 3, &is_null));
    const char **key_names = text_array(0, 4, &key_count, context);
    table->filter = result_text(0, 6, context);
    table->has_policies = result_bool(0, 7);
    table->verifies_writes = result_bool(0, 8);

    table->column_count = static_cast<int>(execute(&read_columns, &id));
    table->columns = allocate<ImageColumn>(context, table->column_count);
    table->all_columns = allocate<ImageColumn *>(context, table->column_count);
    for (int i = 0; i < table->column_count; i++) {
        prepare_image_column(&table->columns[i], result_text(i, 1, CurrentMemoryContext), result_text(i, 3, CurrentMemoryContext),
                             result_text(i, 2, CurrentMemoryContext), context);
        table->all_columns[i] = &table->columns[i];
    }
    table->key_count = key_count;
    table->key_columns = allocate<ImageColumn *>(context, key_count);
    for (int i = 0; i < key_count; i++) {
        const int index = column_index(table, key_names[i]);
        if (index < 0)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                            errmsg("key column \"%s\" of old table \"%s\" is not in tandem.source_column", key_names[i], table->name)));
        table->columns[index].key = true;
        table->key_columns[i] = &table->columns[index];
    }
    return true;
}

void build_descriptors(SourceTable *table, MemoryContext context) {
    MemoryContext before = MemoryContextSwitchTo(context);
    table->row_desc = CreateTemplateTupleDesc(table->column_count + 1);
    for (int i = 0; i < table->column_count; i++)
        TupleDescInitEntry(table->row_desc, static_cast<AttrNumber>(i + 1), table->columns[i].identifier, table->columns[i].type,
                           table->columns[i].typmod, 0);
    TupleDescInitEntry(table->row_desc, static_cast<AttrNumber>(table->column_count + 1), row_number_column, INT4OID, -1, 0);
    table->key_desc = CreateTemplateTupleDesc(table->key_count);
    for (int i = 0; i < table->key_count; i++)
        TupleDescInitEntry(table->key_desc, static_cast<AttrNumber>(i + 1), table->key_columns[i]->identifier, table->key_columns[i]->type,
                           table->key_columns[i]->typmod, 0);
    MemoryContextSwitchTo(before);
}

bool type_is_image_equal(Oid base_type, Oid collation) {
    if (OidIsValid(collation) && !get_collation_isdeterministic(collation))
        return false;
    const TypeCacheEntry *entry = lookup_type_cache(base_type, TYPECACHE_BTREE_OPFAMILY);
    return OidIsValid(entry->btree_opf) &&
           OidIsValid(get_opfamily_proc(entry->btree_opf, entry->btree_opintype, entry->btree_opintype, BTEQUALIMAGE_PROC));
}

void read_target_part(SourceTable *table, MemoryContext context) {
    Datum id = Int32GetDatum(table->table_id);
    Relation relation = try_relation_open(table->target, AccessShareLock);
    if (relation == nullptr) {
        refuse(table, ERRCODE_UNDEFINED_TABLE, psprintf("target of old table \"%s\" does not exist any more", table->name),
               "Remove the table with tandem.drop_table, then add it again.", context);
        table->target = InvalidOid;
        return;
    }
    table->owner = relation->rd_rel->relowner;
    table->target_name = MemoryContextStrdup(
        context, quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)), RelationGetRelationName(relation)));
    TupleDesc desc = RelationGetDescr(relation);

    table->compared_count = static_cast<int>(execute(&read_targets, &id));
    table->targets = allocate<TargetColumn>(context, table->compared_count);
    table->target_key = allocate<TargetColumn *>(context, table->compared_count);
    for (int i = 0; i < table->compared_count; i++) {
        TargetColumn *column = &table->targets[i];
        if (result_bool(i, 5))
            table->target_count = i + 1;
        column->name = result_text(i, 1, context);
        const char *source = result_text(i, 2, context);
        column->expression = result_text(i, 3, context);
        column->key_position = result_int32(i, 4);
        column->source_column = -1;
        if (column->key_position > 0)
            table->target_key[table->target_key_count++] = column;
        if (source != nullptr && (column->source_column = column_index(table, source)) < 0)
            refuse(table, ERRCODE_UNDEFINED_COLUMN, psprintf("old column \"%s\" of \"%s\" is not known", source, table->name), nullptr,
                   context);

        const AttrNumber number = get_attnum(table->target, column->name);
        const FormData_pg_attribute *attribute = number > 0 ? TupleDescAttr(desc, number - 1) : nullptr;
        if (attribute == nullptr || attribute->attisdropped) {
            refuse(table, ERRCODE_UNDEFINED_COLUMN,
                   psprintf("column \"%s\" of target %s does not exist any more", column->name, table->target_name),
                   "Put it back, or remove the table with tandem.drop_table and add it again.", context);
            continue;
        }
        column->type = attribute->atttypid;
        column->typmod = attribute->atttypmod;
        column->base_type = getBaseType(attribute->atttypid);
        column->image_equal = type_is_image_equal(column->base_type, attribute->attcollation);
        column->enum_from_text = column->source_column >= 0 && type_is_enum(column->base_type);
    }
    if (table->target_key_count == 0)
        refuse(table, ERRCODE_INVALID_TABLE_DEFINITION, psprintf("target %s has no key columns", table->target_name), nullptr, context);

    MemoryContext before = MemoryContextSwitchTo(context);
    for (int i = 0; i < desc->natts; i++) {
        const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
        bool written = attribute->attisdropped || attribute->attgenerated != '\0';
        for (int j = 0; j < table->target_count && !written; j++)
            written = strcmp(table->targets[j].name, NameStr(attribute->attname)) == 0;
        if (!written)
            table->kept_columns = lappend(table->kept_columns, pstrdup(NameStr(attribute->attname)));
    }
    MemoryContextSwitchTo(before);
    relation_close(relation, AccessShareLock);

    // PostgreSQL does not check deferrable constraints in a session with session_replication_role = replica; duplicates would get in.
    Datum target = ObjectIdGetDatum(table->target);
    if (execute(&read_deferrable, &target) > 0)
        refuse(table, ERRCODE_FEATURE_NOT_SUPPORTED,
               psprintf("target %s has a deferrable unique constraint \"%s\", which cannot be kept while rows are applied",
                        table->target_name, result_text(0, 1, CurrentMemoryContext)),
               "Replace it by a constraint that is NOT DEFERRABLE, then call tandem.resume.", context);
}

void read_cascade_part(SourceTable *table, MemoryContext context) {
    Datum id = Int32GetDatum(table->table_id);
    const std::uint64_t rows = execute(&read_cascades, &id);
    for (std::uint64_t row = 0; row < rows; row++) {
        auto cascade = allocate<Cascade>(context, 1);
        int parents = 0;
        cascade->name = result_text(row, 1, context);
        cascade->child_table_id = result_int32(row, 2);
        cascade->child_columns = text_array(row, 3, &cascade->column_count, context);
        cascade->parent_columns = text_array(row, 4, &parents, context);
        int compared = 0;
        const char **comparison = text_array(row, 5, &compared, context);
        cascade->loose = allocate<bool>(context, compared);
        for (int i = 0; i < compared; i++)
            cascade->loose[i] = strcmp(comparison[i], "loose") == 0;
        cascade->by_key = parents == cascade->column_count;
        for (int i = 0; i < parents; i++) {
            const int index = column_index(table, cascade->parent_columns[i]);
            if (index < 0 || !table->columns[index].key)
                cascade->by_key = false;
        }
        MemoryContext before = MemoryContextSwitchTo(context);
        table->cascades = lappend(table->cascades, cascade);
        MemoryContextSwitchTo(before);
    }
}

void target_changed(Datum, Oid relation) {
    ListCell *cell;
    if (!OidIsValid(relation)) {
        outdated = true;
        return;
    }
    foreach (cell, cached)
        if (static_cast<SourceTable *>(lfirst(cell))->target == relation)
            outdated = true;
}

void free_plan(SPIPlanPtr plan) {
    if (plan != nullptr)
        SPI_freeplan(plan);
}

} // namespace

void watch_targets() {
    cache_context = AllocSetContextCreate(TopMemoryContext, "pg_tandem tables", ALLOCSET_DEFAULT_SIZES);
    CacheRegisterRelcacheCallback(target_changed, (Datum)0);
}

void refresh_catalog() {
    const std::uint64_t generation = config_generation();
    AcceptInvalidationMessages();
    if (!outdated && generation == cached_generation)
        return;
    ListCell *cell;
    foreach (cell, cached) {
        const TablePlans &plans = static_cast<SourceTable *>(lfirst(cell))->plans;
        free_plan(plans.delete_keys);
        free_plan(plans.upsert);
        free_plan(plans.take_rows);
        free_plan(plans.put_kept);
        free_plan(plans.put_new);
        free_plan(plans.missing_rows);
        free_plan(plans.wanted_rows);
        free_plan(plans.present_keys);
        free_plan(plans.lock_keys);
        free_plan(plans.compare_rows);
    }
    cached = NIL;
    MemoryContextReset(cache_context);
    outdated = false;
    cached_generation = generation;
}

SourceTable *find_table(int table_id) {
    ListCell *cell;
    foreach (cell, cached)
        if (static_cast<SourceTable *>(lfirst(cell))->table_id == table_id)
            return static_cast<SourceTable *>(lfirst(cell));

    auto table = allocate<SourceTable>(cache_context, 1);
    connect_spi();
    const bool found = read_source_part(table, table_id, cache_context);
    if (found) {
        build_descriptors(table, cache_context);
        read_target_part(table, cache_context);
        read_cascade_part(table, cache_context);
    }
    finish_spi();
    if (!found)
        return nullptr;
    MemoryContext before = MemoryContextSwitchTo(cache_context);
    cached = lappend(cached, table);
    MemoryContextSwitchTo(before);
    return table;
}

SourceTable *load_table(int table_id) {
    MemoryContext context = CurrentMemoryContext;
    auto table = allocate<SourceTable>(context, 1);
    connect_spi();
    const bool found = read_source_part(table, table_id, context);
    if (found) {
        build_descriptors(table, context);
        read_target_part(table, context);
    }
    finish_spi();
    return found ? table : nullptr;
}

SourceTable *load_columns(int table_id) {
    MemoryContext context = CurrentMemoryContext;
    auto table = allocate<SourceTable>(context, 1);
    Oid user;
    int security;
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security | SECURITY_RESTRICTED_OPERATION);
    connect_spi();
    const bool found = read_source_part(table, table_id, context);
    finish_spi();
    SetUserIdAndSecContext(user, security);
    return found ? table : nullptr;
}

} // namespace tandem
