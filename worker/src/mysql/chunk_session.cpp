#include "mysql/chunk_session.hpp"

#include "core/encode.hpp"
#include "core/error.hpp"
#include "core/table_config.hpp"
#include "mysql/client.hpp"
#include "mysql/durable.hpp"
#include "mysql/key_order.hpp"
#include "mysql/key_range.hpp"
#include "mysql/row_reader.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>
#include <cstdlib>

namespace tandem::mysql {
namespace {

constexpr int steps_to_writable_bound = 100; // rows looked at, one after the other, for a key that PostgreSQL can hold as text

std::vector<std::string> names_of(const std::vector<core::Column> &columns) {
    std::vector<std::string> names;
    for (const core::Column &column : columns)
        names.push_back("t." + quote_name(column.name));
    return names;
}

std::int64_t number_of(const std::string &text) { return std::strtoll(text.c_str(), nullptr, 10); }

bool storable(const std::vector<std::string> &bound) {
    return std::ranges::all_of(bound,
                               [](const std::string &text) { return text.find('\0') == std::string::npos && core::valid_utf8(text); });
}

} // namespace

struct ChunkSession::Impl {
    core::SourceConnection connection;
    Client client;
    DurableMark durable;
    std::map<int, std::string> key_index;
    LoadReader load;

    explicit Impl(const core::SourceConnection &source) : connection(source), client(source) {}

    std::string from(const core::TableConfig &table) {
        const auto [known, fresh] = key_index.try_emplace(table.table_id);
        if (fresh)
            known->second = force_key_index(client, connection.database, table);
        return " FROM " + quote_name(connection.database, table.name) + " t" + known->second;
    }

    // The key `skip` rows behind the bound; nullopt: there are not so many.
    KeyBound key_behind(const core::TableConfig &table, const std::vector<core::Column> &key, const KeyBound &after, std::int64_t skip) {
        const std::vector<std::string> names = names_of(key);
        const std::vector<core::Column> columns = columns_for_keys(table);
        const std::string sql = "SELECT " + select_list(columns, names_of(columns)) + from(table) +
                                (after ? " WHERE " + after_key(key, names, *after) : "") + " ORDER BY " + join(names, ", ") +
                                " LIMIT 1 OFFSET " + std::to_string(skip);
        RowReader reader(client, sql, columns, "planning chunks of table \"" + table.name + "\"");
        if (!reader.next())
            return std::nullopt;
        std::vector<std::string> bound;
        for (std::size_t i = 0; i < key.size(); ++i)
            bound.push_back(reader.text(i));
        while (reader.next()) {
        }
        return bound;
    }
};

ChunkSession::ChunkSession(const core::SourceConnection &connection) : impl_(std::make_unique<Impl>(connection)) {}
ChunkSession::~ChunkSession() = default;

TableSize ChunkSession::size_of(const core::TableConfig &table, std::int64_t count_up_to) {
    TableSize size;
    const std::string doing = "looking at the size of table \"" + table.name + "\"";
    const auto counted = impl_->client.one_row("SELECT COUNT(*) FROM (SELECT 1 FROM " + quote_name(impl_->connection.database, table.name) +
                                                   " LIMIT " + std::to_string(std::max<std::int64_t>(count_up_to, 1)) + ") c",
                                               doing);
    const auto row = impl_->client.one_row("SELECT COALESCE(table_rows, 0), COALESCE(data_length, 0) FROM information_schema.tables"
                                           " WHERE table_schema = " +
                                               quote_text(impl_->connection.database) + " AND table_name = " + quote_text(table.name),
                                           doing);
    if (!counted.empty())
        size.rows_at_least = number_of(counted[0]);
    if (row.size() == 2) {
        size.rows_estimate = number_of(row[0]);
        size.bytes_estimate = number_of(row[1]);
    }
    return size;
}

PlannedBounds ChunkSession::plan(const core::TableConfig &table, const KeyBound &after, std::int64_t rows, int chunks) {
    const std::vector<core::Column> key = core::key_columns_of(table);
    PlannedBounds planned;
    KeyBound from = after;
    for (int i = 0; i < chunks && !planned.last; ++i) {
        KeyBound bound = impl_->key_behind(table, key, from, rows - 1);
        // Bytes that are no text, a bound that cannot be written down: the next key will do as well.
        std::int64_t skip = rows;
        for (int step = 0; bound && !storable(*bound) && step < steps_to_writable_bound; ++step)
            bound = impl_->key_behind(table, key, from, skip++);
        if (bound && !storable(*bound))
            bound.reset();
        if (bound) {
            planned.bounds.push_back(*bound);
            from = std::move(bound);
        } else {
            planned.last = true;
        }
    }
    return planned;
}

void ChunkSession::begin_snapshot() {
    impl_->client.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "beginning a snapshot");
    impl_->client.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", "beginning a snapshot");
}

void ChunkSession::end_snapshot() { impl_->client.execute("COMMIT", "ending a snapshot"); }

void ChunkSession::make_durable() { impl_->durable.make_durable(impl_->client, impl_->connection); }

void ChunkSession::read_range(const core::TableConfig &table, const KeyBound &low, const KeyBound &high, const RowSink &sink) {
    const std::vector<core::Column> key = core::key_columns_of(table);
    // Key columns once more behind the image, so that the key is encoded in key order without a search.
    std::vector<core::Column> columns = table.columns;
    columns.insert(columns.end(), key.begin(), key.end());
    const std::vector<std::string> names = names_of(key);
    std::vector<std::string> conditions;
    if (low)
        conditions.push_back(after_key(key, names, *low));
    if (high)
        conditions.push_back(up_to_key(key, names, *high));
    RowReader reader(impl_->client,
                     "SELECT " + select_list(columns, names_of(columns)) + impl_->from(table) +
                         (conditions.empty() ? "" : " WHERE " + join(conditions, " AND ")) + " ORDER BY " + join(names, ", "),
                     columns, "reading a chunk of table \"" + table.name + "\"");
    std::string image, key_bytes;
    while (reader.next()) {
        key_bytes.clear();
        image.clear();
        auto bad = reader.encode(key_bytes, table.columns.size(), key.size());
        if (bad)
            key_bytes = readable_key(reader, table.columns.size(), key.size());
        else
            bad = reader.encode_image(image, table.columns.size());
        sink(key_bytes, image, bad ? &*bad : nullptr);
    }
}

OldSideLoad ChunkSession::load() { return impl_->load.read(impl_->client); }

} // namespace tandem::mysql
