// Rows of a target by range and by key. See digest.hpp.
#include <initializer_list>

#include "digest_query.hpp"

#include "pg/leaf.hpp"
#include "table_plan.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
}

namespace tandem {
namespace {

// Rows come here, not into a result set.
struct RowReceiver {
    DestReceiver base; // first: the server knows only this
    ComparedTable *compared;
    KeyWriter *writer;
    MemoryContext context; // of what is kept
    MemoryContext one_row;
    const char *secret; // nullptr: keys only
    RowBytes bytes;
    KeyedRow *rows;
    int count;
    int space;
    RangeSums sums;
    // read by key:
    KeyedRow *wanted;
    int *by_key; // numbers of wanted rows in order of their keys
    int wanted_count;
    RowVisitor visitor;
};

void receiver_starts(DestReceiver *, int, TupleDesc) {}
void receiver_ends(DestReceiver *) {}

void begin_receiver(RowReceiver *receiver, ComparedTable *compared, bool (*receive)(TupleTableSlot *, DestReceiver *)) {
    memset(receiver, 0, sizeof *receiver);
    receiver->base.receiveSlot = receive;
    receiver->base.rStartup = receiver_starts;
    receiver->base.rShutdown = receiver_ends;
    receiver->base.rDestroy = receiver_ends;
    receiver->base.mydest = DestNone;
    receiver->compared = compared;
    receiver->writer = make_key_writer(compared);
    receiver->context = CurrentMemoryContext;
    receiver->one_row = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem row", ALLOCSET_DEFAULT_SIZES);
    begin_row_bytes(&receiver->bytes, CurrentMemoryContext);
}

bytea *copy_key(const bytea *key, MemoryContext context) {
    auto copy = static_cast<bytea *>(MemoryContextAlloc(context, VARSIZE(key)));
    memcpy(copy, key, VARSIZE(key));
    return copy;
}

void append_values(RowBytes *bytes, const ComparedTable *compared, const Datum *values, const bool *nulls) {
    for (int i = 0; i < compared->count; i++) {
        if (nulls[i])
            append_null(bytes);
        else
            append_value(bytes, &compared->canonical[i], values[i]);
    }
}

// Key columns first, then the compared ones, or the key as text.
bool receive_range(TupleTableSlot *slot, DestReceiver *self) {
    auto receiver = reinterpret_cast<RowReceiver *>(self);
    const int keys = receiver->compared->table->key_count;
    slot_getallattrs(slot);
    if (receiver->count == receiver->space) {
        receiver->space = Max(1024, receiver->space * 2);
        const Size bytes = sizeof(KeyedRow) * static_cast<Size>(receiver->space);
        receiver->rows = static_cast<KeyedRow *>(receiver->rows == nullptr ? MemoryContextAllocHuge(receiver->context, bytes)
                                                                           : repalloc_huge(receiver->rows, bytes));
    }
    MemoryContextReset(receiver->one_row);
    MemoryContext before = MemoryContextSwitchTo(receiver->one_row);
    KeyedRow *row = &receiver->rows[receiver->count++];
    memset(row, 0, sizeof *row);
    row->key = copy_key(write_key(receiver->writer, slot->tts_values, slot->tts_isnull), receiver->context);
    row->present = true;
    if (receiver->secret != nullptr) {
        append_values(&receiver->bytes, receiver->compared, slot->tts_values + keys, slot->tts_isnull + keys);
        row->hash = take_hash(&receiver->bytes, receiver->secret);
    } else {
        MemoryContextSwitchTo(receiver->context);
        row->key_text = DatumGetArrayTypePCopy(slot->tts_values[keys]);
    }
    MemoryContextSwitchTo(before);
    return true;
}

// The number of the range stands behind.
bool receive_part(TupleTableSlot *slot, DestReceiver *self) {
    auto receiver = reinterpret_cast<RowReceiver *>(self);
    (void)receive_range(slot, self);
    const int keys = receiver->compared->table->key_count;
    receiver->rows[receiver->count - 1].part = static_cast<int>(DatumGetInt64(slot->tts_values[keys + receiver->compared->count]));
    return true;
}

bool receive_sum(TupleTableSlot *slot, DestReceiver *self) {
    auto receiver = reinterpret_cast<RowReceiver *>(self);
    slot_getallattrs(slot);
    MemoryContextReset(receiver->one_row);
    MemoryContext before = MemoryContextSwitchTo(receiver->one_row);
    // A constant stands in front.
    append_values(&receiver->bytes, receiver->compared, slot->tts_values + 1, slot->tts_isnull + 1);
    const RowHash hash = take_hash(&receiver->bytes, receiver->secret);
    receiver->sums.rows++;
    receiver->sums.sum.low += hash.low;
    receiver->sums.sum.high += hash.high;
    MemoryContextSwitchTo(before);
    return true;
}

// Without tandem._digest: the planner looks up the names of a query over a table with row security once more, as its owner, who may not
// look into our schema.
RangeSums sum_rows(ComparedTable *compared, const bytea *secret, KeyRange range) {
    RowReceiver receiver;
    Query query;
    begin_receiver(&receiver, compared, receive_sum);
    receiver.secret = secret_of(secret);
    begin_query(&query);
    appendStringInfoString(&query.sql, "SELECT 0");
    append_columns(&query.sql, compared);
    append_from(&query.sql, compared->table);
    append_range(&query, compared->table, range);
    connect_spi();
    run_as_owner(compared->table, query.sql.data, query.count, query.types, query.values, &receiver.base);
    finish_spi();
    return receiver.sums;
}

int compare_keys(const bytea *a, const bytea *b) {
    const Size length = Min(VARSIZE_ANY_EXHDR(a), VARSIZE_ANY_EXHDR(b));
    const int order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), length);
    return order != 0 ? order : static_cast<int>(VARSIZE_ANY_EXHDR(a)) - static_cast<int>(VARSIZE_ANY_EXHDR(b));
}

