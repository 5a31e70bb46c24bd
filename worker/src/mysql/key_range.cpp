#include "mysql/key_range.hpp"

#include "core/error.hpp"
#include "core/key_text.hpp"
#include "mysql/sql_text.hpp"

namespace tandem::mysql {
namespace {

// Columns and values of a comparison in index order: ENUM and SET sort by number.
struct Bound {
    std::vector<std::string> names, values;
};

Bound bound_of(const std::vector<core::Column> &key, const std::vector<std::string> &names, const KeyText &text) {
    Bound bound;
    for (std::size_t i = 0; i < key.size(); ++i) {
        auto value = i < text.size() ? core::sort_number(key[i], text[i]) : std::nullopt;
        bound.names.push_back(value ? "(" + names[i] + " + 0)" : names[i]);
        if (!value && i < text.size())
            value = core::mysql_literal(key[i], text[i]);
        if (!value)
            throw core::Error(core::Side::worker, "22023", "a bound of a range of keys is not a value of column \"" + key[i].name + "\"", false);
        bound.values.push_back(*value);
    }
    return bound;
}

} // namespace

std::vector<std::string> key_names_of(const std::vector<core::Column> &key, const std::string &prefix) {
    std::vector<std::string> names;
    for (const core::Column &column : key)
        names.push_back(prefix + quote_name(column.name));
    return names;
}

std::vector<std::string> outbox_key_names(std::size_t count) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < count; ++i)
        names.push_back(key_column(i));
    return names;
}

std::string interval_condition(const std::vector<core::Column> &key, const std::vector<std::string> &names, const KeyInterval &interval) {
    std::vector<std::string> conditions;
    if (!interval.low.empty()) {
        const Bound low = bound_of(key, names, interval.low);
        conditions.push_back("(" + after_condition(low.names, low.values) + ")");
    }
    if (!interval.high.empty()) {
        const Bound high = bound_of(key, names, interval.high);
        conditions.push_back("(" + up_to_condition(high.names, high.values) + ")");
    }
    return conditions.empty() ? std::string() : " WHERE " + join(conditions, " AND ");
}

std::string list_condition(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<KeyText> &keys) {
    std::vector<std::string> parts;
    for (const KeyText &text : keys) {
        std::vector<std::string> equalities;
        for (std::size_t i = 0; i < key.size() && i < text.size(); ++i)
            if (const auto value = core::mysql_literal(key[i], text[i]))
                equalities.push_back(key.size() == 1 ? *value : names[i] + " = " + *value);
        if (equalities.size() == key.size())
            parts.push_back(key.size() == 1 ? equalities[0] : "(" + join(equalities, " AND ") + ")");
    }
    if (parts.empty())
        return {};
    return key.size() == 1 ? names[0] + " IN (" + join(parts, ", ") + ")" : join(parts, " OR ");
}

std::string force_key_index(Client &client, const std::string &database, const core::TableConfig &table) {
    std::vector<std::string> names;
    for (const std::string &name : table.key_columns)
        names.push_back(quote_text(name));
    const auto row = client.one_row("SELECT index_name FROM information_schema.statistics WHERE table_schema = " + quote_text(database) +
                                        " AND table_name = " + quote_text(table.name) +
                                        " AND non_unique = 0 GROUP BY index_name"
                                        " HAVING GROUP_CONCAT(column_name ORDER BY seq_in_index SEPARATOR '\\n') = CONCAT_WS('\\n', " +
                                        join(names, ", ") + ") ORDER BY index_name = 'PRIMARY' DESC LIMIT 1",
                                    "looking up the key of table \"" + table.name + "\"");
    return row.empty() ? std::string() : " FORCE INDEX (" + quote_name(row[0]) + ")";
}

} // namespace tandem::mysql
