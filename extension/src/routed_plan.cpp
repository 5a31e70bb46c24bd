// See routed_plan.hpp.
#include "routed_plan.hpp"

#include "phase.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
}

namespace tandem {
namespace {

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

bool reads(int table_id, const char *part, bool *known) {
    Phase phase;
    *known = phase_of_this_planning(table_id, &phase);
    if (!*known)
        return false;
    const bool falls_back = strcmp(phase.read_strategy, "new_fallback_old") == 0;
    const bool is_side = strcmp(part, "new") == 0 || strcmp(part, "old") == 0;
    return strcmp(part, phase.read_strategy) == 0 || (is_side && falls_back);
}

// --- branches that are not read ---------------------------------------------------------------------------------------------------------
//
// The planner folds what a branch asks, and leaves a branch that is not read out of the plan; but first it plans all of them, which costs a point
// read a third of its time. So where one branch is left, the view becomes that branch before the planner sees it. Whatever is not exactly as
// tandem._routed_query writes it is left to the planner.

#if PG_VERSION_NUM >= 160000

// From here on the rights of an entry are kept apart from it. Not written for that yet: the planner leaves out what is not read.
void read_one_branch(Query *) {}

#else

constexpr int most_branches = 3;

struct Branches {
    Query *queries[most_branches];
    int count;
};

bool is_reads(const FuncExpr *call) {
    if (list_length(call->args) != 2 || call->funcresulttype != BOOLOID || !IsA(linitial(call->args), Const) ||
        !IsA(lsecond(call->args), Const))
        return false;
    const Const *table_id = linitial_node(Const, call->args), *part = lsecond_node(Const, call->args);
    if (table_id->consttype != INT4OID || table_id->constisnull || part->consttype != TEXTOID || part->constisnull)
        return false;
    const char *name = get_func_name(call->funcid);
    return name != nullptr && strcmp(name, "_reads") == 0 && get_func_namespace(call->funcid) == get_namespace_oid("tandem", true);
}

enum class Asks { nothing, unread, read };

// Whether a branch is read, by the conditions of its WHERE that ask. `nothing` also for a table that is not there: the planner will say so.
Asks what_it_asks(const Query *branch) {
    Node *quals = branch->jointree->quals;
    List *conditions = quals != nullptr && is_andclause(quals) ? castNode(BoolExpr, quals)->args : list_make1(quals);
    Asks asks = Asks::nothing;
    ListCell *cell;
    foreach (cell, conditions) {
        auto condition = static_cast<Node *>(lfirst(cell));
        if (condition == nullptr || !IsA(condition, FuncExpr) || !is_reads(castNode(FuncExpr, condition)))
            continue;
        const List *args = castNode(FuncExpr, condition)->args;
        bool known;
        const bool read = reads(DatumGetInt32(linitial_node(Const, args)->constvalue),
                                TextDatumGetCString(lsecond_node(Const, args)->constvalue), &known);
        if (!known)
            return Asks::nothing;
        if (!read)
            return Asks::unread;
        asks = Asks::read;
    }
    return asks;
}

bool collect_branches(Node *node, const Query *top, const SetOperationStmt *types, Branches *branches) {
    if (IsA(node, RangeTblRef)) {
        const RangeTblEntry *entry = rt_fetch(castNode(RangeTblRef, node)->rtindex, top->rtable);
        if (branches->count == most_branches || entry->rtekind != RTE_SUBQUERY)
            return false;
        Query *branch = entry->subquery;
        if (branch->commandType != CMD_SELECT || branch->setOperations != nullptr || branch->jointree == nullptr ||
            list_length(branch->targetList) != list_length(types->colTypes))
            return false;
        ListCell *target, *type, *collation;
        forthree(target, branch->targetList, type, types->colTypes, collation, types->colCollations) {
            const TargetEntry *column = lfirst_node(TargetEntry, target);
            if (column->resjunk || exprType(reinterpret_cast<Node *>(column->expr)) != lfirst_oid(type) ||
                exprCollation(reinterpret_cast<Node *>(column->expr)) != lfirst_oid(collation))
                return false;
        }
        branches->queries[branches->count++] = branch;
        return true;
    }
    auto both = castNode(SetOperationStmt, node);
    return both->op == SETOP_UNION && both->all && collect_branches(both->larg, top, types, branches) &&
           collect_branches(both->rarg, top, types, branches);
}

enum class Routed { no, one_branch, several };

// Whether a subquery is a routed view's query, and the branch that is read if it is the only one.
Routed look_at(const Query *view, Query **branch) {
    if (view->setOperations == nullptr || view->commandType != CMD_SELECT || view->sortClause != NIL || view->limitCount != nullptr ||
        view->limitOffset != nullptr || view->cteList != NIL)
        return Routed::no;
    Branches branches = {{}, 0};
    if (!collect_branches(view->setOperations, view, castNode(SetOperationStmt, view->setOperations), &branches))
        return Routed::no;
    int read = 0;
    for (int i = 0; i < branches.count; i++) {
        const Asks asks = what_it_asks(branches.queries[i]);
        if (asks == Asks::nothing)
            return Routed::no;
        if (asks == Asks::read && ++read == 1)
            *branch = branches.queries[i];
    }
    return read == 1 ? Routed::one_branch : Routed::several;
}

// FOR UPDATE and the like through a view of several branches locks nothing, and says nothing of it. Where the target alone is read its row is
// locked, as through any other view (the rewriter would have done so); a row of the old side cannot be locked from here.
void lock_rows(Query *branch, const RowMarkClause *mark, const char *view) {
    Node *from = branch == nullptr || list_length(branch->jointree->fromlist) != 1
                     ? nullptr
                     : static_cast<Node *>(linitial(branch->jointree->fromlist));
    RangeTblEntry *target =
        from == nullptr || !IsA(from, RangeTblRef) ? nullptr : rt_fetch(castNode(RangeTblRef, from)->rtindex, branch->rtable);
    if (target == nullptr || target->rtekind != RTE_RELATION || target->relkind == RELKIND_FOREIGN_TABLE)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("rows cannot be locked through routed view \"%s\" while it reads the old side", view),
                 errdetail("A lock in PostgreSQL would not keep anybody from changing the row on the old side."),
                 errhint("Lock the row on the old side, or read without FOR UPDATE and FOR SHARE. SELECT * FROM tandem.phases; tells what "
                         "the view reads.")));
    LockRelationOid(target->relid, RowShareLock);
    target->rellockmode = RowShareLock;
    target->requiredPerms |= ACL_SELECT_FOR_UPDATE;
    applyLockingClause(branch, static_cast<Index>(castNode(RangeTblRef, from)->rtindex), mark->strength, mark->waitPolicy, true);
}

