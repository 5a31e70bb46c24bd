// tandem._digest: number of rows and sums of their hashes by part, as an aggregate that runs in parallel workers. SQL: ddl/38_digests.sql.
//
// What is needed for each column is set up once for each call site and kept with it; a row then costs one pass over its values. Parts are
// numbered and few, so their sums are an array: GROUP BY would sort or spill the rows, as the planner cannot know how few they are.
#include "canonical.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace tandem {
namespace {

constexpr int first_value = 3; // after the state, the part and the secret
constexpr std::int32_t most_parts = 1 << 20;

struct Sums { // also its serialised form
    std::int64_t rows;
    std::uint64_t low;
    std::uint64_t high;
};

struct Parts {
    MemoryContext context; // of the aggregate
    std::int32_t count;    // highest part seen, and one
    std::int32_t room;
    Sums *sums;
};

struct CallSite {
    RowBytes row;
    int count;
    Canonical *columns;
};

CallSite *call_site(FunctionCallInfo fcinfo) {
    if (fcinfo->flinfo->fn_extra != nullptr)
        return static_cast<CallSite *>(fcinfo->flinfo->fn_extra);
    MemoryContext context = fcinfo->flinfo->fn_mcxt;
    const int count = PG_NARGS() - first_value;
    auto site = static_cast<CallSite *>(MemoryContextAllocZero(context, sizeof(CallSite)));
    site->columns = static_cast<Canonical *>(MemoryContextAlloc(context, sizeof(Canonical) * static_cast<Size>(Max(count, 1))));
    site->count = count;
    for (int i = 0; i < count; i++)
        prepare_canonical(&site->columns[i], get_fn_expr_argtype(fcinfo->flinfo, i + first_value), false, context);
    begin_row_bytes(&site->row, context);
    fcinfo->flinfo->fn_extra = site;
    return site;
}

Parts *parts_argument(FunctionCallInfo fcinfo, int number) {
    return PG_ARGISNULL(number) ? nullptr : reinterpret_cast<Parts *>(PG_GETARG_POINTER(number));
}

// The first argument; begun when there is none yet.
Parts *own_parts(FunctionCallInfo fcinfo) {
    Parts *parts = parts_argument(fcinfo, 0);
    if (parts != nullptr)
        return parts;
    MemoryContext context;
    if (AggCheckCallContext(fcinfo, &context) == 0)
        elog(ERROR, "called outside of an aggregate");
    parts = static_cast<Parts *>(MemoryContextAllocZero(context, sizeof(Parts)));
    parts->context = context;
    return parts;
}

// Makes room for `count` parts; those that are new are empty.
void reach(Parts *parts, std::int32_t count) {
    if (count <= parts->count)
        return;
    if (count > parts->room) {
        const std::int32_t room = Max(count, Min(2 * parts->room, most_parts));
        const Size bytes = sizeof(Sums) * static_cast<Size>(room);
        parts->sums =
            static_cast<Sums *>(parts->sums == nullptr ? MemoryContextAlloc(parts->context, bytes) : repalloc(parts->sums, bytes));
        memset(parts->sums + parts->room, 0, sizeof(Sums) * static_cast<Size>(room - parts->room));
        parts->room = room;
    }
    parts->count = count;
}

} // namespace
} // namespace tandem

using namespace tandem;

TANDEM_FUNCTION(tandem_digest_add);
extern "C" Datum tandem_digest_add(PG_FUNCTION_ARGS) {
    Parts *parts = own_parts(fcinfo);
    const std::int32_t part = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT32(1);
    if (part < 0 || part >= most_parts)
        elog(ERROR, "there is no part %d of a digest", part);
    CallSite *site = call_site(fcinfo);
    for (int i = 0; i < site->count; i++) {
        if (PG_ARGISNULL(i + first_value))
            append_null(&site->row);
        else
            append_value(&site->row, &site->columns[i], PG_GETARG_DATUM(i + first_value));
    }
    const RowHash hash = take_hash(&site->row, secret_of(PG_GETARG_BYTEA_PP(2)));
    reach(parts, part + 1);
    Sums &sums = parts->sums[part];
    sums.rows++;
    sums.low += hash.low;
    sums.high += hash.high;
    PG_RETURN_POINTER(parts);
}

TANDEM_FUNCTION(tandem_digest_combine);
extern "C" Datum tandem_digest_combine(PG_FUNCTION_ARGS) {
    Parts *parts = own_parts(fcinfo);
    const Parts *more = parts_argument(fcinfo, 1);
    if (more != nullptr) {
        reach(parts, more->count);
        for (std::int32_t i = 0; i < more->count; i++) {
            parts->sums[i].rows += more->sums[i].rows;
            parts->sums[i].low += more->sums[i].low;
            parts->sums[i].high += more->sums[i].high;
        }
    }
    PG_RETURN_POINTER(parts);
}

TANDEM_FUNCTION(tandem_digest_serial);
extern "C" Datum tandem_digest_serial(PG_FUNCTION_ARGS) {
    const Parts *parts = parts_argument(fcinfo, 0);
    const Size size = sizeof(Sums) * static_cast<Size>(parts->count);
    auto bytes = static_cast<bytea *>(palloc(VARHDRSZ + size));
    SET_VARSIZE(bytes, VARHDRSZ + size);
    if (size > 0)
        memcpy(VARDATA(bytes), parts->sums, size);
    PG_RETURN_BYTEA_P(bytes);
}

TANDEM_FUNCTION(tandem_digest_deserial);
extern "C" Datum tandem_digest_deserial(PG_FUNCTION_ARGS) {
    const bytea *bytes = PG_GETARG_BYTEA_PP(0);
    const Size size = VARSIZE_ANY_EXHDR(bytes);
    if (size % sizeof(Sums) != 0)
        elog(ERROR, "not the state of a digest");
    auto parts = static_cast<Parts *>(palloc0(sizeof(Parts)));
    parts->context = CurrentMemoryContext;
    reach(parts, static_cast<std::int32_t>(size / sizeof(Sums)));
    if (size > 0)
        memcpy(parts->sums, VARDATA_ANY(bytes), size);
    PG_RETURN_POINTER(parts);
}

// rows, low and high of part 0, of part 1 and so on up to the last that has rows.
TANDEM_FUNCTION(tandem_digest_final);
extern "C" Datum tandem_digest_final(PG_FUNCTION_ARGS) {
    const Parts *parts = parts_argument(fcinfo, 0);
    const std::int32_t count = parts == nullptr ? 0 : parts->count;
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * 3 * static_cast<Size>(Max(count, 1))));
    for (std::int32_t i = 0; i < count; i++) {
        values[3 * i] = Int64GetDatum(parts->sums[i].rows);
        values[3 * i + 1] = Int64GetDatum(static_cast<std::int64_t>(parts->sums[i].low));
        values[3 * i + 2] = Int64GetDatum(static_cast<std::int64_t>(parts->sums[i].high));
    }
    PG_RETURN_ARRAYTYPE_P(construct_array(values, 3 * count, INT8OID, sizeof(std::int64_t), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
