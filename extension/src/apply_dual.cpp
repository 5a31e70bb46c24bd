// Images against writes that wait to be verified (docs/phases.md, "Dual writes"): before anything of the set is written, each image is compared
// with the row of the target. What follows from that is decided in SQL, tandem._verify_dual; here are the comparison and its result.
#include "apply.hpp"

#include "guc.hpp"
#include "table_plan.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"
}

namespace tandem {
namespace {

Statement verify = {"SELECT pg_catalog.unnest(tandem._verify_dual($1, $2, $3, $4, $5, $6))",
                    6,
                    {INT4OID, INT8OID, BYTEAARRAYOID, TEXTARRAYOID, INT8ARRAYOID, BOOLARRAYOID},
                    nullptr};
Statement put_off = {"SELECT tandem._put_off($1, $2)", 2, {INT4OID, BYTEAARRAYOID}, nullptr};
Statement read_unverified = {"SELECT k.position::integer FROM pg_catalog.unnest($2) WITH ORDINALITY AS k (key, position) "
                             "WHERE EXISTS (SELECT FROM tandem.direct_write d WHERE d.table_id = $1 AND d.key = k.key)",
                             2,
                             {INT4OID, BYTEAARRAYOID},
                             nullptr};
Statement verify_later = {"SELECT tandem._verify_later($1, $2)", 2, {INT4OID, BYTEAARRAYOID}, nullptr};

struct Comparison {
    SourceTable *table;
    Row **rows;
    int count;
    bool locking; // the target's rows first, until the end of the transaction
    char *states; // of each row: e equal, m missing on new, x missing on old, d different
};

void fill_row(const SourceTable *table, const Row *row, int number, Tuplestorestate *rows, Tuplestorestate *keys) {
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(table->column_count + 1)));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<size_t>(table->column_count + 1)));
    decode_image(row->key, table->key_columns, table->key_count, values, nulls);
    tuplestore_putvalues(keys, table->key_desc, values, nulls);
    if (row->op == 'D')
        return;
    decode_image(row->image, table->all_columns, table->column_count, values, nulls);
    values[table->column_count] = Int32GetDatum(number);
    nulls[table->column_count] = false;
    tuplestore_putvalues(rows, table->row_desc, values, nulls);
}

// One row at a time: an image that cannot be evaluated must not take the others' verdicts along.
void compare_row(void *argument) {
    auto work = static_cast<Comparison *>(argument);
    SourceTable *table = work->table;
    const bool absent = work->rows[0]->op == 'D';
    Oid user;
    int security;
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(table->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    connect_spi();
    Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);
    Tuplestorestate *keys = tuplestore_begin_heap(false, false, work_mem);
    fill_row(table, work->rows[0], 0, rows, keys);
    register_rows(rows_relation, table->row_desc, rows);
    register_rows(keys_relation, table->key_desc, keys);
    if (work->locking)
        execute_plan(lock_keys_plan(table), "locking a row");
    if (absent) {
        work->states[0] = execute_plan(present_keys_plan(table), "looking for a key") > 0 ? 'x' : 'e';
    } else {
        execute_plan(compare_rows_plan(table), "comparing a row");
        const int found = result_int32(0, 1);
        work->states[0] = found == 0 ? 'm' : found == 1 ? 'e' : 'd';
    }
    tuplestore_end(rows);
    tuplestore_end(keys);
    finish_spi();
    SetUserIdAndSecContext(user, security);
}

Datum array_of(Datum *elements, bool *nulls, int count, Oid type) {
    int dimensions[] = {count};
    int bounds[] = {1};
    std::int16_t length;
    bool by_value;
    char alignment;
    get_typlenbyvalalign(type, &length, &by_value, &alignment);
    return PointerGetDatum(construct_md_array(elements, nulls, 1, dimensions, bounds, type, length, by_value, alignment));
}

// The application may write a row between its comparison and apply's own write, which would take that back: the row is locked, and compared
// once more. (A row that is not there cannot be locked: what is inserted in that moment is overwritten, and verified like any write.)
bool is_still_so(SourceTable *table, Row *row, char state) {
    char now;
    SqlError ignored;
    Comparison work = {table, &row, 1, true, &now};
    return state == 'm' || (run_in_subtransaction(compare_row, &work, &ignored) && now == state);
}

} // namespace

