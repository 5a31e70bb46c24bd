// The hot path on the old side. Each public function is one step of docs/model/a_pump.pml or b2_ordered.pml.
#include "mysql/source_session.hpp"

#include "core/error.hpp"
#include "core/key_text.hpp"
#include "core/table_config.hpp"
#include "core/encode.hpp"
#include "core/typemap.hpp"
#include "mysql/client.hpp"
#include "mysql/durable.hpp"
#include "mysql/key_order.hpp"
#include "mysql/key_range.hpp"
#include "mysql/row_reader.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace tandem::mysql {
namespace {

constexpr std::size_t tables_per_poll = 500;   // one select list holds at most 4096 columns
constexpr std::size_t runs_in_statement = 500; // an OR of so many ranges still gets an index range plan on MySQL 5.6
constexpr std::size_t runs_in_poll = 20;       // per table
constexpr std::uint64_t delete_slice = 5000;   // rows per delete: locks and undo stay small
constexpr std::uint64_t shortest_range = 16;   // shorter runs of ids are deleted id by id, many in a statement
constexpr std::size_t ids_in_delete = 1000;
constexpr std::size_t insert_slice = 500;
constexpr int tries = 5; // of a statement of ours that lost a deadlock

std::string event_table(const core::SourceConnection &connection, const core::TableConfig &table) {
    return quote_name(connection.metadata_database, table.outbox);
}

std::vector<std::string> column_names(const std::vector<core::Column> &columns, const std::string &prefix) {
    std::vector<std::string> names;
    for (const core::Column &column : columns)
        names.push_back(column.gone ? "NULL" : prefix + quote_name(column.name));
    return names;
}

// "prefix.`a`, prefix.`b`"
std::string column_list(const std::vector<core::Column> &columns, const std::string &prefix) {
    return join(column_names(columns, prefix), ", ");
}

std::vector<std::string> key_names(std::size_t count, const std::string &prefix = {}) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < count; ++i)
        names.push_back(prefix + key_column(i));
    return names;
}

// Text that PostgreSQL can hold as a cursor: valid UTF-8 without U+0000.
bool storable(const std::vector<std::string> &cursor) {
    return std::all_of(cursor.begin(), cursor.end(),
                       [](const std::string &text) { return text.find('\0') == std::string::npos && core::valid_utf8(text); });
}

} // namespace

struct SourceSession::Impl {
    core::SourceConnection connection;
    Client client;
    DurableMark durable;
    bool statement_binlog = false;
    bool locked = false;                  // LOCK TABLES is on
    std::map<int, std::string> key_index; // by table id: name of the index that the key's columns form, as FORCE INDEX text

    explicit Impl(const core::SourceConnection &source) : connection(source), client(source) {
        // InnoDB refuses changes at READ COMMITTED when statements are logged (error 1665). SHOW: a variable that a later version
        // does not have any more is no error.
        statement_binlog = variable("binlog_format") == "STATEMENT" && variable("log_bin") == "ON";
        client.execute(std::string("SET SESSION TRANSACTION ISOLATION LEVEL ") + (statement_binlog ? "REPEATABLE READ" : "READ COMMITTED"),
                       "setting the isolation level");
    }

    std::string variable(const std::string &name) {
        const auto row = client.one_row("SHOW SESSION VARIABLES LIKE '" + name + "'", "reading settings of the old side");
        return row.size() == 2 ? row[1] : std::string();
    }

    // Runs `work` again when it lost a deadlock or waited too long for a lock; a lost session ends it at once.
    template <typename Work> void persistently(const Work &work) {
        for (int attempt = 1;; ++attempt) {
            try {
                return work();
            } catch (const core::SessionLost &) {
                throw;
            } catch (const core::Error &error) {
                client.execute("ROLLBACK", "rolling back");
                if (!error.retryable() || attempt == tries)
                    throw;
            }
        }
    }

    const std::string &force_key_index(const core::TableConfig &table) {
        const auto [known, fresh] = key_index.try_emplace(table.table_id);
        if (fresh)
            known->second = mysql::force_key_index(client, connection.database, table);
        return known->second;
    }

    std::string exists_event(const Polled &polled) const {
        const std::vector<core::IdSet::Run> runs = polled.in_flight.runs();
        const bool leave_out = !runs.empty() && runs.size() <= runs_in_poll;
        return "EXISTS (SELECT 1 FROM " + event_table(connection, *polled.table) +
               (leave_out ? " WHERE " + other_ids_condition(runs, "tandem_id") : "") + ")";
    }

