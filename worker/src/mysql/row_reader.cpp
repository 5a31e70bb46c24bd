#include "mysql/row_reader.hpp"

#include "core/error.hpp"
#include "core/geometry.hpp"
#include "core/key_text.hpp"
#include "core/text_reading.hpp"
#include "mysql/errors.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace tandem::mysql {
namespace {

using Kind = core::ImageType::Kind;

constexpr std::size_t first_buffer = 256;
constexpr std::size_t kept_buffer = 4U << 20; // a larger buffer is given back after its row

core::CivilTime civil(const MYSQL_TIME &time) {
    core::CivilTime value;
    value.year = static_cast<int>(time.year);
    value.month = static_cast<int>(time.month);
    value.day = static_cast<int>(time.day);
    value.hour = static_cast<int>(time.hour);
    value.minute = static_cast<int>(time.minute);
    value.second = static_cast<int>(time.second);
    value.micro = static_cast<std::int32_t>(time.second_part);
    value.negative = time.neg != 0;
    return value;
}

constexpr core::ValueError wrong_type{"XX000", "value fetched in a form that does not fit its image type", nullptr};
constexpr core::ValueError row_too_long{"54000", "row is longer than the 1 GB that PostgreSQL can hold", nullptr};
constexpr core::ValueError no_character{"22021", "text contains bytes that are no characters of its character set", "invalid bytes"};

constexpr core::ValueError no_geometry{"22P03", "bytes that are no geometry", nullptr};

constexpr char bad_text_mark = '\xff'; // before the bytes of text that has no UTF-8 form, see core::mysql_literal

std::string hex_of(std::string_view bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const char c : bytes) {
        text.push_back(digits[static_cast<unsigned char>(c) >> 4]);
        text.push_back(digits[static_cast<unsigned char>(c) & 15]);
    }
    return text;
}

const char *policy_name(core::Policy policy) {
    return policy == core::Policy::null ? "null" : policy == core::Policy::value ? "value" : "sidecar";
}

} // namespace

std::string select_list(const std::vector<core::Column> &columns, const std::vector<std::string> &sources) {
    std::vector<std::string> items, stored;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const std::string bytes = "CAST(" + sources.at(i) + " AS BINARY)";
        const core::TextReading reading = core::text_reading(columns[i]);
        items.push_back(reading == core::TextReading::bytes ? bytes : sources[i]);
        if (reading == core::TextReading::both)
            stored.push_back(bytes);
    }
    items.insert(items.end(), stored.begin(), stored.end());
    return join(items, ", ");
}

std::string readable_key(const RowReader &reader, std::size_t first, std::size_t count) {
    std::string key;
    for (std::size_t i = 0; i < count; ++i) {
        if (i > 0)
            key += ',';
        for (const char c : reader.text(first + i)) {
            if (c == '\0' && key.empty())
                key += '\\';
            if (count > 1 && (c == ',' || c == '\\'))
                key += '\\';
            key += c;
        }
    }
    return key;
}

core::Column plain_integer(const std::string &name) {
    core::Column column;
    column.name = name;
    column.data_type = "bigint";
    column.image_type = "bigint";
    return column;
}

RowReader::RowReader(Client &client, const std::string &sql, const std::vector<core::Column> &columns, std::string doing)
    : statement_(mysql_stmt_init(client.handle())), slots_(columns.size()), doing_(std::move(doing)) {
    if (!statement_)
        throw core::Error(core::Side::worker, "53200", "out of memory", true);
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const core::Column &column = columns[i];
        const std::string &type = column.data_type;
        Slot &slot = slots_[i];
        slot.column = column.name;
        slot.type = core::parse_image_type(column.image_type);
        slot.charset = column.charset;
        slot.spatial = core::is_spatial(type);
        slot.ascii = column.charset == "ascii";
        slot.mapped = column.mapped;
        slot.policy = column.policy;
        slot.policy_image = column.policy_image;
        slot.is_unsigned = column.is_unsigned;
        if (type == "tinyint" || type == "smallint" || type == "mediumint" || type == "int" || type == "integer" || type == "bigint" ||
            type == "year")
            slot.fetch = Fetch::integer;
        else if (type == "float")
            slot.fetch = Fetch::real;
        else if (type == "double" || type == "real")
            slot.fetch = Fetch::double_precision;
        else if (type == "date" || type == "datetime" || type == "timestamp" || type == "time")
            slot.fetch = Fetch::temporal;
        else
            slot.bytes.resize(first_buffer);
    }
    for (std::size_t i = 0; i < columns.size(); ++i)
        add_stored_bytes(i, columns[i]);
    binds_.resize(slots_.size());
    for (std::size_t i = 0; i < slots_.size(); ++i)
        bind(i);
    MYSQL_STMT *statement = statement_.get();
    if (mysql_stmt_prepare(statement, sql.data(), sql.size()) != 0)
        fail();
    if (mysql_stmt_field_count(statement) != slots_.size())
        throw core::Error(core::Side::old_side, "42804", doing_ + ": the table no longer has the columns it was added with", false,
                          "Drop the table with tandem.drop_table and add it again.");
    if (mysql_stmt_execute(statement) != 0 || mysql_stmt_bind_result(statement, binds_.data()) != 0)
        fail();
}

