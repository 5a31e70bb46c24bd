// Children that a foreign key of the old side changes with no trigger firing: when a parent's old value goes away, the keys of its
// children *in PostgreSQL* are put into tandem.request, to be fetched again (docs/protocol.md section 7).
//
// Runs before the transaction changes any row, since the old value of a referenced column may be known only from the parent's row here.
// It ends in cycles: a row that was itself found by expansion (flag 2) is expanded again only if it is absent or its referenced values
// changed.
#include <initializer_list>

#include "apply.hpp"

#include "table_plan.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/tstoreReceiver.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
}

namespace tandem {
namespace {

struct Expansion {
    TableRows *set;
    const Cascade *cascade;
    SourceTable *child;
};

struct KeyCheck {
    const SourceTable *table;
    const Row *row;
};

void check_key(void *argument) {
    auto check = static_cast<KeyCheck *>(argument);
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(check->table->key_count)));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<size_t>(check->table->key_count)));
    decode_image(check->row->key, check->table->key_columns, check->table->key_count, values, nulls);
}

// The key itself may be what the worker could not represent.
bool key_is_valid(const SourceTable *table, const Row *row) {
    KeyCheck check = {table, row};
    SqlError ignored;
    return row->op != 'X' || run_in_subtransaction(check_key, &check, &ignored);
}

bool expands_always(const Row *row) { return (row->flags & flag_removes) != 0 || ((row->flags & flag_cascaded) != 0 && row->op != 'U'); }
bool expands_if_changed(const Row *row) { return (row->flags & (flag_removes | flag_cascaded)) == flag_cascaded && row->op == 'U'; }
bool is_flagged(const Row *row) { return (row->flags & (flag_removes | flag_cascaded)) != 0; }

int old_column(const SourceTable *table, const char *name) {
    for (int i = 0; i < table->column_count; i++)
        if (strcmp(table->columns[i].name, name) == 0)
            return i;
    return -1;
}

// The target column that holds an old column as it is.
const TargetColumn *plain_target(const SourceTable *table, const char *old_name, const char *purpose) {
    const int index = old_column(table, old_name);
    for (int i = 0; i < table->target_count; i++)
        if (index >= 0 && table->targets[i].source_column == index)
            return &table->targets[i];
    ereport(ERROR,
            (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
             errmsg("column \"%s\" of old table \"%s\" is needed unchanged in the target %s", old_name, table->name, table->target_name),
             errdetail("%s", purpose), errhint("Map the column to a target column without an expression.")));
    return nullptr;
}

constexpr const char *cascade_purpose = "A foreign key of the old side cascades over it, and the rows concerned are looked up by it.";

TupleDesc refs_descriptor(const SourceTable *parent, const Cascade *cascade) {
    TupleDesc desc = CreateTemplateTupleDesc(cascade->column_count);
    for (int i = 0; i < cascade->column_count; i++) {
        const int index = old_column(parent, cascade->parent_columns[i]);
        if (index < 0)
            ereport(ERROR,
                    (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("foreign key \"%s\" refers to column \"%s\" of \"%s\", which is not known",
                                                               cascade->name, cascade->parent_columns[i], parent->name)));
        TupleDescInitEntry(desc, static_cast<AttrNumber>(i + 1), psprintf("tandem_r%d", i + 1), parent->columns[index].type,
                           parent->columns[index].typmod, 0);
    }
    return desc;
}

// Referenced columns are key columns: their old values are in the keys themselves.
void refs_from_keys(const Expansion *work, TupleDesc desc, Tuplestorestate *refs) {
    const SourceTable *parent = work->set->table;
    auto key = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(parent->key_count)));
    auto key_nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<size_t>(parent->key_count)));
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(desc->natts)));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<size_t>(desc->natts)));
    for (int i = 0; i < work->set->count; i++) {
        const Row *row = work->set->rows[i];
        if (!expands_always(row) || !key_is_valid(parent, row))
            continue;
        decode_image(row->key, parent->key_columns, parent->key_count, key, key_nulls);
        for (int j = 0; j < desc->natts; j++)
            for (int k = 0; k < parent->key_count; k++)
                if (strcmp(parent->key_columns[k]->name, work->cascade->parent_columns[j]) == 0) {
                    values[j] = key[k];
                    nulls[j] = key_nulls[k];
                }
        tuplestore_putvalues(refs, desc, values, nulls);
    }
}

