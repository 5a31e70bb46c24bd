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
};

// An index serves no comparison of an ENUM or SET by number, but it serves the list of the values on one side of the bound. The list stands alone:
// beside a condition on the number MariaDB 10.11 puts the label in place of the column, and finds other rows.
std::optional<Compared> by_values(const core::Column &column, const std::string &name, const std::string &number) {
    const std::vector<std::string> values = core::values_in_order(column);
    const std::size_t at = std::strtoull(number.c_str(), nullptr, 10);
    if (number.empty() || at >= values.size())
        return std::nullopt;
    std::vector<std::string> literals;
    for (const std::string &value : values) {
        const auto literal = core::mysql_literal(column, value);
        if (!literal)
            return std::nullopt;
        literals.push_back(*literal);
    }
    const auto among = [&](std::size_t from, std::size_t to) {
        const auto begin = literals.begin();
        return from == to ? std::string("FALSE") : name + " IN (" + join({begin + long(from), begin + long(to)}, ", ") + ")";
    };
    return Compared{name + " = " + literals[at], among(0, at), among(0, at + 1), among(at + 1, literals.size()),
                    among(at, literals.size())};
}

std::vector<Compared> compared(const std::vector<core::Column> &key, const std::vector<std::string> &names,
                               const std::vector<std::string> &bound) {
    std::vector<Compared> result;
    for (std::size_t i = 0; i < key.size(); ++i) {
        if (i >= bound.size())
            throw core::Error(core::Side::worker, "22023", "a bound has fewer values than the key has columns", false);
        auto value = core::sort_number(key[i], bound[i]);
        const bool by_number = value.has_value();
        if (by_number)
            if (auto listed = by_values(key[i], names.at(i), *value)) {
                result.push_back(std::move(*listed));
                continue;
            }
        const std::string name = by_number ? "(" + names.at(i) + " + 0)" : names.at(i);
        if (!by_number)
            value = core::mysql_literal(key[i], bound[i]);
        if (!value || value->empty())
            throw core::Error(core::Side::worker, "22023", "a bound is no key: column \"" + key[i].name + "\" of type " + key[i].mysql_type,
                              false);
        result.push_back(
            {name + " = " + *value, name + " < " + *value, name + " <= " + *value, name + " > " + *value, name + " >= " + *value});
    }
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
