#include "mysql/census.hpp"

#include "core/error.hpp"
#include "mysql/census_checks.hpp"
#include "mysql/control_client.hpp"
#include "mysql/describe.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

namespace tandem::mysql {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using Millis = std::chrono::milliseconds;

constexpr Millis slice_goal{200};
constexpr Millis longest_pause{200};
constexpr Millis report_every{2000};
constexpr std::uint64_t first_slice = 2000, smallest_slice = 200, largest_slice = 200000;

// How a key column is compared and carried back as a literal. A literal need not be exact: the same one ends a slice and begins the
// next, so every row is counted once.
struct KeyColumn {
    std::string name;   // in ORDER BY: as the index sorts
    std::string value;  // in conditions
    std::string select; // what the literal is made of
    std::string shown;  // for people
    enum class As { number, quoted, bytes } as = As::quoted;
    std::string introducer; // of bytes
};

KeyColumn key_column_of(const json &column) {
    const std::string name = "t." + quote_name(column.at("name").get<std::string>());
    const std::string type = column.at("data_type").get<std::string>();
    const auto is = [&](std::initializer_list<const char *> names) {
        return std::any_of(names.begin(), names.end(), [&](const char *n) { return type == n; });
    };
    if (is({"enum", "set"}))
        return {name, "(" + name + " + 0)", name + " + 0", name, KeyColumn::As::number, {}}; // they sort by number
    if (is({"bit"}))
        return {name, name, name + " + 0", name + " + 0", KeyColumn::As::number, {}};
    if (is({"float", "double"}))
        return {name, name, name + " * 1e0", name, KeyColumn::As::number, {}};
    if (is({"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "year"}))
        return {name, name, name, name, KeyColumn::As::number, {}};
    if (is({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}))
        return {name, name, "HEX(" + name + ")", "CONCAT('\\\\x', LOWER(HEX(" + name + ")))", KeyColumn::As::bytes, "_binary"};
    if (column.at("charset").is_string())
        return {name, name, "HEX(" + name + ")", name, KeyColumn::As::bytes, "_" + column.at("charset").get<std::string>()};
    return {name, name, name, name, KeyColumn::As::quoted, {}};
}

std::string literal(const KeyColumn &column, const std::string &text) {
    switch (column.as) {
    case KeyColumn::As::number:
        return text;
    case KeyColumn::As::bytes:
        return column.introducer + " X'" + text + "'";
    case KeyColumn::As::quoted:
        break;
    }
    return quote_text(text);
}

// (columns) <= (values) in index order, written like after_condition so that the index serves it.
std::string up_to_condition(const std::vector<std::string> &columns, const std::vector<std::string> &values) {
    std::string condition;
    for (std::size_t i = columns.size(); i-- > 0;)
        condition = condition.empty()
                        ? columns[i] + " <= " + values[i]
                        : columns[i] + " < " + values[i] + " OR (" + columns[i] + " = " + values[i] + " AND (" + condition + "))";
    return columns.size() == 1 ? condition : columns[0] + " <= " + values[0] + " AND (" + condition + ")";
}

// Samples are shown to people and travel as JSON in UTF-8: what is neither is shown as hexadecimal.
std::string printable(const std::string &text) {
    const bool plain =
        json(text).dump(-1, ' ', false, json::error_handler_t::replace) == json(text).dump(-1, ' ', false, json::error_handler_t::ignore);
    if (plain && text.find('\0') == std::string::npos)
        return text;
    static constexpr char digits[] = "0123456789abcdef";
    std::string hex = "0x";
    for (const char c : text) {
        hex.push_back(digits[static_cast<unsigned char>(c) >> 4]);
        hex.push_back(digits[static_cast<unsigned char>(c) & 15]);
    }
    return hex;
}

class Census {
  public:
    Census(ControlClient &client, const core::SourceConnection &connection, const json &description, const json &question,
           const CensusSink &sink)
        : client_(client), sink_(sink), table_(description.at("table").get<std::string>()),
          from_(quote_name(connection.database, table_) + " t"), checks_(census_checks(description, question.value("limits", json()))),
          collisions_(census_collisions(question.value("limits", json()))), sample_(question.value("sample", 3U)), counts_(checks_.size()),
          samples_(checks_.size(), json::array()) {
        const auto estimate = description.find("rows_estimate");
        if (estimate != description.end() && estimate->is_number())
            estimate_ = estimate->get<std::uint64_t>();
        const auto key = question.value("key", std::vector<std::string>{});
        for (const std::string &name : key)
            for (const json &column : description.at("columns"))
                if (column.at("name") == name)
                    key_.push_back(key_column_of(column));
        for (const json &index : description.at("keys"))
            if (!key.empty() && index.at("unique") == true && index.at("columns") == json(key))
                from_keyed_ = from_ + " FORCE INDEX (" + quote_name(index.at("name").get<std::string>()) + ")";
        if (from_keyed_.empty())
            key_.clear();
    }

    void run() {
        bool wanted = true;
        if (key_.empty()) {
            wanted = count(from_, {});
        } else {
            std::vector<std::string> lower;
            for (bool more = true; more && wanted;)
                wanted = slice(lower, more);
        }
        if (!wanted)
            return;
        wanted = sink_({{"rows", rows_}});
        for (std::size_t i = 0; wanted && i < checks_.size(); ++i)
            wanted =
                sink_({{"column", checks_[i].column}, {"finding", checks_[i].finding}, {"count", counts_[i]}, {"samples", samples_[i]}});
        for (std::size_t i = 0; wanted && i < collisions_.size(); ++i)
            wanted = collision(collisions_[i]);
    }

  private:
    // One slice behind `lower`; sets it to the slice's end. False: nobody waits.
    bool slice(std::vector<std::string> &lower, bool &more) {
        const auto start = Clock::now();
        std::vector<std::string> names, selects, order;
        for (const KeyColumn &column : key_) {
            names.push_back(column.value);
            selects.push_back(column.select);
            order.push_back(column.name);
        }
        std::vector<std::string> conditions;
        if (!lower.empty())
            conditions.push_back("(" + after_condition(names, lower) + ")");
        const std::string behind = conditions.empty() ? "" : " WHERE " + conditions[0];
        const auto end = client_.query("SELECT " + join(selects, ", ") + " FROM " + from_keyed_ + behind + " ORDER BY " +
                                           join(order, ", ") + " LIMIT 1 OFFSET " + std::to_string(slice_rows_ - 1),
                                       doing());
        std::vector<std::string> upper;
        for (std::size_t i = 0; !end.empty() && i < key_.size(); ++i)
            upper.push_back(literal(key_[i], end[0][i].value_or("0")));
        more = !upper.empty() && upper != lower;
        if (more)
            conditions.push_back("(" + up_to_condition(names, upper) + ")");
        if (!count(from_keyed_, conditions))
            return false;
        lower = upper;

        const auto took = std::chrono::duration_cast<Millis>(Clock::now() - start);
        const std::uint64_t fitting = slice_rows_ * static_cast<std::uint64_t>(slice_goal.count()) /
                                      static_cast<std::uint64_t>(std::max<Millis::rep>(took.count(), 1));
        slice_rows_ = std::clamp(fitting, std::max(smallest_slice, slice_rows_ / 4), std::min(largest_slice, slice_rows_ * 4));
        if (more)
            std::this_thread::sleep_for(std::min(took, longest_pause)); // as long as the work took: at most half of one core
        return true;
    }

    bool count(const std::string &from, const std::vector<std::string> &conditions) {
        std::vector<std::string> sums{"COUNT(*)"};
        for (const CensusCheck &check : checks_)
            sums.push_back("SUM(IF(" + check.condition + ", 1, 0))");
        const std::string where = conditions.empty() ? "" : " WHERE " + join(conditions, " AND ");
        const auto row = client_.query("SELECT " + join(sums, ", ") + " FROM " + from + where, doing()).at(0);
        rows_ += std::stoull(row[0].value_or("0"));
        for (std::size_t i = 0; i < checks_.size(); ++i) {
            const std::uint64_t found = std::stoull(row[i + 1].value_or("0"));
            counts_[i] += found;
            if (found > 0 && !key_.empty() && samples_[i].size() < sample_)
                take_samples(i, conditions);
        }
        return report();
    }

    void take_samples(std::size_t i, std::vector<std::string> conditions) {
        conditions.push_back("(" + checks_[i].condition + ")");
        std::vector<std::string> shown;
        for (const KeyColumn &column : key_)
            shown.push_back(column.shown);
        for (const ControlRow &row : client_.query("SELECT " + join(shown, ", ") + " FROM " + from_keyed_ + " WHERE " +
                                                       join(conditions, " AND ") + " LIMIT " + std::to_string(sample_ - samples_[i].size()),
                                                   doing())) {
            json key = json::array();
            for (const auto &value : row)
                key.push_back(printable(value.value_or("")));
            samples_[i].push_back(key.size() == 1 ? key[0].get<std::string>() : key.dump());
        }
    }

    // In one statement: groups do not keep to ranges of the key.
    bool collision(const CensusCheck &check) {
        const auto rows = client_.query("SELECT COUNT(*), MIN(g.spelling) FROM (SELECT MIN(CONCAT_WS(', ', " + check.condition +
                                            ")) AS spelling FROM " + from_ + " GROUP BY " + check.condition + " HAVING COUNT(*) > 1) g",
                                        doing());
        json samples = json::array();
        if (rows.at(0)[1])
            samples.push_back(printable(*rows[0][1]));
        return sink_(
            {{"column", check.column}, {"finding", check.finding}, {"count", std::stoull(rows[0][0].value_or("0"))}, {"samples", samples}});
    }

    bool report() {
        if (Clock::now() - reported_ < report_every)
            return true;
        reported_ = Clock::now();
        return sink_({{"progress", "census of table \"" + table_ + "\": " + std::to_string(rows_) + " rows" +
                                       (estimate_ > rows_ ? " of about " + std::to_string(estimate_) : std::string())}});
    }

    std::string doing() const { return "taking the census of table \"" + table_ + "\""; }

    ControlClient &client_;
    const CensusSink &sink_;
    const std::string table_;
    const std::string from_;
    std::string from_keyed_; // with the key's index, empty without a key
    std::vector<KeyColumn> key_;
    const std::vector<CensusCheck> checks_;
    const std::vector<CensusCheck> collisions_;
    const unsigned sample_;
    std::vector<std::uint64_t> counts_;
    std::vector<json> samples_;
    std::uint64_t rows_ = 0, estimate_ = 0, slice_rows_ = first_slice;
    Clock::time_point reported_ = Clock::now();
};

} // namespace

void take_census(const core::SourceConnection &connection, const json &question, const CensusSink &sink) {
    ControlClient client(connection);
    const std::string table = question.at("table").get<std::string>();
    const json description = describe_table(client, server_version(client), connection.database, table);
    if (description.is_null())
        throw core::Error(core::Side::old_side, "42P01", "table \"" + table + "\" does not exist any more", false);
    Census(client, connection, description, question, sink).run();
}

} // namespace tandem::mysql
