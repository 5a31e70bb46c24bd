// Children that a foreign key of the old side changes with no trigger firing: when a parent's old value goes away, the keys of its
// children *in PostgreSQL* are put into tandem.request, to be fetched again (docs/protocol.md section 7, docs/model/e_cascade.pml).
//
// Runs before the transaction changes any row, since the old value of a referenced column may be known only from the parent's row here.
// It ends in cycles: a row that is there is expanded again only if the old side said so or its referenced values changed; an absent one
// has no children left after the first time.
#include "apply.hpp"

#include <initializer_list>

#include "cascade_lookup.hpp"
#include "table_plan.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/guc.h"
}

namespace tandem {
namespace {

// The cascades of one parent into one child: their children are asked for once, however many foreign keys lead to them.
struct Expansion {
    const TableRows *set; // nullptr: orphans
    SourceTable *parent;
    SourceTable *child;
    bool careful;
};

constexpr const char *write_requests = "INSERT INTO tandem.request (table_id, key_text, flags, reason) "
                                       "SELECT DISTINCT $1, f.key_text, 2, $2 FROM tandem_found AS f";
// Foreign keys by which the table and others change each other's rows, where the parent's rows are all here.
Statement read_links = {
    "SELECT c.parent_id, $1 FROM tandem._cascades_into($1) AS c JOIN tandem.table_state AS s ON s.table_id = c.parent_id "
    "WHERE s.backfill_done OR c.parent_id = $1 "
    "UNION SELECT $1, t.table_id FROM tandem.source_table AS t "
    "WHERE t.desired_state <> 'dropped' AND EXISTS (SELECT FROM tandem._cascades_into(t.table_id) AS c WHERE c.parent_id = $1)",
    1,
    {INT4OID},
    nullptr};

bool any_absent(const TableRows *set) {
    for (int i = 0; i < set->count; i++)
        if (set->rows[i]->op == 'D' && expands(set->rows[i]))
            return true;
    return false;
}

// Referenced columns that are no key may have changed behind an event that says nothing of it.
bool concerns(const Cascade *cascade, const Row *row) { return expands(row) || (!cascade->by_key && row->op == 'U' && !row->from_retry); }

bool concerns_any(const Cascade *cascade, const TableRows *set) {
    for (int i = 0; i < set->count; i++)
        if (concerns(cascade, set->rows[i]))
            return true;
    return false;
}

bool any_concerns(const List *cascades, const Row *row) {
    ListCell *cell;
    foreach (cell, cascades)
        if (concerns(static_cast<Cascade *>(lfirst(cell)), row))
            return true;
    return false;
}

void expand(void *argument) {
    auto work = static_cast<Expansion *>(argument);
    Tuplestorestate *found = tuplestore_begin_heap(false, false, work_mem);
    StringInfoData reason;
    ListCell *cell;
    initStringInfo(&reason);
    connect_spi();
    // Foreign keys need not be indexed: leave the way to look up children to the planner.
    const int level = NewGUCNestLevel();
    for (const char *name : {"enable_hashjoin", "enable_mergejoin", "enable_seqscan"})
        (void)set_config_option(name, "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    foreach (cell, work->parent->cascades) {
        const CascadeLink link = {work->parent, static_cast<Cascade *>(lfirst(cell)), work->child};
        if (link.cascade->child_table_id != work->child->table_id || (work->set != nullptr && !concerns_any(link.cascade, work->set)))
            continue;
        TupleDesc desc = refs_descriptor(link);
        Tuplestorestate *refs = tuplestore_begin_heap(false, false, work_mem);
        if (work->set != nullptr)
            refs_of_rows(link, work->set, work->careful, desc, refs);
        else
            refs_of_orphans(link, desc, refs);
        const std::int64_t before = tuplestore_tuple_count(found);
        find_children(link, desc, refs, work->set == nullptr || any_absent(work->set), found);
        if (tuplestore_tuple_count(found) > before)
            appendStringInfo(&reason, "%s%s", reason.len > 0 ? ", " : "", link.cascade->name);
        tuplestore_end(refs);
    }
    AtEOXact_GUC(false, level);
    if (tuplestore_tuple_count(found) > 0) {
        Datum values[] = {Int32GetDatum(work->child->table_id),
                          text_datum(psprintf("%s of foreign key %s from %s", work->set != nullptr ? "cascade" : "missing parent",
                                              reason.data, work->parent->name))};
        register_rows("tandem_found", found_descriptor(), found, static_cast<double>(tuplestore_tuple_count(found)));
        Oid types[] = {INT4OID, TEXTOID};
        SPIPlanPtr plan = SPI_prepare(write_requests, 2, types);
        execute_plan(plan, "writing requests", values);
    }
    tuplestore_end(found);
    finish_spi();
}

bool expand_guarded(Expansion *work, SqlError *error) {
    if (run_in_subtransaction(expand, work, error))
        return true;
    // Bytes that cannot be decoded are their own row's fault: it becomes a dead letter, the others are expanded.
    if (work->careful || (!error->is_class("22") && !error->is_class("08")))
        return false;
    work->careful = true;
    return run_in_subtransaction(expand, work, error);
}

void expansion_failed(TableRows *set, const SqlError &error) {
    const ErrorKind kind = classify(error);
    bool superseded = false;
    for (int i = 0; i < set->count && !superseded; i++)
        superseded = set->rows[i]->superseded != nullptr;
    // A superseded image is gone after this transaction, and with it what it referred to.
    if (kind == ErrorKind::resource || superseded)
        raise_again(error);
    auto copy = static_cast<SqlError *>(palloc(sizeof(SqlError)));
    *copy = error;
    for (int i = 0; i < set->count; i++) {
        Row *row = set->rows[i];
        if (!any_concerns(set->table->cascades, row))
            continue;
        row->flags |= flag_removes; // tried again, it is expanded again
        if (kind == ErrorKind::transient) {
            row->fate = Fate::retry;
            row->error = copy;
        }
    }
    if (kind != ErrorKind::transient)
        set->table_error = copy;
}

// Lists each child table once; cascades are sorted by child.
SourceTable *next_child(const List *cascades, int *position) {
    while (*position < list_length(cascades)) {
        const int id = static_cast<Cascade *>(list_nth(cascades, *position))->child_table_id;
        while (*position < list_length(cascades) && static_cast<Cascade *>(list_nth(cascades, *position))->child_table_id == id)
            ++*position;
        SourceTable *child = find_table(id);
        // A child without a target has no rows here, and nothing can be applied to it either.
        if (child != nullptr && OidIsValid(child->target))
            return child;
    }
    return nullptr;
}

} // namespace

void expand_cascades(TableRows *set) {
    if (set->table->cascades == NIL || !OidIsValid(set->table->target))
        return;
    int position = 0;
    bool any = false;
    for (int i = 0; i < list_length(set->table->cascades) && !any; i++)
        any = concerns_any(static_cast<Cascade *>(list_nth(set->table->cascades, i)), set);
    if (!any)
        return;
    while (SourceTable *child = next_child(set->table->cascades, &position)) {
        Expansion work = {set, set->table, child, false};
        SqlError error;
        if (!expand_guarded(&work, &error)) {
            expansion_failed(set, error);
            return;
        }
    }
    // Done once and for all: the requests are committed with whatever becomes of the rows.
    for (int i = 0; i < set->count; i++)
        set->rows[i]->flags &= static_cast<std::int16_t>(~(flag_removes | flag_cascaded));
}

void request_orphans(int table_id) {
    Datum id = Int32GetDatum(table_id);
    connect_spi();
    const int count = static_cast<int>(execute(&read_links, &id));
    auto pairs = static_cast<int *>(MemoryContextAlloc(CurTransactionContext, sizeof(int) * 2 * static_cast<size_t>(count + 1)));
    for (int i = 0; i < count; i++) {
        pairs[2 * i] = result_int32(static_cast<std::uint64_t>(i), 1);
        pairs[2 * i + 1] = result_int32(static_cast<std::uint64_t>(i), 2);
    }
    finish_spi();
    for (int i = 0; i < count; i++) {
        Expansion work = {nullptr, find_table(pairs[2 * i]), find_table(pairs[2 * i + 1]), false};
        // What is refused can have no rows applied either; adding the table again brings it here once more.
        if (work.parent == nullptr || work.child == nullptr || work.parent->refusal != nullptr || work.child->refusal != nullptr)
            continue;
        expand(&work);
    }
}

} // namespace tandem
