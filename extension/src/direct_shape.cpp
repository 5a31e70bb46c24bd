// See direct_shape.hpp.
#include "direct_shape.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "nodes/value.h"
#include "port/pg_bswap.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace tandem {
namespace {

int integer_width(Oid type) { return type == INT2OID ? 2 : type == INT4OID ? 4 : type == INT8OID ? 8 : 0; }

// Neither rounds nor cuts: what does not fit is an error in both.
bool holds_numeric(std::int32_t image, std::int32_t target) {
    if (target < 0)
        return true;
    return image >= 0 &&
           ((target - static_cast<std::int32_t>(VARHDRSZ)) & 0x7ff) >= ((image - static_cast<std::int32_t>(VARHDRSZ)) & 0x7ff);
}

bool takes_bytes(const ImageColumn *image, Oid type, std::int32_t typmod) {
    switch (type) {
    case VARCHAROID:
        return image->type == TEXTOID; // too long is an error, as it is on assignment
    case NUMERICOID:
        return image->type == NUMERICOID && holds_numeric(image->typmod, typmod);
    case TIMESTAMPOID:
    case TIMESTAMPTZOID:
        return image->type == type && (typmod < 0 || (image->typmod >= 0 && typmod >= image->typmod));
    case INTERVALOID:
        return image->type == type && typmod < 0;
    case BITOID:
        return image->type == type && image->typmod == typmod;
    default:
        return image->type == type && typmod < 0;
    }
}

} // namespace

bool direct_shape(const SourceTable *table, DirectShape *shape) {
    if (table->filter != nullptr)
        return false;
    bool possible = true;
    shape->columns = NIL;
    shape->field_count = table->column_count;
    shape->column_count = table->target_count;
    shape->fields = static_cast<DirectField *>(palloc0(sizeof(DirectField) * static_cast<size_t>(table->column_count)));
    auto names = static_cast<const char **>(palloc0(sizeof(char *) * static_cast<size_t>(table->column_count)));
    Relation relation = relation_open(table->target, AccessShareLock);
    possible = relation->rd_rel->relkind == RELKIND_RELATION || relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
    for (int i = 0; i < table->target_count && possible; i++) {
        const TargetColumn *column = &table->targets[i];
        const AttrNumber number = get_attnum(table->target, column->name);
        possible = column->source_column >= 0 && number > 0 && column->type == column->base_type && names[column->source_column] == nullptr;
        if (!possible)
            break;
        const std::int32_t typmod = TupleDescAttr(RelationGetDescr(relation), number - 1)->atttypmod;
        const ImageColumn *image = &table->columns[column->source_column];
        DirectField *field = &shape->fields[column->source_column];
        const int from = integer_width(image->type);
        const int to = integer_width(column->type);
        names[column->source_column] = column->name;
        field->taken = true;
        field->widened_to = from != 0 && to > from ? to : 0;
        possible = field->widened_to > 0 || (column->enum_from_text && image->type == TEXTOID) || takes_bytes(image, column->type, typmod);
    }
    relation_close(relation, AccessShareLock);
    for (int i = 0; i < table->column_count && possible; i++)
        if (names[i] != nullptr)
            shape->columns = lappend(shape->columns, makeString(pstrdup(names[i])));
    return possible;
}

void append_copy_row(StringInfo out, const DirectShape *shape, const char *image, int length) {
    const char *at = image + 2;
    const char *end = image + length;
    const std::uint16_t columns = pg_hton16(static_cast<std::uint16_t>(shape->column_count));
    appendBinaryStringInfo(out, reinterpret_cast<const char *>(&columns), 2);
    for (int i = 0; i < shape->field_count; i++) {
        std::uint32_t sent;
        if (end - at < 4)
            ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("an image ends before its last field")));
        memcpy(&sent, at, 4);
        const auto size = static_cast<std::int32_t>(pg_ntoh32(sent));
        if (size > end - at - 4)
            ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("an image ends before its last field")));
        const int bytes = 4 + Max(size, 0);
        const DirectField *field = &shape->fields[i];
        if (field->taken && field->widened_to > size && size > 0) {
            const std::uint32_t wide = pg_hton32(static_cast<std::uint32_t>(field->widened_to));
            appendBinaryStringInfo(out, reinterpret_cast<const char *>(&wide), 4);
            for (int padding = field->widened_to - size; padding > 0; padding--)
                appendStringInfoCharMacro(out, (at[4] & 0x80) != 0 ? '\377' : '\0');
            appendBinaryStringInfo(out, at + 4, size);
        } else if (field->taken) {
            appendBinaryStringInfo(out, at, bytes);
        }
        at += bytes;
    }
}

} // namespace tandem
