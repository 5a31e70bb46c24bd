#include "mysql/row_writer.hpp"

#include "core/error.hpp"
#include "core/key_text.hpp"
#include "core/table_config.hpp"
#include "mysql/client.hpp"
#include "mysql/errors.hpp"
#include "mysql/old_phase.hpp"
#include "mysql/parameters.hpp"
#include "mysql/row_reader.hpp"
#include "mysql/row_values.hpp"
#include "mysql/sql_text.hpp"
#include "mysql/write_marks.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <unordered_map>

namespace tandem::mysql {
namespace {

constexpr std::size_t keys_in_statement = 200;
constexpr int tries = 5;            // of a transaction that lost a deadlock
constexpr int first_row_error = 10; // rounds in which rows are left out before the rest is given up
constexpr const char *relaxed_mode = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";
constexpr const char *strict_mode = "STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";

// One row on its way.
struct Row {
    const RowWrite *write = nullptr;
    std::size_t position = 0;
    std::string where; // condition on the key, in literals
    RowValues values;
    bool present = false; // on the old side, before
    bool whole = false;   // all that the old side holds of it is in `current`
    RowValues current;
    bool written = false;
    bool conflict = false; // the old side does not hold what was expected
    std::string refusal;   // what strict mode said of a value
    std::string refusal_state;
};

} // namespace

struct RowWriter::Impl {
    core::SourceConnection connection;
    WriteOptions options;
    Client client;
    std::set<std::string> unseen; // suffixes for which this session is known to the triggers
    std::map<std::string, std::unique_ptr<Statement>> statements;

    Impl(const core::SourceConnection &source, WriteOptions wanted) : connection(source), options(wanted), client(source) {
        const auto logged = client.one_row("SHOW SESSION VARIABLES LIKE 'binlog_format'", "reading settings of the old side");
        const bool by_statement = logged.size() == 2 && logged[1] == "STATEMENT";
        client.execute(std::string("SET SESSION TRANSACTION ISOLATION LEVEL ") + (by_statement ? "REPEATABLE READ" : "READ COMMITTED"),
                       "setting the isolation level");
        if (!options.check_foreign_keys)
            client.execute("SET SESSION foreign_key_checks = 0", "leaving foreign keys to the new side");
    }

    void rollback() { client.execute("ROLLBACK", "rolling back"); }

    void step_aside(const core::TableConfig &table) {
        if (options.unseen && unseen.insert(table.trigger_suffix).second)
            client.execute("SET " + unseen_variable(table) + " = 1", "telling the triggers who writes");
    }

    Statement &statement(const std::string &sql, const std::string &doing) {
        if (statements.size() > 200)
            statements.clear();
        auto &entry = statements[sql];
        if (!entry)
            entry = std::make_unique<Statement>(client, sql, doing);
        return *entry;
    }

    std::string name_of(const core::TableConfig &table) const { return quote_name(connection.database, table.name); }
    std::string doing(const core::TableConfig &table) const { return "writing to table \"" + table.name + "\" of the old side"; }

    void check_epoch(const TableWrites &writes) {
        const auto row = client.one_row("SELECT epoch FROM " + phase_table(connection) +
                                            " WHERE outbox = " + quote_text(writes.table->outbox) + " LOCK IN SHARE MODE",
                                        "reading the epoch of table \"" + writes.table->name + "\"");
        const std::uint64_t epoch = row.empty() ? 0 : std::stoull(row[0]);
        if (epoch != writes.epoch)
            throw core::Error(core::Side::old_side, "55000",
                              "table \"" + writes.table->name + "\" of the old side is at epoch " + std::to_string(epoch) +
                                  ", the rows were read at epoch " + std::to_string(writes.epoch),
                              true, "Another writer or a change of phase came between; the rows are read again.");
    }

    // Rows of these keys as they are, locked. Rows whose key is equal only for the collation are other rows.
    template <typename Found>
    void read_rows(const core::TableConfig &table, std::vector<Row> &rows, std::size_t from, std::size_t to, const Found &found) {
        const std::vector<core::Column> key = core::key_columns_of(table);
        std::vector<core::Column> columns = table.columns;
        columns.insert(columns.end(), key.begin(), key.end());
        std::vector<std::string> sources, conditions;
        for (const core::Column &column : columns)
            sources.push_back(quote_name(column.name));
        std::unordered_map<std::string, std::size_t> position;
        for (std::size_t i = from; i < to; ++i) {
            conditions.push_back("(" + rows[i].where + ")");
            position[rows[i].write->key] = i;
        }
        RowReader reader(client,
                         "SELECT " + select_list(columns, sources) + " FROM " + name_of(table) + " WHERE " + join(conditions, " OR ") +
                             " FOR UPDATE",
                         columns, doing(table));
        std::string bytes;
        while (reader.next()) {
            bytes.clear();
            if (reader.encode(bytes, table.columns.size(), key.size()))
                continue;
            const auto at = position.find(bytes);
            if (at == position.end())
                continue;
            std::string image;
            const bool bad = reader.encode_image(image, table.columns.size()).has_value();
            found(rows[at->second], image, bad);
        }
    }

