// See events.hpp. Waiting itself is in waiting.hpp.
#include "pg/postgres.hpp"

#include "events.hpp"
#include "shmem.hpp"
#include "waiting.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/timestamp.h"
}

namespace tandem {

namespace {

// The lease may be lost without anybody committing to this database (a restore, a hand): looked at this often even when nothing moved.
constexpr std::int64_t look_at_least_every_ms = 1000;
// Retry rows become due by the clock, and whoever removes them may have no reason to wake us.
constexpr std::int64_t look_at_retry_every_ms = 500;

constexpr const char *events_query =
    "SELECT (SELECT pg_catalog.array_agg(j.batch_id ORDER BY j.batch_id) FROM tandem.journal AS j"
    "        WHERE j.batch_id OPERATOR(pg_catalog.>=) $3 AND j.batch_id OPERATOR(pg_catalog.<) $4 AND NOT j.finished),"
    "       NOT EXISTS (SELECT FROM tandem.lease AS l"
    "        WHERE l.source_id OPERATOR(pg_catalog.=) $1 AND l.epoch OPERATOR(pg_catalog.=) $2),"
    "       EXISTS (SELECT FROM tandem._takable_requests AS r WHERE r.source_id OPERATOR(pg_catalog.=) $1),"
    "       EXISTS (SELECT FROM tandem.retry)";

constexpr const char *running_sources_query =
    "SELECT DISTINCT t.source_id FROM tandem.source_table AS t WHERE t.desired_state OPERATOR(pg_catalog.=) 'running'";

// Besides the barriers: no row waits to be retried, and what runs is in sync (a pump may not have seen the newest table yet).
constexpr const char *settled_query =
    "SELECT NOT EXISTS (SELECT FROM tandem.retry)"
    "   AND NOT EXISTS (SELECT FROM tandem.source_table AS t LEFT JOIN tandem.table_state AS s"
    "                     ON s.table_id OPERATOR(pg_catalog.=) t.table_id"
    "                   WHERE t.desired_state OPERATOR(pg_catalog.=) 'running'"
    "                     AND (s.state IS DISTINCT FROM 'syncing' OR s.backfill_done IS DISTINCT FROM true))";

struct Events {
    ArrayType *acked; // nullptr: none
    bool fenced;
    bool requests;
    bool retrying;
};

// What wait_events saw last in this session: whether rows waited to be retried. Such a row may still ask for others when it is applied
// at last, and a pump that has just looked for requests would not know.
bool saw_retrying = false;

SPIPlanPtr prepared(SPIPlanPtr *kept, const char *query, int n, Oid *types) {
    if (*kept == nullptr) {
        SPIPlanPtr plan = SPI_prepare(query, n, types);
        if (plan == nullptr)
            elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
        SPI_keepplan(plan);
        *kept = plan;
    }
    return *kept;
}

void expect_rows(int code) {
    if (code != SPI_OK_SELECT)
        elog(ERROR, "SPI failed: %s", SPI_result_code_string(code));
}

bool one_bool(int column) {
    bool is_null = false;
    const Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &is_null);
    return !is_null && DatumGetBool(value);
}

Events look_for_events(std::int32_t source_id, std::int64_t epoch) {
    static SPIPlanPtr plan = nullptr;
    Oid types[] = {INT4OID, INT8OID, INT8OID, INT8OID};
    Datum values[] = {Int32GetDatum(source_id), Int64GetDatum(epoch), Int64GetDatum(epoch << 32), Int64GetDatum((epoch + 1) << 32)};
    MemoryContext caller = CurrentMemoryContext;
    Events events = {};

    SPI_connect();
    // Not read-only: each execution then has a snapshot of its own. It writes nothing.
    expect_rows(SPI_execute_plan(prepared(&plan, events_query, 4, types), values, nullptr, false, 1));
    bool is_null = false;
    const Datum acked = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null);
    if (!is_null) {
        MemoryContext inner = MemoryContextSwitchTo(caller);
        events.acked = DatumGetArrayTypePCopy(acked);
        MemoryContextSwitchTo(inner);
    }
    events.fenced = one_bool(2);
    events.requests = one_bool(3);
    events.retrying = one_bool(4);
    SPI_finish();
    return events;
}

