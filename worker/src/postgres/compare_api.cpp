#include "postgres/compare_api.hpp"

namespace tandem::postgres {
namespace {

using nlohmann::json;

constexpr std::size_t keys_in_call = 20000;
constexpr std::size_t images_in_call = 8U << 20; // bytes; one call holds at least one image

std::string dump(const json &value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

void append_element(std::string &array, const std::string &text) {
    array += array.size() > 1 ? ",\"" : "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\')
            array.push_back('\\');
        array.push_back(c);
    }
    array.push_back('"');
}

Parameter text_array(const KeyText &key) {
    if (key.empty())
        return std::nullopt;
    std::string array = "{";
    for (const std::string &field : key)
        append_element(array, field);
    return array + "}";
}

// Keys of one column; NULL where there is no bound.
std::string bounds_array(const std::vector<KeyText> &bounds) {
    std::string array = "{";
    for (const KeyText &bound : bounds) {
        if (bound.empty())
            array += array.size() > 1 ? ",NULL" : "NULL";
        else
            append_element(array, bound.at(0));
    }
    return array + "}";
}

std::string bytea_text(std::string_view bytes) { return "\\x" + hex_of(bytes); }

std::string bytea_array(const std::string *first, std::size_t count) {
    std::string array = "{";
    for (std::size_t i = 0; i < count; ++i)
        array += (i > 0 ? ",\"\\\\x" : "\"\\\\x") + hex_of(first[i]) + "\"";
    return array + "}";
}

std::string bytea_array(const std::optional<std::string> *first, std::size_t count) {
    std::string array = "{";
    for (std::size_t i = 0; i < count; ++i) {
        if (i > 0)
            array.push_back(',');
        array += first[i] ? "\"\\\\x" + hex_of(*first[i]) + "\"" : "NULL";
    }
    return array + "}";
}

KeyHash key_hash(const Result &result, int row) {
    KeyHash one{result.text(row, 0), {}, !result.is_null(row, 1)};
    if (one.comparable)
        one.hash = {static_cast<std::uint64_t>(result.int8(row, 1)), static_cast<std::uint64_t>(result.int8(row, 2))};
    return one;
}

std::vector<KeyHash> key_hashes(const Result &result) {
    std::vector<KeyHash> hashes;
    hashes.reserve(static_cast<std::size_t>(result.rows()));
    for (int row = 0; row < result.rows(); ++row)
        hashes.push_back(key_hash(result, row));
    return hashes;
}

// How many keys and images go into one call from `first` on.
std::size_t fitting(const std::vector<std::optional<std::string>> &images, std::size_t first) {
    std::size_t bytes = 0, count = 0;
    while (first + count < images.size() && count < keys_in_call) {
        bytes += images[first + count] ? images[first + count]->size() : 0;
        if (count > 0 && bytes > images_in_call)
            break;
        ++count;
    }
    return count;
}

} // namespace

std::string hex_of(std::string_view bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text(bytes.size() * 2, '0');
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        text[2 * i] = digits[static_cast<unsigned char>(bytes[i]) >> 4];
        text[2 * i + 1] = digits[static_cast<unsigned char>(bytes[i]) & 15];
    }
    return text;
}

std::string bytes_of(std::string_view hex) {
    const auto digit = [](char c) { return c >= 'a' ? c - 'a' + 10 : c >= 'A' ? c - 'A' + 10 : c - '0'; };
    std::string bytes;
    bytes.reserve(hex.size() / 2);
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes.push_back(static_cast<char>(digit(hex[i]) << 4 | digit(hex[i + 1])));
    return bytes;
}

NewSide::NewSide(const std::string &conninfo, const std::string &application_name, Abandon abandon)
    : session_(conninfo, application_name, std::move(abandon)) {}

std::optional<std::string> NewSide::begin_snapshot(int table_id) {
    session_.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const Result result = session_.query("SELECT pg_current_snapshot()::text, tandem.reconcilable($1)", {std::to_string(table_id)});
    if (!result.is_null(0, 1) && result.boolean(0, 1))
        return result.text(0, 0);
    session_.run("COMMIT");
    return std::nullopt;
}

void NewSide::end_snapshot() { session_.run("COMMIT"); }