    void insert(const core::TableConfig &table, const std::vector<bool> &wanted, const Row &row) {
        std::vector<std::string> names, marks;
        Parameters parameters;
        for (std::size_t i = 0; i < table.columns.size(); ++i) {
            if (!wanted[i])
                continue;
            names.push_back(quote_name(table.columns[i].name));
            marks.emplace_back("?");
            parameters.add(row.values.of[i]);
        }
        statement("INSERT INTO " + name_of(table) + " (" + join(names, ", ") + ") VALUES (" + join(marks, ", ") + ")", doing(table))
            .execute(parameters);
    }

    // Only what differs. Times that are not written are set to themselves, or ON UPDATE CURRENT_TIMESTAMP would change them.
    void update(const core::TableConfig &table, const std::vector<bool> &wanted, const Row &row) {
        std::vector<std::string> assignments, own;
        Parameters parameters;
        for (std::size_t i = 0; i < table.columns.size(); ++i) {
            const core::Column &column = table.columns[i];
            const std::string name = quote_name(column.name);
            if (wanted[i] && !(row.whole && core::same_value(row.values.of[i], row.current.of[i]))) {
                assignments.push_back(name + " = ?");
                parameters.add(row.values.of[i]);
            } else if (!column.generated && (column.data_type == "timestamp" || column.data_type == "datetime")) {
                own.push_back(name + " = " + name);
            }
        }
        if (assignments.empty())
            return;
        assignments.insert(assignments.end(), own.begin(), own.end());
        const std::string sql = "UPDATE " + name_of(table) + " SET " + join(assignments, ", ") + " WHERE ";
        const std::vector<core::Column> key = core::key_columns_of(table);
        std::vector<std::string> conditions;
        for (const core::Column &column : key) {
            conditions.push_back(quote_name(column.name) + " = ?");
            parameters.add(key_value(table, column, row));
        }
        statement(sql + join(conditions, " AND "), doing(table)).execute(parameters);
    }

    static const core::OldValue &key_value(const core::TableConfig &table, const core::Column &column, const Row &row) {
        for (std::size_t i = 0; i < table.columns.size(); ++i)
            if (table.columns[i].name == column.name)
                return row.values.of[i];
        throw core::Error(core::Side::worker, "XX000", "key column \"" + column.name + "\" is not among the columns", false);
    }

    void erase(const core::TableConfig &table, const Row &row) {
        client.execute("DELETE FROM " + name_of(table) + " WHERE " + row.where, doing(table));
    }

    bool differs(const std::vector<bool> &wanted, const Row &row) const {
        if (!row.whole)
            return true;
        for (std::size_t i = 0; i < wanted.size(); ++i)
            if (wanted[i] && !core::same_value(row.values.of[i], row.current.of[i]))
                return true;
        return false;
    }

    // With foreign keys checked, children may hold a row.
    void remove(const core::TableConfig &table, const Row &row,
                const std::function<void(const Row &, const std::string &, const std::string &, bool)> &refuse) {
        try {
            erase(table, row);
        } catch (const core::Error &error) {
            if (!options.check_foreign_keys || !is_row_error(error))
                throw;
            refuse(row, error.sqlstate(), error.what(), false);
        }
    }

    void write_one(const core::TableConfig &table, const std::vector<bool> &wanted, const Row &row) {
        if (row.present)
            update(table, wanted, row);
        else
            insert(table, wanted, row);
    }

    // What strict mode refuses is tried without it: some values, such as the invalid ENUM value '' or a date that is none, exist only there.
    void write_row(const core::TableConfig &table, const std::vector<bool> &wanted, Row &row) {
        try {
            write_one(table, wanted, row);
        } catch (const core::Error &error) {
            if (!is_value_error(error.native_code))
                throw;
            row.refusal = error.what();
            row.refusal_state = error.sqlstate();
            client.execute(std::string("SET SESSION sql_mode = '") + relaxed_mode + "'", "relaxing sql_mode for a row");
            try {
                write_one(table, wanted, row);
            } catch (...) {
                client.execute(std::string("SET SESSION sql_mode = '") + strict_mode + "'", "pinning sql_mode");
                throw;
            }
            client.execute(std::string("SET SESSION sql_mode = '") + strict_mode + "'", "pinning sql_mode");
        }
        row.written = true;
    }

