// Rows of a table in phase shadow: how long the target takes for them, and with shadow mode "discard" that nothing of them stays.
// SQL: ddl/22_shadow.sql, ddl/69_shadow_writes.sql.
#include "apply.hpp"

#include "guc.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
}

namespace tandem {
namespace {

Statement has_refusals = {"SELECT FROM tandem.shadow_refusal WHERE table_id = $1 LIMIT 1", 1, {INT4OID}, nullptr};
Statement note_refusals = {
    "SELECT tandem._note_refusals($1, $2, $3, $4, $5)", 5, {INT4OID, BYTEAARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BYTEAARRAYOID}, nullptr};
Statement note_time = {"SELECT tandem._note_shadow_time($1, $2, $3, $4, $5)", 5, {INT4OID, INT4OID, INT8OID, BYTEAOID, BOOLOID}, nullptr};

void apply_pending(void *set) { apply_rows(static_cast<TableRows *>(set)); }

// A lock that could not be had, or a table that waits: says nothing of the row.
bool is_judged(const Row *row) {
    return row->fate == Fate::dead || (row->fate == Fate::retry && classify(*row->error) == ErrorKind::conflict);
}

Datum array_of(Datum *elements, int count, Oid type) {
    return PointerGetDatum(construct_array(elements, count, type, -1, false, TYPALIGN_INT));
}

// What became of the rows is known; they themselves are not to be kept, as dead letters or otherwise.
void note_and_let_go(TableRows *set) {
    const size_t space = sizeof(Datum) * static_cast<size_t>(Max(set->count, 1));
    auto keys = static_cast<Datum *>(palloc(space));
    auto states = static_cast<Datum *>(palloc(space));
    auto messages = static_cast<Datum *>(palloc(space));
    auto fitting = static_cast<Datum *>(palloc(space));
    int refused = 0;
    int fit = 0;
    for (int i = 0; i < set->count; i++) {
        Row *row = set->rows[i];
        if (is_judged(row)) {
            keys[refused] = PointerGetDatum(row->key);
            states[refused] = text_datum(row->error->sqlstate);
            messages[refused++] = text_datum(row->error->message);
            row->fate = Fate::applied;
            row->left_out = true;
        } else if (row->fate == Fate::applied) {
            fitting[fit++] = PointerGetDatum(row->key);
        }
    }
    Datum id = Int32GetDatum(set->table_id);
    connect_spi();
    if (refused > 0 || execute(&has_refusals, &id) > 0) {
        Datum values[] = {id, array_of(keys, refused, BYTEAOID), array_of(states, refused, TEXTOID), array_of(messages, refused, TEXTOID),
                          array_of(fitting, fit, BYTEAOID)};
        execute(&note_refusals, values);
    }
    finish_spi();
}

void note_duration(const TableRows *set, int rows, std::int64_t us) {
    const Row *first = set->rows[0];
    const bool slow = us > static_cast<std::int64_t>(shadow_slow_apply) * 1000 * rows;
    Datum values[] = {Int32GetDatum(set->table_id), Int32GetDatum(rows), Int64GetDatum(us), PointerGetDatum(first->key),
                      BoolGetDatum(slow)};
    connect_spi();
    execute(&note_time, values);
    finish_spi();
}

} // namespace

void apply_shadow(TableRows *set) {
    int rows = 0;
    for (int i = 0; i < set->count; i++)
        rows += set->rows[i]->fate == Fate::pending ? 1 : 0;
    instr_time begun;
    instr_time ended;
    INSTR_TIME_SET_CURRENT(begun);
    if (set->discards)
        run_and_undo(apply_pending, set);
    else
        apply_rows(set);
    INSTR_TIME_SET_CURRENT(ended);
    INSTR_TIME_SUBTRACT(ended, begun);
    if (set->table_error != nullptr)
        return;
    // Copiers run beside apply: they would wait for each other at the one row of these counts.
    if (rows > 0 && !set->copied)
        note_duration(set, rows, static_cast<std::int64_t>(INSTR_TIME_GET_MICROSEC(ended)));
    if (set->discards)
        note_and_let_go(set);
}

} // namespace tandem
