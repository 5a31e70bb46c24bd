// Images and keys: byte strings in the tuple format of binary COPY (docs/protocol.md section 2), to datums and back.
//
// Decoding raises an error of class 22 or 08 for bytes that are not what the columns say; callers run it where such an error is caught.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "lib/stringinfo.h"
}

namespace tandem {

struct ImageColumn {
    const char *name;       // of the old column, which may be longer than an identifier
    const char *identifier; // the same in SQL: tandem._column_name
    const char *type_name;  // image type as declared, e.g. numeric(10,2)
    Oid type;
    std::int32_t typmod;
    bool key; // belongs to the key
    FmgrInfo receive;
    Oid receive_parameter;
    FmgrInfo send;
    FmgrInfo input;
    Oid input_parameter;
    FmgrInfo output;
};

// Fills in everything but `key`; strings and function data are allocated in `context`.
void prepare_image_column(ImageColumn *column, const char *name, const char *identifier, const char *type_name, MemoryContext context);

// Decodes `bytes` (not toasted) into values, allocated in the current context. `columns` are pointers, as a key is a selection.
void decode_image(const bytea *bytes, ImageColumn *const *columns, int count, Datum *values, bool *nulls);

// The losses that the worker noted in an image, JSON text (docs/protocol.md section 11); nullptr: there are none.
text *losses_of_image(const bytea *image);

bytea *encode_image(ImageColumn *const *columns, int count, const Datum *values, const bool *nulls);

// Key bytes as {"column": value}; the text can be cast to jsonb. Never fails: bytes that cannot be decoded are shown in hexadecimal.
char *key_as_json(const bytea *key, ImageColumn *const *columns, int count);

// The settings under which text forms mean the same everywhere; to be undone with AtEOXact_GUC(false, level).
int pin_text_forms();

} // namespace tandem
