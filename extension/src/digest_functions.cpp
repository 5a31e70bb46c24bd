// What SQL calls of digests and differences. Declarations: ddl/44_digests.sql.
#include "digest.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/guc.h"
}

namespace tandem {
namespace {

struct ResultRows {
    Tuplestorestate *rows;
    TupleDesc desc;
};

ResultRows begin_result(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, 0);
    auto info = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    return {info->setResult, info->setDesc};
}

void put_hashes(const ResultRows &result, const KeyedRow *rows, int count, bool with_failed) {
    for (int i = 0; i < count; i++) {
        if (!rows[i].present && !(with_failed && rows[i].failed))
            continue;
        Datum values[] = {PointerGetDatum(rows[i].key), Int64GetDatum(static_cast<std::int64_t>(rows[i].hash.low)),
                          Int64GetDatum(static_cast<std::int64_t>(rows[i].hash.high))};
        bool nulls[] = {false, !rows[i].present, !rows[i].present};
        tuplestore_putvalues(result.rows, result.desc, values, nulls);
    }
}

KeyRange range_arguments(FunctionCallInfo fcinfo, int first) {
    return {PG_ARGISNULL(first) ? nullptr : PG_GETARG_ARRAYTYPE_P(first),
            PG_ARGISNULL(first + 1) ? nullptr : PG_GETARG_ARRAYTYPE_P(first + 1)};
}

void require(FunctionCallInfo fcinfo, int first, int last) {
    for (int i = first; i <= last; i++)
        if (PG_ARGISNULL(i))
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument %d must not be null", i + 1)));
}

void require_parts(const ComparedTable *compared) {
    if (!can_sum_parts(compared))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("parts of table \"%s\" cannot be summed up", compared->table->name),
                        errdetail("Its key must be one column, without row security and originals in tandem.sidecar.")));
}

// Arrays of keys and, with `images`, of as many images.
KeyedRow *row_arguments(ArrayType *keys, ArrayType *images, int *count) {
    Datum *elements;
    bool *nulls;
    deconstruct_array(keys, BYTEAOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
    auto rows = static_cast<KeyedRow *>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(KeyedRow) * static_cast<Size>(Max(*count, 1))));
    memset(rows, 0, sizeof(KeyedRow) * static_cast<Size>(Max(*count, 1)));
    for (int i = 0; i < *count; i++) {
        if (nulls[i])
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a key must not be null")));
        rows[i].key = DatumGetByteaP(elements[i]);
    }
    if (images == nullptr)
        return rows;
    int image_count;
    deconstruct_array(images, BYTEAOID, -1, false, TYPALIGN_INT, &elements, &nulls, &image_count);
    if (image_count != *count)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there are %d keys but %d images", *count, image_count)));
    for (int i = 0; i < *count; i++)
        rows[i].image = nulls[i] ? nullptr : DatumGetByteaP(elements[i]);
    return rows;
}

} // namespace
} // namespace tandem

using namespace tandem;