    using Refuse = std::function<void(const Row &, const std::string &sqlstate, const std::string &message, bool may_pass)>;

    // Unique values that move between rows: in another order they may fit; a swap only fits when both rows go first.
    void settle_conflicts(const core::TableConfig &table, const std::vector<bool> &wanted, std::vector<Row *> waiting,
                          const Refuse &refuse) {
        std::string message, sqlstate;
        for (bool progress = true; progress && !waiting.empty();) {
            progress = false;
            std::vector<Row *> still;
            for (Row *row : waiting) {
                try {
                    write_row(table, wanted, *row);
                    progress = true;
                } catch (const core::Error &error) {
                    if (!is_duplicate(error.native_code))
                        throw;
                    message = error.what();
                    sqlstate = error.sqlstate();
                    still.push_back(row);
                }
            }
            waiting = std::move(still);
        }
        const bool all_known = std::ranges::all_of(wanted, [](bool known) { return known; });
        for (Row *row : waiting) // with foreign keys checked the children would go as well
            if (!options.check_foreign_keys && row->present && row->whole && all_known) {
                erase(table, *row);
                row->present = false;
            }
        for (Row *row : waiting) {
            try {
                write_row(table, wanted, *row);
            } catch (const core::Error &error) {
                if (!is_duplicate(error.native_code))
                    throw;
                refuse(*row, error.sqlstate(), error.what(), true);
            }
        }
    }

    std::vector<Row> prepare(const TableWrites &writes, const std::set<std::size_t> &left_out, const std::vector<core::ImageType> &types,
                             const std::vector<bool> &wanted, const Refuse &refuse) {
        const core::TableConfig &table = *writes.table;
        const std::vector<core::Column> key = core::key_columns_of(table);
        std::vector<core::ImageType> key_types;
        for (const core::Column &column : key)
            key_types.push_back(core::parse_image_type(column.image_type));
        std::vector<Row> rows;
        for (std::size_t i = 0; i < writes.rows.size(); ++i) {
            if (left_out.contains(i))
                continue;
            Row row;
            row.write = &writes.rows[i];
            row.position = i;
            const std::vector<std::string> texts = core::key_to_text(row.write->key, key_types);
            std::vector<std::string> conditions;
            for (std::size_t k = 0; k < key.size(); ++k) {
                const auto literal = core::mysql_literal(key[k], texts.at(k));
                if (!literal) {
                    refuse(row, "22003", "column \"" + key[k].name + "\" of the old side's key cannot hold this value", false);
                    break;
                }
                conditions.push_back(quote_name(key[k].name) + " = " + *literal);
            }
            if (conditions.size() != key.size())
                continue;
            row.where = join(conditions, " AND ");
            if (row.write->image) {
                row.values = decode_image(table, types, *row.write->image, wanted);
                if (!row.values.error.empty()) {
                    refuse(row, row.values.sqlstate, row.values.error, false);
                    continue;
                }
            }
            rows.push_back(std::move(row));
        }
        return rows;
    }

    // What the writer saw must be there still. A row that is as it is to be is no exception: another writer may have made it so (SET n = n + 1 twice).
    void meet(const core::TableConfig &table, const std::vector<core::ImageType> &types, const std::vector<bool> &wanted, Row &row,
              const Refuse &refuse) {
        const auto conflict = [&](const std::string &sqlstate, const std::string &message) {
            row.conflict = true;
            refuse(row, sqlstate, message, false);
        };
        const std::optional<std::string> &seen = row.write->expected->image;
        if (!seen) {
            if (row.present)
                conflict("23505", "the old side has a row with this key already");
            return;
        }
        if (!row.present) {
            if (row.write->image)
                conflict("40001", "the row is not on the old side any more");
            return;
        }
        if (!row.whole)
            return conflict("22P03",
                            "the row holds a value that PostgreSQL cannot hold, so it cannot be compared; write it on the old side");
        const RowValues before = decode_image(table, types, *seen, wanted);
        if (!before.error.empty())
            return conflict(before.sqlstate, before.error);
        for (std::size_t i = 0; i < wanted.size(); ++i)
            if (wanted[i] && types[i].kind != core::ImageType::Kind::real && !core::same_value(before.of[i], row.current.of[i]))
                return conflict("40001", "the row was changed on the old side since it was read: column \"" + table.columns[i].name +
                                             "\" was " + core::describe(before.of[i]) + " and is " + core::describe(row.current.of[i]));
        for (std::size_t i = 0; row.write->image && i < wanted.size(); ++i)
            if (wanted[i] && core::same_value(before.of[i], row.values.of[i]))
                row.values.of[i] = row.current.of[i];
    }