    bool has_events(const Polled &polled) {
        const auto row = client.one_row("SELECT " + exists_event(polled), "polling table \"" + polled.table->name + "\"");
        return !row.empty() && row[0] == "1";
    }

    // Types of a table's columns, for one whose configuration is not at hand.
    std::vector<core::Column> columns_of(const std::string &table, const std::vector<std::string> &names, const std::string &doing) {
        std::vector<core::Column> columns;
        for (const std::string &name : names) {
            const auto row = client.one_row(
                "SELECT data_type, column_type FROM information_schema.columns WHERE table_schema = " + quote_text(connection.database) +
                    " AND table_name = " + quote_text(table) + " AND column_name = " + quote_text(name),
                doing);
            if (row.size() != 2)
                throw core::Error(core::Side::old_side, "42703", doing + ": column \"" + name + "\" does not exist", false);
            core::Column column;
            column.name = name;
            column.data_type = row[0];
            column.mysql_type = row[1];
            column.is_unsigned = row[1].find("unsigned") != std::string::npos;
            column.image_type = core::map_type(row[0], row[1], column.is_unsigned).image_type;
            columns.push_back(std::move(column));
        }
        return columns;
    }

    // Keys come here by a plain consistent read and go back as literals. INSERT … SELECT would be one statement, but it holds the
    // AUTO-INC lock of the child's outbox for its whole run (innodb_autoinc_lock_mode 1), and every write of the application to the
    // child with it; under statement-based logging it would lock the application's rows as well.
    std::uint64_t copy_keys(const std::string &select, const core::KeyCascade &cascade, const std::string &outbox,
                            const std::string &doing) {
        std::vector<core::Column> columns = columns_of(cascade.child, cascade.child_key_columns, doing);
        const std::size_t fields = columns.size();
        columns.insert(columns.begin(), plain_integer("tandem_removes"));
        std::vector<std::string> rows;
        {
            RowReader reader(client, select, columns, doing);
            while (reader.next()) {
                std::vector<std::string> values{"2"};
                for (std::size_t i = 1; i <= fields; ++i)
                    values.push_back(core::mysql_literal(columns[i], reader.text(i)).value_or("NULL"));
                rows.push_back("(" + join(values, ", ") + ")");
            }
        }
        for (std::size_t from = 0; from < rows.size(); from += insert_slice) {
            const auto to = rows.begin() + static_cast<std::ptrdiff_t>(std::min(rows.size(), from + insert_slice));
            const std::vector<std::string> some(rows.begin() + static_cast<std::ptrdiff_t>(from), to);
            persistently([&] { insert_rows(outbox, some, fields, doing); });
        }
        return rows.size();
    }

    // The keys of an INSERT into an outbox as VALUES rows of literals.
    void insert_rows(const std::string &outbox, const std::vector<std::string> &rows, std::size_t fields, const std::string &doing) {
        client.execute("INSERT INTO " + outbox + " (tandem_removes, " + join(key_names(fields), ", ") + ") VALUES " + join(rows, ", "),
                       doing);
    }
};

SourceSession::SourceSession(const core::SourceConnection &connection) : impl_(std::make_unique<Impl>(connection)) {}
SourceSession::~SourceSession() = default;
SourceSession::SourceSession(SourceSession &&) noexcept = default;
SourceSession &SourceSession::operator=(SourceSession &&) noexcept = default;

std::vector<bool> SourceSession::poll(const std::vector<Polled> &tables) {
    std::vector<bool> result;
    result.reserve(tables.size());
    for (std::size_t from = 0; from < tables.size(); from += tables_per_poll) {
        const std::size_t to = std::min(tables.size(), from + tables_per_poll);
        std::vector<std::string> parts;
        for (std::size_t i = from; i < to; ++i)
            parts.push_back(impl_->exists_event(tables[i]));
        try {
            for (const std::string &value : impl_->client.one_row("SELECT " + join(parts, ", "), "polling the outboxes"))
                result.push_back(value == "1");
        } catch (const core::Error &error) {
            if (error.native_code != 1146)
                throw;
            // One outbox is missing: the others must not suffer. "true" makes the caller read that table and get its error.
            for (std::size_t i = from; i < to; ++i) {
                try {
                    result.push_back(impl_->has_events(tables[i]));
                } catch (const core::Error &missing) {
                    if (missing.native_code != 1146)
                        throw;
                    result.push_back(true);
                }
            }
        }
    }
    return result;
}

