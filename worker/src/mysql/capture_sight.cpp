#include "mysql/capture_sight.hpp"

#include "core/error.hpp"
#include "mysql/capture_ddl.hpp"
#include "mysql/describe.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>

namespace tandem::mysql {
namespace {

constexpr std::size_t names_in_query = 200; // conversions in one select list
constexpr const char *doing = "looking at the captured tables";
constexpr unsigned no_table = 1146, no_database = 1049, denied = 1227, not_locked = 1100;

std::string name_list(const std::vector<std::string> &names) {
    std::vector<std::string> quoted;
    for (const std::string &name : names)
        quoted.push_back(quote_text(name));
    return "(" + join(quoted, ", ") + ")";
}

std::uint64_t number_of(const std::optional<std::string> &value) { return value && !value->empty() ? std::stoull(*value) : 0; }

} // namespace

std::string CaptureSight::folded(std::string name) const {
    if (folds_)
        std::ranges::transform(name, name.begin(), [](unsigned char c) { return static_cast<char>(c < 128 ? std::tolower(c) : c); });
    return name;
}

core::SeenTable *CaptureSight::table_of(core::SeenSource &seen, const std::string &name) {
    const auto found = by_name_.find(folded(name));
    return found == by_name_.end() ? nullptr : &seen.tables[found->second];
}

// A server is known by its own uuid (MySQL) and by a random mark that capture left in its metadata database.
void CaptureSight::see_server(core::SeenSource &seen) {
    folds_ = client_.variable("lower_case_table_names") != "0";
    seen.server = client_.variable("server_uuid") + "/";
    seen.uptime = number_of(client_.query("SHOW GLOBAL STATUS LIKE 'Uptime'", doing).at(0).at(1));
    try {
        for (const ControlRow &row : client_.query("SELECT id FROM " + quote_name(connection_.metadata_database, server_mark), doing))
            seen.server += row[0].value_or("");
    } catch (const core::Error &error) {
        if (error.native_code != no_table && error.native_code != no_database)
            throw;
    }
}

void CaptureSight::see_tables(core::SeenSource &seen, const std::string &names) {
    for (const ControlRow &row :
         ask_("SELECT table_name, engine, create_time, auto_increment, data_length, CONCAT_WS('\\n', table_collation, row_format,"
              " create_options, table_comment) FROM information_schema.tables WHERE table_schema = " +
              quote_text(connection_.database) + " AND table_name IN " + names + " AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')")) {
        core::SeenTable *table = table_of(seen, row[0].value_or(""));
        if (table == nullptr)
            continue;
        table->exists = true;
        table->engine = row[1].value_or("");
        table->created = row[2].value_or("");
        table->auto_increment = number_of(row[3]);
        table->bytes = number_of(row[4]);
        table->rest = row[5].value_or("");
    }
}

void CaptureSight::see_columns(core::SeenSource &seen, const std::string &names) {
    if (!shows_generation_)
        shows_generation_ = shows_generation(server_version(client_));
    period_.clear();
    for (const ControlRow &row : ask_("SELECT table_name, column_name, column_type, character_set_name, collation_name, is_nullable,"
                                      " CONCAT_WS('\\n', column_default, extra, column_comment), " +
                                      std::string(*shows_generation_ ? "generation_expression" : "NULL") +
                                      " FROM information_schema.columns WHERE table_schema = " + quote_text(connection_.database) +
                                      " AND table_name IN " + names + " ORDER BY table_name, ordinal_position"))
        if (core::SeenTable *table = table_of(seen, row[0].value_or(""))) {
            if (is_period(row[7]))
                period_.emplace(table, row[1].value_or(""));
            else
                table->columns.push_back({row[1].value_or(""), row[2].value_or(""), row[3].value_or(""), row[4].value_or(""),
                                          row[5] == "YES", row[6].value_or("")});
        }
}

void CaptureSight::see_indexes(core::SeenSource &seen, const std::string &names) {
    std::map<std::pair<std::string, std::string>, bool> usable; // table and index: unique, over whole NOT NULL columns
    for (const ControlRow &row :
         ask_("SELECT table_name, index_name, non_unique, column_name, sub_part, nullable, index_type FROM information_schema.statistics"
              " WHERE table_schema = " +
              quote_text(connection_.database) + " AND table_name IN " + names + " ORDER BY table_name, index_name, seq_in_index")) {
        core::SeenTable *table = table_of(seen, row[0].value_or(""));
        if (table == nullptr)
            continue;
        const std::string index = row[1].value_or("");
        bool &good = usable.try_emplace({row[0].value_or(""), index}, true).first->second;
        good = good && row[2] == "0" && row[3] && !row[4] && row[5] != "YES";
        if (!period_.contains({table, row[3].value_or("")}))
            table->unique_keys[index].push_back(row[3].value_or(""));
        table->indexes +=
            index + " " + row[2].value_or("") + " " + row[3].value_or("") + " " + row[4].value_or("") + " " + row[6].value_or("") + "\n";
    }
    for (const auto &[index, good] : usable)
        if (core::SeenTable *table = table_of(seen, index.first); table != nullptr && !good)
            table->unique_keys.erase(index.second);
}

void CaptureSight::see_triggers(core::SeenSource &seen, const std::string &names, const std::vector<const core::TableConfig *> &tables,
                                bool everywhere) {
    std::map<std::string, int> owner;
    for (const core::TableConfig *table : tables)
        for (const char *kind : {"ai", "au", "ad"})
            owner["tandem_" + std::string(kind) + "_" + table->trigger_suffix] = table->table_id;
    for (const ControlRow &row :
         ask_("SELECT trigger_name, event_object_table, event_manipulation, action_timing, MD5(CONCAT_WS('\\n', action_statement, sql_mode,"
              " definer, created)) FROM information_schema.triggers WHERE trigger_schema = " +
              quote_text(connection_.database) + (everywhere ? "" : " AND event_object_table IN " + names))) {
        const auto found = owner.find(row[0].value_or(""));
        if (found == owner.end())
            continue;
        std::string on = row[1].value_or("");
        core::SeenTable &table = seen.tables[found->second];
        // The name as the catalog spells it, where the server does not tell the two apart.
        for (const core::TableConfig *config : tables)
            if (config->table_id == found->second && folded(config->name) == folded(on))
                on = config->name;
        table.triggers.push_back({row[0].value_or(""), on, row[2].value_or(""), row[3].value_or(""), row[4].value_or("")});
    }
}

void CaptureSight::see_outboxes(core::SeenSource &seen, const std::vector<const core::TableConfig *> &tables) {
    const std::string in_metadata = " FROM information_schema.columns WHERE table_schema = " + quote_text(connection_.metadata_database);
    seen.gap_table = !ask_("SELECT 1" + in_metadata + " AND table_name = " + quote_text(gap_table)).empty();
    std::vector<std::string> names;
    for (const core::TableConfig *table : tables)
        names.push_back(table->outbox);
    for (const ControlRow &row : ask_("SELECT table_name, column_name, column_type, collation_name" + in_metadata + " AND table_name IN " +
                                      name_list(names) + " ORDER BY table_name, ordinal_position")) {
        if (const auto found = by_outbox_.find(folded(row[0].value_or(""))); found != by_outbox_.end())
            seen.tables[found->second].outbox_columns.push_back(row[1].value_or("") + " " + row[2].value_or("") + " " +
                                                                row[3].value_or(""));
    }
}

// InnoDB's files and numbers have names in a character set of their own.
void CaptureSight::learn_file_names(const std::vector<const core::TableConfig *> &tables) {
    std::vector<std::string> unknown;
    const auto want = [&](const std::string &name) {
        if (!file_names_.contains(name) && std::ranges::find(unknown, name) == unknown.end())
            unknown.push_back(name);
    };
    want(connection_.database);
    want(connection_.metadata_database);
    for (const core::TableConfig *table : tables) {
        want(table->name);
        want(table->outbox);
    }
    for (std::size_t from = 0; from < unknown.size(); from += names_in_query) {
        const std::size_t to = std::min(unknown.size(), from + names_in_query);
        std::vector<std::string> items;
        for (std::size_t i = from; i < to; ++i)
            items.push_back("HEX(CONVERT(" + quote_text(unknown[i]) + " USING filename))");
        const ControlRow row = client_.query("SELECT " + join(items, ", "), doing).at(0);
        for (std::size_t i = from; i < to; ++i) {
            std::string name;
            const std::string digits = row.at(i - from).value_or("");
            for (std::size_t d = 0; d + 1 < digits.size(); d += 2)
                name.push_back(static_cast<char>(std::stoi(digits.substr(d, 2), nullptr, 16)));
            file_names_[unknown[i]] = name;
        }
    }
}

void CaptureSight::see_numbers(core::SeenSource &seen, const std::vector<const core::TableConfig *> &tables) {
    learn_file_names(tables);
    const std::string here = file_names_[connection_.database] + "/", metadata = file_names_[connection_.metadata_database] + "/";
    std::map<std::string, std::pair<int, bool>> owner; // folded name → table, and whether it is the outbox
    for (const core::TableConfig *table : tables) {
        owner[folded(here + file_names_[table->name])] = {table->table_id, false};
        owner[folded(metadata + file_names_[table->outbox])] = {table->table_id, true};
    }
    const ServerVersion version = server_version(client_);
    const std::string view = !version.mariadb && version.number >= 80000 ? "innodb_tables" : "innodb_sys_tables";
    std::vector<ControlRow> rows;
    try {
        rows = client_.query("SELECT name, table_id FROM information_schema." + view + " WHERE LEFT(name, " + std::to_string(here.size()) +
                                 ") = " + quote_text(here) + " OR LEFT(name, " + std::to_string(metadata.size()) +
                                 ") = " + quote_text(metadata),
                             doing);
        seen.numbers_readable = true;
    } catch (const core::Error &error) {
        if (error.native_code != denied)
            throw;
        return;
    }
    for (const ControlRow &row : rows) {
        std::string name = folded(row[0].value_or("")), partition;
        auto cut = name.find("#P#");
        cut = cut == std::string::npos ? name.find("#p#") : cut;
        if (cut != std::string::npos) {
            partition = name.substr(cut);
            name.erase(cut);
        }
        const auto found = owner.find(name);
        if (found == owner.end())
            continue;
        core::SeenTable &table = seen.tables[found->second.first];
        if (found->second.second)
            table.outbox_number = row[1].value_or("");
        else
            table.numbers[partition] = row[1].value_or("");
    }
}

void CaptureSight::see_gaps(core::SeenSource &seen) {
    if (!seen.gap_table)
        return;
    const std::string sql = "SELECT outbox, COUNT(*) FROM " + quote_name(connection_.metadata_database, gap_table) + " GROUP BY outbox";
    std::vector<ControlRow> rows;
    try {
        rows = ask_(sql); // who locks a table has the tables of its triggers locked as well
    } catch (const core::Error &error) {
        if (error.native_code != not_locked)
            throw;
        rows = client_.query(sql, doing);
    }
    for (const ControlRow &row : rows)
        if (const auto found = by_outbox_.find(folded(row[0].value_or(""))); found != by_outbox_.end())
            seen.tables[found->second].gaps = number_of(row[1]);
}

core::SeenSource CaptureSight::look(const std::vector<const core::TableConfig *> &tables, bool everywhere, const Ask &holder) {
    core::SeenSource seen;
    ask_ = holder ? holder : [this](const std::string &sql) { return client_.query(sql, doing); };
    see_server(seen);
    by_name_.clear();
    by_outbox_.clear();
    std::vector<std::string> all;
    for (const core::TableConfig *table : tables) {
        by_name_[folded(table->name)] = table->table_id;
        by_outbox_[folded(table->outbox)] = table->table_id;
        all.push_back(table->name);
        seen.tables[table->table_id];
    }
    if (tables.empty())
        return seen;
    const std::string names = name_list(all);
    see_tables(seen, names);
    see_columns(seen, names);
    see_indexes(seen, names);
    see_triggers(seen, names, tables, everywhere);
    see_outboxes(seen, tables);
    see_gaps(seen);
    see_numbers(seen, tables);
    return seen;
}

} // namespace tandem::mysql
