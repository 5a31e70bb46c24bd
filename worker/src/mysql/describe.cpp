// information_schema compares names without case on some servers even where tables are distinct by case; so every query also returns
// the table's name and rows of another table are left out here.
#include "mysql/describe.hpp"

#include "core/error.hpp"
#include "core/typemap.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace tandem::mysql {
namespace {

using nlohmann::json;

json text_or_null(const std::optional<std::string> &value) { return value ? json(*value) : json(nullptr); }

json number_or_null(const std::optional<std::string> &value) {
    return value && !value->empty() ? json(std::strtoull(value->c_str(), nullptr, 10)) : json(nullptr);
}

std::string condition(const std::string &database, const std::string &table, const std::string &prefix = {}) {
    return prefix + "table_schema = " + quote_text(database) + " AND " + prefix + "table_name = " + quote_text(table);
}

std::vector<ControlRow> rows_of(ControlClient &client, const std::string &sql, const std::string &table) {
    auto rows = client.query(sql, "describing table \"" + table + "\"");
    std::erase_if(rows, [&](const ControlRow &row) { return row.at(0) != table; });
    return rows;
}

bool is_generated(const std::string &extra) {
    // DEFAULT_GENERATED (MySQL 8) is a default, not a generated column.
    return extra.find("VIRTUAL") != std::string::npos || extra.find("STORED") != std::string::npos ||
           extra.find("PERSISTENT") != std::string::npos;
}

// MariaDB 10.2.7 shows defaults as expressions: 'abc' in quotes, with its escapes, and NULL as a word. MySQL shows the bare value.
bool shows_literals(const ServerVersion &version) { return version.mariadb && version.number >= 100207; }

// "'it''s \\ \n'" without its quotes and escapes.
std::string unquoted(const std::string &literal) {
    std::string text;
    for (std::size_t i = 1; i + 1 < literal.size(); ++i) {
        char c = literal[i];
        if (c == '\'' && literal[i + 1] == '\'') {
            ++i;
        } else if (c == '\\' && i + 2 < literal.size()) {
            c = literal[++i];
            c = c == '0' ? '\0' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c == 'Z' ? '\x1a' : c;
        }
        text.push_back(c);
    }
    return text;
}

json default_of(const ServerVersion &version, const std::optional<std::string> &value, const std::string &data_type) {
    if (!value || (shows_literals(version) && *value == "NULL"))
        return nullptr;
    std::string text = shows_literals(version) && value->size() >= 2 && value->front() == '\'' ? unquoted(*value) : *value;
    if (data_type == "binary") // padded, which the type says as well
        text.erase(text.find_last_not_of('\0') + 1);
    // JSON of PostgreSQL has no U+0000.
    return text.find('\0') == std::string::npos ? json(text) : json("bytes with zeros");
}

// A default that the server computes for each row. MariaDB shows constants in quotes or as numbers.
bool is_expression(const ServerVersion &version, const std::optional<std::string> &value, const std::string &data_type,
                   const std::string &extra) {
    if (!value || value->empty())
        return false;
    if (default_of(version, value, data_type) == "bytes with zeros")
        return true; // no constant that could be carried
    if (shows_literals(version))
        return *value != "NULL" && value->front() != '\'' && !value->starts_with("b'") && !value->starts_with("x'") &&
               value->find_first_not_of("0123456789.+-eE") != std::string::npos;
    return extra.find("DEFAULT_GENERATED") != std::string::npos ||
           ((data_type == "datetime" || data_type == "timestamp") && value->starts_with("CURRENT_TIMESTAMP"));
}

// information_schema shows defaults as text, which bytes need not be: the server itself says what they are. One that is NOT NULL only tells
// through a row; of an empty table what information_schema shows must do.
void add_defaults_of_bytes(ControlClient &client, const std::string &database, const std::string &table, json &columns) {
    const std::string name = quote_name(database, table);
    for (const char *from : {"(SELECT 1 AS tandem_one) tandem_row LEFT JOIN %s ON FALSE", "%s LIMIT 1"}) {
        std::vector<json *> asked;
        std::vector<std::string> items;
        for (json &column : columns) {
            if (column.at("image_type") != "bytea" || column.at("default").is_null() || column.contains("default_hex"))
                continue;
            asked.push_back(&column);
            items.push_back("HEX(DEFAULT(" + name + "." + quote_name(column.at("name").get<std::string>()) + "))");
        }
        if (items.empty())
            return;
        std::string source = from;
        source.replace(source.find("%s"), 2, name);
        try {
            const auto rows =
                client.query("SELECT " + join(items, ", ") + " FROM " + source, "reading defaults of table \"" + table + "\"");
            for (std::size_t i = 0; i < asked.size() && !rows.empty(); ++i)
                if (rows[0].at(i)) {
                    (*asked[i])["default_hex"] = *rows[0][i];
                    (*asked[i])["default_expression"] = false;
                }
        } catch (const core::Error &) {
            return; // no SELECT privilege yet, or a default that is no constant
        }
    }
}

std::vector<std::string> period_of(ControlClient &client, const ServerVersion &version, const std::string &database,
                                   const std::string &table) {
    std::vector<std::string> names;
    if (!version.mariadb || version.number < 100300)
        return names;
    for (const ControlRow &row : rows_of(client,
                                         "SELECT table_name, column_name, generation_expression FROM information_schema.columns WHERE " +
                                             condition(database, table) + " ORDER BY ordinal_position",
                                         table))
        if (is_period(row[2]))
            names.push_back(row[1].value_or(""));
    return names;
}

json columns_of(ControlClient &client, const ServerVersion &version, const std::string &database, const std::string &table) {
    json columns = json::array();
    for (const ControlRow &row : rows_of(
             client,
             "SELECT table_name, ordinal_position, column_name, column_type, data_type, is_nullable, character_set_name, collation_name,"
             " column_default, extra, column_comment, character_maximum_length, " +
                 std::string(shows_generation(version) ? "generation_expression" : "NULL") + " FROM information_schema.columns WHERE " +
                 condition(database, table) + " ORDER BY ordinal_position",
             table)) {
        if (is_period(row[12]))
            continue;
        const std::string type = row[3].value_or("");
        const std::string data_type = row[4].value_or("");
        const bool is_unsigned = type.find(" unsigned") != std::string::npos;
        const core::MappedType mapped = core::map_type(data_type, type, is_unsigned);
        columns.push_back({{"ordinal", std::atoi(row[1].value_or("0").c_str())},
                           {"name", row[2].value_or("")},
                           {"mysql_type", type},
                           {"data_type", data_type},
                           {"unsigned", is_unsigned},
                           {"nullable", row[5] == "YES"},
                           {"charset", text_or_null(row[6])},
                           {"collation", text_or_null(row[7])},
                           {"default", default_of(version, row[8], data_type)},
                           {"default_expression", is_expression(version, row[8], data_type, row[9].value_or(""))},
                           {"extra", row[9].value_or("")},
                           {"generated", is_generated(row[9].value_or(""))},
                           {"generation", row[12].value_or("").empty() ? json(nullptr) : json(*row[12])},
                           {"comment", row[10].value_or("")},
                           {"length", number_or_null(row[11])},
                           {"image_type", mapped.image_type.empty() ? json(nullptr) : json(mapped.image_type)},
                           {"unmappable", mapped.unmappable.empty() ? json(nullptr) : json(mapped.unmappable)}});
    }
    add_defaults_of_bytes(client, database, table, columns);
    return columns;
}

json keys_of(ControlClient &client, const std::string &database, const std::string &table, const std::vector<std::string> &period) {
    json keys = json::array();
    bool skip = false; // a key over an expression names no column: expression_keys_of
    for (const ControlRow &row :
         rows_of(client,
                 "SELECT table_name, index_name, non_unique, seq_in_index, column_name, sub_part, nullable, index_type, collation"
                 " FROM information_schema.statistics WHERE " +
                     condition(database, table) + " ORDER BY index_name = 'PRIMARY' DESC, index_name, seq_in_index",
                 table)) {
        if (row[3] == "1") {
            skip = false;
            keys.push_back({{"name", row[1].value_or("")},
                            {"unique", row[2] == "0"},
                            {"primary", row[1] == "PRIMARY"},
                            {"nullable", false},
                            {"prefix", false},
                            {"type", row[7].value_or("")},
                            {"columns", json::array()},
                            {"lengths", json::array()},
                            {"descending", json::array()}});
        }
        if (skip || keys.empty())
            continue;
        if (!row[4]) {
            keys.erase(keys.size() - 1);
            skip = true;
            continue;
        }
        if (std::find(period.begin(), period.end(), *row[4]) != period.end())
            continue;
        json &key = keys.back();
        key["columns"].push_back(*row[4]);
        key["lengths"].push_back(number_or_null(row[5]));
        key["descending"].push_back(row[8] == "D");
        if (row[5])
            key["prefix"] = true;
        if (row[6] == "YES")
            key["nullable"] = true;
    }
    return keys;
}

// Keys over expressions, of MySQL 8.0.13 and later: only told, as an expression of the old side is none of the new one.
json expression_keys_of(ControlClient &client, const ServerVersion &version, const std::string &database, const std::string &table) {
    json keys = json::array();
    if (version.mariadb || version.number < 80013)
        return keys;
    for (const ControlRow &row :
         rows_of(client,
                 "SELECT table_name, index_name, MIN(non_unique), GROUP_CONCAT(COALESCE(CONCAT('(', expression, ')'), column_name)"
                 " ORDER BY seq_in_index SEPARATOR ', ') FROM information_schema.statistics WHERE " +
                     condition(database, table) + " GROUP BY table_name, index_name HAVING COUNT(expression) > 0 ORDER BY index_name",
                 table))
        keys.push_back({{"name", row[1].value_or("")}, {"unique", row[2] == "0"}, {"expressions", row[3].value_or("")}});
    return keys;
}

// Foreign keys where the table is the child, or the parent of tables in any database that this user may see.
json foreign_keys_of(ControlClient &client, const std::string &database, const std::string &table, bool as_parent) {
    const std::string which =
        as_parent ? "k.referenced_table_schema = " + quote_text(database) + " AND k.referenced_table_name = " + quote_text(table)
                  : condition(database, table, "k.");
    json found = json::array();
    std::string last;
    for (const ControlRow &row : rows_of(
             client,
             std::string("SELECT ") + (as_parent ? "k.referenced_table_name" : "k.table_name") +
                 ", k.constraint_name, k.table_schema, k.table_name, k.column_name, k.referenced_table_schema, k.referenced_table_name,"
                 " k.referenced_column_name, r.delete_rule, r.update_rule"
                 " FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r"
                 " ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name AND r.table_name = k.table_name"
                 " WHERE k.referenced_table_name IS NOT NULL AND " +
                 which + " ORDER BY k.table_schema, k.table_name, k.constraint_name, k.ordinal_position",
             table)) {
        const std::string identity = row[2].value_or("") + "\n" + row[3].value_or("") + "\n" + row[1].value_or("");
        if (identity != last || found.empty())
            found.push_back({{"name", row[1].value_or("")},
                             {"child_database", row[2].value_or("")},
                             {"child", row[3].value_or("")},
                             {"columns", json::array()},
                             {"parent_database", row[5].value_or("")},
                             {"parent", row[6].value_or("")},
                             {"ref_columns", json::array()},
                             {"on_delete", row[8].value_or("")},
                             {"on_update", row[9].value_or("")}});
        last = identity;
        found.back()["columns"].push_back(row[4].value_or(""));
        found.back()["ref_columns"].push_back(row[7].value_or(""));
    }
    return found;
}

// CHECK constraints that the server enforces; older ones read CHECK and forget it.
json checks_of(ControlClient &client, const ServerVersion &version, const std::string &database, const std::string &table) {
    json found = json::array();
    std::string sql;
    if (version.mariadb && version.number >= 100310)
        sql = "SELECT c.table_name, c.constraint_name, c.check_clause FROM information_schema.check_constraints c"
              " WHERE c.constraint_schema = " +
              quote_text(database) + " AND c.table_name = " + quote_text(table) + " ORDER BY c.constraint_name";
    else if (!version.mariadb && version.number >= 80016)
        sql = "SELECT t.table_name, c.constraint_name, c.check_clause FROM information_schema.check_constraints c"
              " JOIN information_schema.table_constraints t ON t.constraint_schema = c.constraint_schema"
              " AND t.constraint_name = c.constraint_name AND t.constraint_type = 'CHECK' AND t.enforced = 'YES' WHERE " +
              condition(database, table, "t.") + " ORDER BY c.constraint_name";
    if (!sql.empty())
        for (const ControlRow &row : rows_of(client, sql, table))
            found.push_back({{"name", row[1].value_or("")}, {"clause", row[2].value_or("")}});
    return found;
}

json triggers_of(ControlClient &client, const std::string &database, const std::string &table) {
    json found = json::array();
    for (const ControlRow &row :
         rows_of(client,
                 "SELECT event_object_table, trigger_name, action_timing, event_manipulation, definer"
                 " FROM information_schema.triggers WHERE event_object_schema = " +
                     quote_text(database) + " AND event_object_table = " + quote_text(table) + " ORDER BY trigger_name",
                 table))
        found.push_back({{"name", row[1].value_or("")},
                         {"timing", row[2].value_or("")},
                         {"event", row[3].value_or("")},
                         {"definer", row[4].value_or("")}});
    return found;
}

// InnoDB's number of the table changes when the table is rebuilt, truncated or swapped. Needs PROCESS; null without it.
json innodb_number(ControlClient &client, const ServerVersion &version, const std::string &database, const std::string &table) {
    std::string ignored;
    const std::string view = !version.mariadb && version.number >= 80000 ? "innodb_tables" : "innodb_sys_tables";
    if (client.probe("SELECT 1 FROM information_schema." + view + " LIMIT 1", ignored) != 0)
        return nullptr;
    const auto rows =
        client.query("SELECT table_id FROM information_schema." + view + " WHERE name = " + quote_text(database + "/" + table),
                     "reading the identity of table \"" + table + "\"");
    return rows.empty() ? json(nullptr) : number_or_null(rows[0][0]);
}

} // namespace

