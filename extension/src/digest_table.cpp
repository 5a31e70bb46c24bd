// Which columns of a table are compared, and how the key of a row of the target is written as the old side's key. See digest.hpp.
#include "digest.hpp"

#include "coercion.hpp"
#include "pg/leaf.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
}

namespace tandem {
namespace {

Statement any_originals = {"SELECT FROM tandem.sidecar WHERE table_id OPERATOR(pg_catalog.=) $1 LIMIT 1", 1, {INT4OID}, nullptr};

enum class KeyForm : std::uint8_t {
    integer, // any width to any width
    same,    // the target's value is one of the image type
    converted,
};

struct KeyField {
    KeyForm form;
    const ImageColumn *image;
    Oid type; // of the target, base type
    int width;
    int image_width;
    FmgrInfo send;     // of the image type
    FmgrInfo raw_send; // of the target's type
    Coercion to_image;
    Coercion back;
    Canonical canonical;
    RowBytes bytes;
};

std::int32_t typmod_of(Oid relation, AttrNumber column) {
    Oid type;
    Oid collation;
    std::int32_t typmod;
    get_atttypetypmodcoll(relation, column, &type, &typmod, &collation);
    return typmod;
}

bool is_integer(Oid type) { return type == INT2OID || type == INT4OID || type == INT8OID; }

std::int64_t integer_of(Datum value, int width) {
    return width == 2 ? DatumGetInt16(value) : width == 4 ? DatumGetInt32(value) : DatumGetInt64(value);
}

bool fits(std::int64_t value, int width) {
    return width == 8 || (width == 4 ? value >= PG_INT32_MIN && value <= PG_INT32_MAX : value >= PG_INT16_MIN && value <= PG_INT16_MAX);
}

void append_sent(StringInfo out, FmgrInfo *send, Datum value) {
    bytea *field = SendFunctionCall(send, value);
    const int length = static_cast<int>(VARSIZE(field) - VARHDRSZ);
    pq_sendint32(out, static_cast<std::uint32_t>(length));
    pq_sendbytes(out, VARDATA(field), length);
    pfree(field);
}

void append_integer(StringInfo out, std::int64_t value, int width) {
    pq_sendint32(out, static_cast<std::uint32_t>(width));
    if (width == 2)
        pq_sendint16(out, static_cast<std::uint16_t>(value));
    else if (width == 4)
        pq_sendint32(out, static_cast<std::uint32_t>(value));
    else
        pq_sendint64(out, static_cast<std::uint64_t>(value));
}

struct Conversion {
    KeyField *field;
    Datum value;
    Datum converted;
    bool exact;
};

RowHash plain_hash(KeyField *field, Datum value) {
    static const char secret[secret_bytes] = {0};
    append_value(&field->bytes, &field->canonical, value);
    return take_hash(&field->bytes, secret);
}

// Exact only if the way back leads to the same value.
void convert(void *argument) {
    auto work = static_cast<Conversion *>(argument);
    bool is_null = false;
    work->converted = coerce(&work->field->to_image, work->value, &is_null);
    bool back_is_null = is_null;
    const Datum back = is_null ? (Datum)0 : coerce(&work->field->back, work->converted, &back_is_null);
    if (is_null || back_is_null)
        return;
    const RowHash one = plain_hash(work->field, work->value);
    const RowHash other = plain_hash(work->field, back);
    work->exact = one.low == other.low && one.high == other.high;
}

} // namespace

struct KeyWriter {
    int count;
    KeyField *fields;
};

bool is_constant(const TargetColumn *column) { return column->key_position > 0 && column->source_column < 0; }

ComparedTable *open_compared(int table_id) {
    auto compared = static_cast<ComparedTable *>(palloc0(sizeof(ComparedTable)));
    SourceTable *table = load_table(table_id);
    if (table == nullptr)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no table with table_id %d in tandem.source_table", table_id)));
    if (!OidIsValid(table->target))
        ereport(ERROR, (errcode(table->refusal_code), errmsg_internal("%s", table->refusal),
                        table->refusal_hint != nullptr ? errhint("%s", table->refusal_hint) : 0));
    if (table->target_key_count < table->key_count) // as it is while the table is removed by somebody else: each part is read by itself
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("target %s has no key columns", table->target_name)));
    compared->table = table;
    compared->columns = static_cast<TargetColumn **>(palloc(sizeof(TargetColumn *) * static_cast<Size>(Max(table->compared_count, 1))));
    compared->canonical = static_cast<Canonical *>(palloc(sizeof(Canonical) * static_cast<Size>(Max(table->compared_count, 1))));
    compared->typmods = static_cast<std::int32_t *>(palloc(sizeof(std::int32_t) * static_cast<Size>(Max(table->compared_count, 1))));
    for (int i = 0; i < table->compared_count; i++) {
        TargetColumn *column = &table->targets[i];
        if (is_constant(column) && column->image_equal)
            continue;
        const AttrNumber number = get_attnum(table->target, column->name);
        if (number == InvalidAttrNumber)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                            errmsg("column \"%s\" of target %s does not exist any more", column->name, table->target_name)));
        const bool from_numeric = column->source_column >= 0 && table->columns[column->source_column].type == NUMERICOID;
        prepare_canonical(&compared->canonical[compared->count], column->type, from_numeric, CurrentMemoryContext);
        compared->columns[compared->count] = column;
        compared->typmods[compared->count] = typmod_of(table->target, number);
        compared->count++;
    }
    HeapTuple relation = SearchSysCache1(RELOID, ObjectIdGetDatum(table->target));
    if (HeapTupleIsValid(relation)) {
        compared->has_row_security = reinterpret_cast<Form_pg_class>(GETSTRUCT(relation))->relrowsecurity;
        ReleaseSysCache(relation);
    }
    Datum id = Int32GetDatum(table_id);
    connect_spi();
    compared->has_originals = execute_read_only(&any_originals, &id) > 0;
    finish_spi();
    return compared;
}

