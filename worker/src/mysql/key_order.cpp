#include "mysql/key_order.hpp"

#include "core/error.hpp"
#include "core/key_text.hpp"
#include "mysql/sql_text.hpp"

namespace tandem::mysql {
namespace {

struct Compared {
    std::vector<std::string> names, values;
};

Compared compared(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<std::string> &bound) {
    Compared result;
    for (std::size_t i = 0; i < key.size(); ++i) {
        if (i >= bound.size())
            throw core::Error(core::Side::worker, "22023", "a bound has fewer values than the key has columns", false);
        auto value = core::sort_number(key[i], bound[i]);
        result.names.push_back(value ? "(" + names.at(i) + " + 0)" : names.at(i));
        if (!value)
            value = core::mysql_literal(key[i], bound[i]);
        if (!value)
            throw core::Error(core::Side::worker, "22023", "a bound is no key: column \"" + key[i].name + "\" of type " + key[i].mysql_type,
                              false);
        result.values.push_back(*value);
    }
    return result;
}

} // namespace

std::string after_key(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<std::string> &bound) {
    const Compared c = compared(key, names, bound);
    return "(" + after_condition(c.names, c.values) + ")";
}

// The exact complement of after_key, for keys without NULL.
std::string up_to_key(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<std::string> &bound) {
    const Compared c = compared(key, names, bound);
    std::string condition;
    for (std::size_t i = c.names.size(); i-- > 0;) {
        if (condition.empty())
            condition = c.names[i] + " <= " + c.values[i];
        else
            condition = c.names[i] + " < " + c.values[i] + " OR (" + c.names[i] + " = " + c.values[i] + " AND (" + condition + "))";
    }
    return c.names.size() == 1 ? "(" + condition + ")" : "(" + c.names[0] + " <= " + c.values[0] + " AND (" + condition + "))";
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
