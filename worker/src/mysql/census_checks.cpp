// Bytes are compared where the old side's collations would hide what PostgreSQL will see, so most text goes through CAST(… AS BINARY).
#include "mysql/census_checks.hpp"

#include "mysql/sql_text.hpp"

#include <algorithm>
#include <set>

namespace tandem::mysql {
namespace {

using nlohmann::json;

// A B-tree entry of PostgreSQL ends at 2704 bytes; some are the entry's own.
constexpr int index_entry_bytes = 2600;

std::string text_of(const json &object, const char *name) {
    const auto found = object.find(name);
    return found == object.end() || !found->is_string() ? std::string() : found->get<std::string>();
}

bool one_of(const std::string &type, const std::set<std::string> &names) { return names.contains(type); }

std::string bytes(const std::string &value) { return "CAST(" + value + " AS BINARY)"; }
std::string utf8_bytes(const std::string &value) { return "CAST(CONVERT(" + value + " USING utf8mb4) AS BINARY)"; }

void add_number_checks(std::vector<CensusCheck> &checks, const std::string &name, const std::string &value, const json &column) {
    const std::string type = text_of(column, "data_type");
    if (type == "tinyint" && text_of(column, "mysql_type").starts_with("tinyint(1)"))
        checks.push_back({name, "not_boolean", value + " NOT IN (0, 1)"});
    if (type == "bigint" && column.value("unsigned", false))
        checks.push_back({name, "above_bigint", value + " > 9223372036854775807"});
}

void add_time_checks(std::vector<CensusCheck> &checks, const std::string &name, const std::string &value, const json &column) {
    const std::string type = text_of(column, "data_type");
    if (one_of(type, {"date", "datetime", "timestamp"})) {
        // MONTH and DAY also tell the parts of dates that are not in the calendar. A zero date has no part.
        const std::string zero = "(YEAR(" + value + ") = 0 AND MONTH(" + value + ") = 0 AND DAYOFMONTH(" + value + ") = 0)";
        const std::string partial = "(YEAR(" + value + ") = 0 OR MONTH(" + value + ") = 0 OR DAYOFMONTH(" + value + ") = 0)";
        checks.push_back({name, "zero_date", zero});
        if (type != "timestamp") {
            checks.push_back({name, "partial_date", partial + " AND NOT " + zero});
            checks.push_back({name, "invalid_date",
                              "NOT " + partial + " AND DAYOFMONTH(" + value + ") > CASE WHEN MONTH(" + value +
                                  ") IN (4, 6, 9, 11) THEN 30 WHEN MONTH(" + value + ") <> 2 THEN 31 WHEN YEAR(" + value +
                                  ") % 4 = 0 AND (YEAR(" + value + ") % 100 <> 0 OR YEAR(" + value + ") % 400 = 0) THEN 29 ELSE 28 END"});
        }
    }
    if (type == "time")
        checks.push_back({name, "outside_day", value + " + 0 < 0 OR " + value + " + 0 >= 240000"});
}

// A surrogate in UTF-8, which the old servers take for a character: ED, then A0 to BF. No character has ED but at its beginning.
std::string half_a_pair(const std::string &utf8) {
    static constexpr char digits[] = "0123456789ABCDEF";
    std::vector<std::string> pairs;
    for (const char high : {'A', 'B'})
        for (int low = 0; low < 16; ++low)
            pairs.push_back(std::string("LOCATE(X'ED") + high + digits[low] + "', " + utf8 + ") > 0");
    return "(LOCATE(X'ED', " + utf8 + ") > 0 AND (" + join(pairs, " OR ") + "))";
}

// UTF-8 that was written through a connection of latin1: 'é' is stored as the two characters 'Ã©', each as the column's character set has it.
// What latin1 can hold, and is UTF-8 of more than ASCII when its latin1 bytes are read as such.
void add_mislabelled_check(std::vector<CensusCheck> &checks, const std::string &name, const std::string &value,
                           const std::string &charset) {
    if (!one_of(charset, {"latin1", "utf8", "utf8mb3", "utf8mb4"}))
        return;
    const std::string once = charset == "latin1" ? bytes(value) : bytes("CONVERT(" + value + " USING latin1)");
    const std::string read = "CONVERT(" + once + " USING utf8mb4)";
    std::string condition = bytes(read) + " = " + once + " AND CHAR_LENGTH(" + read + ") < LENGTH(" + once + ")";
    if (charset != "latin1")
        condition += " AND " + bytes("CONVERT(CONVERT(" + value + " USING latin1) USING " + charset + ")") + " = " + bytes(value);
    checks.push_back({name, "looks_utf8", condition});
}

void add_text_checks(std::vector<CensusCheck> &checks, const std::string &name, const std::string &value, const json &column) {
    const std::string type = text_of(column, "data_type");
    const std::string charset = text_of(column, "charset");
    if (type == "json")
        checks.push_back({name, "nul_escape", "LOCATE(" + quote_text("\\u0000") + ", CONVERT(" + value + " USING utf8mb4)) > 0"});
    if (charset.empty() || type == "json")
        return;
    const bool wide = one_of(charset, {"ucs2", "utf16", "utf16le", "utf32"});
    checks.push_back({name, "nul", "LOCATE(X'00', " + (wide ? utf8_bytes(value) : bytes(value)) + ") > 0"});
    // What is not valid in its character set does not come back from a conversion: it is cut, replaced or NULL, depending on the server.
    if (one_of(charset, {"utf8", "utf8mb3", "utf8mb4"}))
        checks.push_back({name, "bad_text",
                          "NOT (" + bytes("CONVERT(" + bytes(value) + " USING utf8mb4)") + " <=> " + bytes(value) + ") OR " +
                              half_a_pair(bytes(value))});
    else if (charset != "binary")
        checks.push_back({name, "bad_text",
                          "NOT (" + bytes("CONVERT(CONVERT(" + value + " USING utf8mb4) USING " + charset + ")") + " <=> " + bytes(value) +
                              ")" + (wide ? " OR " + half_a_pair(utf8_bytes(value)) : "")});
    if (type == "enum")
        checks.push_back({name, "bad_enum", value + " + 0 = 0"});
    add_mislabelled_check(checks, name, value, charset);
}

// Unique keys over text mean something else where case, accents and trailing spaces count.
void add_unique_checks(std::vector<CensusCheck> &checks, const std::string &name, const std::string &value, const json &column) {
    const std::string collation = text_of(column, "collation");
    if (collation.empty() || one_of(text_of(column, "data_type"), {"enum", "set", "json"}))
        return;
    if (collation.find("nopad") == std::string::npos && collation.find("_0900_") == std::string::npos)
        checks.push_back({name, "trailing_space", "RIGHT(" + utf8_bytes(value) + ", 1) = X'20'"});
    if (collation.ends_with("_bin") || collation == "binary")
        return;
    if (!collation.ends_with("_cs"))
        checks.push_back({name, "unique_case", bytes(value) + " <> " + bytes("LOWER(" + value + ")")});
    if (collation.find("_as_") == std::string::npos)
        checks.push_back({name, "unique_accents", "LENGTH(" + utf8_bytes(value) + ") <> CHAR_LENGTH(" + value + ")"});
}

void add_index_checks(std::vector<CensusCheck> &checks, const std::string &name, const std::string &value, const json &column) {
    const std::string type = text_of(column, "data_type");
    const bool is_text = !text_of(column, "charset").empty();
    if (!is_text && !one_of(type, {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}))
        return;
    const auto length = column.value("length", json(nullptr));
    if (length.is_number() && length.get<double>() * (is_text ? 4 : 1) > index_entry_bytes)
        checks.push_back(
            {name, "index_too_long", "LENGTH(" + (is_text ? utf8_bytes(value) : value) + ") > " + std::to_string(index_entry_bytes)});
}

void add_target_checks(std::vector<CensusCheck> &checks, const std::string &name, const std::string &value, const json &limits) {
    if (limits.value("not_null", false))
        checks.push_back({name, "null_in_target", value + " IS NULL"});
    if (limits.contains("max_chars"))
        checks.push_back({name, "over_long", "CHAR_LENGTH(" + value + ") > " + std::to_string(limits.at("max_chars").get<std::int64_t>())});
    if (limits.contains("min") && limits.contains("max"))
        // Digits only, by the extension; quoted all the same. + 0 makes a number of the text again.
        checks.push_back({name, "out_of_range",
                          value + " NOT BETWEEN CAST(" + quote_text(text_of(limits, "min")) + " AS DECIMAL(65,30)) AND CAST(" +
                              quote_text(text_of(limits, "max")) + " AS DECIMAL(65,30))"});
    if (limits.contains("labels")) {
        std::vector<std::string> labels{bytes("''")}; // a list must not be empty; '' is looked at below
        bool empty_allowed = false;
        for (const json &label : limits.at("labels")) {
            labels.push_back(bytes(quote_text(label.get<std::string>())));
            empty_allowed = empty_allowed || label.get<std::string>().empty();
        }
        checks.push_back(
            {name, "unknown_label",
             utf8_bytes(value) + " NOT IN (" + join(labels, ", ") + ")" + (empty_allowed ? "" : " OR " + utf8_bytes(value) + " = X''")});
    }
}

void add_foreign_key_checks(std::vector<CensusCheck> &checks, const json &foreign_key, const std::set<std::string> &text_columns) {
    const auto columns = foreign_key.at("columns").get<std::vector<std::string>>();
    const auto referenced = foreign_key.at("ref_columns").get<std::vector<std::string>>();
    if (text_of(foreign_key, "parent_database") != text_of(foreign_key, "child_database") || columns.size() != referenced.size())
        return; // the user may have no rights on another database
    std::vector<std::string> all_set, equal, same;
    bool has_text = false;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const std::string child = "t." + quote_name(columns[i]), parent = "p." + quote_name(referenced[i]);
        all_set.push_back(child + " IS NOT NULL");
        equal.push_back(parent + " = " + child);
        same.push_back(bytes(parent) + " = " + bytes(child));
        has_text = has_text || text_columns.contains(columns[i]);
    }
    const std::string parents = "EXISTS (SELECT 1 FROM " +
                                quote_name(text_of(foreign_key, "parent_database"), text_of(foreign_key, "parent")) + " p WHERE " +
                                join(equal, " AND ");
    const std::string name = join(columns, ", ");
    checks.push_back({name, "orphan", join(all_set, " AND ") + " AND NOT " + parents + ")"});
    if (has_text)
        checks.push_back({name, "loose_parent", join(all_set, " AND ") + " AND " + parents + " AND NOT (" + join(same, " AND ") + "))"});
}

} // namespace

