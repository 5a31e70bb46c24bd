// See waiting.hpp.
#include "pg/postgres.hpp"

#include "waiting.hpp"

extern "C" {
#include "access/xact.h"
#include "executor/execdesc.h"
#include "nodes/plannodes.h"
#include "nodes/primnodes.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace tandem {

namespace {

constexpr std::int64_t ms_per_day = 24LL * 3600 * 1000;

// A statement keeps its snapshot to its end, and a sleeping one would hold back vacuum in the whole database. The statement that called
// us needs it no more (statement_is_only), and every query we run takes a new one, so its hold on old rows is let go. The server does
// the same between the statements of a transaction (SnapshotResetXmin).
void let_go_of_old_rows() {
    InvalidateCatalogSnapshot();
    MyProc->xmin = InvalidTransactionId;
}

bool is_call_of(Expr *expression, Oid function) {
    return IsA(expression, FuncExpr) && reinterpret_cast<FuncExpr *>(expression)->funcid == function;
}

} // namespace

void require_read_committed(const char *what) {
    if (IsolationUsesXactSnapshot())
        ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION), errmsg("%s must be called in a READ COMMITTED transaction", what),
                        errdetail("It waits for rows that other sessions commit, which this transaction's snapshot would hide."),
                        errhint("Use BEGIN ISOLATION LEVEL READ COMMITTED, or call it outside of a transaction block.")));
}

bool statement_is_only(FunctionCallInfo fcinfo) {
    if (IsTransactionBlock() || IsSubTransaction() || ActivePortal == nullptr || ActivePortal->queryDesc == nullptr)
        return false;
    const PlannedStmt *statement = ActivePortal->queryDesc->plannedstmt;
    if (statement->commandType != CMD_SELECT || list_length(statement->rtable) != 1 || statement->subplans != NIL)
        return false;
    Plan *plan = statement->planTree;
    if (IsA(plan, FunctionScan)) { // SELECT … FROM f(…)
        List *functions = reinterpret_cast<FunctionScan *>(plan)->functions;
        return list_length(functions) == 1 &&
               is_call_of(reinterpret_cast<Expr *>(linitial_node(RangeTblFunction, functions)->funcexpr), fcinfo->flinfo->fn_oid);
    }
    if (IsA(plan, Result)) // SELECT f(…)
        return list_length(plan->targetlist) == 1 && is_call_of(linitial_node(TargetEntry, plan->targetlist)->expr, fcinfo->flinfo->fn_oid);
    return false;
}

bool wait_for_move(DatabaseSlot *database, std::uint64_t seen, TimestampTz deadline, bool give_back_snapshot) {
    if (pg_atomic_read_u64(&database->moves) != seen) {
        CHECK_FOR_INTERRUPTS();
        return true;
    }
    if (give_back_snapshot)
        let_go_of_old_rows();
    bool moved = false;
    ConditionVariablePrepareToSleep(&database->changed);
    for (;;) {
        if (pg_atomic_read_u64(&database->moves) != seen) {
            moved = true;
            break;
        }
        const long left = deadline == DT_NOEND ? 60 * 1000L : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
        if (left <= 0)
            break;
        ConditionVariableTimedSleep(&database->changed, Min(left, 60 * 1000L), PG_WAIT_EXTENSION);
    }
    ConditionVariableCancelSleep();
    return moved;
}

TimestampTz deadline_after(std::int64_t ms) {
    if (ms < 0)
        return DT_NOEND;
    return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

std::int64_t interval_ms(const char *name, Datum interval) {
    const Interval *value = DatumGetIntervalP(interval);
    const std::int64_t days = static_cast<std::int64_t>(value->month) * DAYS_PER_MONTH + value->day;
    const std::int64_t ms = days > 10000 || days < -10000 ? -1 : days * ms_per_day + value->time / 1000;
    if (ms < 0 || ms > 10000 * ms_per_day)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must not be negative or longer than 10000 days", name)));
    return ms;
}

} // namespace tandem
