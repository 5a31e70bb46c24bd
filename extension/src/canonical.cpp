// See canonical.hpp.
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "canonical.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "port/pg_bswap.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"
#include "utils/varbit.h"
}

namespace tandem {
namespace {

constexpr Size field_head = 5; // tag and length

char *reserve(RowBytes *row, Size length) {
    if (row->used + length > row->space) {
        while (row->used + length > row->space)
            row->space *= 2;
        row->data = static_cast<char *>(repalloc_huge(row->data, row->space));
    }
    char *at = row->data + row->used;
    row->used += length;
    return at;
}

char *begin_field(RowBytes *row, ValueClass tag, Size length) {
    char *at = reserve(row, field_head + length);
    const auto little = static_cast<std::uint32_t>(length);
    at[0] = static_cast<char>(tag);
    at[1] = static_cast<char>(little);
    at[2] = static_cast<char>(little >> 8);
    at[3] = static_cast<char>(little >> 16);
    at[4] = static_cast<char>(little >> 24);
    return at + field_head;
}

void append_uint32(RowBytes *row, ValueClass tag, std::uint32_t value) {
    value = pg_hton32(value);
    memcpy(begin_field(row, tag, sizeof value), &value, sizeof value);
}

void append_uint64(RowBytes *row, ValueClass tag, std::uint64_t value) {
    value = pg_hton64(value);
    memcpy(begin_field(row, tag, sizeof value), &value, sizeof value);
}

// --- numeric: the stored form is read directly, numeric_send costs as much as all the rest of a row -----------------------------------

constexpr std::uint16_t sign_mask = 0xC000; // what PostgreSQL keeps in the first two bytes, unchanged since 9.1 and bound by pg_upgrade
constexpr std::uint16_t sign_positive = 0x0000;
constexpr std::uint16_t sign_negative = 0x4000;
constexpr std::uint16_t sign_short = 0x8000;
constexpr std::uint16_t sign_special = 0xC000;
constexpr std::uint16_t special_mask = 0xF000;
constexpr std::uint16_t short_negative = 0x2000;
constexpr std::uint16_t short_weight_negative = 0x0040;
constexpr std::uint16_t short_weight_mask = 0x003F;

void append_digits(RowBytes *row, std::int32_t weight, std::uint16_t sign, const char *digits, Size count) {
    // Zero digits at both ends say nothing. Stored values have none, but for what the scale keeps in a row of digits.
    std::uint16_t digit;
    while (count > 0) {
        memcpy(&digit, digits, 2);
        if (digit != 0)
            break;
        digits += 2;
        count--;
        weight--;
    }
    while (count > 0) {
        memcpy(&digit, digits + 2 * (count - 1), 2);
        if (digit != 0)
            break;
        count--;
    }
    if (count == 0) {
        weight = 0;
        sign = sign_positive;
    }
    char *at = begin_field(row, ValueClass::numeric, 4 + 2 * count);
    const std::uint16_t head[] = {pg_hton16(static_cast<std::uint16_t>(weight)), pg_hton16(sign)};
    memcpy(at, head, 4);
    for (Size i = 0; i < count; i++) {
        memcpy(&digit, digits + 2 * i, 2);
        digit = pg_hton16(digit);
        memcpy(at + 4 + 2 * i, &digit, 2);
    }
}

void append_numeric(RowBytes *row, Datum value) {
    auto stored = reinterpret_cast<const struct varlena *>(PG_DETOAST_DATUM_PACKED(value));
    const char *data = VARDATA_ANY(stored);
    const Size length = VARSIZE_ANY_EXHDR(stored);
    std::uint16_t header;
    memcpy(&header, data, 2);
    if ((header & sign_mask) == sign_special) {
        append_digits(row, 0, sign_positive, nullptr, 0);
        const std::uint16_t sign = pg_hton16(static_cast<std::uint16_t>(header & special_mask));
        memcpy(row->data + row->used - 2, &sign, 2); // NaN and infinities: zero with a sign of their own
    } else if ((header & sign_mask) == sign_short) {
        const int weight = ((header & short_weight_negative) != 0 ? ~0x3F : 0) | (header & short_weight_mask);
        append_digits(row, weight, (header & short_negative) != 0 ? sign_negative : sign_positive, data + 2, (length - 2) / 2);
    } else {
        std::int16_t weight;
        memcpy(&weight, data + 2, 2);
        append_digits(row, weight, header & sign_mask, data + 4, (length - 4) / 2);
    }
    if (reinterpret_cast<Pointer>(const_cast<struct varlena *>(stored)) != DatumGetPointer(value))
        pfree(const_cast<struct varlena *>(stored));
}

void append_integer_as_numeric(RowBytes *row, std::int64_t value) {
    std::uint16_t digits[5];
    int count = 0;
    std::uint64_t rest = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    for (; rest > 0; rest /= 10000)
        digits[4 - count++] = static_cast<std::uint16_t>(rest % 10000);
    append_digits(row, count - 1, value < 0 ? sign_negative : sign_positive, reinterpret_cast<const char *>(digits + 5 - count),
                  static_cast<Size>(count));
}

// --- the others -----------------------------------------------------------------------------------------------------------------------

void append_varlena(RowBytes *row, ValueClass tag, Datum value) {
    struct varlena *plain = PG_DETOAST_DATUM_PACKED(value);
    append_field(row, tag, VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
    if (reinterpret_cast<Pointer>(plain) != DatumGetPointer(value))
        pfree(plain);
}

void append_label(RowBytes *row, Oid label) {
    HeapTuple tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(label));
    if (!HeapTupleIsValid(tuple))
        ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("invalid internal value for enum: %u", label)));
    auto entry = reinterpret_cast<Form_pg_enum>(GETSTRUCT(tuple));
    append_field(row, ValueClass::text, NameStr(entry->enumlabel), strlen(NameStr(entry->enumlabel)));
    ReleaseSysCache(tuple);
}