std::vector<CensusCheck> census_checks(const json &description, const json &limits) {
    std::set<std::string> in_unique, in_index, text_columns;
    for (const json &key : description.at("keys")) {
        if (text_of(key, "type") != "BTREE")
            continue;
        for (const json &column : key.at("columns")) {
            if (key.value("unique", false))
                in_unique.insert(column.get<std::string>());
            if (!key.value("prefix", false))
                in_index.insert(column.get<std::string>());
        }
    }
    std::vector<CensusCheck> checks;
    for (const json &column : description.at("columns")) {
        const std::string name = text_of(column, "name");
        const std::string value = "t." + quote_name(name);
        if (!text_of(column, "charset").empty())
            text_columns.insert(name);
        add_number_checks(checks, name, value, column);
        add_time_checks(checks, name, value, column);
        add_text_checks(checks, name, value, column);
        if (in_unique.contains(name))
            add_unique_checks(checks, name, value, column);
        if (in_index.contains(name))
            add_index_checks(checks, name, value, column);
        if (limits.is_object() && limits.contains("columns") && limits.at("columns").contains(name))
            add_target_checks(checks, name, value, limits.at("columns").at(name));
    }
    for (const json &foreign_key : description.at("foreign_keys"))
        add_foreign_key_checks(checks, foreign_key, text_columns);
    return checks;
}

std::vector<CensusCheck> census_collisions(const json &limits) {
    std::vector<CensusCheck> checks;
    if (!limits.is_object() || !limits.contains("unique"))
        return checks;
    for (const json &key : limits.at("unique")) {
        const auto columns = key.at("columns").get<std::vector<std::string>>();
        const auto folded = key.at("folded").get<std::vector<std::string>>();
        std::vector<std::string> parts;
        for (const std::string &column : columns) {
            const std::string value = "t." + quote_name(column);
            const bool fold = std::find(folded.begin(), folded.end(), column) != folded.end();
            parts.push_back(fold ? utf8_bytes("LOWER(" + value + ")") : value);
        }
        checks.push_back({join(columns, ", "), "collides", join(parts, ", ")});
    }
    return checks;
}

} // namespace tandem::mysql
