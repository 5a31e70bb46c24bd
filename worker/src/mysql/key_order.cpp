#include "mysql/key_order.hpp"

#include "core/error.hpp"
#include "core/key_text.hpp"
#include "mysql/sql_text.hpp"

#include <cstdlib>
#include <optional>

namespace tandem::mysql {
namespace {

// One key column beside its value in a bound.
struct Compared {
    std::string equal, less, less_or_equal, greater, greater_or_equal;
    std::optional<std::uint64_t> last_label; // its number, if nothing lies behind it
};

// An index serves no < and > of an ENUM or SET, but it serves the list of the numbers on one side of the bound. The list stands alone: beside another
// condition on the number MariaDB 10.11 puts a label in place of the column, and finds other rows. And it is never a list of one: that is an equality,
// and with one MySQL 5.6 does not see the bounds of the other columns any more.
std::optional<Compared> by_list(const core::Column &column, const std::string &name, std::uint64_t number) {
    constexpr std::uint64_t longest_list = 256;
    const auto greatest = core::greatest_sort_number(column);
    if (!greatest || *greatest >= longest_list)
        return std::nullopt;
    const auto among = [&](std::uint64_t from, std::uint64_t to) { // [from, to)
        std::vector<std::string> listed;
        for (std::uint64_t value = from; value < to; ++value)
            listed.push_back(std::to_string(value));
        if (listed.size() == 1)
            listed.push_back(listed.front());
        return listed.empty() ? std::string("FALSE") : name + " IN (" + join(listed, ", ") + ")";
    };
    const std::uint64_t end = *greatest + 1;
    return Compared{among(number, number + 1), among(0, number),   among(0, number + 1),
                    among(number + 1, end),    among(number, end), number == *greatest ? std::optional(number) : std::nullopt};
}

// Behind the last label MariaDB 10.11 sees that the column can have one value only, takes it out of the order, and sorts what the index has in order:
// every row up to the end, however few are wanted. So that it does not see it, 0 stands beside the label, with what no row can be. Conditions on
// another label would not do: see above.
void hide_last_labels(const std::vector<core::Column> &key, const std::vector<std::string> &names, std::vector<Compared> &columns) {
    const auto is_label = [&](std::size_t i) { return core::greatest_sort_number(key[i]).has_value(); };
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (!columns[i].last_label)
            continue;
        std::size_t other = i + 1;
        while (other < columns.size() && is_label(other))
            ++other;
        if (other == columns.size())
            return;
        columns[i].greater = "(" + names[i] + " IN (0, 0) AND " + columns[other].greater + " AND " + columns[other].less_or_equal + ")";
        columns[i].greater_or_equal = names[i] + " IN (0, " + std::to_string(*columns[i].last_label) + ")";
    }
}

std::vector<Compared> compared(const std::vector<core::Column> &key, const std::vector<std::string> &names,
                               const std::vector<std::string> &bound) {
    std::vector<Compared> result;
    for (std::size_t i = 0; i < key.size(); ++i) {
        if (i >= bound.size())
            throw core::Error(core::Side::worker, "22023", "a bound has fewer values than the key has columns", false);
        const bool labelled = core::greatest_sort_number(key[i]).has_value();
        const auto value = labelled ? core::sort_number(key[i], bound[i]) : core::mysql_literal(key[i], bound[i]);
        if (!value || value->empty())
            throw core::Error(core::Side::worker, "22023", "a bound is no key: column \"" + key[i].name + "\" of type " + key[i].mysql_type,
                              false);
        if (labelled)
            if (auto listed = by_list(key[i], names.at(i), std::strtoull(value->c_str(), nullptr, 10))) {
                result.push_back(std::move(*listed));
                continue;
            }
        const std::string name = labelled ? "(" + names.at(i) + " + 0)" : names.at(i);
        result.push_back(
            {name + " = " + *value, name + " < " + *value, name + " <= " + *value, name + " > " + *value, name + " >= " + *value, {}});
    }
    hide_last_labels(key, names, result);
    return result;
}

// Written so that an index over the columns serves it: a + b > x + y as a >= x AND (a > x OR (a = x AND b > y)).
std::string beyond(const std::vector<Compared> &columns, std::string Compared::*strictly, std::string Compared::*or_equal,
                   bool with_bound) {
    std::string condition;
    for (std::size_t i = columns.size(); i-- > 0;)
        condition = condition.empty() ? columns[i].*(with_bound ? or_equal : strictly)
                                      : columns[i].*strictly + " OR (" + columns[i].equal + " AND (" + condition + "))";
    return columns.size() == 1 ? "(" + condition + ")" : "(" + columns[0].*or_equal + " AND (" + condition + "))";
}

} // namespace

std::string after_key(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<std::string> &bound) {
    return beyond(compared(key, names, bound), &Compared::greater, &Compared::greater_or_equal, false);
}

// The exact complement of after_key, for keys without NULL.
std::string up_to_key(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<std::string> &bound) {
    return beyond(compared(key, names, bound), &Compared::less, &Compared::less_or_equal, true);
}

std::string interval_of_key(const std::vector<core::Column> &key, const std::vector<std::string> &names,
                            const std::vector<core::ChunkInterval> &intervals) {
    std::string cases;
    for (const core::ChunkInterval &interval : intervals) {
        if (!interval.high) // the rest
            return cases.empty() ? std::to_string(interval.what) : "CASE" + cases + " ELSE " + std::to_string(interval.what) + " END";
        cases += " WHEN " + up_to_key(key, names, *interval.high) + " THEN " + std::to_string(interval.what);
    }
    // Nothing is said of what lies behind: left where it is.
    return cases.empty() ? "-1" : "CASE" + cases + " ELSE -1 END";
}

} // namespace tandem::mysql
