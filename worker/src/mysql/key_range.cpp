#include "mysql/key_range.hpp"

#include "core/key_text.hpp"
#include "core/table_config.hpp"
#include "mysql/key_order.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>

namespace tandem::mysql {

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

std::vector<core::Column> columns_for_keys(const core::TableConfig &table) {
    std::vector<core::Column> columns = core::key_columns_of(table);
    if (std::ranges::none_of(columns, [](const core::Column &column) { return column.data_type == "enum" || column.data_type == "set"; }))
        return columns;
    const auto small = std::ranges::find_if(table.columns, [&](const core::Column &column) {
        return !column.generated && !column.gone && !column.data_type.ends_with("text") && !column.data_type.ends_with("blob") &&
               column.data_type != "json" && std::ranges::find(table.key_columns, column.name) == table.key_columns.end();
    });
    if (small != table.columns.end())
        columns.push_back(*small);
    return columns;
}

std::string interval_condition(const std::vector<core::Column> &key, const std::vector<std::string> &names, const KeyInterval &interval) {
    std::vector<std::string> conditions;
    if (!interval.low.empty())
        conditions.push_back(after_key(key, names, interval.low));
    if (!interval.high.empty())
        conditions.push_back(up_to_key(key, names, interval.high));
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

} // namespace tandem::mysql