    // The rows of one table in the transaction that is open. Rows that are refused make the transaction begin again without them.
    void write_table(const TableWrites &writes, const std::set<std::size_t> &left_out, const Refuse &refuse) {
        const core::TableConfig &table = *writes.table;
        std::vector<core::ImageType> types;
        std::vector<bool> wanted;
        for (std::size_t i = 0; i < table.columns.size(); ++i) {
            types.push_back(core::parse_image_type(table.columns[i].image_type));
            wanted.push_back(!table.columns[i].generated && (writes.known.empty() || writes.known.at(i)));
        }
        step_aside(table);
        std::vector<Row> rows = prepare(writes, left_out, types, wanted, refuse);
        for (std::size_t from = 0; from < rows.size(); from += keys_in_statement)
            read_rows(table, rows, from, std::min(rows.size(), from + keys_in_statement),
                      [&](Row &row, const std::string &image, bool bad) {
                          row.present = true;
                          if (!bad)
                              row.current = decode_image(table, types, image, wanted);
                          row.whole = !bad && row.current.error.empty() && row.current.of.size() == types.size();
                      });
        for (Row &row : rows)
            if (row.write->expected)
                meet(table, types, wanted, row, refuse);
        std::erase_if(rows, [](const Row &row) { return row.conflict; });
        for (Row &row : rows)
            if (!row.write->image && row.present)
                remove(table, row, refuse);
        std::vector<Row *> conflicts;
        for (Row &row : rows) {
            if (!row.write->image || (row.present && !differs(wanted, row)))
                continue;
            try {
                write_row(table, wanted, row);
            } catch (const core::Error &error) {
                if (is_duplicate(error.native_code))
                    conflicts.push_back(&row);
                else if (is_row_error(error))
                    refuse(row, error.sqlstate(), error.what(), false);
                else
                    throw;
            }
        }
        settle_conflicts(table, wanted, conflicts, refuse);
        verify(table, types, wanted, rows, refuse);
    }

    void verify(const core::TableConfig &table, const std::vector<core::ImageType> &types, const std::vector<bool> &wanted,
                std::vector<Row> &all, const Refuse &refuse) {
        std::vector<Row> rows;
        for (Row &row : all)
            if (row.written)
                rows.push_back(std::move(row));
        for (Row &row : rows)
            row.present = false;
        for (std::size_t from = 0; from < rows.size(); from += keys_in_statement)
            read_rows(table, rows, from, std::min(rows.size(), from + keys_in_statement),
                      [&](Row &row, const std::string &image, bool bad) {
                          row.present = true;
                          const RowValues now = bad ? RowValues{} : decode_image(table, types, image, wanted);
                          for (std::size_t i = 0; i < types.size(); ++i) {
                              if (!wanted[i] || (now.of.size() == types.size() && core::same_value(row.values.of[i], now.of[i])))
                                  continue;
                              const core::Column &column = table.columns[i];
                              refuse(row, row.refusal.empty() ? "22000" : row.refusal_state,
                                     !row.refusal.empty() ? row.refusal
                                                          : "column \"" + column.name + "\" (" + column.mysql_type +
                                                                ") of the old side would not hold " + core::describe(row.values.of[i]) +
                                                                (now.of.size() == types.size() ? " but " + core::describe(now.of[i]) : ""),
                                     false);
                              return;
                          }
                      });
        for (const Row &row : rows)
            if (!row.present)
                refuse(row, "22000",
                       row.refusal.empty() ? "the old side does not show the row under the key it was written with" : row.refusal, false);
    }