void RowReader::fail() const {
    throw_error(mysql_stmt_errno(statement_.get()), mysql_stmt_sqlstate(statement_.get()), mysql_stmt_error(statement_.get()), doing_);
}

void RowReader::add_stored_bytes(std::size_t of, const core::Column &column) {
    if (core::text_reading(column) != core::TextReading::both)
        return;
    slots_[of].stored = slots_.size();
    Slot slot;
    slot.column = column.name;
    slot.type.kind = Kind::bytea;
    slot.bytes.resize(first_buffer);
    slots_.push_back(std::move(slot));
}

void RowReader::bind(std::size_t field) {
    Slot &slot = slots_[field];
    MYSQL_BIND &bind = binds_[field];
    bind = MYSQL_BIND{};
    bind.length = &slot.length;
    bind.is_null = &slot.null;
    bind.error = &slot.truncated;
    switch (slot.fetch) {
    case Fetch::integer:
        bind.buffer_type = MYSQL_TYPE_LONGLONG;
        bind.buffer = &slot.integer;
        bind.buffer_length = sizeof slot.integer;
        bind.is_unsigned = slot.is_unsigned ? 1 : 0;
        break;
    case Fetch::real:
        bind.buffer_type = MYSQL_TYPE_FLOAT;
        bind.buffer = &slot.real;
        bind.buffer_length = sizeof slot.real;
        break;
    case Fetch::double_precision:
        bind.buffer_type = MYSQL_TYPE_DOUBLE;
        bind.buffer = &slot.number;
        bind.buffer_length = sizeof slot.number;
        break;
    case Fetch::temporal:
        bind.buffer_type = slot.type.kind == Kind::interval ? MYSQL_TYPE_TIME
                           : slot.type.kind == Kind::date   ? MYSQL_TYPE_DATE
                                                            : MYSQL_TYPE_DATETIME;
        bind.buffer = &slot.time;
        bind.buffer_length = sizeof slot.time;
        break;
    case Fetch::bytes:
        bind.buffer_type = MYSQL_TYPE_BLOB; // bytes as they are: numbers of DECIMAL and text are already text on the wire
        bind.buffer = slot.bytes.data();
        bind.buffer_length = slot.bytes.size();
        break;
    }
}

bool RowReader::next() {
    if (rebind_ && mysql_stmt_bind_result(statement_.get(), binds_.data()) != 0)
        fail();
    rebind_ = false;
    const int result = mysql_stmt_fetch(statement_.get());
    if (result == MYSQL_NO_DATA)
        return false;
    if (result == 1)
        fail();
    if (result == MYSQL_DATA_TRUNCATED)
        fetch_long_values();
    return true;
}

// The row's packet is still in the client's network buffer, bounded by the server's max_allowed_packet; only the values that did not
// fit are copied again. The statement itself learns of the larger buffers before the next row and not here: some releases of the client
// library (10.11.18 is one) set every length to 0 in mysql_stmt_bind_result, and all text of the row in hand would be read as empty.
void RowReader::fetch_long_values() {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        Slot &slot = slots_[i];
        if (slot.fetch != Fetch::bytes || slot.null || slot.length <= slot.bytes.size())
            continue;
        slot.bytes.resize(std::max<std::size_t>(slot.length, std::min(slot.bytes.size() * 2, kept_buffer)));
        bind(i);
        if (mysql_stmt_fetch_column(statement_.get(), &binds_[i], static_cast<unsigned>(i), 0) != 0)
            fail();
        rebind_ = true;
    }
}

core::encode::Result RowReader::encode_field(std::string &out, const Slot &slot) const {
    namespace encode = core::encode;
    if (slot.null) {
        encode::null(out);
        return nullptr;
    }
    if (slot.fetch == Fetch::integer) {
        switch (slot.type.kind) {
        case Kind::boolean:
            return encode::boolean(out, slot.integer);
        case Kind::smallint:
            return encode::smallint(out, slot.integer);
        case Kind::integer:
            return encode::integer(out, slot.integer);
        case Kind::bigint:
            return encode::bigint(out, slot.integer);
        case Kind::numeric:
            return encode::numeric(out, static_cast<std::uint64_t>(slot.integer));
        default:
            return &wrong_type;
        }
    }
    if (slot.fetch == Fetch::real)
        return encode::real(out, slot.real);
    if (slot.fetch == Fetch::double_precision)
        return encode::double_precision(out, slot.number);
    if (slot.fetch == Fetch::temporal) {
        const core::CivilTime value = civil(slot.time);
        if (slot.type.kind == Kind::date)
            return encode::date(out, value);
        return slot.type.kind == Kind::interval ? encode::interval(out, value) : encode::timestamp(out, value);
    }
    const std::string_view bytes = bytes_of(slot);
    switch (slot.type.kind) {
    case Kind::numeric:
        return encode::numeric(out, bytes, slot.type.b);
    case Kind::bit:
        return encode::bit(out, bytes, slot.type.a);
    case Kind::bytea:
        return slot.spatial ? encode_geometry(out, bytes) : encode::bytea(out, bytes);
    case Kind::jsonb:
        return encode::jsonb(out, bytes);
    case Kind::uuid:
        return encode::uuid(out, bytes);
    case Kind::inet:
        return encode::inet(out, bytes);
    case Kind::text:
    case Kind::json:
        return encode_text(out, slot);
    default:
        return &wrong_type;
    }
}

