// See image.hpp.
#include "image.hpp"

#include "pg/leaf.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "parser/parse_type.h"
#include "parser/scansup.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
}

namespace tandem {
namespace {

[[noreturn]] void refuse_bytes(const char *detail) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("row image is not valid"), errdetail_internal("%s", detail)));
    pg_unreachable();
}

// Set in an image's number of fields when a field of losses, which is not counted, comes after the last column.
constexpr std::uint16_t losses_mark = 0x4000;

bool is_number(Oid type) {
    return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID || type == FLOAT4OID || type == FLOAT8OID;
}

struct JsonWork {
    const bytea *key;
    ImageColumn *const *columns;
    int count;
    StringInfo out;
};

void append_key_json(void *argument) {
    auto work = static_cast<JsonWork *>(argument);
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * work->count));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * work->count));
    decode_image(work->key, work->columns, work->count, values, nulls);
    appendStringInfoChar(work->out, '{');
    for (int i = 0; i < work->count; i++) {
        if (i > 0)
            appendStringInfoString(work->out, ", ");
        escape_json(work->out, work->columns[i]->name);
        appendStringInfoString(work->out, ": ");
        if (nulls[i]) {
            appendStringInfoString(work->out, "null");
            continue;
        }
        const char *text = OutputFunctionCall(&work->columns[i]->output, values[i]);
        const char first = text[0] == '-' ? text[1] : text[0];
        if (is_number(work->columns[i]->type) && first >= '0' && first <= '9')
            appendStringInfoString(work->out, text);
        else
            escape_json(work->out, text); // NaN and Infinity as well
    }
    appendStringInfoChar(work->out, '}');
}

} // namespace

void prepare_image_column(ImageColumn *column, const char *name, const char *identifier, const char *type_name, MemoryContext context) {
    Oid function;
    bool varlena;
    column->name = MemoryContextStrdup(context, name);
    column->identifier = MemoryContextStrdup(context, identifier);
    column->type_name = MemoryContextStrdup(context, type_name);
    parseTypeString(type_name, &column->type, &column->typmod, false);
    getTypeBinaryInputInfo(column->type, &function, &column->receive_parameter);
    fmgr_info_cxt(function, &column->receive, context);
    getTypeBinaryOutputInfo(column->type, &function, &varlena);
    fmgr_info_cxt(function, &column->send, context);
    getTypeInputInfo(column->type, &function, &column->input_parameter);
    fmgr_info_cxt(function, &column->input, context);
    getTypeOutputInfo(column->type, &function, &varlena);
    fmgr_info_cxt(function, &column->output, context);
}

void decode_image(const bytea *bytes, ImageColumn *const *columns, int count, Datum *values, bool *nulls) {
    char *at = const_cast<char *>(VARDATA_ANY(bytes));
    const char *end = at + VARSIZE_ANY_EXHDR(bytes);

    std::uint16_t fields;
    if (end - at < 2)
        refuse_bytes("The number of fields is missing.");
    memcpy(&fields, at, 2);
    at += 2;
    const bool has_losses = (pg_ntoh16(fields) & losses_mark) != 0;
    const int field_count = pg_ntoh16(fields) & ~losses_mark;
    if (field_count != count)
        refuse_bytes(psprintf("It has %d fields instead of %d.", field_count, count));

    for (int i = 0; i < count; i++) {
        std::uint32_t raw;
        if (end - at < 4)
            refuse_bytes("A field length is missing.");
        memcpy(&raw, at, 4);
        at += 4;
        const auto length = static_cast<std::int32_t>(pg_ntoh32(raw));
        if (length == -1) {
            values[i] = ReceiveFunctionCall(&columns[i]->receive, nullptr, columns[i]->receive_parameter, columns[i]->typmod);
            nulls[i] = true;
            continue;
        }
        if (length < 0 || length > end - at)
            refuse_bytes(psprintf("The length of field %d is wrong.", i + 1));
        // Receive functions only read; none of the image types' looks at the byte behind the field.
        StringInfoData field;
        field.data = at;
        field.len = length;
        field.maxlen = length;
        field.cursor = 0;
        values[i] = ReceiveFunctionCall(&columns[i]->receive, &field, columns[i]->receive_parameter, columns[i]->typmod);
        nulls[i] = false;
        if (field.cursor != length)
            refuse_bytes(psprintf("Field %d (\"%s\") has bytes left over.", i + 1, columns[i]->name));
        at += length;
    }
    if (has_losses ? at == end : at != end)
        refuse_bytes(has_losses ? "The field of losses is missing." : "There are bytes after the last field.");
}

// Only for an image that decode_image took.
text *losses_of_image(const bytea *image) {
    const char *at = VARDATA_ANY(image);
    const char *end = at + VARSIZE_ANY_EXHDR(image);
    std::uint16_t fields;
    memcpy(&fields, at, 2);
    fields = pg_ntoh16(fields);
    if ((fields & losses_mark) == 0)
        return nullptr;
    at += 2;
    for (int i = 0; i <= (fields & ~losses_mark); i++) {
        std::uint32_t raw;
        if (end - at < 4)
            refuse_bytes("The length of the losses is missing.");
        memcpy(&raw, at, 4);
        at += 4;
        const auto length = static_cast<std::int32_t>(pg_ntoh32(raw));
        if (length > end - at)
            refuse_bytes("The length of the losses is wrong.");
        if (i == (fields & ~losses_mark))
            return cstring_to_text_with_len(at, length);
        at += Max(length, 0);
    }
    return nullptr;
}

bytea *encode_image(ImageColumn *const *columns, int count, const Datum *values, const bool *nulls) {
    StringInfoData out;
    pq_begintypsend(&out);
    pq_sendint16(&out, static_cast<std::uint16_t>(count));
    for (int i = 0; i < count; i++) {
        if (nulls[i]) {
            pq_sendint32(&out, static_cast<std::uint32_t>(-1));
            continue;
        }
        bytea *field = SendFunctionCall(&columns[i]->send, values[i]);
        const int length = static_cast<int>(VARSIZE(field) - VARHDRSZ);
        pq_sendint32(&out, static_cast<std::uint32_t>(length));
        pq_sendbytes(&out, VARDATA(field), length);
    }
    return pq_endtypsend(&out);
}

char *key_as_json(const bytea *key, ImageColumn *const *columns, int count) {
    StringInfoData out;
    initStringInfo(&out);
    JsonWork work = {key, columns, count, &out};
    SqlError error;
    if (!run_in_subtransaction(append_key_json, &work, &error)) {
        resetStringInfo(&out);
        appendStringInfoString(&out, "{\"bytes\": \"");
        const auto data = reinterpret_cast<const unsigned char *>(VARDATA_ANY(key));
        const int length = Min(static_cast<int>(VARSIZE_ANY_EXHDR(key)), 64);
        for (int i = 0; i < length; i++)
            appendStringInfo(&out, "%02x", data[i]);
        appendStringInfoString(&out, "\"}");
    }
    return out.data;
}

int pin_text_forms() {
    static const char *const forms[][2] = {{"DateStyle", "ISO, YMD"},   {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
                                           {"extra_float_digits", "1"}, {"bytea_output", "hex"},       {"client_encoding", "UTF8"}};
    const int level = NewGUCNestLevel();
    for (const auto &form : forms)
        (void)set_config_option(form[0], form[1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    return level;
}

} // namespace tandem