KeyWriter *make_key_writer(const ComparedTable *compared) {
    const SourceTable *table = compared->table;
    auto writer = static_cast<KeyWriter *>(palloc(sizeof(KeyWriter)));
    writer->fields = static_cast<KeyField *>(palloc0(sizeof(KeyField) * static_cast<Size>(Max(table->key_count, 1))));
    writer->count = table->key_count;
    for (int i = 0; i < table->key_count; i++) {
        KeyField *field = &writer->fields[i];
        const TargetColumn *column = table->target_key[i];
        Oid function;
        bool varlena;
        field->image = table->key_columns[i];
        field->type = column->base_type;
        getTypeBinaryOutputInfo(field->type, &function, &varlena);
        fmgr_info(function, &field->raw_send);
        fmgr_info_copy(&field->send, const_cast<FmgrInfo *>(&field->image->send), CurrentMemoryContext);
        const std::int32_t typmod = typmod_of(table->target, get_attnum(table->target, column->name));
        if (is_integer(field->type) && is_integer(field->image->type)) {
            field->form = KeyForm::integer;
            field->width = get_typlen(field->type);
            field->image_width = get_typlen(field->image->type);
            continue;
        }
        const bool same_type = field->type == field->image->type || (field->image->type == TEXTOID && field->type == VARCHAROID);
        if (same_type && (field->image->typmod == -1 || field->image->typmod == typmod)) {
            field->form = KeyForm::same;
            continue;
        }
        field->form = KeyForm::converted;
        if (!prepare_coercion(&field->to_image, field->type, typmod, field->image->type, field->image->typmod, COERCION_EXPLICIT) ||
            !prepare_coercion(&field->back, field->image->type, field->image->typmod, field->type, -1, COERCION_EXPLICIT))
            ereport(ERROR, (errcode(ERRCODE_CANNOT_COERCE),
                            errmsg("key column \"%s\" of target %s has type %s, which cannot be a key of type %s", column->name,
                                   table->target_name, format_type_be(field->type), field->image->type_name)));
        prepare_canonical(&field->canonical, field->type, false, CurrentMemoryContext);
        begin_row_bytes(&field->bytes, CurrentMemoryContext);
    }
    return writer;
}

bytea *write_key(KeyWriter *writer, const Datum *values, const bool *nulls) {
    StringInfoData out;
    pq_begintypsend(&out);
    pq_sendint16(&out, static_cast<std::uint16_t>(writer->count));
    for (int i = 0; i < writer->count; i++) {
        KeyField *field = &writer->fields[i];
        if (nulls[i]) {
            pq_sendint32(&out, static_cast<std::uint32_t>(-1));
            continue;
        }
        if (field->form == KeyForm::integer) {
            const std::int64_t value = integer_of(values[i], field->width);
            append_integer(&out, value, fits(value, field->image_width) ? field->image_width : field->width);
        } else if (field->form == KeyForm::same) {
            append_sent(&out, &field->send, values[i]);
        } else {
            Conversion work = {field, values[i], (Datum)0, false};
            SqlError ignored; // out of range: not a key of the old table
            if (run_in_subtransaction(convert, &work, &ignored) && work.exact)
                append_sent(&out, &field->send, work.converted);
            else
                append_sent(&out, &field->raw_send, values[i]);
            reset_coercion(&field->to_image);
            reset_coercion(&field->back);
        }
    }
    return pq_endtypsend(&out);
}

} // namespace tandem