core::encode::Result RowReader::encode_text(std::string &out, const Slot &slot) const {
    const std::string_view text = bytes_of(slot);
    if (slot.stored != 0 && core::lost_in_conversion(slot.charset, bytes_of(slots_[slot.stored]), text))
        return &no_character;
    // Its bytes come as they are stored, and what the server let in may look like UTF-8.
    if (slot.ascii && std::any_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; }))
        return &no_character;
    return core::encode::text(out, text);
}

core::encode::Result RowReader::encode_geometry(std::string &out, std::string_view stored) const {
    const auto ewkb = core::ewkb_of_stored(stored);
    return ewkb ? core::encode::bytea(out, *ewkb) : &no_geometry;
}

core::Untranslatable RowReader::refusal(std::size_t field, const core::ValueError &error) const {
    return {slots_[field].column, error.sqlstate, "column \"" + slots_[field].column + "\": " + error.message};
}

std::optional<core::Untranslatable> RowReader::encode(std::string &out, std::size_t first, std::size_t count) const {
    const std::size_t start = out.size();
    core::encode::header(out, static_cast<int>(count));
    for (std::size_t i = first; i < first + count; ++i) {
        core::encode::Result error = encode_field(out, slots_[i]);
        if (error == nullptr && out.size() - start >= 0x3FF00000)
            error = &row_too_long;
        if (error != nullptr) {
            out.resize(start);
            return refusal(i, *error);
        }
    }
    return std::nullopt;
}

std::optional<core::Untranslatable> RowReader::encode_image(std::string &out, std::size_t count) const {
    const std::size_t start = out.size();
    auto losses = nlohmann::json::array();
    core::encode::header(out, static_cast<int>(count));
    for (std::size_t i = 0; i < count; ++i) {
        const Slot &slot = slots_[i];
        core::encode::Result error = encode_field(out, slot);
        if (error != nullptr && !slot.mapped) { // nobody asks for it
            core::encode::null(out);
            error = nullptr;
        }
        if (error != nullptr && error->rule != nullptr && slot.policy != core::Policy::dead_letter) {
            if (slot.policy == core::Policy::value)
                (void)core::encode::bytea(out, slot.policy_image); // a field is its length and its bytes, whatever the type
            else
                core::encode::null(out);
            nlohmann::json loss = {{"column", slot.column}, {"rule", error->rule}, {"policy", policy_name(slot.policy)}};
            if (slot.policy == core::Policy::sidecar)
                loss["bytes"] = hex_of(original_bytes(i));
            losses.push_back(std::move(loss));
            error = nullptr;
        }
        if (error == nullptr && out.size() - start >= 0x3FF00000)
            error = &row_too_long;
        if (error != nullptr) {
            out.resize(start);
            return refusal(i, *error);
        }
    }
    if (!losses.empty()) {
        std::string header;
        core::encode::header(header, static_cast<int>(count) | core::losses_mark);
        out.replace(start, header.size(), header);
        if (const auto error = core::encode::text(out, losses.dump(-1, ' ', true))) {
            out.resize(start);
            return refusal(0, *error);
        }
    }
    return std::nullopt;
}

// What the old side holds: for text the stored bytes, else the value as MySQL writes it.
std::string RowReader::original_bytes(std::size_t field) const {
    const Slot &slot = slots_[field];
    if (slot.fetch != Fetch::bytes)
        return text(field);
    return std::string(bytes_of(slot.stored != 0 ? slots_[slot.stored] : slot));
}

std::string RowReader::text(std::size_t field) const {
    const Slot &slot = slots_[field];
    if (slot.null)
        return {};
    std::string image;
    const core::encode::Result error = encode_field(image, slot);
    if (error == nullptr)
        return core::field_to_text(slot.type, std::string_view(image).substr(4));
    if (slot.fetch == Fetch::temporal) {
        const MYSQL_TIME &t = slot.time;
        std::array<char, 96> buffer;
        const char *pattern = slot.type.kind == Kind::date ? "%04u-%02u-%02u" : "%04u-%02u-%02u %02u:%02u:%02u.%06lu";
        std::snprintf(buffer.data(), buffer.size(), pattern, t.year, t.month, t.day, t.hour, t.minute, t.second, t.second_part);
        return buffer.data();
    }
    if (slot.fetch == Fetch::integer)
        return std::to_string(slot.integer);
    if (slot.type.kind == Kind::text && bytes_of(slot).find('\0') == std::string_view::npos)
        return bad_text_mark + original_bytes(field);
    return std::string(bytes_of(slot));
}

} // namespace tandem::mysql
