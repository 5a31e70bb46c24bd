// The rows of one transaction, table by table: what state the table is in, the fate of its rows, what is written and logged of it.
#include "apply.hpp"

#include "guc.hpp"
#include "shmem.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
}

namespace tandem {
namespace {

constexpr int logged_letters = 20; // per table and transaction, then a sum

// A key share lock keeps the table in the catalog until we commit: our rows in retry must not outlive it. The share lock on the phase
// makes a change of the source of truth wait for us, or us see it (model D: Forward).
Statement read_state = {"SELECT t.desired_state, coalesce(s.state, 'registered'), p.phase IN ('new_primary', 'closing', 'contracted'), "
                        "p.phase = 'shadow', p.shadow_mode = 'discard' "
                        "FROM tandem.source_table t JOIN tandem.phase p USING (table_id) "
                        "LEFT JOIN tandem.table_state s USING (table_id) WHERE t.table_id = $1 FOR KEY SHARE OF t FOR SHARE OF p",
                        1,
                        {INT4OID},
                        nullptr};
Statement block_table = {"UPDATE tandem.table_state SET state = 'blocked', reason = $2, "
                         "detail = pg_catalog.jsonb_build_object('sqlstate', $3, 'detail', $4, 'hint', $5), "
                         "updated_at = pg_catalog.clock_timestamp() WHERE table_id = $1",
                         5,
                         {INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID},
                         nullptr};

// By table; absent keys before images, so that a value freed by a removed row can be taken by another; else in order of arrival.
int compare_rows(const void *left, const void *right) {
    const Row *a = *static_cast<Row *const *>(left);
    const Row *b = *static_cast<Row *const *>(right);
    if (a->table_id != b->table_id)
        return a->table_id < b->table_id ? -1 : 1;
    if ((a->op == 'D') != (b->op == 'D'))
        return a->op == 'D' ? -1 : 1;
    return a->position < b->position ? -1 : 1;
}

void read_table_state(TableRows *set) {
    Datum id = Int32GetDatum(set->table_id);
    bool known = false;
    connect_spi();
    if (execute(&read_state, &id) > 0) {
        const char *desired = result_text(0, 1, CurrentMemoryContext);
        const char *state = result_text(0, 2, CurrentMemoryContext);
        // Nothing of the old side counts any more once the new side is the source of truth.
        known = strcmp(desired, "dropped") != 0 && !result_bool(0, 3);
        set->writable = strcmp(desired, "running") == 0 && strcmp(state, "blocked") != 0;
        set->shadow = result_bool(0, 4);
        set->discards = set->shadow && result_bool(0, 5);
    }
    finish_spi();
    if (known)
        set->table = find_table(set->table_id);
}

SqlError *make_error(int code, const char *message, const char *detail) {
    auto error = static_cast<SqlError *>(palloc0(sizeof(SqlError)));
    error->code = code;
    strlcpy(error->sqlstate, unpack_sql_state(code), sizeof error->sqlstate);
    strlcpy(error->message, message, sizeof error->message);
    strlcpy(error->detail, detail != nullptr ? detail : "", sizeof error->detail);
    return error;
}

char *json_field(const bytea *json, const char *name) {
    // The worker's error object; anything else it may have sent is shown as it is.
    Datum document = DirectFunctionCall1(json_in, CStringGetDatum(text_to_cstring(reinterpret_cast<const text *>(json))));
    FmgrInfo field;
    fmgr_info(F_JSON_OBJECT_FIELD_TEXT, &field);
    LOCAL_FCINFO(call, 2);
    InitFunctionCallInfoData(*call, &field, 2, InvalidOid, nullptr, nullptr);
    call->args[0].value = document;
    call->args[0].isnull = false;
    call->args[1].value = text_datum(name);
    call->args[1].isnull = false;
    const Datum value = FunctionCallInvoke(call);
    return call->isnull ? nullptr : text_to_cstring(DatumGetTextPP(value));
}

struct Untranslatable {
    const bytea *image;
    SqlError *error;
};

void read_untranslatable(void *argument) {
    auto work = static_cast<Untranslatable *>(argument);
    const char *sqlstate = json_field(work->image, "sqlstate");
    const char *column = json_field(work->image, "column");
    const char *message = json_field(work->image, "message");
    if (sqlstate != nullptr && strlen(sqlstate) == 5) {
        strlcpy(work->error->sqlstate, sqlstate, sizeof work->error->sqlstate);
        work->error->code = MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4]);
    }
    if (message != nullptr)
        snprintf(work->error->message, sizeof work->error->message, "%s%s%s", column != nullptr ? column : "",
                 column != nullptr ? ": " : "", message);
    work->error
        ->message[pg_mbcliplen(work->error->message, static_cast<int>(strlen(work->error->message)), sizeof work->error->message - 1)] =
        '\0';
}

void bury_untranslatable(TableRows *set) {
    for (int i = 0; i < set->count; i++) {
        Row *row = set->rows[i];
        if (row->op != 'X' || row->fate != Fate::pending)
            continue;
        if (row->image == nullptr) {
            // Its key has no image, and the old side has no such row any more: it never was here, and what told of it is superseded.
            row->fate = Fate::applied;
            row->left_out = true;
            continue;
        }
        SqlError *error = make_error(ERRCODE_DATA_EXCEPTION, "the worker could not represent a value of the row", nullptr);
        SqlError ignored;
        Untranslatable work = {row->image, error};
        (void)run_in_subtransaction(read_untranslatable, &work, &ignored);
        row->fate = Fate::dead;
        row->error = error;
    }
}