void SourceSession::hold(bool locked) { impl_->locked = locked; }
Client &SourceSession::client() { return impl_->client; }

void SourceSession::begin_snapshot() {
    if (impl_->locked)
        return;
    impl_->client.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "beginning a snapshot");
    impl_->client.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", "beginning a snapshot");
}

void SourceSession::end_snapshot() {
    if (!impl_->locked)
        impl_->client.execute("COMMIT", "ending a snapshot");
}

void SourceSession::make_durable() {
    // The locks were granted when the transactions that held the tables had ended, their commits on disk included.
    if (!impl_->locked)
        impl_->persistently([&] { impl_->durable.make_durable(impl_->client, impl_->connection); });
}

core::EventSet SourceSession::read_events(const core::TableConfig &table, const core::IdSet &in_flight, std::size_t limit,
                                          const core::TableChunks *chunks) {
    const std::vector<core::Column> key = core::key_columns_of(table);
    const std::vector<core::IdSet::Run> runs = in_flight.runs();
    // Few runs are left out by the server; for very many it is cheaper to read over them.
    const bool excluded_by_server = runs.size() <= runs_in_statement;
    std::string condition;
    if (!runs.empty() && excluded_by_server)
        condition = " WHERE " + other_ids_condition(runs, "tandem_id");
    const std::uint64_t read_limit = limit + (excluded_by_server ? 0 : in_flight.count());

    std::vector<core::Column> columns{plain_integer("tandem_id"), plain_integer("tandem_removes"), plain_integer("age"),
                                      plain_integer("tandem_chunk")};
    columns[0].is_unsigned = true;
    const std::size_t first_key = columns.size();
    columns.insert(columns.end(), key.begin(), key.end());
    // The old side itself says which chunk a key belongs to: in its own order, in this snapshot.
    const std::string chunk = chunks == nullptr ? "0" : interval_of_key(key, key_names(key.size()), chunks->intervals);
    if (chunks != nullptr)
        condition += " HAVING tandem_chunk <> " + std::to_string(core::ChunkInterval::in_progress);
    std::vector<std::string> sources{"tandem_id", "tandem_removes", "TIMESTAMPDIFF(MICROSECOND, tandem_at, NOW(6))",
                                     chunk + " AS tandem_chunk"};
    for (std::size_t i = 0; i < key.size(); ++i)
        sources.push_back(key_column(i));
    RowReader reader(impl_->client,
                     "SELECT " + select_list(columns, sources) + " FROM " + event_table(impl_->connection, table) + condition +
                         " ORDER BY tandem_id LIMIT " + std::to_string(read_limit),
                     columns, "reading events of table \"" + table.name + "\"");

    core::EventSet events;
    std::unordered_map<std::string, std::size_t> position; // key bytes (or readable text with a mark) → index in events.keys
    std::uint64_t rows = 0;
    std::uint64_t read = 0;
    std::string bytes;
    while (reader.next()) {
        ++read;
        const auto id = static_cast<std::uint64_t>(reader.integer(0));
        if (!excluded_by_server && in_flight.contains(id))
            continue;
        if (rows == limit) {
            events.limited = true;
            break;
        }
        ++rows;
        if (reader.integer(3) != core::ChunkInterval::done) {
            events.not_started[static_cast<int>(reader.integer(3))].add(id);
            continue;
        }
        events.ids.add(id);
        bytes.clear();
        const bool bad = reader.encode(bytes, first_key, key.size()).has_value();
        if (bad)
            bytes = readable_key(reader, first_key, key.size());
        // A tuple starts with its number of fields, so readable text gets a mark that no tuple has.
        const auto [found, fresh] = position.try_emplace(bad ? "\xff" + bytes : bytes, events.keys.size());
        if (fresh) {
            events.keys.emplace_back();
            events.keys.back().key = bytes;
            events.keys.back().key_error = bad;
        }
        core::KeyEvent &event = events.keys[found->second];
        event.flags |= static_cast<int>(reader.integer(1)) & 3;
        event.age_us = std::max(event.age_us, reader.is_null(2) ? 0 : reader.integer(2));
    }
    events.limited = events.limited || read == read_limit;
    return events;
}