void NewSide::send_chunk(int table_id, const std::string &secret, const KeyText &low, const KeyText &high) {
    session_.send("SELECT d.rows, d.sum_low, d.sum_high FROM tandem.digest_chunk($1, $2, $3, $4) AS d",
                  {std::to_string(table_id), bytea_text(secret), text_array(low), text_array(high)}, true);
}

core::ChunkSum NewSide::receive_chunk() {
    const Result result = session_.take_result();
    return {result.int8(0, 0), {static_cast<std::uint64_t>(result.int8(0, 1)), static_cast<std::uint64_t>(result.int8(0, 2))}};
}

void NewSide::send_parts(int table_id, const std::string &secret, const KeyText &low, const KeyText &high,
                         const std::vector<std::string> &starts) {
    session_.send("SELECT d.part::bigint, d.rows, d.sum_low, d.sum_high FROM tandem.digest_parts($1, $2, $3, $4, $5) AS d",
                  {std::to_string(table_id), bytea_text(secret), text_array(low), text_array(high), text_array(starts)}, true);
}

std::vector<core::ChunkSum> NewSide::receive_parts(std::size_t starts) {
    const Result result = session_.take_result();
    std::vector<core::ChunkSum> sums(starts + 1);
    for (int row = 0; row < result.rows(); ++row)
        sums.at(static_cast<std::size_t>(result.int8(row, 0))) = {
            result.int8(row, 1), {static_cast<std::uint64_t>(result.int8(row, 2)), static_cast<std::uint64_t>(result.int8(row, 3))}};
    return sums;
}

void NewSide::send_keys(int table_id, const std::string &secret, const std::vector<std::string> &keys) {
    session_.send("SELECT d.key, d.low_hash, d.high_hash FROM tandem.digest_keys($1, $2, $3) AS d",
                  {std::to_string(table_id), bytea_text(secret), bytea_array(keys.data(), keys.size())}, true);
}

std::vector<KeyHash> NewSide::receive_keys() { return key_hashes(session_.take_result()); }

std::vector<KeyHash> NewSide::rows(int table_id, const std::string &secret, const KeyText &low, const KeyText &high) {
    session_.send("SELECT d.key, d.low_hash, d.high_hash FROM tandem.digest_rows($1, $2, $3, $4) AS d",
                  {std::to_string(table_id), bytea_text(secret), text_array(low), text_array(high)}, true);
    return receive_keys();
}

std::vector<std::vector<KeyHash>> NewSide::rows_of(int table_id, const std::string &secret, const std::vector<KeyText> &lows,
                                                   const std::vector<KeyText> &highs) {
    session_.send("SELECT d.key, d.low_hash, d.high_hash, d.part::bigint FROM tandem.digest_row_parts($1, $2, $3, $4) AS d",
                  {std::to_string(table_id), bytea_text(secret), bounds_array(lows), bounds_array(highs)}, true);
    const Result result = session_.take_result();
    std::vector<std::vector<KeyHash>> found(lows.size());
    for (int row = 0; row < result.rows(); ++row)
        found.at(static_cast<std::size_t>(result.int8(row, 3))).push_back(key_hash(result, row));
    return found;
}

std::vector<NextKey> NewSide::next_keys(int table_id, const KeyText &after, std::size_t limit) {
    const Result result = session_.query("SELECT encode(k.key, 'hex'), to_json(k.key_text) FROM tandem.next_keys($1, $2, $3) AS k",
                                         {std::to_string(table_id), text_array(after), std::to_string(limit)});
    std::vector<NextKey> keys;
    for (int row = 0; row < result.rows(); ++row)
        keys.push_back({bytes_of(result.text(row, 0)), json::parse(result.text(row, 1)).get<KeyText>()});
    return keys;
}

std::vector<json> NewSide::differences(int table_id, const std::vector<std::string> &keys,
                                       const std::vector<std::optional<std::string>> &images) {
    std::vector<json> found;
    for (std::size_t first = 0; first < keys.size();) {
        const std::size_t count = fitting(images, first);
        const Result result =
            session_.query("SELECT jsonb_build_object('key', encode(d.key, 'hex'), 'kind', d.kind, 'columns', d.columns, 'old', d.old, "
                           "'new', d.new, 'cause', d.cause)"
                           " FROM tandem.row_differences($1, $2, $3) AS d",
                           {std::to_string(table_id), bytea_array(keys.data() + first, count), bytea_array(images.data() + first, count)});
        for (int row = 0; row < result.rows(); ++row)
            found.push_back(json::parse(result.text(row, 0)));
        first += count;
    }
    return found;
}