int compare_numbers(const void *left, const void *right, void *rows) {
    auto wanted = static_cast<const KeyedRow *>(rows);
    return compare_keys(wanted[*static_cast<const int *>(left)].key, wanted[*static_cast<const int *>(right)].key);
}

// A row that the old key finds counts only if its key has the same bytes.
bool receive_by_key(TupleTableSlot *slot, DestReceiver *self) {
    auto receiver = reinterpret_cast<RowReceiver *>(self);
    const int keys = receiver->compared->table->key_count;
    slot_getallattrs(slot);
    MemoryContextReset(receiver->one_row);
    MemoryContext before = MemoryContextSwitchTo(receiver->one_row);
    const bytea *key = write_key(receiver->writer, slot->tts_values, slot->tts_isnull);
    int low = 0;
    int high = receiver->wanted_count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (compare_keys(receiver->wanted[receiver->by_key[middle]].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < receiver->wanted_count && compare_keys(receiver->wanted[receiver->by_key[low]].key, key) == 0; low++) {
        receiver->wanted[receiver->by_key[low]].writer = DatumGetInt64(slot->tts_values[keys + receiver->compared->count]);
        receiver->visitor.row(receiver->visitor.argument, receiver->by_key[low], slot->tts_values + keys, slot->tts_isnull + keys);
    }
    MemoryContextSwitchTo(before);
    return true;
}

struct KeyReading {
    ComparedTable *compared;
    KeyedRow *rows;
    RowVisitor visitor;
};

char *by_key_query(const ComparedTable *compared) {
    const SourceTable *table = compared->table;
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT ");
    append_key_columns(&sql, table);
    append_columns(&sql, compared);
    appendStringInfoString(&sql, ", CAST(CAST(t.xmin AS pg_catalog.text) AS pg_catalog.int8) FROM (SELECT DISTINCT ");
    append_key_values(&sql, table);
    appendStringInfo(&sql, " FROM %s) AS s JOIN %s AS t ON ", keys_relation, table->target_name);
    append_key_match(&sql, table);
    return sql.data;
}

void read_some_keys(void *argument, int first, int count) {
    auto work = static_cast<KeyReading *>(argument);
    SourceTable *table = work->compared->table;
    RowReceiver receiver;
    begin_receiver(&receiver, work->compared, receive_by_key);
    receiver.visitor = work->visitor;
    receiver.wanted = work->rows;
    receiver.wanted_count = count;
    receiver.by_key = static_cast<int *>(palloc(sizeof(int) * static_cast<Size>(count)));
    for (int i = 0; i < count; i++)
        receiver.by_key[i] = first + i;
    qsort_arg(receiver.by_key, static_cast<Size>(count), sizeof(int), compare_numbers, work->rows);

    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(table->key_count)));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<Size>(table->key_count)));
    connect_spi();
    Tuplestorestate *keys = tuplestore_begin_heap(false, false, work_mem);
    for (int i = first; i < first + count; i++) {
        MemoryContext before = MemoryContextSwitchTo(receiver.one_row);
        MemoryContextReset(receiver.one_row);
        decode_image(work->rows[i].key, table->key_columns, table->key_count, values, nulls);
        tuplestore_putvalues(keys, table->key_desc, values, nulls);
        MemoryContextSwitchTo(before);
    }
    register_rows(keys_relation, table->key_desc, keys, count);
    const int level = search_by_index();
    run_as_owner(table, by_key_query(work->compared), 0, nullptr, nullptr, &receiver.base);
    AtEOXact_GUC(false, level);
    tuplestore_end(keys);
    finish_spi();
    MemoryContextDelete(receiver.one_row);
}

