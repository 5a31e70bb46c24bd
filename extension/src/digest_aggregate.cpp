// tandem._digest: number of rows and sums of their hashes, as an aggregate that runs in parallel workers. SQL: ddl/44_digests.sql.
//
// What is needed for each column is set up once for each call site and kept with it; a row then costs one pass over its values.
#include "canonical.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
}

namespace tandem {
namespace {

constexpr int first_value = 2; // after the state and the secret

struct Sums { // also its serialised form
    std::int64_t rows;
    std::uint64_t low;
    std::uint64_t high;
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

Sums *new_sums(FunctionCallInfo fcinfo) {
    MemoryContext context;
    if (AggCheckCallContext(fcinfo, &context) == 0)
        elog(ERROR, "called outside of an aggregate");
    return static_cast<Sums *>(MemoryContextAllocZero(context, sizeof(Sums)));
}

Sums *sums_argument(FunctionCallInfo fcinfo, int number) {
    return PG_ARGISNULL(number) ? nullptr : reinterpret_cast<Sums *>(PG_GETARG_POINTER(number));
}

} // namespace
} // namespace tandem

using namespace tandem;

TANDEM_FUNCTION(tandem_digest_add);
extern "C" Datum tandem_digest_add(PG_FUNCTION_ARGS) {
    Sums *sums = sums_argument(fcinfo, 0);
    if (sums == nullptr)
        sums = new_sums(fcinfo);
    CallSite *site = call_site(fcinfo);
    for (int i = 0; i < site->count; i++) {
        if (PG_ARGISNULL(i + first_value))
            append_null(&site->row);
        else
            append_value(&site->row, &site->columns[i], PG_GETARG_DATUM(i + first_value));
    }
    const RowHash hash = take_hash(&site->row, secret_of(PG_GETARG_BYTEA_PP(1)));
    sums->rows++;
    sums->low += hash.low;
    sums->high += hash.high;
    PG_RETURN_POINTER(sums);
}

TANDEM_FUNCTION(tandem_digest_combine);
extern "C" Datum tandem_digest_combine(PG_FUNCTION_ARGS) {
    Sums *sums = sums_argument(fcinfo, 0);
    const Sums *more = sums_argument(fcinfo, 1);
    if (sums == nullptr)
        sums = new_sums(fcinfo);
    if (more != nullptr) {
        sums->rows += more->rows;
        sums->low += more->low;
        sums->high += more->high;
    }
    PG_RETURN_POINTER(sums);
}

TANDEM_FUNCTION(tandem_digest_serial);
extern "C" Datum tandem_digest_serial(PG_FUNCTION_ARGS) {
    auto bytes = static_cast<bytea *>(palloc(VARHDRSZ + sizeof(Sums)));
    SET_VARSIZE(bytes, VARHDRSZ + sizeof(Sums));
    memcpy(VARDATA(bytes), PG_GETARG_POINTER(0), sizeof(Sums));
    PG_RETURN_BYTEA_P(bytes);
}

TANDEM_FUNCTION(tandem_digest_deserial);
extern "C" Datum tandem_digest_deserial(PG_FUNCTION_ARGS) {
    const bytea *bytes = PG_GETARG_BYTEA_PP(0);
    if (VARSIZE_ANY_EXHDR(bytes) != sizeof(Sums))
        elog(ERROR, "not the state of a digest");
    auto sums = static_cast<Sums *>(palloc(sizeof(Sums)));
    memcpy(sums, VARDATA_ANY(bytes), sizeof(Sums));
    PG_RETURN_POINTER(sums);
}

TANDEM_FUNCTION(tandem_digest_final);
extern "C" Datum tandem_digest_final(PG_FUNCTION_ARGS) {
    const Sums *sums = sums_argument(fcinfo, 0);
    const Sums none = {};
    if (sums == nullptr)
        sums = &none;
    Datum values[] = {Int64GetDatum(sums->rows), Int64GetDatum(static_cast<std::int64_t>(sums->low)),
                      Int64GetDatum(static_cast<std::int64_t>(sums->high))};
    PG_RETURN_ARRAYTYPE_P(construct_array(values, 3, INT8OID, sizeof(std::int64_t), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
