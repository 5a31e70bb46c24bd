// Rows of a backfill chunk that are copied straight into the target, in the session of a copier (docs/protocol.md section 16; model B1,
// process Copier: the first half of end_chunk).
//
// Rows whose values go into the target as they are, to a target that had none, take PostgreSQL's own COPY. All others, and a set in which
// that fails, are merged as apply does it: expressions, filter, constants, policies, narrowing to the rows that fail. Both run as the owner
// of the target.
#include "apply.hpp"

#include "direct_shape.hpp"
#include "table_plan.hpp"

extern "C" {
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/copy.h"
#include "nodes/makefuncs.h"
#include "parser/parse_relation.h"
#include "port/pg_bswap.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
}

namespace tandem {
namespace {

Statement refuse_lost = {"SELECT tandem._refuse_lost_chunk($1, $2, $3, $4)", 4, {INT4OID, INT4OID, INT4OID, INT8OID}, nullptr};
Statement read_fresh = {"SELECT b.fresh FROM tandem.backfill b WHERE b.table_id = $1", 1, {INT4OID}, nullptr};

// One row as the worker sent it: op (1 byte), flags (int16), length and bytes of the key, length and bytes of the image.
struct SentRow {
    char op;
    std::int16_t flags;
    const char *key;
    int key_length;
    const char *image;
    int image_length;
};

[[noreturn]] void refuse_rows() {
    ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("rows of a chunk are not in the format of tandem.write_chunk")));
    pg_unreachable();
}

struct Reading {
    const char *at;
    const char *end;
};

const char *take(Reading *from, int length) {
    if (length < 0 || from->end - from->at < length)
        refuse_rows();
    const char *bytes = from->at;
    from->at += length;
    return bytes;
}

std::int32_t take_int32(Reading *from) {
    std::uint32_t value;
    memcpy(&value, take(from, 4), 4);
    return static_cast<std::int32_t>(pg_ntoh32(value));
}

SentRow take_row(Reading *from) {
    SentRow row;
    std::uint16_t flags;
    row.op = *take(from, 1);
    memcpy(&flags, take(from, 2), 2);
    row.flags = static_cast<std::int16_t>(pg_ntoh16(flags));
    row.key_length = take_int32(from);
    row.key = take(from, row.key_length);
    row.image_length = take_int32(from);
    row.image = take(from, row.image_length);
    if (row.op != 'U' && row.op != 'X')
        refuse_rows();
    return row;
}

bool is_plain(const SentRow &row) { return row.op == 'U' && (row.flags & flag_losses) == 0; }

bytea *as_bytea(const char *bytes, int length) {
    auto copy = static_cast<bytea *>(palloc(static_cast<size_t>(length) + VARHDRSZ));
    SET_VARSIZE(copy, length + VARHDRSZ);
    memcpy(VARDATA(copy), bytes, static_cast<size_t>(length));
    return copy;
}

// --- the plain way: COPY, fed from the rows in hand ---------------------------------------------------------------------------------

struct Copying {
    SourceTable *table;
    const DirectShape *shape;
    const char *rows;
    int length;
    std::int64_t count;
};

// The callback of COPY has no argument.
struct Feed {
    const DirectShape *shape;
    Reading left;
    StringInfoData buffer;
    bool ended;
};
Feed *feed = nullptr;

void fill_feed() {
    resetStringInfo(&feed->buffer);
    while (feed->left.at < feed->left.end && feed->buffer.len < 64 * 1024) {
        const SentRow row = take_row(&feed->left);
        if (is_plain(row))
            append_copy_row(&feed->buffer, feed->shape, row.image, row.image_length);
    }
    if (feed->left.at == feed->left.end && !feed->ended) {
        feed->ended = true;
        appendBinaryStringInfo(&feed->buffer, "\377\377", 2);
    }
}

int read_feed(void *out, int least, int most) {
    int given = 0;
    while (given < least) {
        if (feed->buffer.cursor == feed->buffer.len) {
            if (feed->ended)
                break;
            fill_feed();
            continue;
        }
        const int some = Min(most - given, feed->buffer.len - feed->buffer.cursor);
        memcpy(static_cast<char *>(out) + given, feed->buffer.data + feed->buffer.cursor, static_cast<size_t>(some));
        feed->buffer.cursor += some;
        given += some;
    }
    return given;
}

void copy_rows(void *argument) {
    auto work = static_cast<Copying *>(argument);
    Oid user;
    int security;
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem copy", ALLOCSET_DEFAULT_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);

    Relation target = table_open(work->table->target, RowExclusiveLock);
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(work->table->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);

    Feed mine;
    mine.shape = work->shape;
    mine.left = {work->rows, work->rows + work->length};
    mine.ended = false;
    initStringInfo(&mine.buffer);
    appendBinaryStringInfo(&mine.buffer, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19); // signature, no flags, no header extension
    feed = &mine;

    ParseState *state = make_parsestate(nullptr);
    (void)addRangeTableEntryForRelation(state, target, RowExclusiveLock, nullptr, false, false);
    List *options = list_make1(makeDefElem(pstrdup("format"), reinterpret_cast<Node *>(makeString(pstrdup("binary"))), -1));
    CopyFromState copy = BeginCopyFrom(state, target, nullptr, nullptr, false, read_feed, work->shape->columns, options);
    work->count = static_cast<std::int64_t>(CopyFrom(copy));
    EndCopyFrom(copy);
    feed = nullptr;

    SetUserIdAndSecContext(user, security);
    table_close(target, NoLock);
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
}