void read_one_branch(Query *query) {
    check_stack_depth();
    ListCell *cell;
    foreach (cell, query->cteList)
        if (IsA(lfirst_node(CommonTableExpr, cell)->ctequery, Query))
            read_one_branch(castNode(Query, lfirst_node(CommonTableExpr, cell)->ctequery));
    Index index = 0;
    foreach (cell, query->rtable) {
        auto entry = lfirst_node(RangeTblEntry, cell);
        index++;
        if (entry->rtekind != RTE_SUBQUERY || entry->subquery == nullptr)
            continue;
        Query *view = entry->subquery, *branch = nullptr;
        const Routed routed = look_at(view, &branch);
        if (routed == Routed::no) {
            read_one_branch(view);
            continue;
        }
        if (const RowMarkClause *mark = query->rowMarks == NIL ? nullptr : get_parse_rowmark(query, index); mark != nullptr)
            lock_rows(routed == Routed::one_branch ? branch : nullptr, mark, entry->eref->aliasname);
        if (routed == Routed::several)
            continue;
        // The entries for the view itself have the rights of whoever reads it, which are checked wherever they stand.
        ListCell *own;
        foreach (own, view->rtable)
            if (lfirst_node(RangeTblEntry, own)->rtekind != RTE_SUBQUERY)
                branch->rtable = lappend(branch->rtable, lfirst(own));
        branch->hasRowSecurity = branch->hasRowSecurity || view->hasRowSecurity;
        entry->subquery = branch;
    }
}

#endif

PlannedStmt *plan_routed(Query *query, const char *text, int options, ParamListInfo parameters) {
    const std::uint64_t outer = current_planning;
    PlannedStmt *volatile plan = nullptr;
    current_planning = ++last_planning;
    PG_TRY();
    {
        read_one_branch(query);
        plan =
            next_planner != nullptr ? next_planner(query, text, options, parameters) : standard_planner(query, text, options, parameters);
    }
    PG_FINALLY();
    { current_planning = outer; }
    PG_END_TRY();
    return plan;
}

} // namespace

void install_planner_hook() {
    next_planner = planner_hook;
    planner_hook = plan_routed;
}

} // namespace tandem

using namespace tandem;

// Declared IMMUTABLE, so that the planner folds it and a side that is not read is not in the plan: mysql_fdw speaks to the old server already when a
// scan of it is planned or begun. What the function depends on does change; then tandem_forget_plans makes every plan that used it invalid.
TANDEM_FUNCTION(tandem_reads);
Datum tandem_reads(PG_FUNCTION_ARGS) {
    bool known;
    const bool read = reads(PG_GETARG_INT32(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), &known);
    if (!known)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the table behind this routed view is not known to pg_tandem any more"),
                        errdetail("It was removed with tandem.drop_table."), errhint("Read the target itself, and drop the view.")));
    PG_RETURN_BOOL(read);
}

// At the commit of the current transaction (and now for itself): plans that read the relation are made again.
TANDEM_FUNCTION(tandem_forget_plans);
Datum tandem_forget_plans(PG_FUNCTION_ARGS) {
    const Oid relation = PG_GETARG_OID(0);
    if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation)))
        CacheInvalidateRelcacheByRelid(relation);
    PG_RETURN_VOID();
}