void append_bits(RowBytes *row, Datum value) {
    const VarBit *bits = DatumGetVarBitP(value);
    char *at = begin_field(row, ValueClass::bit, 4 + static_cast<Size>(VARBITBYTES(bits)));
    const std::uint32_t count = pg_hton32(static_cast<std::uint32_t>(VARBITLEN(bits)));
    memcpy(at, &count, 4);
    memcpy(at + 4, VARBITS(bits), static_cast<Size>(VARBITBYTES(bits)));
}

void append_interval(RowBytes *row, Datum value) {
    const Interval *interval = DatumGetIntervalP(value);
    char *at = begin_field(row, ValueClass::interval, 16);
    const std::uint64_t time = pg_hton64(static_cast<std::uint64_t>(interval->time));
    const std::uint32_t rest[] = {pg_hton32(static_cast<std::uint32_t>(interval->day)),
                                  pg_hton32(static_cast<std::uint32_t>(interval->month))};
    memcpy(at, &time, 8);
    memcpy(at + 8, rest, 8);
}

void append_sent(RowBytes *row, Canonical *canonical, Datum value) {
    bytea *sent = SendFunctionCall(&canonical->send, value);
    append_field(row, canonical->kind, VARDATA(sent), VARSIZE(sent) - VARHDRSZ);
    pfree(sent);
}

// Columns that did not fit into the arguments of one call come as rows.
void append_row(RowBytes *row, Datum value) {
    HeapTupleHeader header = DatumGetHeapTupleHeader(value);
    TupleDesc desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
    HeapTupleData tuple;
    tuple.t_len = HeapTupleHeaderGetDatumLength(header);
    ItemPointerSetInvalid(&tuple.t_self);
    tuple.t_tableOid = InvalidOid;
    tuple.t_data = header;
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<Size>(desc->natts)));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<Size>(desc->natts)));
    heap_deform_tuple(&tuple, desc, values, nulls);
    for (int i = 0; i < desc->natts; i++) {
        Canonical column;
        if (nulls[i]) {
            append_null(row);
            continue;
        }
        prepare_canonical(&column, TupleDescAttr(desc, i)->atttypid, false, CurrentMemoryContext);
        append_value(row, &column, values[i]);
    }
    ReleaseTupleDesc(desc);
}

ValueClass class_of(Oid type) {
    switch (type) {
    case INT2OID:
    case INT4OID:
    case INT8OID:
        return ValueClass::integer;
    case NUMERICOID:
        return ValueClass::numeric;
    case FLOAT4OID:
        return ValueClass::float4;
    case FLOAT8OID:
        return ValueClass::float8;
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID:
        return ValueClass::text;
    case BYTEAOID:
        return ValueClass::bytes;
    case DATEOID:
        return ValueClass::date;
    case TIMESTAMPOID:
        return ValueClass::timestamp;
    case TIMESTAMPTZOID:
        return ValueClass::timestamptz;
    case INTERVALOID:
        return ValueClass::interval;
    case TIMEOID:
        return ValueClass::time;
    case BITOID:
    case VARBITOID:
        return ValueClass::bit;
    case BOOLOID:
        return ValueClass::boolean;
    case UUIDOID:
        return ValueClass::uuid;
    case INETOID:
        return ValueClass::inet;
    case JSONOID:
        return ValueClass::json;
    default:
        // citext and the like
        return type_is_enum(type) || IsBinaryCoercible(type, TEXTOID) ? ValueClass::text : ValueClass::other;
    }
}

} // namespace