std::uint64_t SourceSession::read_rows(const core::TableConfig &table, const core::IdSet &ids, const RowSink &sink) {
    const std::vector<core::Column> key = core::key_columns_of(table);
    // Key columns once more behind the image, so that the key is encoded in key order without a search.
    std::vector<core::Column> columns = table.columns;
    columns.insert(columns.end(), key.begin(), key.end());
    std::vector<std::string> matches;
    // Under its own name and without an alias: LOCK TABLES of a cut-over wants aliases to be unique over all tables.
    const std::string name = quote_name(impl_->connection.database, table.name);
    for (std::size_t i = 0; i < key.size(); ++i)
        matches.push_back(name + "." + quote_name(key[i].name) + " = e." + key_column(i));

    const auto parts = slices(ids, UINT64_MAX, runs_in_statement);
    std::unordered_set<std::string> sent; // only when a key may come in two slices
    std::uint64_t rows = 0;
    std::string image, key_bytes;
    for (const auto &runs : parts) {
        // Distinct under the old side's collation, then one look-up in the key's index for each. STRAIGHT_JOIN: never the other way.
        RowReader reader(impl_->client,
                         "SELECT " + select_list(columns, column_names(columns, name + ".")) + " FROM (SELECT DISTINCT " +
                             join(key_names(key.size()), ", ") + " FROM " + event_table(impl_->connection, table) + " WHERE " +
                             ids_condition(runs, "tandem_id") + ") e STRAIGHT_JOIN " + name + " ON " + join(matches, " AND "),
                         columns, "reading rows of table \"" + table.name + "\"");
        while (reader.next()) {
            key_bytes.clear();
            image.clear();
            auto bad = reader.encode(key_bytes, table.columns.size(), key.size());
            if (bad)
                key_bytes = readable_key(reader, table.columns.size(), key.size());
            else
                bad = reader.encode_image(image, table.columns.size());
            if (parts.size() > 1 && !sent.insert(key_bytes).second)
                continue;
            ++rows;
            sink(key_bytes, image, bad ? &*bad : nullptr);
        }
    }
    return rows;
}

ChunkEnd SourceSession::read_chunk(const core::TableConfig &table, const std::vector<std::string> &cursor, std::size_t limit,
                                   const RowSink &sink) {
    const std::vector<core::Column> key = core::key_columns_of(table);
    std::vector<core::Column> columns = table.columns;
    columns.insert(columns.end(), key.begin(), key.end());
    const std::string index = impl_->force_key_index(table);

    ChunkEnd end;
    end.cursor = cursor;
    std::string image, key_bytes;
    std::vector<std::string> bad_key;
    std::vector<core::ImageType> key_types;
    for (const core::Column &column : key)
        key_types.push_back(core::parse_image_type(column.image_type));
    std::size_t wanted = limit;
    for (;;) {
        std::string condition;
        if (!end.cursor.empty())
            condition = " WHERE " + after_key(key, key_names_of(key, "t."), end.cursor);
        RowReader reader(impl_->client,
                         "SELECT " + select_list(columns, column_names(columns, "t.")) + " FROM " +
                             quote_name(impl_->connection.database, table.name) + " t" + index + condition + " ORDER BY " +
                             column_list(key, "t.") + " LIMIT " + std::to_string(wanted),
                         columns, "reading a chunk of table \"" + table.name + "\"");
        std::size_t rows = 0;
        while (reader.next()) {
            ++rows;
            key_bytes.clear();
            image.clear();
            auto bad = reader.encode(key_bytes, table.columns.size(), key.size());
            const bool key_bad = bad.has_value();
            if (key_bad)
                key_bytes = readable_key(reader, table.columns.size(), key.size());
            else
                bad = reader.encode_image(image, table.columns.size());
            end.bytes += image.size() + key_bytes.size();
            sink(key_bytes, image, bad ? &*bad : nullptr);
            // A key without an image is kept as readable text: MySQL can still continue behind it.
            bad_key.clear();
            for (std::size_t i = 0; key_bad && i < key.size(); ++i)
                bad_key.push_back(reader.text(table.columns.size() + i));
        }
        if (rows > 0)
            end.cursor = bad_key.empty() ? core::key_to_text(key_bytes, key_types) : bad_key;
        end.rows += rows;
        end.done = rows < wanted;
        if (end.done && !storable(end.cursor))
            end.cursor = cursor; // nothing is read after it any more
        if (end.done || storable(end.cursor))
            return end;
        wanted = 100; // the chunk ends on a key that cannot be written down as a cursor: go on to one that can
    }
}