ServerVersion server_version(ControlClient &client) {
    ServerVersion version;
    version.text = client.query("SELECT VERSION()", "asking for the version").at(0).at(0).value_or("");
    version.mariadb = version.text.find("MariaDB") != std::string::npos;
    int major = 0, minor = 0, patch = 0;
    std::sscanf(version.text.c_str(), "%d.%d.%d", &major, &minor, &patch);
    version.number = major * 10000 + minor * 100 + patch;
    return version;
}

bool shows_generation(const ServerVersion &version) { return version.number >= (version.mariadb ? 100205 : 50706); }

bool is_period(const std::optional<std::string> &generation) { return generation == "ROW START" || generation == "ROW END"; }

bool shares_trigger_slots(const ServerVersion &version) { return version.number >= (version.mariadb ? 100203 : 50702); }

json describe_server(ControlClient &client) {
    const ServerVersion version = server_version(client);
    std::string uuid = client.variable("server_uuid");
    if (uuid.empty()) // MariaDB
        uuid = client.variable("server_uid");
    if (uuid.empty())
        uuid = client.variable("hostname") + ":" + client.variable("port") + ":" + client.variable("server_id");
    const std::string cipher = client.status("Ssl_cipher");
    const std::string read_only = client.variable("read_only");
    return {{"server_version", version.text},
            {"flavor", version.mariadb ? "mariadb" : "mysql"},
            {"version", version.number},
            {"lower_case_table_names", std::atoi(client.variable("lower_case_table_names").c_str())},
            {"binlog_format", client.variable("binlog_format")},
            {"flush_log_at_commit", client.variable("innodb_flush_log_at_trx_commit")},
            {"log_bin", client.variable("log_bin") == "ON"},
            {"read_only", read_only != "OFF" && read_only != "0" && !read_only.empty()},
            {"tls_cipher", cipher.empty() ? json(nullptr) : json(cipher)},
            {"server_uuid", uuid}};
}