void prepare_canonical(Canonical *canonical, Oid type, bool as_numeric, MemoryContext context) {
    Oid function;
    bool varlena;
    memset(canonical, 0, sizeof *canonical);
    canonical->type = getBaseType(type);
    canonical->is_row = canonical->type == RECORDOID;
    if (canonical->is_row)
        return;
    canonical->kind = class_of(canonical->type);
    canonical->is_enum = canonical->kind == ValueClass::text && type_is_enum(canonical->type);
    canonical->as_numeric = as_numeric && canonical->kind == ValueClass::integer;
    canonical->length = get_typlen(canonical->type);
    if (canonical->as_numeric)
        canonical->kind = ValueClass::numeric;
    if (canonical->kind == ValueClass::other || canonical->kind == ValueClass::inet) {
        getTypeBinaryOutputInfo(canonical->type, &function, &varlena);
        fmgr_info_cxt(function, &canonical->send, context);
    }
}

const char *class_name(ValueClass kind) {
    static const char *const names[] = {nullptr,       "int",      "numeric", "float4", "float8", "text", "bytea", "date", "timestamp",
                                        "timestamptz", "interval", "time",    "bit",    "bool",   "uuid", "inet",  "json"};
    const auto tag = static_cast<Size>(kind);
    return tag < lengthof(names) ? names[tag] : nullptr;
}

void begin_row_bytes(RowBytes *row, MemoryContext context) {
    row->context = context;
    row->space = 1024;
    row->used = 0;
    row->data = static_cast<char *>(MemoryContextAlloc(context, row->space));
}

void append_null(RowBytes *row) { *reserve(row, 1) = '\0'; }

void append_field(RowBytes *row, ValueClass tag, const char *bytes, Size length) { memcpy(begin_field(row, tag, length), bytes, length); }

void append_value(RowBytes *row, Canonical *canonical, Datum value) {
    if (canonical->is_row) {
        append_row(row, value);
        return;
    }
    switch (canonical->kind) {
    case ValueClass::integer:
    case ValueClass::numeric: {
        if (canonical->length < 0) {
            append_numeric(row, value);
            return;
        }
        const std::int64_t number = canonical->length == 2   ? DatumGetInt16(value)
                                    : canonical->length == 4 ? DatumGetInt32(value)
                                                             : DatumGetInt64(value);
        if (canonical->as_numeric)
            append_integer_as_numeric(row, number);
        else
            append_uint64(row, ValueClass::integer, static_cast<std::uint64_t>(number));
        return;
    }
    case ValueClass::float4: {
        const float4 number = DatumGetFloat4(value);
        std::uint32_t bits;
        memcpy(&bits, &number, sizeof bits);
        append_uint32(row, ValueClass::float4, bits);
        return;
    }
    case ValueClass::float8: {
        const float8 number = DatumGetFloat8(value);
        std::uint64_t bits;
        memcpy(&bits, &number, sizeof bits);
        append_uint64(row, ValueClass::float8, bits);
        return;
    }
    case ValueClass::text:
        if (canonical->is_enum)
            append_label(row, DatumGetObjectId(value));
        else
            append_varlena(row, ValueClass::text, value);
        return;
    case ValueClass::bytes:
    case ValueClass::json:
        append_varlena(row, canonical->kind, value);
        return;
    case ValueClass::date:
        append_uint32(row, ValueClass::date, static_cast<std::uint32_t>(DatumGetDateADT(value)));
        return;
    case ValueClass::timestamp:
    case ValueClass::timestamptz:
    case ValueClass::time:
        append_uint64(row, canonical->kind, static_cast<std::uint64_t>(DatumGetInt64(value)));
        return;
    case ValueClass::interval:
        append_interval(row, value);
        return;
    case ValueClass::bit:
        append_bits(row, value);
        return;
    case ValueClass::boolean:
        *begin_field(row, ValueClass::boolean, 1) = DatumGetBool(value) ? '\1' : '\0';
        return;
    case ValueClass::uuid:
        append_field(row, ValueClass::uuid, reinterpret_cast<const char *>(DatumGetUUIDP(value)->data), UUID_LEN);
        return;
    case ValueClass::inet:
    case ValueClass::other:
    case ValueClass::sidecar:
        append_sent(row, canonical, value);
        return;
    }
}

RowHash take_hash(RowBytes *row, const char *secret) {
    const XXH128_hash_t hash = XXH3_128bits_withSecret(row->data, row->used, secret, secret_bytes);
    row->used = 0;
    return {hash.low64, hash.high64};
}

const char *secret_of(const bytea *secret) {
    if (VARSIZE_ANY_EXHDR(secret) != secret_bytes)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the secret of a digest must have %d bytes, not %d", secret_bytes,
                                                                         static_cast<int>(VARSIZE_ANY_EXHDR(secret)))));
    return VARDATA_ANY(secret);
}

std::uint64_t hash_of_key(const bytea *key) { return XXH3_64bits(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)); }

} // namespace tandem
