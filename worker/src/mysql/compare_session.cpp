#include "mysql/compare_session.hpp"

#include "core/error.hpp"
#include "core/key_text.hpp"
#include "core/table_config.hpp"
#include "mysql/client.hpp"
#include "mysql/row_reader.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>
#include <map>
#include <sys/socket.h>

namespace tandem::mysql {
namespace {

constexpr std::size_t keys_in_statement = 400; // more become a scan in some releases
constexpr int bound_tries = 100;

// How a table is read: its columns, the key's among them or once more behind them.
struct Shape {
    std::string prefix; // of its columns
    std::vector<core::Column> key, columns;
    std::size_t image_fields = 0, key_first = 0;

    Shape(const core::TableConfig &table, bool images, std::string column_prefix = "t.")
        : prefix(std::move(column_prefix)), key(core::key_columns_of(table)) {
        if (images)
            columns = table.columns;
        image_fields = columns.size();
        // The key is mostly the first columns, in order: then nothing is sent twice.
        bool leads = images && key.size() <= columns.size();
        for (std::size_t i = 0; leads && i < key.size(); ++i)
            leads = columns[i].name == key[i].name;
        key_first = leads ? 0 : image_fields;
        if (!leads) {
            const std::vector<core::Column> read = images ? key : columns_for_keys(table);
            columns.insert(columns.end(), read.begin(), read.end());
        }
    }
    std::string list() const { return select_list(columns, key_names_of(columns, prefix)); }
};

std::uint64_t stream(RowReader &reader, const Shape &shape, const RowSink &sink) {
    std::string key, image;
    std::uint64_t rows = 0;
    while (reader.next()) {
        ++rows;
        key.clear();
        image.clear();
        auto bad = reader.encode(key, shape.key_first, shape.key.size());
        if (bad)
            key = readable_key(reader, shape.key_first, shape.key.size());
        else if (shape.image_fields > 0)
            bad = reader.encode_image(image, shape.image_fields);
        sink(key, image, bad ? &*bad : nullptr);
    }
    return rows;
}

} // namespace

struct CompareSession::Impl {
    core::SourceConnection connection;
    std::optional<Client> own;
    Client &client;
    std::map<int, std::string> index; // by table id
    LoadReader load;

    Impl(const core::SourceConnection &source, Client &holder) : connection(source), client(holder) {}
    explicit Impl(const core::SourceConnection &source) : connection(source), own(std::in_place, source), client(*own) {
        // What waits for us must not wait long, and what we wait for is not worth it (a table locked by DDL).
        client.execute("SET SESSION lock_wait_timeout = 2", "setting the lock timeout");
    }
    std::string from(const core::TableConfig &table) {
        auto known = index.find(table.table_id);
        if (known == index.end())
            known = index.emplace(table.table_id, force_key_index(client, connection.database, table)).first;
        return " FROM " + quote_name(connection.database, table.name) + " " + alias(table) + known->second;
    }
    // LOCK TABLES locks aliases, and no two tables may have the same.
    std::string alias(const core::TableConfig &table) const { return own ? "t" : child_alias(table.table_id); }
    std::string outbox(const core::TableConfig &table) const { return quote_name(connection.metadata_database, table.outbox); }
};

CompareSession::CompareSession(const core::SourceConnection &connection) : impl_(std::make_unique<Impl>(connection)) {}
CompareSession::CompareSession(const core::SourceConnection &connection, Client &holder)
    : impl_(std::make_unique<Impl>(connection, holder)) {}
CompareSession::~CompareSession() = default;
CompareSession::CompareSession(CompareSession &&) noexcept = default;
CompareSession &CompareSession::operator=(CompareSession &&) noexcept = default;

void CompareSession::prepare(const core::TableConfig &table) { (void)impl_->from(table); }

void CompareSession::begin_snapshot() {
    impl_->client.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "beginning a snapshot");
    impl_->client.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", "beginning a snapshot");
}

void CompareSession::end_snapshot() { impl_->client.execute("COMMIT", "ending a snapshot"); }

std::optional<KeyText> CompareSession::bound(const core::TableConfig &table, const KeyInterval &interval, std::uint64_t rows) {
    const Shape shape(table, false);
    const std::string condition = interval_condition(shape.key, key_names_of(shape.key, "t."), interval);
    std::vector<core::ImageType> types;
    for (const core::Column &column : shape.key)
        types.push_back(core::parse_image_type(column.image_type));
    // A key that PostgreSQL cannot hold is no bound; the interval ends behind it.
    for (std::uint64_t skip = rows == 0 ? 0 : rows - 1, tries = 0; tries < bound_tries; skip += 100, ++tries) {
        RowReader reader(impl_->client,
                         "SELECT " + shape.list() + impl_->from(table) + condition + " ORDER BY " +
                             join(key_names_of(shape.key, "t."), ", ") + " LIMIT 100 OFFSET " + std::to_string(skip),
                         shape.columns, "looking for the end of a chunk of table \"" + table.name + "\"");
        std::optional<KeyText> found;
        std::uint64_t seen = 0;
        std::string key;
        while (reader.next()) {
            ++seen;
            key.clear();
            if (!found && !reader.encode(key, shape.key_first, shape.key.size()))
                found = core::key_to_text(key, types);
        }
        if (found || seen < 100)
            return found;
    }
    return std::nullopt;
}