void SourceSession::delete_events(const core::TableConfig &table, const core::IdSet &ids) {
    const std::string outbox = event_table(impl_->connection, table);
    const std::string doing = "deleting events of table \"" + table.name + "\"";
    // Deleting the same ids again in this session is harmless: a lost deadlock was rolled back by the server.
    const auto execute = [&](const std::string &sql) { impl_->persistently([&] { impl_->client.execute(sql, doing); }); };
    std::vector<std::uint64_t> single;
    const auto flush = [&] {
        if (!single.empty())
            execute(delete_each(outbox, single));
        single.clear();
    };
    for (const auto &runs : slices(ids, delete_slice, runs_in_statement)) {
        for (const core::IdSet::Run &run : runs) {
            // Where statements are logged, a LIMIT would be called unsafe in the server's log with every delete.
            if (run.last - run.first + 1 >= shortest_range && !impl_->statement_binlog) {
                execute(delete_run(outbox, run));
                continue;
            }
            for (std::uint64_t id = run.first; id <= run.last; ++id) {
                single.push_back(id);
                if (single.size() == ids_in_delete)
                    flush();
            }
        }
    }
    flush();
}

std::vector<std::pair<std::size_t, std::string>>
SourceSession::insert_keys(const core::TableConfig &table, const std::vector<std::vector<std::string>> &keys, int removes) {
    const std::vector<core::Column> key = core::key_columns_of(table);
    const std::string outbox = event_table(impl_->connection, table);
    const std::string doing = "inserting requested keys of table \"" + table.name + "\"";
    std::vector<std::pair<std::size_t, std::string>> refused;
    std::vector<std::string> rows;      // VALUES rows of literals
    std::vector<std::size_t> positions; // of each in `keys`

    // True when all rows are in, exactly as given: a warning means that the server changed a value to fit.
    const auto try_rows = [&](const std::vector<std::string> &some, std::string *why) {
        bool done = false;
        impl_->persistently([&] {
            if (!impl_->locked)
                impl_->client.execute("START TRANSACTION", doing);
            try {
                impl_->insert_rows(outbox, some, key.size(), doing);
                done = impl_->client.warnings() == 0;
                if (!done && why != nullptr)
                    *why = "the key columns cannot hold this value exactly";
            } catch (const core::SessionLost &) {
                throw;
            } catch (const core::Error &error) {
                if (error.retryable() || error.sqlstate().rfind("42", 0) == 0)
                    throw;
                if (why != nullptr)
                    *why = error.what();
            }
            impl_->client.execute(done ? "COMMIT" : "ROLLBACK", doing);
        });
        return done;
    };
    const auto flush = [&] {
        if (!rows.empty() && !try_rows(rows, nullptr)) {
            for (std::size_t i = 0; i < rows.size(); ++i) {
                std::string why;
                if (!try_rows({rows[i]}, &why))
                    refused.emplace_back(positions[i], why);
            }
        }
        rows.clear();
        positions.clear();
    };

    for (std::size_t i = 0; i < keys.size(); ++i) {
        if (keys[i].size() != key.size()) {
            refused.emplace_back(i, "the key has " + std::to_string(key.size()) + " columns, not " + std::to_string(keys[i].size()));
            continue;
        }
        std::vector<std::string> values{std::to_string(removes)};
        for (std::size_t k = 0; k < key.size(); ++k) {
            const auto literal = core::mysql_literal(key[k], keys[i][k]);
            if (!literal) {
                refused.emplace_back(i, "column \"" + key[k].name + "\": not a value of type " + key[k].mysql_type);
                break;
            }
            values.push_back(*literal);
        }
        if (values.size() <= key.size())
            continue;
        rows.push_back("(" + join(values, ", ") + ")");
        positions.push_back(i);
        if (rows.size() == insert_slice)
            flush();
    }
    flush();
    std::sort(refused.begin(), refused.end());
    return refused;
}