bool settled() {
    static SPIPlanPtr plan = nullptr;
    SPI_connect();
    expect_rows(SPI_execute_plan(prepared(&plan, settled_query, 0, nullptr), nullptr, nullptr, false, 1));
    const bool yes = one_bool(1);
    SPI_finish();
    return yes;
}

struct Barrier {
    std::int32_t source_id;
    std::uint64_t number;
};

// Sources with running tables, in the current memory context.
Barrier *sources_to_wait_for(int *n) {
    MemoryContext caller = CurrentMemoryContext;
    SPI_connect();
    expect_rows(SPI_execute(running_sources_query, false, 0));
    *n = static_cast<int>(SPI_processed);
    Barrier *barriers = static_cast<Barrier *>(MemoryContextAllocZero(caller, sizeof(Barrier) * static_cast<Size>(*n + 1)));
    for (int i = 0; i < *n; i++) {
        bool is_null = false;
        barriers[i].source_id = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &is_null));
    }
    SPI_finish();
    return barriers;
}

SourceSlot *require_source_slot(int source_id) {
    SourceSlot *source = find_source_slot(source_id);
    if (source == nullptr)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many sources in the databases of this server"),
                        errdetail("There is room for %d.", max_sources), errhint("Restart the server to forget those that were dropped.")));
    return source;
}

Barrier *raise_all(int *n) {
    Barrier *barriers = sources_to_wait_for(n);
    for (int i = 0; i < *n; i++)
        barriers[i].number = pg_atomic_add_fetch_u64(&require_source_slot(barriers[i].source_id)->barrier_raised, 1);
    notify_waiters(); // pumps look at the number in wait_events
    return barriers;
}

bool all_reached(const Barrier *barriers, int n) {
    for (int i = 0; i < n; i++)
        if (pg_atomic_read_u64(&require_source_slot(barriers[i].source_id)->barrier_reached) < barriers[i].number)
            return false;
    return true;
}

// Of barriers that are reached: was each reached while no row waited to be retried?
bool all_final(const Barrier *barriers, int n) {
    for (int i = 0; i < n; i++)
        if (pg_atomic_read_u64(&require_source_slot(barriers[i].source_id)->barrier_retrying) >= barriers[i].number)
            return false;
    return true;
}

Datum event_row(FunctionCallInfo fcinfo, const Events &events, std::uint64_t generation, std::uint64_t barrier) {
    TupleDesc description;
    if (get_call_result_type(fcinfo, nullptr, &description) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    ArrayType *acked = events.acked != nullptr ? events.acked : construct_empty_array(INT8OID);
    Datum values[] = {PointerGetDatum(acked), BoolGetDatum(events.fenced), Int64GetDatum(static_cast<std::int64_t>(generation)),
                      BoolGetDatum(events.requests), Int64GetDatum(static_cast<std::int64_t>(barrier))};
    bool nulls[] = {false, false, false, false, false};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(description), values, nulls));
}

} // namespace

