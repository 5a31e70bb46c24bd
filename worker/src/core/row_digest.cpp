#include "core/row_digest.hpp"

#include "core/encode.hpp"
#include "core/error.hpp"
#include "core/hex.hpp"
#include "core/typemap.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tandem::core {
namespace {

using Kind = ImageType::Kind;

constexpr char tag_null = 0, tag_sidecar = 17;

std::uint16_t get16(const char *at) {
    return static_cast<std::uint16_t>(static_cast<unsigned char>(at[0]) << 8 | static_cast<unsigned char>(at[1]));
}

std::uint32_t get32(const char *at) { return static_cast<std::uint32_t>(get16(at)) << 16 | get16(at + 2); }

void put16(std::string &out, unsigned value) {
    out.push_back(static_cast<char>(value >> 8 & 0xff));
    out.push_back(static_cast<char>(value & 0xff));
}

std::int64_t signed_int(std::string_view bytes) {
    switch (bytes.size()) {
    case 2:
        return static_cast<std::int16_t>(get16(bytes.data()));
    case 4:
        return static_cast<std::int32_t>(get32(bytes.data()));
    case 8:
        return static_cast<std::int64_t>(static_cast<std::uint64_t>(get32(bytes.data())) << 32 | get32(bytes.data() + 4));
    default:
        throw Error(Side::worker, "XX001", "an integer of an image has a wrong length", false);
    }
}

bool is_int(Kind kind) { return kind == Kind::smallint || kind == Kind::integer || kind == Kind::bigint; }

struct ClassName {
    const char *name;
    char tag;
    Kind kind; // image type that it takes as it is; others are handled by name
};
constexpr ClassName classes[] = {
    {"int", 1, Kind::bigint},
    {"numeric", 2, Kind::numeric},
    {"float4", 3, Kind::real},
    {"float8", 4, Kind::double_precision},
    {"text", 5, Kind::text},
    {"bytea", 6, Kind::bytea},
    {"date", 7, Kind::date},
    {"timestamp", 8, Kind::timestamp},
    {"timestamptz", 9, Kind::timestamptz},
    {"interval", 10, Kind::interval},
    {"bit", 12, Kind::bit},
    {"bool", 13, Kind::boolean},
    {"uuid", 14, Kind::uuid},
    {"inet", 15, Kind::inet},
    {"json", 16, Kind::json},
};

[[noreturn]] void bad_image() { throw Error(Side::worker, "XX001", "an image does not have the columns of its table", false); }

} // namespace

void append_canonical_numeric(std::string &out, std::string_view sent) {
    if (sent.size() < 8 || sent.size() != 8 + 2 * static_cast<std::size_t>(get16(sent.data())))
        bad_image();
    const char *first = sent.data() + 8;
    const char *last = sent.data() + sent.size();
    int weight = static_cast<std::int16_t>(get16(sent.data() + 2));
    unsigned sign = get16(sent.data() + 4);
    for (; first < last && get16(first) == 0; first += 2)
        --weight;
    while (first < last && get16(last - 2) == 0)
        last -= 2;
    if (first == last) {
        weight = 0;
        sign = sign == 0x4000 ? 0 : sign; // zero has no sign; NaN and the infinities have no digits either
    }
    put16(out, static_cast<unsigned>(weight));
    put16(out, sign);
    out.append(first, last);
}

std::string RowDigest::new_secret() {
    std::random_device random;
    std::string secret(secret_size, '\0');
    for (char &c : secret)
        c = static_cast<char>(random() & 0xff);
    return secret;
}

RowDigest::RowDigest(const DigestPlan &plan, const std::vector<Column> &columns, std::string secret) : secret_(std::move(secret)) {
    if (secret_.size() != secret_size)
        throw Error(Side::worker, "22023", "the secret of a reconciliation has " + std::to_string(secret_.size()) + " bytes", false);
    for (const DigestPlan::Item &item : plan.columns) {
        const ClassName *found = nullptr;
        for (const ClassName &one : classes)
            if (item.value_class == one.name)
                found = &one;
        if (item.ordinal < 1 || static_cast<std::size_t>(item.ordinal) > columns.size())
            bad_image();
        const Column &column = columns[static_cast<std::size_t>(item.ordinal) - 1];
        const Kind kind = parse_image_type(column.image_type).kind;
        Form form = Form::as_is;
        bool fits = found != nullptr && found->kind == kind;
        if (found != nullptr && found->tag == 1) {
            fits = is_int(kind);
            form = Form::small_int;
        } else if (found != nullptr && found->tag == 2) {
            fits = kind == Kind::numeric || is_int(kind);
            form = kind == Kind::numeric ? Form::numeric : Form::int_as_numeric;
        }
        if (!fits)
            throw Error(Side::worker, "22023", "column \"" + column.name + "\" cannot be compared as " + item.value_class, false,
                        "The extension and the worker may be of different versions.");
        items_.push_back({static_cast<std::size_t>(item.ordinal) - 1, found->tag, form});
    }
    fields_.reserve(columns.size() + 1);
}

