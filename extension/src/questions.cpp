// See questions.hpp.
//
// A question lives in shared memory, its answer in tandem.answer: the answering session commits row by row, and ends with a row of
// sequence number `end_of_answer`, which carries the error if there is one. The asking session reads them under fresh snapshots. Life of
// a slot: free → asked (by ask) → taken (by next_question) → free (by ask, whatever happens to it). The session that took a question and
// ends, or takes another one, marks it worker_gone; ask then looks a last time for the end of the answer.
#include <cstring>

#include "pg/postgres.hpp"

#include "guc.hpp"
#include "questions.hpp"
#include "shmem.hpp"
#include "waiting.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
}

namespace tandem {

namespace {

constexpr std::int32_t end_of_answer = 0x7fffffff; // tandem.answer() writes it, see ddl/43_questions.sql
// A worker that just started has said hello, but its answering session may still be on its way.
constexpr std::int64_t patience_with_a_new_worker_ms = 5000;

constexpr const char *answer_query =
    "SELECT a.seq, a.payload, a.payload OPERATOR(pg_catalog.->>) 'sqlstate', a.payload OPERATOR(pg_catalog.->>) 'message',"
    "       a.payload OPERATOR(pg_catalog.->>) 'detail', a.payload OPERATOR(pg_catalog.->>) 'hint',"
    "       a.payload OPERATOR(pg_catalog.->>) 'progress' "
    "FROM tandem.answer AS a WHERE a.question_id OPERATOR(pg_catalog.=) $1 AND a.seq OPERATOR(pg_catalog.>) $2 ORDER BY a.seq";

constexpr const char *forget_answers_query = "DELETE FROM tandem.answer AS a WHERE NOT tandem._question_live(a.question_id)";

constexpr const char *start_hint = "Start it on a host that reaches both sides: tandem-sync run --postgres CONNINFO";

struct Workers {
    bool connected;
    bool answering;
};

Workers workers_of_this_database() {
    Workers workers = {};
    LWLockAcquire(shared_lock(), LW_SHARED);
    for (const SessionSlot &session : shared_state()->sessions) {
        if (session.pid == 0 || session.database != MyDatabaseId)
            continue;
        workers.connected = true;
        workers.answering = workers.answering || session.answers;
    }
    LWLockRelease(shared_lock());
    return workers;
}

[[noreturn]] void refuse_without_worker(const Workers &workers) {
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("no tandem-sync worker answers in this database"),
                    workers.connected ? errdetail("A worker is connected, but none of its sessions takes questions.")
                                      : errdetail("The old side is reached through the worker, and none is connected to database \"%s\".",
                                                  get_database_name(MyDatabaseId)),
                    errhint("%s", start_hint)));
    pg_unreachable();
}

void refuse_unless_connected() {
    const Workers workers = workers_of_this_database();
    if (!workers.connected)
        refuse_without_worker(workers);
}

// --- the asking side --------------------------------------------------------------------------------------------------------------

QuestionSlot *put_question(const char *text, int length) {
    SharedState *state = shared_state();
    std::uint64_t last = pg_atomic_read_u64(&state->last_question);
    std::uint64_t id;
    do {
        id = Max(last + 1, static_cast<std::uint64_t>(GetCurrentTimestamp()));
    } while (!pg_atomic_compare_exchange_u64(&state->last_question, &last, id));

    QuestionSlot *taken = nullptr;
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    for (QuestionSlot &slot : state->questions) {
        if (slot.state != QuestionState::free)
            continue;
        taken = &slot;
        slot.state = QuestionState::asked;
        slot.database = MyDatabaseId;
        slot.id = id;
        slot.worker_pid = 0;
        slot.worker_gone = false;
        slot.length = length;
        memcpy(slot.text, text, static_cast<size_t>(length));
        break;
    }
    LWLockRelease(shared_lock());
    if (taken == nullptr)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("too many questions to the old side at the same time"),
                        errdetail("There is room for %d.", max_questions), errhint("Try again when another call has ended.")));
    return taken;
}

// Runs however the asking call ends: answered, error, cancel, end of the session. What is left of the answer is removed by a worker's
// session: the caller's transaction may be read-only.
extern "C" void free_question(int, Datum argument) {
    QuestionSlot *slot = reinterpret_cast<QuestionSlot *>(DatumGetPointer(argument));
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    slot->state = QuestionState::free;
    LWLockRelease(shared_lock());
    DatabaseSlot *database = find_database_slot();
    if (database != nullptr)
        pg_atomic_write_u32(&database->answers_left, 1);
}

char *text_or_null(HeapTuple row, TupleDesc description, int column) { return SPI_getvalue(row, description, column); }

int sqlstate_code(const char *sqlstate) {
    const bool plausible = sqlstate != nullptr && strlen(sqlstate) == 5 && strspn(sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 &&
                           strncmp(sqlstate, "00", 2) != 0;
    if (!plausible)
        return ERRCODE_FDW_ERROR;
    return MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4]);
}