Pass RunApi::begin_pass(int table_id, const json &options) {
    const Result result = session_.query("SELECT p.run_id, encode(p.secret, 'hex'), p.cursor FROM tandem.begin_pass($1, $2) AS p",
                                         {std::to_string(table_id), dump(options)});
    return {result.number(0, 0), bytes_of(result.text(0, 1)), result.is_null(0, 2) ? json() : json::parse(result.text(0, 2))};
}

json RunApi::report_chunk(std::int64_t run_id, const json &chunk, const json &discrepancies) {
    const Result result =
        session_.query("SELECT tandem.report_chunk($1, $2, $3)", {std::to_string(run_id), dump(chunk), dump(discrepancies)});
    return json::parse(result.text(0, 0));
}

json RunApi::end_pass(std::int64_t run_id, const std::string &state, const std::string &error) {
    const Result result = session_.query("SELECT tandem.end_pass($1, $2, $3)",
                                         {std::to_string(run_id), state, error.empty() ? Parameter() : Parameter(error)});
    return result.is_null(0, 0) ? json::object() : json::parse(result.text(0, 0));
}

json RunApi::work(int source_id) {
    const Result result = session_.query("SELECT tandem.reconcile_work($1)", {std::to_string(source_id)});
    return result.is_null(0, 0) ? json::object() : json::parse(result.text(0, 0));
}

std::map<std::string, std::string> RunApi::in_flight(int table_id, const std::string &p, const std::vector<std::string> &keys) {
    std::map<std::string, std::string> reasons;
    // All of it in one snapshot: a key may move from one place to another.
    session_.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    try {
        for (std::size_t first = 0; first < keys.size(); first += keys_in_call) {
            const std::size_t count = std::min(keys.size() - first, keys_in_call);
            const Result result =
                session_.query("SELECT encode(f.key, 'hex'), f.reason FROM tandem.chunk_in_flight($1, $2::pg_snapshot, $3) AS f",
                               {std::to_string(table_id), p, bytea_array(keys.data() + first, count)});
            for (int row = 0; row < result.rows(); ++row)
                reasons.emplace(bytes_of(result.text(row, 0)), result.text(row, 1));
        }
    } catch (const core::SessionLost &) {
        throw;
    } catch (const core::Error &) {
        session_.run("ROLLBACK");
        throw;
    }
    session_.run("COMMIT");
    return reasons;
}

std::map<std::string, std::string> RunApi::waiting(int table_id, const std::string &p) {
    std::map<std::string, std::string> reasons;
    const Result result = session_.query("SELECT encode(f.key, 'hex'), f.reason FROM tandem.in_flight_keys($1, $2::pg_snapshot) AS f",
                                         {std::to_string(table_id), p});
    for (int row = 0; row < result.rows(); ++row)
        reasons.emplace(bytes_of(result.text(row, 0)), result.text(row, 1));
    return reasons;
}

std::int64_t RunApi::journalled_after(int table_id, const std::string &p) {
    const Result result = session_.query("SELECT tandem.journalled_after($1, $2::pg_snapshot)", {std::to_string(table_id), p});
    return result.is_null(0, 0) ? 0 : result.number(0, 0);
}

bool RunApi::verdict_stands(int table_id, const std::string &p) {
    const Result result = session_.query("SELECT tandem.verdict_stands($1, $2::pg_snapshot)", {std::to_string(table_id), p});
    return !result.is_null(0, 0) && result.boolean(0, 0);
}

std::vector<KeyHash> RunApi::digest_images(int table_id, const std::string &secret, const std::vector<std::string> &keys,
                                           const std::vector<std::optional<std::string>> &images) {
    std::vector<KeyHash> hashes;
    for (std::size_t first = 0; first < keys.size();) {
        const std::size_t count = fitting(images, first);
        session_.send("SELECT d.key, d.low_hash, d.high_hash FROM tandem.digest_images($1, $2, $3, $4) AS d",
                      {std::to_string(table_id), bytea_text(secret), bytea_array(keys.data() + first, count),
                       bytea_array(images.data() + first, count)},
                      true);
        std::ranges::move(key_hashes(session_.take_result()), std::back_inserter(hashes));
        first += count;
    }
    return hashes;
}

} // namespace tandem::postgres