void verify_dual_writes(TableRows *set, std::int64_t batch_id) {
    if (!set->table->verifies_writes)
        return;
    const auto space = static_cast<size_t>(Max(set->count, 1));
    auto compared = static_cast<Row **>(palloc(sizeof(Row *) * space));
    auto keys = static_cast<Datum *>(palloc(sizeof(Datum) * space));
    auto states = static_cast<Datum *>(palloc(sizeof(Datum) * space));
    auto ages = static_cast<Datum *>(palloc(sizeof(Datum) * space));
    auto no_age = static_cast<bool *>(palloc0(sizeof(bool) * space));
    auto natural = static_cast<Datum *>(palloc(sizeof(Datum) * space));
    int count = 0;
    for (int i = 0; i < set->count; i++) {
        Row *row = set->rows[i];
        char state;
        SqlError ignored;
        Comparison work = {set->table, &row, 1, false, &state};
        if (row->fate != Fate::pending || !run_in_subtransaction(compare_row, &work, &ignored))
            continue;
        compared[count] = row;
        keys[count] = PointerGetDatum(row->key);
        states[count] = PointerGetDatum(cstring_to_text_with_len(&state, 1));
        ages[count] = Int64GetDatum(row->age_us);
        no_age[count] = !row->has_age;
        natural[count] = BoolGetDatum(row->has_age);
        count++;
    }
    if (count == 0)
        return;
    Datum values[] = {Int32GetDatum(set->table_id),
                      Int64GetDatum(batch_id),
                      array_of(keys, nullptr, count, BYTEAOID),
                      array_of(states, nullptr, count, TEXTOID),
                      array_of(ages, no_age, count, INT8OID),
                      array_of(natural, nullptr, count, BOOLOID)};
    connect_spi();
    const std::uint64_t held = execute(&verify, values);
    for (std::uint64_t i = 0; i < held; i++)
        compared[result_int32(i, 1) - 1]->fate = Fate::held;
    finish_spi();

    int moved = 0;
    for (int i = 0; i < count; i++) {
        if (compared[i]->fate != Fate::pending)
            continue;
        const char state = *VARDATA_ANY(DatumGetPointer(states[i]));
        if (state == 'e') {
            compared[i]->fate = Fate::applied; // there is nothing to write, nor to overwrite
        } else if (!is_still_so(set->table, compared[i], state)) {
            compared[i]->fate = Fate::held;
            keys[moved++] = PointerGetDatum(compared[i]->key);
        }
    }
    if (moved == 0)
        return;
    Datum again[] = {Int32GetDatum(set->table_id), array_of(keys, nullptr, moved, BYTEAOID)};
    connect_spi();
    execute(&put_off, again);
    finish_spi();
}

void hold_unverified(TableRows *set) {
    if (!set->table->verifies_writes || set->count == 0)
        return;
    auto keys = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(set->count)));
    for (int i = 0; i < set->count; i++)
        keys[i] = PointerGetDatum(set->rows[i]->key);
    Datum values[] = {Int32GetDatum(set->table_id), array_of(keys, nullptr, set->count, BYTEAOID)};
    connect_spi();
    const std::uint64_t found = execute(&read_unverified, values);
    for (std::uint64_t i = 0; i < found; i++) {
        Row *row = set->rows[result_int32(i, 1) - 1];
        if (row->fate == Fate::pending)
            row->fate = Fate::held;
    }
    finish_spi();
}

void verify_writes_later(TableRows *set) {
    if (!set->table->verifies_writes || set->count == 0)
        return;
    auto keys = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(set->count)));
    for (int i = 0; i < set->count; i++)
        keys[i] = PointerGetDatum(set->rows[i]->key);
    Datum values[] = {Int32GetDatum(set->table_id), array_of(keys, nullptr, set->count, BYTEAOID)};
    connect_spi();
    execute(&verify_later, values);
    finish_spi();
}

} // namespace tandem
