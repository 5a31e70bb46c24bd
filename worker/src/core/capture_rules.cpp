#include "core/capture_rules.hpp"

#include "core/table_config.hpp"

#include <algorithm>

namespace tandem::core {
namespace {

using nlohmann::json;

std::string in_quotes(const std::string &name) { return "\"" + name + "\""; }

// int(11) → int: the width is for display, and later servers do not show it any more.
std::string plain_type(std::string type) {
    for (const char *name : {"tinyint", "smallint", "mediumint", "int", "bigint"}) {
        const std::string prefix = std::string(name) + "(";
        if (!type.starts_with(prefix))
            continue;
        const auto end = type.find(')');
        if (end != std::string::npos)
            type.erase(prefix.size() - 1, end - prefix.size() + 2);
    }
    return type;
}

std::string plain_charset(std::string name) {
    if (name.starts_with("utf8mb3"))
        name.erase(4, 3);
    return name;
}

const SeenColumn *find(const SeenTable &seen, const std::string &name) {
    const auto found = std::ranges::find(seen.columns, name, &SeenColumn::name);
    return found == seen.columns.end() ? nullptr : &*found;
}

std::string type_text(const std::string &type, const std::string &collation) {
    return collation.empty() ? type : type + " COLLATE " + collation;
}

// A mapped column that is not there: perhaps it only has another name now.
std::string new_name_of(const TableConfig &table, const SeenTable &seen, const Column &column) {
    std::string found;
    for (const SeenColumn &other : seen.columns) {
        const bool known = std::ranges::any_of(table.columns, [&](const Column &c) { return c.name == other.name && !c.gone; });
        if (known || !same_type(column, other))
            continue;
        if (!found.empty())
            return {}; // several could be it
        found = other.name;
    }
    return found;
}

constexpr const char *add_anew = "change the target if needed, then tandem.drop_table and tandem.add_table with on_existing => 'truncate'";

std::optional<CaptureFault> column_fault(const TableConfig &table, const SeenTable &seen) {
    for (const Column &column : table.columns) {
        if (column.gone || !column.mapped)
            continue;
        const SeenColumn *now = find(seen, column.name);
        if (now == nullptr) {
            const std::string renamed = new_name_of(table, seen, column);
            return CaptureFault{
                "column",
                "column " + in_quotes(column.name) + " (" + column.mysql_type + ") of table " + in_quotes(table.name) +
                    (renamed.empty() ? " does not exist any more" : " does not exist any more; it may be " + in_quotes(renamed) + " now") +
                    ", and the target takes it; bring it back and call tandem.resume, or " + add_anew,
                false};
        }
        if (!same_type(column, *now))
            return CaptureFault{"column",
                                "column " + in_quotes(column.name) + " of table " + in_quotes(table.name) + " was " +
                                    type_text(column.mysql_type, column.collation) + " and is " +
                                    type_text(now->mysql_type, now->collation) + " now; change it back and call tandem.resume, or " +
                                    add_anew,
                                false};
    }
    return std::nullopt;
}

bool key_exists(const TableConfig &table, const SeenTable &seen) {
    return std::ranges::any_of(seen.unique_keys, [&](const auto &key) {
        return key.second.size() == table.key_columns.size() && std::ranges::is_permutation(key.second, table.key_columns);
    });
}

// The key's columns alone make rows distinct even if the index has lost its order.
std::optional<CaptureFault> outbox_fault(const TableConfig &table, const SeenTable &seen, const json &identity) {
    if (seen.outbox_columns.empty())
        return CaptureFault{"outbox", "outbox " + in_quotes(table.outbox) + " does not exist on the old side", true};
    const auto key = key_columns_of(table);
    bool same = seen.outbox_columns.size() == key.size() + 3;
    for (std::size_t i = 0; same && i < key.size(); ++i)
        same = seen.outbox_columns[i + 3] == "k" + std::to_string(i + 1) + " " + key[i].mysql_type + " " + key[i].collation;
    if (!same)
        return CaptureFault{"outbox", "outbox " + in_quotes(table.outbox) + " does not have the key's columns", true};
    const std::string before = identity.value("outbox", "");
    if (!before.empty() && !seen.outbox_number.empty() && before != seen.outbox_number)
        return CaptureFault{"outbox", "outbox " + in_quotes(table.outbox) + " was emptied or made anew by somebody else", true};
    return std::nullopt;
}

json triggers_json(const SeenTable &seen) {
    json all = json::object();
    for (const SeenTrigger &trigger : seen.triggers)
        all[trigger.name] = trigger.timing + " " + trigger.event + " ON " + trigger.table + " " + trigger.text;
    return all;
}

// What is wrong with the triggers, and whether they are on another table now.
std::string trigger_trouble(const TableConfig &table, const SeenTable &seen, const json &identity, std::string &elsewhere) {
    if (!table.has_triggers)
        return {};
    const json now = triggers_json(seen);
    const json before = identity.value("triggers", json::object());
    std::string trouble;
    for (const auto &[kind, event] : {std::pair{"ai", "INSERT"}, std::pair{"au", "UPDATE"}, std::pair{"ad", "DELETE"}}) {
        const std::string name = std::string("tandem_") + kind + "_" + table.trigger_suffix;
        const auto found = std::ranges::find(seen.triggers, name, &SeenTrigger::name);
        std::string what;
        if (found == seen.triggers.end())
            what = "trigger " + in_quotes(name) + " does not exist";
        else if (found->table != table.name)
            what = "trigger " + in_quotes(name) + " is on table " + in_quotes(elsewhere = found->table);
        else if (found->event != event || found->timing != "AFTER" || (before.contains(name) && before[name] != now[name]))
            what = "trigger " + in_quotes(name) + " was changed";
        if (!what.empty())
            trouble += (trouble.empty() ? "" : "; ") + what;
    }
    return trouble;
}

json numbers_json(const SeenTable &seen) {
    json numbers = json::object();
    for (const auto &[partition, number] : seen.numbers)
        numbers[partition] = number;
    return numbers;
}

// Partitions may come; what was there must still be there.
bool only_added(const json &before, const json &now) {
    return std::ranges::all_of(before.items(),
                               [&](const auto &item) { return now.contains(item.key()) && now[item.key()] == item.value(); });
}

std::string shape_of(const SeenTable &seen) {
    std::string shape = seen.engine + "\n" + seen.rest + "\n" + seen.indexes;
    for (const SeenColumn &column : seen.columns)
        shape += "\n" + column.name + " " + column.mysql_type + " " + column.charset + " " + column.collation +
                 (column.nullable ? " NULL " : " ") + column.rest;
    std::uint64_t hash = 1469598103934665603ULL; // FNV-1a: only to tell one shape from the next
    for (const char c : shape)
        hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    char text[20];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
    return text;
}

// Whether the rows may be others than capture knows of although the triggers are whole.
std::optional<CaptureFault> content_fault(const TableConfig &table, const SeenSource &source, const SeenTable &seen, const json &identity,
                                          const LastSight &last) {
    const std::string name = in_quotes(table.name);
    const bool altered = !seen.created.empty() && identity.value("created", "") != seen.created;
    const bool by_number = source.numbers_readable && identity.contains("numbers") && !identity["numbers"].is_null();
    if (by_number) {
        const json before = identity["numbers"], now = numbers_json(seen);
        if (!only_added(before, now)) {
            if (before.size() > 1 || !before.contains("") || now.size() > 1 || !now.contains(""))
                return CaptureFault{"partitions", "partitions of table " + name + " were dropped, emptied, exchanged or reorganized", true};
            if (altered)
                return CaptureFault{
                    "rebuilt", "table " + name + " was rebuilt by ALTER TABLE or OPTIMIZE TABLE; its rows may be others than before", true};
            return CaptureFault{"truncated", "table " + name + " was emptied by TRUNCATE", true};
        }
        if (altered && identity.value("shape", "") == shape_of(seen))
            return CaptureFault{"rebuilt", "table " + name + " was altered in a way that does not show; its rows may be others than before",
                                true};
        return std::nullopt;
    }
    if (altered)
        return CaptureFault{"rebuilt",
                            "table " + name +
                                " was altered; whether its rows are the same cannot be told without the privilege PROCESS on the old side",
                            true};
    // A restart of the server may set the counter back as well.
    if (last.known && source.uptime >= last.uptime && seen.auto_increment < last.auto_increment)
        return CaptureFault{"truncated", "table " + name + " was emptied by TRUNCATE, as its AUTO_INCREMENT tells", true};
    if (last.known && last.bytes >= 65536 && seen.bytes <= 16384)
        return CaptureFault{"truncated", "table " + name + " was emptied by TRUNCATE, as its size tells", true};
    return std::nullopt;
}

} // namespace

bool same_type(const Column &column, const SeenColumn &seen) {
    return plain_type(column.mysql_type) == plain_type(seen.mysql_type) && plain_charset(column.charset) == plain_charset(seen.charset) &&
           plain_charset(column.collation) == plain_charset(seen.collation);
}

json identity_of(const SeenSource &source, const SeenTable &seen) {
    return {{"server", source.server},         {"numbers", source.numbers_readable ? numbers_json(seen) : json(nullptr)},
            {"outbox", seen.outbox_number},    {"created", seen.created},
            {"triggers", triggers_json(seen)}, {"shape", shape_of(seen)}};
}

json column_changes(const TableConfig &table, const SeenTable &seen) {
    json changes = json::array();
    if (!seen.exists)
        return changes;
    for (const Column &column : table.columns) {
        const SeenColumn *now = find(seen, column.name);
        if (column.gone)
            continue;
        json change = {{"column", column.name}, {"old_type", type_text(column.mysql_type, column.collation)}, {"mapped", column.mapped}};
        if (now == nullptr) {
            change["change"] = "dropped";
        } else if (!same_type(column, *now)) {
            change["change"] = "altered";
            change["new_type"] = type_text(now->mysql_type, now->collation);
        } else if (column.nullable != now->nullable) {
            change["change"] = "nullability";
            change["new_type"] = type_text(now->mysql_type, now->collation) + (now->nullable ? " NULL" : " NOT NULL");
        } else {
            continue;
        }
        changes.push_back(std::move(change));
    }
    for (const SeenColumn &now : seen.columns)
        if (std::ranges::none_of(table.columns, [&](const Column &column) { return column.name == now.name && !column.gone; }))
            changes.push_back({{"column", now.name},
                               {"change", "added"},
                               {"new_type", type_text(now.mysql_type, now.collation) + (now.nullable ? "" : " NOT NULL")},
                               {"mapped", false}});
    return changes;
}

std::optional<CaptureFault> judge(const TableConfig &table, const SeenSource &source, const SeenTable &seen,
                                  const std::string &identity_text, const LastSight &last) {
    const json identity = identity_text.empty() ? json::object() : json::parse(identity_text);
    const std::string name = in_quotes(table.name);
    if (identity.contains("server") && !source.server.empty() && identity["server"] != source.server)
        return CaptureFault{
            "server",
            "another server answers at the address of the old side, or its metadata database was replaced; changes made there are not "
            "known. If it is the right one, tandem.resume copies the table anew",
            false};
    if (!seen.exists)
        return CaptureFault{"dropped",
                            "table " + name + " does not exist on the old side; bring it back and call tandem.resume, or tandem.drop_table",
                            false};
    if (seen.engine != "InnoDB")
        return CaptureFault{"engine",
                            "table " + name + " has engine " + seen.engine +
                                " now, whose rows cannot be read in a snapshot; change it back to InnoDB and call "
                                "tandem.resume",
                            false};
    if (auto fault = column_fault(table, seen))
        return fault;
    if (!key_exists(table, seen)) {
        std::string key;
        for (const std::string &column : table.key_columns)
            key += (key.empty() ? "" : ", ") + column;
        return CaptureFault{"key",
                            "table " + name + " has no unique key on (" + key +
                                ") any more, by which its rows are found; bring it back and call "
                                "tandem.resume, or " +
                                add_anew,
                            false};
    }
    if (auto fault = outbox_fault(table, seen, identity))
        return fault;
    if (!source.gap_table)
        return CaptureFault{"outbox", "table \"capture_gap\" does not exist in the metadata database of the old side", true};
    std::string elsewhere;
    if (const std::string trouble = trigger_trouble(table, seen, identity, elsewhere); !trouble.empty()) {
        const bool other = identity.contains("numbers") && !identity["numbers"].is_null() && source.numbers_readable
                               ? !only_added(identity["numbers"], numbers_json(seen))
                               : identity.value("created", seen.created) != seen.created;
        if (!elsewhere.empty() || other)
            return CaptureFault{
                "swapped",
                "another table has the name " + name + " now (" + trouble +
                    "), as after gh-ost, pt-online-schema-change or RENAME TABLE. If it is the right one, tandem.resume installs capture "
                    "on it, copies it anew and removes rows that it does not have",
                false};
        return CaptureFault{"trigger", trouble + "; events may be lost", true};
    }
    if (!identity.empty())
        if (auto fault = content_fault(table, source, seen, identity, last))
            return fault;
    if (seen.gaps > 0)
        return CaptureFault{
            "gap", std::to_string(seen.gaps) + " events could not be written to the outbox (see capture_gap on the old side)", true};
    return std::nullopt;
}

std::optional<CaptureFault> judge_contents(const TableConfig &table, const SeenSource &source, const SeenTable &seen,
                                           const std::string &identity_text) {
    const json identity = identity_text.empty() ? json::object() : json::parse(identity_text);
    if (identity.contains("server") && !source.server.empty() && identity["server"] != source.server)
        return CaptureFault{"server", "another server answers at the address of the old side, or its metadata database was replaced",
                            false};
    if (!seen.exists)
        return CaptureFault{"dropped", "table " + in_quotes(table.name) + " does not exist on the old side", false};
    return identity.empty() ? std::nullopt : content_fault(table, source, seen, identity, {});
}

} // namespace tandem::core
