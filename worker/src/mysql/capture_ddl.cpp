#include "mysql/capture_ddl.hpp"

#include "core/table_config.hpp"
#include "mysql/old_phase.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>

namespace tandem::mysql {
namespace {

// 'text' as a plain literal: SHOW CREATE TRIGGER stays readable. Valid for every sql_mode because a backslash never gets here unescaped:
// outbox names consist of what the extension makes them of, and the trigger's own sql_mode is fixed.
std::string plain_literal(const std::string &text) {
    std::string result = "'";
    for (const char c : text) {
        if (c == '\'' || c == '\\')
            result.push_back(c);
        result.push_back(c);
    }
    return result + "'";
}

std::string row_of(const char *alias, const std::vector<core::Column> &key, int removes) {
    std::vector<std::string> values{std::to_string(removes)};
    for (const core::Column &column : key)
        values.push_back(std::string(alias) + "." + quote_name(column.name));
    return "(" + join(values, ", ") + ")";
}

std::string outbox_columns(std::size_t count) {
    std::vector<std::string> names{"tandem_removes"};
    for (std::size_t i = 0; i < count; ++i)
        names.push_back(key_column(i));
    return "(" + join(names, ", ") + ")";
}

// Text is compared as bytes: 'abc' and 'ABC' may be one value for the column's collation and are two keys for PostgreSQL.
std::string differs(const core::Column &column) {
    const std::string name = quote_name(column.name);
    if (column.charset.empty())
        return "NOT (OLD." + name + " <=> NEW." + name + ")";
    return "NOT (CAST(OLD." + name + " AS BINARY) <=> CAST(NEW." + name + " AS BINARY))";
}

// The application's write must not fail because of capture: a failed insert leaves a gap row, and if even that fails, nothing. A
// deadlock is no such case: the server has rolled the whole transaction back and does not run handlers for it. 1265 (data truncated)
// is an error in strict mode but carries a warning's SQLSTATE on MySQL 5.6, so SQLEXCEPTION alone would let it through.
std::string guarded(const core::SourceConnection &connection, const core::TableConfig &table, const std::string &work) {
    return "BEGIN\n"
           "  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION, 1265\n"
           "  BEGIN\n"
           "    DECLARE failure INT DEFAULT NULL;\n"
           "    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;\n"
           "    GET DIAGNOSTICS CONDITION 1 failure = MYSQL_ERRNO;\n"
           "    INSERT INTO " +
           quote_name(connection.metadata_database, gap_table) + " (outbox, errno) VALUES (" + plain_literal(table.outbox) +
           ", failure);\n"
           "  END;\n"
           "  IF " +
           unseen_variable(table) + " IS NULL THEN\n" + work + "  END IF;\nEND";
}

} // namespace

const char *const trigger_sql_mode = "STRICT_ALL_TABLES,ALLOW_INVALID_DATES";

std::string create_metadata_database(const core::SourceConnection &connection) {
    return "CREATE DATABASE IF NOT EXISTS " + quote_name(connection.metadata_database) + " DEFAULT CHARACTER SET utf8mb4";
}

std::string create_gap_table(const core::SourceConnection &connection) {
    return "CREATE TABLE IF NOT EXISTS " + quote_name(connection.metadata_database, gap_table) +
           " (\n"
           "  gap_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,\n"
           "  outbox VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,\n"
           "  at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),\n"
           "  errno INT NULL,\n"
           "  KEY outbox (outbox)\n"
           ") ENGINE=InnoDB COMMENT='pg_tandem: writes that capture could not record'";
}

std::string create_server_mark(const core::SourceConnection &connection) {
    return "CREATE TABLE IF NOT EXISTS " + quote_name(connection.metadata_database, server_mark) +
           " (\n"
           "  only_row TINYINT NOT NULL PRIMARY KEY,\n"
           "  id VARCHAR(64) CHARACTER SET ascii NOT NULL\n"
           ") ENGINE=InnoDB COMMENT='pg_tandem: tells this server from every other'";
}

std::string set_server_mark(const core::SourceConnection &connection, const std::string &id) {
    return "INSERT IGNORE INTO " + quote_name(connection.metadata_database, server_mark) + " VALUES (1, " + plain_literal(id) + ")";
}

std::string create_outbox(const core::SourceConnection &connection, const core::TableConfig &table) {
    std::string columns;
    const auto key = core::key_columns_of(table);
    for (std::size_t i = 0; i < key.size(); ++i) {
        columns += ",\n  " + key_column(i) + " " + key[i].mysql_type;
        const bool labelled = key[i].data_type == "enum" || key[i].data_type == "set";
        if (!key[i].charset.empty() && (key[i].charset != "binary" || labelled))
            columns += " CHARACTER SET " + quote_name(key[i].charset) + " COLLATE " + quote_name(key[i].collation);
        // Nullable and without a second index: the insert can then fail for no reason that lies in the row.
        columns += " NULL DEFAULT NULL";
    }
    return "CREATE TABLE IF NOT EXISTS " + quote_name(connection.metadata_database, table.outbox) +
           " (\n"
           "  tandem_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,\n"
           "  tandem_removes TINYINT NOT NULL,\n"
           "  tandem_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)" +
           columns + "\n) ENGINE=InnoDB COMMENT='pg_tandem: changed keys of one table'";
}

std::array<Trigger, 3> triggers(const core::SourceConnection &connection, const core::TableConfig &table) {
    const auto key = core::key_columns_of(table);
    const std::string insert =
        "INSERT INTO " + quote_name(connection.metadata_database, table.outbox) + " " + outbox_columns(key.size()) + " VALUES ";

    std::vector<std::string> moved;
    for (const core::Column &column : key)
        moved.push_back(differs(column));
    for (const std::string &name : table.referenced_columns)
        for (const core::Column &column : table.columns)
            if (column.name == name && std::find(table.key_columns.begin(), table.key_columns.end(), name) == table.key_columns.end())
                moved.push_back(differs(column));

    // An inserted row was absent before, perhaps because a hidden cascade had taken it away together with its children: those are looked
    // up again (model E). No child can refer to a key that is really new, so the look-up then finds nothing.
    const int insert_removes = table.referenced_columns.empty() ? 0 : 1;

    return {{
        {"tandem_ai_" + table.trigger_suffix, "INSERT",
         guarded(connection, table, "  " + insert + row_of("NEW", key, insert_removes) + ";\n")},
        {"tandem_au_" + table.trigger_suffix, "UPDATE",
         guarded(connection, table,
                 "  IF " + join(moved, " OR ") + " THEN\n    " + insert + row_of("OLD", key, 1) + ", " + row_of("NEW", key, 1) +
                     ";\n  ELSE\n    " + insert + row_of("NEW", key, 0) + ";\n  END IF;\n")},
        {"tandem_ad_" + table.trigger_suffix, "DELETE", guarded(connection, table, "  " + insert + row_of("OLD", key, 1) + ";\n")},
    }};
}

std::string create_trigger(const core::SourceConnection &connection, const core::TableConfig &table, const Trigger &trigger) {
    return "CREATE DEFINER = CURRENT_USER TRIGGER " + quote_name(connection.database, trigger.name) + " AFTER " + trigger.event + " ON " +
           quote_name(connection.database, table.name) + " FOR EACH ROW\n" + trigger.body;
}

} // namespace tandem::mysql