[[noreturn]] void raise_answered_error(HeapTuple row, TupleDesc description) {
    const char *message = text_or_null(row, description, 4);
    const char *detail = text_or_null(row, description, 5);
    const char *hint = text_or_null(row, description, 6);
    ereport(ERROR, (errcode(sqlstate_code(text_or_null(row, description, 3))),
                    errmsg_internal("%s", message != nullptr ? message : "the worker could not answer"),
                    detail != nullptr ? errdetail_internal("%s", detail) : 0, hint != nullptr ? errhint("%s", hint) : 0));
    pg_unreachable();
}

// Appends the rows that were committed after *last_seq to the result; true when the answer has ended.
bool read_answer(const QuestionSlot *slot, std::int32_t *last_seq, ReturnSetInfo *result) {
    Oid types[] = {INT8OID, INT4OID};
    Datum values[] = {Int64GetDatum(static_cast<std::int64_t>(slot->id)), Int32GetDatum(*last_seq)};
    bool ended = false;
    SPI_connect();
    if (SPI_execute_with_args(answer_query, 2, types, values, nullptr, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "SPI failed: %s", SPI_result_code_string(SPI_result));
    for (std::uint64_t i = 0; i < SPI_processed && !ended; i++) {
        HeapTuple row = SPI_tuptable->vals[i];
        TupleDesc description = SPI_tuptable->tupdesc;
        bool is_null = false;
        *last_seq = DatumGetInt32(SPI_getbinval(row, description, 1, &is_null));
        Datum payload = SPI_getbinval(row, description, 2, &is_null);
        ended = *last_seq == end_of_answer;
        if (ended && !is_null)
            raise_answered_error(row, description);
        if (ended)
            continue;
        // Told at once, and no part of the answer: the caller sees the rows only when all of them are there.
        const char *progress = text_or_null(row, description, 7);
        if (progress != nullptr)
            ereport(NOTICE, (errmsg_internal("%s", progress)));
        else
            tuplestore_putvalues(result->setResult, result->setDesc, &payload, &is_null);
    }
    SPI_finish();
    return ended;
}

struct QuestionView {
    QuestionState state;
    bool worker_gone;
};

QuestionView look_at(const QuestionSlot *slot) {
    LWLockAcquire(shared_lock(), LW_SHARED);
    const QuestionView view = {slot->state, slot->worker_gone};
    LWLockRelease(shared_lock());
    return view;
}

// The timeout is for silence, not for the whole: every row of the answer starts it anew.
// Not inlined into ask: its variables must not live in the frame that an error jumps back to.
pg_noinline void await_answer(const QuestionSlot *slot, std::int64_t timeout_ms, ReturnSetInfo *result) {
    DatabaseSlot *database = require_database_slot();
    const TimestampTz patience = deadline_after(patience_with_a_new_worker_ms);
    TimestampTz deadline = deadline_after(timeout_ms);
    std::int32_t last_seq = -1;
    for (;;) {
        const std::uint64_t moves = pg_atomic_read_u64(&database->moves);
        const QuestionView view = look_at(slot); // before the rows: what the worker committed before it went is found
        if (view.state == QuestionState::taken) {
            const std::int32_t before = last_seq;
            if (read_answer(slot, &last_seq, result))
                return;
            if (last_seq != before)
                deadline = deadline_after(timeout_ms);
            if (view.worker_gone)
                ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("the tandem-sync worker went away while it was answering"),
                                errhint("Look at its log for the reason, and call again.")));
        }
        const TimestampTz now = GetCurrentTimestamp();
        if (view.state == QuestionState::asked) {
            const Workers workers = workers_of_this_database();
            if (!workers.connected || (!workers.answering && now >= patience))
                refuse_without_worker(workers);
        }
        if (now >= deadline)
            ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("no answer from the old side within " INT64_FORMAT " ms", timeout_ms),
                            view.state == QuestionState::asked
                                ? errdetail("No session of a worker has taken the question: they may be busy with others.")
                                : errdetail("A worker has taken the question and is silent."),
                            errhint("Raise tandem.question_timeout, or look at the worker's log.")));
        const TimestampTz wake = view.state == QuestionState::asked ? Min(deadline, TimestampTzPlusMilliseconds(now, 1000)) : deadline;
        wait_for_move(database, moves, wake, false);
    }
}

// --- the answering side -----------------------------------------------------------------------------------------------------------

SessionSlot *my_session() { // under the lock
    for (SessionSlot &session : shared_state()->sessions)
        if (session.pid == MyProcPid)
            return &session;
    return nullptr;
}