    // Epochs first, then marks: who led before can write no more once the epochs are locked.
    bool attempt_together(const std::vector<MarkedWrites> &transactions) {
        std::vector<std::string> wanted, fresh;
        std::set<const core::TableConfig *> checked;
        client.execute("START TRANSACTION", "beginning a transaction");
        for (const MarkedWrites &one : transactions) {
            wanted.push_back(one.mark);
            for (const TableWrites &writes : one.tables)
                if (checked.insert(writes.table).second)
                    check_epoch(writes);
        }
        const std::set<std::string> there = find_marks(client, connection, wanted);
        bool refused = false;
        for (const MarkedWrites &one : transactions) {
            if (there.contains(one.mark))
                continue;
            fresh.push_back(one.mark);
            for (const TableWrites &writes : one.tables) {
                write_table(writes, {}, [&](const Row &, const std::string &, const std::string &, bool) { refused = true; });
                if (refused) {
                    rollback();
                    return false;
                }
            }
        }
        if (!fresh.empty())
            make_marks(client, connection, fresh);
        client.execute("COMMIT", "committing rows on the old side");
        return true;
    }

    std::vector<RowRefusal> attempt(const std::vector<TableWrites> &tables, const std::string &mark) {
        std::vector<RowRefusal> refusals;
        std::vector<std::set<std::size_t>> left_out(tables.size());
        for (int round = 0; round < first_row_error; ++round) {
            bool refused = false;
            client.execute("START TRANSACTION", "beginning a transaction");
            std::set<const core::TableConfig *> checked;
            for (const TableWrites &writes : tables)
                if (checked.insert(writes.table).second)
                    check_epoch(writes);
            if (!mark.empty() && !find_marks(client, connection, {mark}).empty()) {
                rollback();
                return {};
            }
            for (std::size_t t = 0; t < tables.size(); ++t)
                write_table(tables[t], left_out[t],
                            [&](const Row &row, const std::string &sqlstate, const std::string &message, bool may_pass) {
                                if (!left_out[t].insert(row.position).second)
                                    return;
                                refusals.push_back({t, row.position, sqlstate, message, may_pass, row.conflict});
                                refused = true;
                            });
            if (!refused) {
                if (!mark.empty())
                    make_marks(client, connection, {mark});
                client.execute("COMMIT", "committing rows on the old side");
                return refusals;
            }
            rollback();
            if (options.together)
                return refusals;
        }
        throw core::Error(core::Side::old_side, "54000", "rows are refused by the old side again and again", true);
    }
};

RowWriter::RowWriter(const core::SourceConnection &connection, WriteOptions options) : impl_(std::make_unique<Impl>(connection, options)) {}
RowWriter::~RowWriter() = default;
RowWriter::RowWriter(RowWriter &&) noexcept = default;
RowWriter &RowWriter::operator=(RowWriter &&) noexcept = default;

std::uint64_t RowWriter::epoch(const core::TableConfig &table) {
    const auto row =
        impl_->client.one_row("SELECT epoch FROM " + phase_table(impl_->connection) + " WHERE outbox = " + quote_text(table.outbox),
                              "reading the epoch of table \"" + table.name + "\"");
    return row.empty() ? 0 : std::stoull(row[0]);
}

std::uint64_t RowWriter::bump_epoch(const core::TableConfig &table) {
    impl_->client.execute(bump_phase_epoch(impl_->connection, table), "taking a new epoch of table \"" + table.name + "\"");
    return epoch(table);
}

std::vector<RowRefusal> RowWriter::write(const std::vector<TableWrites> &tables) { return write_once(tables, {}); }

std::vector<RowRefusal> RowWriter::write_once(const std::vector<TableWrites> &tables, const std::string &mark) {
    for (int attempt = 1;; ++attempt) {
        try {
            return impl_->attempt(tables, mark);
        } catch (const core::SessionLost &) {
            throw;
        } catch (const core::Error &error) {
            impl_->rollback();
            if (!error.retryable() || error.sqlstate() == "55000" || attempt == tries || !mark.empty())
                throw;
        }
    }
}

bool RowWriter::write_together(const std::vector<MarkedWrites> &transactions) {
    try {
        return impl_->attempt_together(transactions);
    } catch (const core::SessionLost &) {
        throw;
    } catch (const core::Error &error) {
        impl_->rollback();
        if (error.sqlstate() == "55000")
            throw;
        return false;
    }
}

void RowWriter::prepare_marks() {
    impl_->client.execute(create_phase_table(impl_->connection), "creating the table of phases on the old side");
    impl_->client.execute(create_write_mark(impl_->connection), "creating the table of written transactions on the old side");
}

void RowWriter::forget_marks(const std::vector<std::string> &marks) { mysql::forget_marks(impl_->client, impl_->connection, marks); }

void RowWriter::ping() { impl_->client.execute("DO 0", "keeping the session alive"); }

} // namespace tandem::mysql