// --- the general way: apply's ---------------------------------------------------------------------------------------------------------

void merge_rows(int table_id, Reading left, bool plain_too) {
    int count = 0;
    int table_count = 0;
    Reading counting = left;
    while (counting.at < counting.end) {
        const SentRow sent = take_row(&counting);
        count += plain_too || !is_plain(sent) ? 1 : 0;
    }
    if (count == 0)
        return;
    auto rows = static_cast<Row *>(
        MemoryContextAllocExtended(CurrentMemoryContext, sizeof(Row) * static_cast<size_t>(count), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    for (int i = 0; left.at < left.end;) {
        const SentRow sent = take_row(&left);
        if (!plain_too && is_plain(sent))
            continue;
        Row *row = &rows[i];
        row->table_id = table_id;
        row->op = sent.op;
        row->flags = sent.flags;
        row->key = as_bytea(sent.key, sent.key_length);
        row->image = as_bytea(sent.image, sent.image_length);
        row->position = i++;
    }
    TableRows *tables = group_rows(rows, count, &table_count);
    tables[0].copied = true;
    settle_tables(tables, table_count, true);
    // Nobody's rows but the copier's: they are read again when the table is resumed.
    if (tables[0].table_error != nullptr)
        raise_again(*tables[0].table_error);
    report_settled(tables, table_count);
}

bool target_was_empty(int table_id, int chunk, int attempt, std::int64_t epoch) {
    Datum values[] = {Int32GetDatum(table_id), Int32GetDatum(chunk), Int32GetDatum(attempt), Int64GetDatum(epoch)};
    connect_spi();
    execute(&refuse_lost, values);
    const bool fresh = execute(&read_fresh, values) > 0 && result_bool(0, 1);
    finish_spi();
    return fresh;
}

void prepare_process() {
    static bool prepared = false;
    if (!prepared)
        watch_targets();
    prepared = true;
}

std::int64_t write_rows(int table_id, const char *rows, int length, bool fresh) {
    SourceTable *table = find_table(table_id);
    if (table == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("table %d is not known", table_id)));
    if (table->refusal != nullptr)
        ereport(ERROR, (errcode(table->refusal_code), errmsg("%s", table->refusal),
                        table->refusal_hint != nullptr ? errhint("%s", table->refusal_hint) : 0));
    DirectShape shape;
    if (fresh && !discards_rows(table_id) && direct_shape(table, &shape)) {
        Copying work = {table, &shape, rows, length, 0};
        SqlError error;
        if (run_in_subtransaction(copy_rows, &work, &error)) {
            AppliedCounts counts = {};
            counts.upserted = static_cast<decltype(counts.upserted)>(work.count);
            stats_table_applied(table_id, counts);
            merge_rows(table_id, {rows, rows + length}, false);
            return work.count;
        }
        feed = nullptr;
        CHECK_FOR_INTERRUPTS();
        const ErrorKind kind = classify(error);
        if (kind == ErrorKind::transient || kind == ErrorKind::resource)
            raise_again(error);
    }
    merge_rows(table_id, {rows, rows + length}, true);
    return 0;
}

} // namespace
} // namespace tandem

using namespace tandem;

// --- a backfill that was cancelled ----------------------------------------------------------------------------------------------------

namespace tandem {
namespace {

void run_as_owner(SourceTable *table, const char *sql) {
    Oid user;
    int security;
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(table->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    connect_spi();
    const int code = SPI_execute(sql, false, 0);
    if (code < 0)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(code), sql);
    finish_spi();
    SetUserIdAndSecContext(user, security);
}

void truncate_target(void *argument) {
    auto table = static_cast<SourceTable *>(argument);
    run_as_owner(table, psprintf("TRUNCATE TABLE %s", table->target_name));
}

// Quickly, unless foreign keys refer to the target or others own a part of its rows.
void remove_rows(SourceTable *table) {
    SqlError error;
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(&sql, "DELETE FROM %s AS t WHERE true", table->target_name);
    const int bare = sql.len;
    append_own_rows(&sql, table);
    if (sql.len == bare && run_in_subtransaction(truncate_target, table, &error))
        return;
    run_as_owner(table, sql.data);
}

} // namespace
} // namespace tandem

TANDEM_FUNCTION(tandem_remove_rows);
extern "C" Datum tandem_remove_rows(PG_FUNCTION_ARGS) {
    prepare_process();
    pin_transaction();
    refresh_catalog();
    SourceTable *table = find_table(PG_GETARG_INT32(0));
    if (table != nullptr && OidIsValid(table->target))
        remove_rows(table);
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_write_chunk);
extern "C" Datum tandem_write_chunk(PG_FUNCTION_ARGS) {
    const int table_id = PG_GETARG_INT32(0);
    bytea *rows = PG_GETARG_BYTEA_PP(4);
    prepare_process();
    pin_transaction();
    refresh_catalog();
    const bool fresh = target_was_empty(table_id, PG_GETARG_INT32(1), PG_GETARG_INT32(2), PG_GETARG_INT64(3));
    PG_RETURN_INT64(write_rows(table_id, VARDATA_ANY(rows), static_cast<int>(VARSIZE_ANY_EXHDR(rows)), fresh));
}