void append_refs(StringInfo sql, const Expansion *work, const char *separator) {
    const SourceTable *parent = work->set->table;
    for (int i = 0; i < work->cascade->column_count; i++) {
        const ImageColumn *column = &parent->columns[old_column(parent, work->cascade->parent_columns[i])];
        const TargetColumn *target = plain_target(parent, work->cascade->parent_columns[i], cascade_purpose);
        appendStringInfo(sql, "%sCAST(t.%s AS %s)", i > 0 ? separator : "", quote_identifier(target->name), column->type_name);
    }
}

void run_query(const char *sql, Tuplestorestate *into) {
    DestReceiver *dest = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(dest, into, CurrentMemoryContext, true, nullptr, nullptr);
    SPIPlanPtr plan = SPI_prepare(sql, 0, nullptr);
    if (plan == nullptr)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(SPI_result), sql);
    execute_plan(plan, sql, nullptr, nullptr, dest);
    dest->rDestroy(dest);
}

// Referenced columns are others: their old values are in the parents' rows in PostgreSQL, which this batch has not changed yet.
void refs_from_parents(const Expansion *work, Tuplestorestate *refs) {
    SourceTable *parent = work->set->table;
    const size_t columns = static_cast<size_t>(parent->column_count + 1);
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * columns));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * columns));
    Tuplestorestate *keys = tuplestore_begin_heap(false, false, work_mem);
    Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);
    for (int i = 0; i < work->set->count; i++) {
        const Row *row = work->set->rows[i];
        if (expands_always(row) && key_is_valid(parent, row)) {
            decode_image(row->key, parent->key_columns, parent->key_count, values, nulls);
            tuplestore_putvalues(keys, parent->key_desc, values, nulls);
        } else if (expands_if_changed(row)) {
            decode_image(row->image, parent->all_columns, parent->column_count, values, nulls);
            values[parent->column_count] = Int32GetDatum(i);
            nulls[parent->column_count] = false;
            tuplestore_putvalues(rows, parent->row_desc, values, nulls);
        }
    }
    register_rows(keys_relation, parent->key_desc, keys);
    register_rows(rows_relation, parent->row_desc, rows);

    StringInfoData sql;
    if (tuplestore_tuple_count(keys) > 0) {
        initStringInfo(&sql);
        appendStringInfoString(&sql, "SELECT ");
        append_refs(&sql, work, ", ");
        appendStringInfo(&sql, " FROM %s AS t, (SELECT ", parent->target_name);
        append_key_values(&sql, parent);
        appendStringInfo(&sql, " FROM %s) AS s WHERE ", keys_relation);
        append_key_match(&sql, parent);
        run_query(sql.data, refs);
    }
    if (tuplestore_tuple_count(rows) > 0) {
        initStringInfo(&sql);
        appendStringInfoString(&sql, "SELECT ");
        append_refs(&sql, work, ", ");
        appendStringInfo(&sql, " FROM %s AS t, (SELECT ", parent->target_name);
        append_key_values(&sql, parent);
        for (int i = 0; i < work->cascade->column_count; i++)
            appendStringInfo(&sql, ", %s AS tandem_n%d", quote_identifier(work->cascade->parent_columns[i]), i + 1);
        appendStringInfo(&sql, " FROM %s) AS s WHERE ", rows_relation);
        append_key_match(&sql, parent);
        appendStringInfoString(&sql, " AND CAST(ROW(");
        append_refs(&sql, work, ", ");
        appendStringInfoString(&sql, ") AS pg_catalog.record) OPERATOR(pg_catalog.*<>) CAST(ROW(");
        for (int i = 0; i < work->cascade->column_count; i++)
            appendStringInfo(&sql, "%ss.tandem_n%d", i > 0 ? ", " : "", i + 1);
        appendStringInfoString(&sql, ") AS pg_catalog.record)");
        run_query(sql.data, refs);
    }
    tuplestore_end(keys);
    tuplestore_end(rows);
}