Hash128 RowDigest::hash() const {
    const XXH128_hash_t hash = XXH3_128bits_withSecret(buffer_.data(), buffer_.size(), secret_.data(), secret_.size());
    return {hash.low64, hash.high64};
}

void RowDigest::append(char tag, std::string_view bytes) {
    char head[5] = {tag};
    const auto length = static_cast<std::uint32_t>(bytes.size());
    for (int i = 0; i < 4; ++i)
        head[1 + i] = static_cast<char>(length >> (8 * i) & 0xff);
    buffer_.append(head, sizeof head);
    buffer_.append(bytes);
}

void RowDigest::append_value(const Item &item, std::string_view bytes) {
    switch (item.form) {
    case Form::as_is:
        append(item.tag, bytes);
        return;
    case Form::small_int: {
        const auto value = static_cast<std::uint64_t>(signed_int(bytes));
        char wide[8];
        for (int i = 0; i < 8; ++i)
            wide[i] = static_cast<char>(value >> (56 - 8 * i) & 0xff);
        append(item.tag, {wide, sizeof wide});
        return;
    }
    case Form::int_as_numeric:
    case Form::numeric:
        break;
    }
    const std::size_t start = buffer_.size();
    append(item.tag, {});
    if (item.form == Form::numeric) {
        append_canonical_numeric(buffer_, bytes);
    } else {
        const std::int64_t value = signed_int(bytes);
        std::string sent;
        const std::uint64_t size = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
        (void)encode::numeric(sent, size);
        if (value < 0)
            sent[8] = 0x40; // length, number of digits, weight, sign
        append_canonical_numeric(buffer_, std::string_view(sent).substr(4));
    }
    const auto length = static_cast<std::uint32_t>(buffer_.size() - start - 5);
    for (int i = 0; i < 4; ++i)
        buffer_[start + 1 + static_cast<std::size_t>(i)] = static_cast<char>(length >> (8 * i) & 0xff);
}

Hash128 RowDigest::of_image(std::string_view key, std::string_view image) {
    if (image.size() < 2)
        bad_image();
    const unsigned header = get16(image.data());
    const bool losses = (header & static_cast<unsigned>(losses_mark)) != 0;
    const std::size_t count = (header & ~static_cast<unsigned>(losses_mark)) + (losses ? 1 : 0);
    fields_.clear();
    std::size_t at = 2;
    for (std::size_t i = 0; i < count; ++i) {
        if (image.size() - at < 4)
            bad_image();
        const std::uint32_t length = get32(image.data() + at);
        at += 4;
        if (length == 0xffffffffU) {
            fields_.emplace_back();
            continue;
        }
        if (image.size() - at < length)
            bad_image();
        fields_.push_back(image.substr(at, length));
        at += length;
    }
    buffer_.clear();
    for (const Item &item : items_) {
        if (item.field >= count)
            bad_image();
        const std::string_view bytes = fields_[item.field];
        if (bytes.data() == nullptr)
            buffer_.push_back(tag_null);
        else
            append_value(item, bytes);
    }
    Hash128 result = hash();
    if (losses)
        result += of_losses(key, fields_.back());
    return result;
}

// What could not be represented and is kept in tandem.sidecar, entry by entry.
Hash128 RowDigest::of_losses(std::string_view key, std::string_view losses) {
    Hash128 sum;
    for (const auto &loss : nlohmann::json::parse(losses)) {
        if (loss.at("policy") != "sidecar")
            continue;
        buffer_.clear();
        for (const std::string &part : {std::string(key), loss.at("column").get<std::string>(), loss.at("rule").get<std::string>(),
                                        unhex(loss.at("bytes").get<std::string>())}) {
            buffer_.push_back(tag_sidecar);
            const auto length = static_cast<std::uint32_t>(part.size());
            for (int i = 0; i < 4; ++i)
                buffer_.push_back(static_cast<char>(length >> (8 * i) & 0xff));
            buffer_ += part;
        }
        sum += hash();
    }
    return sum;
}

} // namespace tandem::core
