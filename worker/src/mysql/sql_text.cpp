#include "mysql/sql_text.hpp"

#include <algorithm>

namespace tandem::mysql {

std::string quote_name(std::string_view name) {
    std::string result = "`";
    for (const char c : name) {
        if (c == '`')
            result.push_back('`');
        result.push_back(c);
    }
    return result + "`";
}

std::string quote_name(std::string_view database, std::string_view name) { return quote_name(database) + "." + quote_name(name); }

std::string quote_text(std::string_view text) {
    static constexpr char digits[] = "0123456789abcdef";
    if (text.empty())
        return "_utf8mb4''";
    std::string result = "_utf8mb4 X'";
    for (const char c : text) {
        result.push_back(digits[static_cast<unsigned char>(c) >> 4]);
        result.push_back(digits[static_cast<unsigned char>(c) & 15]);
    }
    return result + "'";
}

std::string key_column(std::size_t position) { return "k" + std::to_string(position + 1); }

std::string child_alias(int table_id) { return "tandem_c" + std::to_string(table_id); }

std::string join(const std::vector<std::string> &parts, std::string_view separator) {
    std::string result;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        if (i > 0)
            result += separator;
        result += parts[i];
    }
    return result;
}

std::string ids_condition(const std::vector<core::IdSet::Run> &runs, std::string_view column) {
    std::vector<std::string> conditions;
    std::vector<std::string> singles;
    for (const core::IdSet::Run &run : runs) {
        if (run.last - run.first < 2) {
            for (std::uint64_t id = run.first; id <= run.last; ++id)
                singles.push_back(std::to_string(id));
            continue;
        }
        conditions.push_back(std::string(column) + " BETWEEN " + std::to_string(run.first) + " AND " + std::to_string(run.last));
    }
    if (!singles.empty())
        conditions.push_back(std::string(column) + " IN (" + join(singles, ", ") + ")");
    return join(conditions, " OR ");
}

std::string other_ids_condition(const std::vector<core::IdSet::Run> &runs, std::string_view column) {
    const std::string name(column);
    std::vector<std::string> conditions{name + " < " + std::to_string(runs.front().first)};
    for (std::size_t i = 0; i < runs.size(); ++i) {
        std::string range = name + " > " + std::to_string(runs[i].last);
        if (i + 1 < runs.size())
            range = "(" + range + " AND " + name + " < " + std::to_string(runs[i + 1].first) + ")";
        conditions.push_back(range);
    }
    return join(conditions, " OR ");
}

std::string delete_run(const std::string &outbox, const core::IdSet::Run &run) {
    return "DELETE FROM " + outbox + " WHERE tandem_id BETWEEN " + std::to_string(run.first) + " AND " + std::to_string(run.last) +
           " ORDER BY tandem_id LIMIT " + std::to_string(run.last - run.first + 1);
}

std::string delete_each(const std::string &outbox, const std::vector<std::uint64_t> &ids) {
    std::string list;
    for (const std::uint64_t id : ids)
        list += list.empty() ? "SELECT " + std::to_string(id) + " AS id" : " UNION ALL SELECT " + std::to_string(id);
    // No alias: MySQL 5.6 would look for its DELETE privilege in the session's own database.
    return "DELETE " + outbox + " FROM (" + list + ") l STRAIGHT_JOIN " + outbox + " ON tandem_id = l.id";
}

std::vector<std::vector<core::IdSet::Run>> slices(const core::IdSet &ids, std::uint64_t max_ids, std::size_t max_runs) {
    std::vector<std::vector<core::IdSet::Run>> result;
    std::vector<core::IdSet::Run> slice;
    std::uint64_t room = max_ids;
    const auto finish = [&] {
        result.push_back(std::move(slice));
        slice.clear();
        room = max_ids;
    };
    for (core::IdSet::Run run : ids.runs()) {
        for (;;) {
            if (room == 0 || slice.size() == max_runs)
                finish();
            const std::uint64_t size = run.last - run.first + 1;
            if (size <= room) {
                slice.push_back(run);
                room -= size;
                break;
            }
            slice.push_back({run.first, run.first + room - 1});
            run.first += room;
            room = 0;
        }
    }
    if (!slice.empty())
        finish();
    return result;
}

std::string after_condition(const std::vector<std::string> &columns, const std::vector<std::string> &values) {
    std::string condition;
    for (std::size_t i = columns.size(); i-- > 0;) {
        const std::string greater = columns[i] + " > " + values[i];
        condition = condition.empty() ? greater : greater + " OR (" + columns[i] + " = " + values[i] + " AND (" + condition + "))";
    }
    return columns.size() == 1 ? condition : columns[0] + " >= " + values[0] + " AND (" + condition + ")";
}

} // namespace tandem::mysql