char *children_query(const Expansion *work, TupleDesc refs) {
    const SourceTable *child = work->child;
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT DISTINCT ARRAY[");
    for (int i = 0; i < child->key_count; i++) {
        const TargetColumn *target = plain_target(child, child->key_columns[i]->name, cascade_purpose);
        appendStringInfo(&sql, "%sCAST(CAST(t.%s AS %s) AS pg_catalog.text)", i > 0 ? ", " : "", quote_identifier(target->name),
                         child->key_columns[i]->type_name);
    }
    appendStringInfo(&sql, "] FROM %s AS t, tandem_refs AS s WHERE ", child->target_name);
    for (int i = 0; i < work->cascade->column_count; i++) {
        const TargetColumn *target = plain_target(child, work->cascade->child_columns[i], cascade_purpose);
        if (i > 0)
            appendStringInfoString(&sql, " AND ");
        append_equality(&sql, psprintf("t.%s", quote_identifier(target->name)), target->base_type, psprintf("s.tandem_r%d", i + 1),
                        TupleDescAttr(refs, i)->atttypid);
    }
    return sql.data;
}

TupleDesc found_descriptor() {
    TupleDesc desc = CreateTemplateTupleDesc(1);
    TupleDescInitEntry(desc, 1, "key_text", TEXTARRAYOID, -1, 0);
    return desc;
}

// Each step takes the rights of the owner of the table it reads; the request is written with ours.
void expand(void *argument) {
    auto work = static_cast<Expansion *>(argument);
    SourceTable *parent = work->set->table;
    Oid user;
    int security;
    GetUserIdAndSecContext(&user, &security);
    const int restricted = security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION;

    connect_spi();
    // Foreign keys need not be indexed: leave the way to look up children to the planner.
    const int level = NewGUCNestLevel();
    for (const char *name : {"enable_hashjoin", "enable_mergejoin", "enable_seqscan"})
        (void)set_config_option(name, "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);

    TupleDesc refs_desc = refs_descriptor(parent, work->cascade);
    Tuplestorestate *refs = tuplestore_begin_heap(false, false, work_mem);
    SetUserIdAndSecContext(parent->owner, restricted);
    if (work->cascade->by_key)
        refs_from_keys(work, refs_desc, refs);
    else
        refs_from_parents(work, refs);

    Tuplestorestate *found = tuplestore_begin_heap(false, false, work_mem);
    if (tuplestore_tuple_count(refs) > 0) {
        register_rows("tandem_refs", refs_desc, refs, static_cast<double>(tuplestore_tuple_count(refs)));
        SetUserIdAndSecContext(work->child->owner, restricted);
        run_query(children_query(work, refs_desc), found);
    }
    SetUserIdAndSecContext(user, security);

    if (tuplestore_tuple_count(found) > 0) {
        register_rows("tandem_found", found_descriptor(), found);
        Oid types[] = {INT4OID, TEXTOID};
        Datum values[] = {Int32GetDatum(work->child->table_id),
                          text_datum(psprintf("cascade of foreign key %s from %s", work->cascade->name, parent->name))};
        SPIPlanPtr plan = SPI_prepare("INSERT INTO tandem.request (table_id, key_text, flags, reason) "
                                      "SELECT $1, f.key_text, 2, $2 FROM tandem_found AS f",
                                      2, types);
        execute_plan(plan, "writing requests", values);
    }
    tuplestore_end(refs);
    tuplestore_end(found);
    AtEOXact_GUC(false, level);
    finish_spi();
}

void expansion_failed(TableRows *set, const SqlError &error) {
    const ErrorKind kind = classify(error);
    if (kind == ErrorKind::resource)
        raise_again(error);
    auto copy = static_cast<SqlError *>(palloc(sizeof(SqlError)));
    *copy = error;
    if (kind == ErrorKind::transient) {
        // Rows that are tried again are expanded again.
        for (int i = 0; i < set->count; i++) {
            if (!is_flagged(set->rows[i]))
                continue;
            set->rows[i]->fate = Fate::retry;
            set->rows[i]->error = copy;
        }
    } else {
        set->table_error = copy;
    }
}

} // namespace

void expand_cascades(TableRows *set) {
    ListCell *cell;
    bool flagged = false;
    for (int i = 0; i < set->count && !flagged; i++)
        flagged = is_flagged(set->rows[i]);
    if (!flagged || !OidIsValid(set->table->target))
        return;
    foreach (cell, set->table->cascades) {
        Expansion work = {set, static_cast<Cascade *>(lfirst(cell)), nullptr};
        SqlError error;
        work.child = find_table(work.cascade->child_table_id);
        // A child without a target has no rows here, and nothing can be applied to it either.
        if (work.child == nullptr || !OidIsValid(work.child->target))
            continue;
        if (!run_in_subtransaction(expand, &work, &error)) {
            expansion_failed(set, error);
            return;
        }
    }
}

} // namespace tandem