std::uint64_t CompareSession::read_keys(const core::TableConfig &table, const KeyInterval &interval, std::uint64_t limit,
                                        const KeySink &sink) {
    const Shape shape(table, false);
    const std::vector<std::string> names = key_names_of(shape.key, "t.");
    RowReader reader(impl_->client,
                     "SELECT " + shape.list() + impl_->from(table) + interval_condition(shape.key, names, interval) + " ORDER BY " +
                         join(names, ", ") + " LIMIT " + std::to_string(limit),
                     shape.columns, "reading keys of table \"" + table.name + "\"");
    return stream(reader, shape,
                  [&](std::string_view key, std::string_view, const core::Untranslatable *bad) { sink(key, bad != nullptr); });
}

std::uint64_t CompareSession::read_interval(const core::TableConfig &table, const KeyInterval &interval, const RowSink &sink) {
    const Shape shape(table, true);
    const std::vector<std::string> names = key_names_of(shape.key, "t.");
    RowReader reader(impl_->client,
                     "SELECT " + shape.list() + impl_->from(table) + interval_condition(shape.key, names, interval) + " ORDER BY " +
                         join(names, ", "),
                     shape.columns, "comparing rows of table \"" + table.name + "\"");
    return stream(reader, shape, sink);
}

void CompareSession::read_list(const core::TableConfig &table, const std::vector<std::string> &keys, bool images, const RowSink &sink) {
    const Shape shape(table, images, impl_->alias(table) + ".");
    const std::vector<std::string> names = key_names_of(shape.key, shape.prefix);
    std::vector<core::ImageType> types;
    for (const core::Column &column : shape.key)
        types.push_back(core::parse_image_type(column.image_type));
    for (std::size_t first = 0; first < keys.size(); first += keys_in_statement) {
        std::vector<KeyText> some;
        for (std::size_t i = first; i < std::min(keys.size(), first + keys_in_statement); ++i) {
            try {
                some.push_back(core::key_to_text(keys[i], types));
            } catch (const core::Error &) {
                // Not a key that the old table can have: it has no such row.
            }
        }
        const std::string condition = list_condition(shape.key, names, some);
        if (condition.empty())
            continue;
        RowReader reader(impl_->client, "SELECT " + shape.list() + impl_->from(table) + " WHERE " + condition, shape.columns,
                         "comparing rows of table \"" + table.name + "\"");
        (void)stream(reader, shape, sink);
    }
}

std::uint64_t CompareSession::count_events(const core::TableConfig &table, const KeyInterval &interval) {
    const std::vector<core::Column> key = core::key_columns_of(table);
    const std::vector<std::string> names = outbox_key_names(key.size());
    const auto row = impl_->client.one_row("SELECT COUNT(DISTINCT " + join(names, ", ") + ") FROM " + impl_->outbox(table) +
                                               interval_condition(key, names, interval),
                                           "counting events of table \"" + table.name + "\"");
    return row.empty() ? 0 : std::stoull(row[0]);
}

void CompareSession::read_events(const core::TableConfig &table, const KeyInterval &interval, const KeySink &sink) {
    const Shape shape(table, false);
    const std::vector<std::string> names = outbox_key_names(shape.key.size());
    RowReader reader(impl_->client,
                     "SELECT " + select_list(shape.key, names) + " FROM " + impl_->outbox(table) +
                         interval_condition(shape.key, names, interval),
                     shape.key, "reading events of table \"" + table.name + "\"");
    (void)stream(reader, shape,
                 [&](std::string_view key, std::string_view, const core::Untranslatable *bad) { sink(key, bad != nullptr); });
}

bool CompareSession::has_removing_events(const core::TableConfig &table) {
    try {
        const auto row = impl_->client.one_row("SELECT EXISTS (SELECT 1 FROM " + impl_->outbox(table) + " WHERE tandem_removes >= 1)",
                                               "looking for removing events of table \"" + table.name + "\"");
        return !row.empty() && row[0] == "1";
    } catch (const core::Error &error) {
        if (error.native_code != 1146)
            throw;
        return false; // not captured: its cascades are not on any way
    }
}

OldSideLoad CompareSession::load() { return impl_->load.read(impl_->client); }

void CompareSession::interrupt() { (void)::shutdown(mysql_get_socket(impl_->client.handle()), SHUT_RDWR); }

} // namespace tandem::mysql