// Bytes that are no key, or a key that the target's column cannot hold: there is no such row.
void no_such_key(void *, int, const SqlError &) {}

struct KeyHashing {
    ComparedTable *compared;
    KeyedRow *rows;
    const char *secret;
    RowBytes bytes;
};

void hash_row(void *argument, int number, const Datum *values, const bool *nulls) {
    auto work = static_cast<KeyHashing *>(argument);
    append_values(&work->bytes, work->compared, values, nulls);
    work->rows[number].hash = take_hash(&work->bytes, work->secret);
    work->rows[number].present = true;
}

KeyHashing begin_hashing(ComparedTable *compared, const bytea *secret, KeyedRow *rows) {
    KeyHashing work = {compared, rows, secret_of(secret), {}};
    begin_row_bytes(&work.bytes, CurrentMemoryContext);
    return work;
}

} // namespace

void run_as_owner(const SourceTable *table, const char *sql, int count, Oid *types, Datum *values, DestReceiver *dest) {
    Oid user;
    int security;
    // A receiver of ours may need subtransactions, which a parallel plan does not allow.
    SPIPlanPtr plan = SPI_prepare_cursor(sql, count, types, dest == nullptr ? CURSOR_OPT_PARALLEL_OK : 0);
    if (plan == nullptr)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(SPI_result), sql);
    ParamListInfo parameters = makeParamList(count);
    for (int i = 0; i < count; i++)
        parameters->params[i] = {values[i], false, PARAM_FLAG_CONST, types[i]};
    SPIExecuteOptions options;
    memset(&options, 0, sizeof options);
    options.params = parameters;
    options.read_only = true;
    options.dest = dest;
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(table->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    const int code = SPI_execute_plan_extended(plan, &options);
    SetUserIdAndSecContext(user, security);
    if (code < 0)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(code), sql);
}