// Marks the oldest question of this database as taken by this session and copies it; nullptr when there is none.
char *take_question(std::uint64_t *id) {
    char *text = static_cast<char *>(palloc(question_bytes + 1)); // before the lock: it may raise an error
    QuestionSlot *oldest = nullptr;
    bool gave_up = false;
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    for (QuestionSlot &slot : shared_state()->questions) {
        if (slot.state == QuestionState::taken && slot.worker_pid == MyProcPid && !slot.worker_gone) {
            slot.worker_gone = true; // whoever asks for the next one is done with the last
            gave_up = true;
        }
        if (slot.state == QuestionState::asked && slot.database == MyDatabaseId && (oldest == nullptr || slot.id < oldest->id))
            oldest = &slot;
    }
    if (oldest != nullptr) {
        oldest->state = QuestionState::taken;
        oldest->worker_pid = MyProcPid;
        *id = oldest->id;
        memcpy(text, oldest->text, static_cast<size_t>(oldest->length));
        text[oldest->length] = '\0';
    }
    LWLockRelease(shared_lock());
    if (gave_up)
        notify_waiters();
    if (oldest != nullptr)
        return text;
    pfree(text);
    return nullptr;
}

void answer_from_now_on() {
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    SessionSlot *session = my_session();
    const bool first = session != nullptr && !session->answers;
    if (session != nullptr)
        session->answers = true;
    LWLockRelease(shared_lock());
    if (session == nullptr)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("this session has not called tandem.worker_hello")));
    if (first)
        notify_waiters();
}

// Removes answers that nobody reads any more. True if there may have been some: then this transaction writes, and must end soon.
bool forget_answers(DatabaseSlot *database) {
    if (pg_atomic_exchange_u32(&database->answers_left, 0) == 0)
        return false;
    SPI_connect();
    if (SPI_execute(forget_answers_query, false, 0) != SPI_OK_DELETE)
        elog(ERROR, "SPI failed: %s", SPI_result_code_string(SPI_result));
    const bool removed = SPI_processed > 0;
    SPI_finish();
    return removed;
}

} // namespace

void register_session(const char *worker) {
    require_database_slot();
    watch_session_end();
    SessionSlot *mine = nullptr;
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    mine = my_session();
    for (SessionSlot &session : shared_state()->sessions) {
        if (mine != nullptr)
            break;
        if (session.pid == 0) {
            mine = &session;
            session.answers = false;
        }
    }
    if (mine != nullptr) {
        mine->pid = MyProcPid;
        mine->database = MyDatabaseId;
        mine->since = GetCurrentTimestamp();
        strlcpy(mine->worker, worker, sizeof mine->worker);
    }
    LWLockRelease(shared_lock());
    if (mine == nullptr)
        ereport(ERROR, (errcode(ERRCODE_TOO_MANY_CONNECTIONS), errmsg("too many tandem-sync sessions"),
                        errdetail("There is room for %d.", max_sessions)));
    notify_waiters();
}

void ask(FunctionCallInfo fcinfo) {
    require_read_committed("A function that asks the old side");
    require_database_slot();
    if (PG_ARGISNULL(0))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("question must not be null")));
    Jsonb *question = PG_GETARG_JSONB_P(0);
    const char *text = JsonbToCString(nullptr, &question->root, VARSIZE(question));
    const size_t length = strlen(text);
    const std::int64_t timeout_ms = PG_ARGISNULL(1) ? question_timeout : interval_ms("timeout", PG_GETARG_DATUM(1));
    if (length > question_bytes)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("question to the old side is too long"),
                 errdetail("It has %zu bytes; there is room for %d.", length, question_bytes), errhint("Ask for fewer tables at a time.")));
    refuse_unless_connected();

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    QuestionSlot *slot = put_question(text, static_cast<int>(length));
    PG_ENSURE_ERROR_CLEANUP(free_question, PointerGetDatum(slot));
    {
        notify_waiters();
        await_answer(slot, timeout_ms, reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo));
    }
    PG_END_ENSURE_ERROR_CLEANUP(free_question, PointerGetDatum(slot));
    free_question(0, PointerGetDatum(slot));
}

void next_question(FunctionCallInfo fcinfo) {
    require_read_committed("tandem.next_question");
    DatabaseSlot *database = require_database_slot();
    const bool alone = statement_is_only(fcinfo);
    const TimestampTz deadline = deadline_after(Max(PG_GETARG_INT32(0), 0));
    InitMaterializedSRF(fcinfo, 0);
    ReturnSetInfo *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    answer_from_now_on();
    for (;;) {
        const std::uint64_t moves = pg_atomic_read_u64(&database->moves);
        std::uint64_t id = 0;
        const char *text = take_question(&id);
        if (text != nullptr) {
            Datum values[] = {Int64GetDatum(static_cast<std::int64_t>(id)), DirectFunctionCall1(jsonb_in, CStringGetDatum(text))};
            bool nulls[] = {false, false};
            tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
            return;
        }
        if (forget_answers(database) || GetCurrentTimestamp() >= deadline)
            return;
        wait_for_move(database, moves, deadline, alone);
    }
}

bool question_live(std::int64_t question_id) {
    if (!shmem_ready())
        return false;
    bool live = false;
    LWLockAcquire(shared_lock(), LW_SHARED);
    for (const QuestionSlot &slot : shared_state()->questions)
        live = live || (slot.state != QuestionState::free && slot.id == static_cast<std::uint64_t>(question_id));
    LWLockRelease(shared_lock());
    return live;
}

} // namespace tandem