void put_aside(TableRows *set, const SqlError *error) {
    for (int i = 0; i < set->count; i++) {
        Row *row = set->rows[i];
        if (row->fate != Fate::pending)
            continue;
        row->fate = Fate::retry;
        row->error = error;
    }
}

void write_blocked(TableRows *set) {
    const SqlError *error = set->table_error;
    const char *hint = set->table->refusal_hint != nullptr
                           ? set->table->refusal_hint
                           : "Mend the target, then call tandem.resume. The table's changes are kept in tandem.retry meanwhile.";
    Datum values[] = {Int32GetDatum(set->table_id), text_datum(error->message), text_datum(error->sqlstate), text_datum(error->detail),
                      text_datum(hint)};
    connect_spi();
    execute(&block_table, values);
    finish_spi();
    bump_config_on_commit();
}

void count_fates(TableRows *set) {
    for (int i = 0; i < set->count; i++) {
        const Row *row = set->rows[i];
        if (row->fate == Fate::applied && !row->left_out)
            (row->op == 'D' ? set->counts.deleted : set->counts.upserted)++;
        else if (row->fate == Fate::retry)
            set->counts.retried++;
        else if (row->fate == Fate::dead)
            set->counts.dead_lettered++;
    }
}

} // namespace

TableRows *group_rows(Row *rows, int count, int *table_count) {
    auto order = static_cast<Row **>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Row *) * static_cast<size_t>(Max(count, 1))));
    int tables = 0;
    for (int i = 0; i < count; i++)
        order[i] = &rows[i];
    qsort(order, static_cast<size_t>(count), sizeof(Row *), compare_rows);
    for (int i = 0; i < count; i++)
        if (i == 0 || order[i]->table_id != order[i - 1]->table_id)
            tables++;
    auto sets = static_cast<TableRows *>(palloc0(sizeof(TableRows) * static_cast<size_t>(Max(tables, 1))));
    TableRows *set = sets - 1;
    for (int i = 0; i < count; i++) {
        if (i == 0 || order[i]->table_id != order[i - 1]->table_id) {
            set++;
            set->table_id = order[i]->table_id;
            set->rows = &order[i];
        }
        set->count++;
    }
    for (int i = 0; i < tables; i++)
        read_table_state(&sets[i]);
    *table_count = tables;
    return sets;
}

bool discards_rows(int table_id) {
    TableRows probe = {};
    probe.table_id = table_id;
    read_table_state(&probe);
    return probe.discards;
}

void settle_tables(TableRows *tables, int count, std::int64_t batch_id) {
    const bool from_queue = batch_id != 0;
    for (int i = 0; i < count; i++)
        if (from_queue && tables[i].table != nullptr)
            supersede(&tables[i]);
    // What hangs on old values is looked up before any row of the batch changes.
    for (int i = 0; i < count; i++)
        if (tables[i].table != nullptr)
            expand_cascades(&tables[i]);
    failpoint("apply:before_apply");
    for (int i = 0; i < count; i++) {
        TableRows *set = &tables[i];
        if (set->table == nullptr)
            continue;
        const bool was_writable = set->writable;
        if (was_writable && set->table->refusal != nullptr && set->table_error == nullptr)
            set->table_error = make_error(set->table->refusal_code, set->table->refusal, nullptr);
        bury_untranslatable(set);
        if (from_queue && was_writable && set->table_error == nullptr)
            verify_dual_writes(set, batch_id);
        else if (from_queue)
            verify_writes_later(set);
        else if (was_writable && set->table_error == nullptr)
            hold_unverified(set);
        if (!was_writable)
            put_aside(set, make_error(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "table is paused or blocked", nullptr));
        else if (set->table_error != nullptr)
            put_aside(set, set->table_error);
        else if (set->shadow)
            apply_shadow(set);
        else
            apply_rows(set);
        if (!set->discards)
            record_losses(set);
        if (was_writable && set->table_error != nullptr)
            write_blocked(set);
        record_failures(set);
        journal_keys(set);
        count_fates(set);
    }
}

void report_settled(const TableRows *tables, int count) {
    for (int i = 0; i < count; i++) {
        const TableRows *set = &tables[i];
        if (set->table == nullptr)
            continue;
        stats_table_applied(set->table_id, set->counts);
        if (set->table_error != nullptr && set->writable)
            ereport(WARNING,
                    (errcode(set->table_error->code), errmsg("table \"%s\" is blocked: %s", set->table->name, set->table_error->message),
                     errdetail("Its changes are kept in tandem.retry; other tables go on."),
                     errhint("%s", set->table->refusal_hint != nullptr ? set->table->refusal_hint
                                                                       : "Mend the target, then call tandem.resume.")));
        int logged = 0;
        for (int j = 0; j < set->count && logged < logged_letters; j++) {
            const Row *row = set->rows[j];
            if (row->fate != Fate::dead)
                continue;
            logged++;
            // Not within ereport: bytes that are no key raise an error of their own there, which ends the report.
            const char *key = key_as_json(row->key, set->table->key_columns, set->table->key_count);
            ereport(WARNING,
                    (errcode(row->error->code), errmsg("row of table \"%s\" cannot be applied: %s", set->table->name, row->error->message),
                     errdetail("key %s, SQLSTATE %s; kept in tandem.dead_letter.", key, row->error->sqlstate),
                     errhint("Correct the cause and call tandem.retry_dead_letters, or give the row up with tandem.discard_dead_letter.")));
        }
        if (set->counts.dead_lettered > logged)
            ereport(WARNING, (errmsg("%lld more rows of table \"%s\" cannot be applied",
                                     static_cast<long long>(set->counts.dead_lettered - logged), set->table->name),
                              errhint("See the view tandem.dead_letters.")));
    }
}

} // namespace tandem