int search_by_index() {
    const int level = NewGUCNestLevel();
    for (const char *setting : {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"})
        (void)set_config_option(setting, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    return level;
}

KeyedRow *collect_rows(ComparedTable *compared, Query *query, const bytea *secret, int *count, bool numbered) {
    RowReceiver receiver;
    begin_receiver(&receiver, compared, numbered ? receive_part : receive_range);
    receiver.secret = secret == nullptr ? nullptr : secret_of(secret);
    connect_spi();
    run_as_owner(compared->table, query->sql.data, query->count, query->types, query->values, &receiver.base);
    finish_spi();
    MemoryContextDelete(receiver.one_row);
    *count = receiver.count;
    return receiver.rows;
}

void run_contained(const Contained &contained, int first, int count) {
    struct Piece {
        const Contained *contained;
        int first;
        int count;
    } piece = {&contained, first, count};
    if (count == 0)
        return;
    SqlError error;
    const auto work = [](void *argument) {
        auto one = static_cast<Piece *>(argument);
        one->contained->work(one->contained->argument, one->first, one->count);
    };
    if (run_in_subtransaction(work, &piece, &error))
        return;
    CHECK_FOR_INTERRUPTS();
    if (error.is_class("22") || error.is_class("23") || error.is_class("P0") || error.is_class("54") ||
        error.code == ERRCODE_DATATYPE_MISMATCH) {
        if (count == 1) {
            contained.failed(contained.argument, first, error);
            return;
        }
        run_contained(contained, first, count / 2);
        run_contained(contained, first + count / 2, count - count / 2);
        return;
    }
    ereport(ERROR, (errcode(error.code), errmsg_internal("%s", error.message),
                    error.detail[0] != '\0' ? errdetail_internal("%s", error.detail) : 0));
}

RangeSums *collect_sums(ComparedTable *compared, Query *query, int *count) {
    MemoryContext caller = CurrentMemoryContext;
    connect_spi();
    run_as_owner(compared->table, query->sql.data, query->count, query->types, query->values, nullptr);
    bool is_null;
    Datum *elements;
    int elements_count;
    deconstruct_array(DatumGetArrayTypeP(result_value(0, 1, &is_null)), INT8OID, sizeof(std::int64_t), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
                      &elements, nullptr, &elements_count);
    *count = elements_count / 3;
    auto sums = static_cast<RangeSums *>(MemoryContextAlloc(caller, sizeof(RangeSums) * static_cast<Size>(Max(*count, 1))));
    for (int i = 0; i < *count; i++)
        sums[i] = {DatumGetInt64(elements[3 * i]),
                   {static_cast<std::uint64_t>(DatumGetInt64(elements[3 * i + 1])),
                    static_cast<std::uint64_t>(DatumGetInt64(elements[3 * i + 2]))}};
    finish_spi();
    return sums;
}

RangeSums sum_range(ComparedTable *compared, const bytea *secret, KeyRange range) {
    RangeSums sums = {0, {0, 0}};
    if (compared->has_originals) { // found by key
        int count;
        const KeyedRow *rows = read_range(compared, secret, range, &count);
        for (int i = 0; i < count; i++) {
            sums.sum.low += rows[i].hash.low;
            sums.sum.high += rows[i].hash.high;
        }
        sums.rows = count;
        return sums;
    }
    if (compared->has_row_security)
        return sum_rows(compared, secret, range);
    Query query;
    begin_query(&query);
    (void)secret_of(secret);
    appendStringInfo(&query.sql, "SELECT tandem._digest(0, $%d", add_parameter(&query, BYTEAOID, PointerGetDatum(secret)));
    append_arguments(&query.sql, compared);
    appendStringInfoChar(&query.sql, ')');
    append_from(&query.sql, compared->table);
    append_range(&query, compared->table, range);
    int count;
    const RangeSums *parts = collect_sums(compared, &query, &count);
    return count == 0 ? sums : parts[0];
}

KeyedRow *read_range(ComparedTable *compared, const bytea *secret, KeyRange range, int *count) {
    Query query;
    begin_query(&query);
    appendStringInfoString(&query.sql, "SELECT ");
    append_key_columns(&query.sql, compared->table);
    append_columns(&query.sql, compared);
    append_from(&query.sql, compared->table);
    append_range(&query, compared->table, range);
    KeyedRow *rows = collect_rows(compared, &query, secret, count);
    if (compared->has_originals)
        add_originals(compared, secret, rows, *count);
    return rows;
}

KeyedRow *read_next_keys(ComparedTable *compared, ArrayType *after, int limit, int *count) {
    Query query;
    begin_query(&query);
    appendStringInfoString(&query.sql, "SELECT ");
    append_key_columns(&query.sql, compared->table);
    appendStringInfoString(&query.sql, ", ARRAY[");
    for (int i = 0; i < compared->table->key_count; i++)
        appendStringInfo(&query.sql, "%sCAST(t.%s AS pg_catalog.text)", i > 0 ? ", " : "",
                         quote_identifier(compared->table->target_key[i]->name));
    appendStringInfoChar(&query.sql, ']');
    append_from(&query.sql, compared->table);
    append_range(&query, compared->table, {after, nullptr});
    appendStringInfoString(&query.sql, " ORDER BY ");
    append_key_columns(&query.sql, compared->table);
    appendStringInfo(&query.sql, " LIMIT %d", limit);
    return collect_rows(compared, &query, nullptr, count);
}

void visit_keys(ComparedTable *compared, KeyedRow *rows, int count, RowVisitor visitor) {
    KeyReading work = {compared, rows, visitor};
    run_contained({read_some_keys, no_such_key, &work}, 0, count);
}

void hash_keys(ComparedTable *compared, const bytea *secret, KeyedRow *rows, int count) {
    KeyHashing work = begin_hashing(compared, secret, rows);
    visit_keys(compared, rows, count, {hash_row, &work});
    if (compared->has_originals)
        add_originals(compared, secret, rows, count);
}

void hash_images(ComparedTable *compared, const bytea *secret, KeyedRow *rows, int count) {
    KeyHashing work = begin_hashing(compared, secret, rows);
    visit_images(compared, rows, count, {hash_row, &work});
    for (int i = 0; i < count; i++)
        if (rows[i].present)
            add_losses(secret, &rows[i]);
}

} // namespace tandem