TANDEM_FUNCTION(tandem_digest_chunk);
extern "C" Datum tandem_digest_chunk(PG_FUNCTION_ARGS) {
    require(fcinfo, 0, 1);
    TupleDesc desc;
    if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row");
    const int level = pin_text_forms();
    const RangeSums sums = sum_range(open_compared(PG_GETARG_INT32(0)), PG_GETARG_BYTEA_PP(1), range_arguments(fcinfo, 2));
    AtEOXact_GUC(false, level);
    Datum values[] = {Int64GetDatum(sums.rows), Int64GetDatum(static_cast<std::int64_t>(sums.sum.low)),
                      Int64GetDatum(static_cast<std::int64_t>(sums.sum.high))};
    bool nulls[] = {false, false, false};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

TANDEM_FUNCTION(tandem_can_sum_parts);
extern "C" Datum tandem_can_sum_parts(PG_FUNCTION_ARGS) { PG_RETURN_BOOL(can_sum_parts(open_compared(PG_GETARG_INT32(0)))); }

TANDEM_FUNCTION(tandem_digest_parts);
extern "C" Datum tandem_digest_parts(PG_FUNCTION_ARGS) {
    require(fcinfo, 0, 1);
    require(fcinfo, 4, 4);
    const ResultRows result = begin_result(fcinfo);
    const int level = pin_text_forms();
    ComparedTable *compared = open_compared(PG_GETARG_INT32(0));
    require_parts(compared);
    int count;
    const RangeSums *parts = sum_parts(compared, PG_GETARG_BYTEA_PP(1), range_arguments(fcinfo, 2), PG_GETARG_ARRAYTYPE_P(4), &count);
    AtEOXact_GUC(false, level);
    for (int i = 0; i < count; i++) {
        if (parts[i].rows == 0)
            continue;
        Datum values[] = {Int32GetDatum(i), Int64GetDatum(parts[i].rows), Int64GetDatum(static_cast<std::int64_t>(parts[i].sum.low)),
                          Int64GetDatum(static_cast<std::int64_t>(parts[i].sum.high))};
        bool nulls[] = {false, false, false, false};
        tuplestore_putvalues(result.rows, result.desc, values, nulls);
    }
    return (Datum)0;
}

TANDEM_FUNCTION(tandem_digest_rows);
extern "C" Datum tandem_digest_rows(PG_FUNCTION_ARGS) {
    require(fcinfo, 0, 1);
    const ResultRows result = begin_result(fcinfo);
    int count;
    const int level = pin_text_forms();
    const KeyedRow *rows = read_range(open_compared(PG_GETARG_INT32(0)), PG_GETARG_BYTEA_PP(1), range_arguments(fcinfo, 2), &count);
    AtEOXact_GUC(false, level);
    put_hashes(result, rows, count, false);
    return (Datum)0;
}

TANDEM_FUNCTION(tandem_digest_row_parts);
extern "C" Datum tandem_digest_row_parts(PG_FUNCTION_ARGS) {
    const ResultRows result = begin_result(fcinfo);
    const int level = pin_text_forms();
    ComparedTable *compared = open_compared(PG_GETARG_INT32(0));
    require_parts(compared);
    int count;
    const KeyedRow *rows = read_parts(compared, PG_GETARG_BYTEA_PP(1), PG_GETARG_ARRAYTYPE_P(2), PG_GETARG_ARRAYTYPE_P(3), &count);
    AtEOXact_GUC(false, level);
    for (int i = 0; i < count; i++) {
        Datum values[] = {Int32GetDatum(rows[i].part), PointerGetDatum(rows[i].key),
                          Int64GetDatum(static_cast<std::int64_t>(rows[i].hash.low)),
                          Int64GetDatum(static_cast<std::int64_t>(rows[i].hash.high))};
        bool nulls[] = {false, false, false, false};
        tuplestore_putvalues(result.rows, result.desc, values, nulls);
    }
    return (Datum)0;
}

TANDEM_FUNCTION(tandem_digest_keys);
extern "C" Datum tandem_digest_keys(PG_FUNCTION_ARGS) {
    const ResultRows result = begin_result(fcinfo);
    int count;
    KeyedRow *rows = row_arguments(PG_GETARG_ARRAYTYPE_P(2), nullptr, &count);
    const int level = pin_text_forms();
    hash_keys(open_compared(PG_GETARG_INT32(0)), PG_GETARG_BYTEA_PP(1), rows, count);
    AtEOXact_GUC(false, level);
    put_hashes(result, rows, count, false);
    return (Datum)0;
}

TANDEM_FUNCTION(tandem_digest_images);
extern "C" Datum tandem_digest_images(PG_FUNCTION_ARGS) {
    const ResultRows result = begin_result(fcinfo);
    int count;
    KeyedRow *rows = row_arguments(PG_GETARG_ARRAYTYPE_P(2), PG_GETARG_ARRAYTYPE_P(3), &count);
    const int level = pin_text_forms();
    hash_images(open_compared(PG_GETARG_INT32(0)), PG_GETARG_BYTEA_PP(1), rows, count);
    AtEOXact_GUC(false, level);
    put_hashes(result, rows, count, true);
    return (Datum)0;
}

TANDEM_FUNCTION(tandem_row_writer);
extern "C" Datum tandem_row_writer(PG_FUNCTION_ARGS) {
    KeyedRow row = {};
    row.key = PG_GETARG_BYTEA_P(1);
    const int level = pin_text_forms();
    visit_keys(open_compared(PG_GETARG_INT32(0)), &row, 1, {[](void *, int, const Datum *, const bool *) {}, nullptr});
    AtEOXact_GUC(false, level);
    if (row.writer == 0)
        PG_RETURN_NULL();
    PG_RETURN_INT64(row.writer);
}

TANDEM_FUNCTION(tandem_next_keys);
extern "C" Datum tandem_next_keys(PG_FUNCTION_ARGS) {
    require(fcinfo, 0, 0);
    require(fcinfo, 2, 2);
    const ResultRows result = begin_result(fcinfo);
    int count;
    ComparedTable *compared = open_compared(PG_GETARG_INT32(0));
    const int level = pin_text_forms();
    const KeyedRow *rows = read_next_keys(compared, PG_ARGISNULL(1) ? nullptr : PG_GETARG_ARRAYTYPE_P(1), PG_GETARG_INT32(2), &count);
    for (int i = 0; i < count; i++) {
        Datum values[] = {PointerGetDatum(rows[i].key), PointerGetDatum(rows[i].key_text)};
        bool nulls[] = {false, false};
        tuplestore_putvalues(result.rows, result.desc, values, nulls);
    }
    AtEOXact_GUC(false, level);
    return (Datum)0;
}

TANDEM_FUNCTION(tandem_row_differences);
extern "C" Datum tandem_row_differences(PG_FUNCTION_ARGS) {
    const ResultRows result = begin_result(fcinfo);
    int count;
    KeyedRow *rows = row_arguments(PG_GETARG_ARRAYTYPE_P(1), PG_GETARG_ARRAYTYPE_P(2), &count);
    const int level = pin_text_forms();
    write_differences(open_compared(PG_GETARG_INT32(0)), rows, count, result.rows, result.desc);
    AtEOXact_GUC(false, level);
    return (Datum)0;
}

// Columns of a table in order of hashing, for tandem._digest_config.
TANDEM_FUNCTION(tandem_compared_columns);
extern "C" Datum tandem_compared_columns(PG_FUNCTION_ARGS) {
    const ResultRows result = begin_result(fcinfo);
    const ComparedTable *compared = open_compared(PG_GETARG_INT32(0));
    for (int i = 0; i < compared->count; i++) {
        const TargetColumn *column = compared->columns[i];
        const char *name = class_name(compared->canonical[i].kind);
        const char *image_name = nullptr;
        if (column->source_column >= 0) {
            Canonical image;
            prepare_canonical(&image, compared->table->columns[column->source_column].type, false, CurrentMemoryContext);
            image_name = class_name(image.kind);
        }
        const ImageColumn *image_column = column->source_column < 0 ? nullptr : &compared->table->columns[column->source_column];
        Datum values[] = {Int32GetDatum(i + 1),
                          CStringGetTextDatum(column->name),
                          Int32GetDatum(column->source_column + 1),
                          name == nullptr ? (Datum)0 : CStringGetTextDatum(name),
                          image_name == nullptr ? (Datum)0 : CStringGetTextDatum(image_name),
                          ObjectIdGetDatum(column->type),
                          Int32GetDatum(compared->typmods[i]),
                          image_column == nullptr ? (Datum)0 : ObjectIdGetDatum(image_column->type),
                          image_column == nullptr ? (Datum)0 : Int32GetDatum(image_column->typmod)};
        const bool computed = image_column == nullptr;
        bool nulls[] = {false, false, computed, name == nullptr, image_name == nullptr, false, false, computed, computed};
        tuplestore_putvalues(result.rows, result.desc, values, nulls);
    }
    return (Datum)0;
}

TANDEM_FUNCTION(tandem_new_secret);
extern "C" Datum tandem_new_secret(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    auto secret = static_cast<bytea *>(palloc(VARHDRSZ + secret_bytes));
    SET_VARSIZE(secret, VARHDRSZ + secret_bytes);
    if (!pg_strong_random(VARDATA(secret), secret_bytes))
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("there are no random bytes for the secret of a pass")));
    PG_RETURN_BYTEA_P(secret);
}