// Returns as soon as there is something to tell. Looks at tables only if something was committed since this session last found nothing
// there: an idle pump costs no query. What stays true until the pump acts (acknowledgements, requests) is told again by every call; a
// barrier is told as an event once, and its number in every row.
Datum wait_events(FunctionCallInfo fcinfo) {
    const std::int32_t source_id = PG_GETARG_INT32(0);
    const std::int64_t epoch = PG_GETARG_INT64(1);
    const std::uint64_t seen_generation = static_cast<std::uint64_t>(PG_GETARG_INT64(2));
    const std::int32_t timeout = PG_GETARG_INT32(3);

    // What this session found last: nothing in the tables, when `moves` was quiet_moves, at quiet_at.
    static std::int32_t quiet_source = -1;
    static std::int64_t quiet_epoch = -1;
    static std::uint64_t quiet_moves = 0;
    static TimestampTz quiet_at = 0;
    static std::uint64_t told_barrier = 0;

    require_read_committed("tandem.wait_events");
    DatabaseSlot *database = require_database_slot();
    SourceSlot *source = require_source_slot(source_id);
    const bool alone = statement_is_only(fcinfo);
    const TimestampTz deadline = deadline_after(Max(timeout, 0));
    if (quiet_source != source_id || quiet_epoch != epoch) {
        quiet_source = source_id;
        quiet_epoch = epoch;
        quiet_at = 0;
        told_barrier = 0;
    }

    for (;;) {
        const std::uint64_t moves = pg_atomic_read_u64(&database->moves);
        // Before everything else: who was told of a barrier must know everything that was committed before it was raised, or it could
        // say that a barrier is reached without a table that was resumed right before.
        const std::uint64_t barrier = pg_atomic_read_u64(&source->barrier_raised);
        const TimestampTz now = GetCurrentTimestamp();
        Events events = {};
        if (moves != quiet_moves || quiet_at == 0 || TimestampDifferenceExceeds(quiet_at, now, look_at_least_every_ms)) {
            events = look_for_events(source_id, epoch);
            saw_retrying = events.retrying;
            if (events.acked == nullptr && !events.fenced && !events.requests) {
                quiet_moves = moves;
                quiet_at = now;
            } else {
                quiet_at = 0;
            }
        }
        const std::uint64_t generation = pg_atomic_read_u64(&database->generation);
        const bool new_barrier = barrier > Max(told_barrier, pg_atomic_read_u64(&source->barrier_reached));
        if (events.acked != nullptr || events.fenced || events.requests || generation != seen_generation || new_barrier ||
            now >= deadline) {
            told_barrier = barrier;
            return event_row(fcinfo, events, generation, barrier);
        }
        wait_for_move(database, moves, Min(deadline, TimestampTzPlusMilliseconds(now, look_at_least_every_ms)), alone);
    }
}

std::int32_t raise_barriers() {
    int n = 0;
    require_database_slot();
    raise_all(&n);
    return n;
}

bool wait_barriers(FunctionCallInfo fcinfo, std::int64_t timeout_ms) {
    require_read_committed("tandem.wait_caught_up");
    DatabaseSlot *database = require_database_slot();
    const bool alone = statement_is_only(fcinfo);
    const TimestampTz deadline = deadline_after(timeout_ms);
    int n = 0;
    Barrier *barriers = raise_all(&n);

    for (;;) {
        const std::uint64_t moves = pg_atomic_read_u64(&database->moves);
        const bool reached = all_reached(barriers, n);
        if (reached && settled()) {
            if (all_final(barriers, n))
                return true;
            // The rows that waited are applied, but what they asked for may be under way: once more around.
            pfree(barriers);
            barriers = raise_all(&n);
            continue;
        }
        const TimestampTz now = GetCurrentTimestamp();
        if (now >= deadline)
            return false;
        // Before the barriers are reached nothing in the tables interests us.
        const TimestampTz look_again = reached ? TimestampTzPlusMilliseconds(now, look_at_retry_every_ms) : DT_NOEND;
        wait_for_move(database, moves, Min(deadline, look_again), alone);
    }
}

void set_barrier_reached(int source_id, std::int64_t barrier) {
    require_database_slot();
    SourceSlot *source = require_source_slot(source_id);
    if (saw_retrying)
        pg_atomic_write_u64(&source->barrier_retrying, static_cast<std::uint64_t>(barrier)); // before the next: readers look at both
    pg_atomic_uint64 *reached = &source->barrier_reached;
    std::uint64_t before = pg_atomic_read_u64(reached);
    while (before < static_cast<std::uint64_t>(barrier) &&
           !pg_atomic_compare_exchange_u64(reached, &before, static_cast<std::uint64_t>(barrier)))
        ;
    notify_waiters();
}

} // namespace tandem
