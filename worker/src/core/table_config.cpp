#include "core/table_config.hpp"

#include "core/error.hpp"
#include "core/hex.hpp"

#include <limits>
#include <nlohmann/json.hpp>

namespace tandem::core {
namespace {

using nlohmann::json;

std::string optional_text(const json &object, const char *name) {
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? std::string() : found->get<std::string>();
}

template <typename T> T value_or(const json &object, const char *name, T fallback) {
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? fallback : found->get<T>();
}

Policy parse_policy(const std::string &name) {
    if (name.empty() || name == "dead_letter")
        return Policy::dead_letter;
    if (name == "null")
        return Policy::null;
    if (name == "value")
        return Policy::value;
    if (name == "sidecar")
        return Policy::sidecar;
    throw Error(Side::worker, "22023", "policy \"" + name + "\" is not known", false,
                "The extension and the worker may be of different versions.");
}

Column parse_column(const json &from) {
    Column column;
    column.name = from.at("name").get<std::string>();
    column.mysql_type = from.at("mysql_type").get<std::string>();
    column.data_type = from.at("data_type").get<std::string>();
    column.image_type = from.at("image_type").get<std::string>();
    column.is_unsigned = value_or(from, "unsigned", false);
    column.nullable = value_or(from, "nullable", true);
    column.generated = value_or(from, "generated", false);
    column.charset = optional_text(from, "charset");
    column.collation = optional_text(from, "collation");
    column.policy = parse_policy(optional_text(from, "policy"));
    column.policy_image = unhex(optional_text(from, "policy_image"));
    column.mapped = value_or(from, "mapped", true);
    column.gone = value_or(from, "gone", false);
    return column;
}

KeyCascade parse_key_cascade(const json &from) {
    KeyCascade cascade;
    cascade.child_table_id = from.at("child_table_id").get<int>();
    cascade.child = from.at("child").get<std::string>();
    cascade.child_outbox = from.at("child_outbox").get<std::string>();
    cascade.columns = from.at("columns").get<std::vector<std::string>>();
    cascade.ref_columns = from.at("ref_columns").get<std::vector<std::string>>();
    cascade.child_key_columns = value_or(from, "child_key_columns", std::vector<std::string>{});
    return cascade;
}

DigestPlan parse_digest(const json &from) {
    DigestPlan plan;
    const std::string mode = optional_text(from, "mode");
    plan.reason = optional_text(from, "reason");
    if (mode == "fast" || mode == "evaluated")
        plan.mode = mode == "fast" ? DigestPlan::Mode::fast : DigestPlan::Mode::evaluated;
    else if (plan.reason.empty())
        plan.reason = "it has no digest";
    plan.range = value_or(from, "range", false);
    plan.parts = value_or(from, "parts", false);
    if (plan.mode == DigestPlan::Mode::fast)
        for (const json &column : from.at("columns"))
            plan.columns.push_back({column.at("ordinal").get<int>(), column.at("class").get<std::string>()});
    return plan;
}

} // namespace

TableConfig parse_table_config(const json &from) {
    try {
        TableConfig table;
        table.table_id = from.at("table_id").get<int>();
        table.name = from.at("name").get<std::string>();
        table.outbox = from.at("outbox").get<std::string>();
        table.trigger_suffix = from.at("trigger_suffix").get<std::string>();
        table.desired_state = from.at("desired_state").get<std::string>();
        table.state = optional_text(from, "state");
        table.phase = optional_text(from, "phase");
        table.has_triggers = value_or(from, "capture", std::string("triggers")) == "triggers";
        table.backfill_done = value_or(from, "backfill_done", false);
        table.backfill_cursor = value_or(from, "backfill_cursor", std::vector<std::string>{});
        table.backfill_mode = optional_text(from, "backfill_mode");
        table.key_columns = from.at("key_columns").get<std::vector<std::string>>();
        table.referenced_columns = value_or(from, "referenced_columns", std::vector<std::string>{});
        for (const json &column : from.at("columns"))
            table.columns.push_back(parse_column(column));
        for (const json &parent : value_or(from, "cascade_parents", json::array()))
            table.cascade_parents.push_back(parent.is_string() ? parent.get<std::string>() : parent.at("table").get<std::string>());
        for (const json &cascade : value_or(from, "key_cascades", json::array()))
            table.key_cascades.push_back(parse_key_cascade(cascade));
        if (const auto identity = from.find("identity"); identity != from.end() && !identity->is_null())
            table.identity = identity->dump();
        if (const auto resync = from.find("resync"); resync != from.end() && !resync->is_null())
            table.resync = {resync->at("loss").get<std::int64_t>(), optional_text(*resync, "phase"), optional_text(*resync, "reason")};
        if (const auto digest = from.find("digest"); digest != from.end() && digest->is_object())
            table.digest = parse_digest(*digest);
        table.shape = from.at("columns").dump() + from.value("digest", json()).dump();
        key_columns_of(table); // refuse a key column that is no column now, not in the middle of a batch
        return table;
    } catch (const json::exception &error) {
        throw Error(Side::worker, "22023", std::string("table configuration cannot be read: ") + error.what(), false,
                    "The extension and the worker may be of different versions.");
    }
}

std::vector<TableConfig> parse_table_configs(const std::string &json_text) {
    std::vector<TableConfig> result;
    try {
        const json parsed = json::parse(json_text);
        for (const json &table : parsed)
            result.push_back(parse_table_config(table));
    } catch (const json::exception &error) {
        throw Error(Side::worker, "22023", std::string("table configurations are not JSON: ") + error.what(), false);
    }
    // A cascade names the child by table; the child's own configuration knows its key.
    for (TableConfig &parent : result)
        for (KeyCascade &cascade : parent.key_cascades)
            for (const TableConfig &child : result)
                if (child.table_id == cascade.child_table_id && cascade.child_key_columns.empty())
                    cascade.child_key_columns = child.key_columns;
    return result;
}

std::vector<Column> key_columns_of(const TableConfig &table) {
    std::vector<Column> result;
    for (const std::string &name : table.key_columns) {
        const Column *found = nullptr;
        for (const Column &column : table.columns)
            if (column.name == name)
                found = &column;
        if (found == nullptr)
            throw Error(Side::worker, "42703", "key column \"" + name + "\" of table \"" + table.name + "\" is not among its columns",
                        false);
        result.push_back(*found);
    }
    return result;
}

std::optional<std::int64_t> largest_integer_key(const TableConfig &table) {
    const std::vector<Column> key = key_columns_of(table);
    if (key.size() != 1)
        return std::nullopt;
    if (key[0].image_type == "smallint")
        return std::numeric_limits<std::int16_t>::max();
    if (key[0].image_type == "integer")
        return std::numeric_limits<std::int32_t>::max();
    if (key[0].image_type == "bigint")
        return std::numeric_limits<std::int64_t>::max();
    return std::nullopt;
}

} // namespace tandem::core