std::vector<std::vector<std::string>> SourceSession::missing_keys(const core::TableConfig &table,
                                                                  const std::vector<std::vector<std::string>> &keys) {
    const std::vector<core::Column> key = core::key_columns_of(table);
    std::vector<core::ImageType> types;
    for (const core::Column &column : key)
        types.push_back(core::parse_image_type(column.image_type));
    const std::string from =
        " FROM " + quote_name(impl_->connection.database, table.name) + " t" + impl_->force_key_index(table) + " WHERE ";
    const std::string doing = "looking up keys of table \"" + table.name + "\"";
    std::set<std::vector<std::string>> there;
    std::vector<std::string> conditions;
    const auto flush = [&] {
        if (conditions.empty())
            return;
        const std::string condition =
            key.size() == 1 ? "t." + quote_name(key[0].name) + " IN (" + join(conditions, ", ") + ")" : join(conditions, " OR ");
        RowReader reader(impl_->client, "SELECT " + select_list(key, column_names(key, "t.")) + from + condition, key, doing);
        std::string bytes;
        while (reader.next()) {
            bytes.clear();
            if (!reader.encode(bytes, 0, key.size()))
                there.insert(core::key_to_text(bytes, types));
        }
        conditions.clear();
    };
    for (const auto &text : keys) {
        std::vector<std::string> parts;
        for (std::size_t i = 0; i < key.size() && i < text.size(); ++i)
            if (const auto literal = core::mysql_literal(key[i], text[i]))
                parts.push_back(key.size() == 1 ? *literal : "t." + quote_name(key[i].name) + " = " + *literal);
        if (parts.size() == key.size())
            conditions.push_back(key.size() == 1 ? parts[0] : "(" + join(parts, " AND ") + ")");
        if (conditions.size() == runs_in_statement)
            flush();
    }
    flush();
    std::vector<std::vector<std::string>> missing;
    std::ranges::copy_if(keys, std::back_inserter(missing), [&](const auto &text) { return !there.contains(text); });
    return missing;
}

std::uint64_t SourceSession::expand_key_cascade(const core::TableConfig &parent, const core::KeyCascade &cascade,
                                                const core::IdSet &parent_ids) {
    const std::string child_outbox = quote_name(impl_->connection.metadata_database, cascade.child_outbox);
    const std::string doing = "finding rows of table \"" + cascade.child + "\" moved by a cascade from \"" + parent.name + "\"";
    const std::string parent_name = quote_name(impl_->connection.database, parent.name);
    const std::string alias = child_alias(cascade.child_table_id); // a table may be its own parent
    std::vector<std::string> parent_matches, child_matches, child_key;
    for (std::size_t i = 0; i < parent.key_columns.size(); ++i)
        parent_matches.push_back(parent_name + "." + quote_name(parent.key_columns[i]) + " = e." + key_column(i));
    for (std::size_t i = 0; i < cascade.columns.size(); ++i)
        child_matches.push_back(alias + "." + quote_name(cascade.columns[i]) + " = " + parent_name + "." +
                                quote_name(cascade.ref_columns.at(i)));
    for (const std::string &name : cascade.child_key_columns)
        child_key.push_back(alias + "." + quote_name(name));
    if (child_key.empty())
        throw core::Error(core::Side::worker, "22023", doing + ": the child's key is not known", false);

    std::uint64_t found = 0;
    for (const auto &runs : slices(parent_ids, UINT64_MAX, runs_in_statement)) {
        const std::string select =
            "SELECT DISTINCT 2, " + join(child_key, ", ") + " FROM (SELECT DISTINCT " + join(key_names(parent.key_columns.size()), ", ") +
            " FROM " + event_table(impl_->connection, parent) + " WHERE tandem_removes >= 1 AND (" + ids_condition(runs, "tandem_id") +
            ")) e STRAIGHT_JOIN " + parent_name + " ON " + join(parent_matches, " AND ") + " STRAIGHT_JOIN " +
            quote_name(impl_->connection.database, cascade.child) + " " + alias + " ON " + join(child_matches, " AND ");
        found += impl_->copy_keys(select, cascade, child_outbox, doing);
    }
    return found;
}

void SourceSession::ping() {
    // mysql_ping would do, but a session that is not ours any more would answer it as well: ask for its id.
    const auto row = impl_->client.one_row("SELECT CONNECTION_ID()", "checking the session");
    if (row.empty() || row[0] != std::to_string(mysql_thread_id(impl_->client.handle())))
        throw core::SessionLost(core::Side::old_side, "the session on the old side is not the one that was opened");
}

} // namespace tandem::mysql