std::vector<std::string> find_tables(ControlClient &client, const std::string &database, const std::vector<std::string> &tables,
                                     const std::string &pattern) {
    const bool case_matters = client.variable("lower_case_table_names") == "0";
    std::vector<std::string> found;
    const auto add = [&](const std::string &which, const std::string *exact) {
        for (const ControlRow &row : client.query("SELECT table_name FROM information_schema.tables WHERE table_schema = " +
                                                      quote_text(database) + " AND table_name " + which + " ORDER BY table_name",
                                                  "looking for tables in database \"" + database + "\""))
            if (exact == nullptr || !case_matters || row[0] == *exact)
                found.push_back(row[0].value_or(""));
    };
    for (const std::string &table : tables)
        add("= " + quote_text(table), &table);
    if (tables.empty())
        add("LIKE " + quote_text(pattern), nullptr);
    return found;
}

json describe_table(ControlClient &client, const ServerVersion &version, const std::string &database, const std::string &table) {
    const auto rows = rows_of(client,
                              "SELECT table_name, engine, table_type, table_comment, table_rows, data_length, create_time, create_options,"
                              " auto_increment"
                              " FROM information_schema.tables WHERE " +
                                  condition(database, table),
                              table);
    if (rows.empty())
        return nullptr; // dropped since it was found
    const ControlRow &row = rows[0];
    const std::vector<std::string> period = period_of(client, version, database, table);
    return {{"table", table},
            {"engine", text_or_null(row[1])},
            {"table_type", row[2].value_or("")},
            {"comment", row[3].value_or("")},
            {"rows_estimate", number_or_null(row[4])},
            {"bytes_estimate", number_or_null(row[5])},
            {"columns", columns_of(client, version, database, table)},
            {"keys", keys_of(client, database, table, period)},
            {"period", period},
            {"expression_keys", expression_keys_of(client, version, database, table)},
            {"auto_increment", number_or_null(row[8])},
            {"foreign_keys", foreign_keys_of(client, database, table, false)},
            {"referenced_by", foreign_keys_of(client, database, table, true)},
            {"checks", checks_of(client, version, database, table)},
            {"partitioned", row[7].value_or("").find("partitioned") != std::string::npos},
            {"triggers", triggers_of(client, database, table)},
            {"trigger_slots_shared", shares_trigger_slots(version)},
            {"create_time", text_or_null(row[6])},
            {"identity", {{"create_time", text_or_null(row[6])}, {"innodb_table_id", innodb_number(client, version, database, table)}}}};
}

} // namespace tandem::mysql
