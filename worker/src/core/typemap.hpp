// Which PostgreSQL type carries a MySQL or MariaDB column exactly (its *image type*), and the parsed form of an image type.
// Pure: no MySQL client here.
#pragma once

#include <string>
#include <string_view>

namespace tandem::core {

struct MappedType {
    std::string image_type; // empty when the column cannot be mapped
    std::string unmappable; // why not, for people; empty when it can
};

// `data_type` and `column_type` as in information_schema.COLUMNS; `charset` empty for columns that are not text.
// MySQL's JSON is a type of its own (jsonb); MariaDB's JSON is LONGTEXT and arrives here as such (text).
MappedType map_type(std::string_view data_type, std::string_view column_type, bool is_unsigned);

// Parsed image type. `a` and `b` are the type modifiers: numeric(a,b), bit(a), timestamp(a), timestamptz(a).
struct ImageType {
    enum class Kind {
        boolean,
        smallint,
        integer,
        bigint,
        numeric,
        real,
        double_precision,
        bit,
        date,
        timestamp,
        timestamptz,
        interval,
        text,
        bytea,
        jsonb,
        json,
        uuid,
        inet
    };
    Kind kind = Kind::text;
    int a = 0;
    int b = 0;
};

// Throws core::Error for a type that is not an image type.
ImageType parse_image_type(std::string_view name);

} // namespace tandem::core
