#include "sync/changed_rows.hpp"

#include "core/error.hpp"
#include "core/key_text.hpp"
#include "core/table_config.hpp"
#include "sync/compare_pass.hpp"

#include <algorithm>

namespace tandem::sync {
namespace {

constexpr std::size_t named_in_error = 5;
constexpr std::size_t first_keys = 50; // in the pause: rows may be large, and the clock runs
constexpr Millis soon{20};             // a piece that was compared so fast may be followed by a larger one

} // namespace

ChangedRows::ChangedRows(const std::string &conninfo, const std::string &holder, const core::SourceConnection &source,
                         mysql::Client &locker, const std::vector<core::TableConfig> &all, const std::vector<int> &table_ids,
                         const postgres::Abandon &abandon)
    : sessions_(conninfo, holder, source, "verify " + source.name, abandon), locked_(source, locker) {
    Sides standing = sessions_.sides();
    for (const core::TableConfig &table : all) {
        if (std::ranges::find(table_ids, table.table_id) == table_ids.end())
            continue;
        locked_.prepare(table);
        const std::string secret = core::RowDigest::new_secret();
        comparers_.emplace(table.table_id,
                           Comparers{ChunkComparer(sessions_.sides(), table, cascade_ancestors(table, all), secret),
                                     ChunkComparer({standing.fresh, standing.runs, locked_, standing.shape_now}, table, {}, secret)});
    }
}

std::vector<std::string> ChangedRows::to_compare(int table_id, const std::vector<std::string> &keys) const {
    const auto accepted = accepted_.find(table_id);
    if (accepted == accepted_.end())
        return keys;
    std::vector<std::string> left;
    std::ranges::copy_if(keys, std::back_inserter(left), [&](const std::string &key) { return !accepted->second.contains(key); });
    return left;
}

void ChangedRows::refuse(const core::TableConfig &table, const std::vector<std::string> &keys) {
    std::vector<core::ImageType> types;
    for (const core::Column &column : core::key_columns_of(table))
        types.push_back(core::parse_image_type(column.image_type));
    std::string named;
    for (std::size_t i = 0; i < std::min(keys.size(), named_in_error); ++i) {
        named += named.empty() ? "(" : ", (";
        std::string fields;
        for (const std::string &field : core::key_to_text(keys[i], types))
            fields += (fields.empty() ? "" : ", ") + field;
        named += fields + ")";
    }
    throw core::Error(core::Side::worker, "55000",
                      std::to_string(keys.size()) + (keys.size() == 1 ? " row" : " rows") + " of table \"" + table.name +
                          "\" that changed since the last pass " + (keys.size() == 1 ? "differs" : "differ") + " between the sides: key " +
                          named + (keys.size() > named_in_error ? ", …" : ""),
                      false,
                      "Nothing has changed. SELECT * FROM tandem.reconcile('" + table.name +
                          "'); shows the values; mend them with tandem.repair, then call again.");
}

std::vector<std::string> ChangedRows::equal_now(int table_id, std::vector<std::string> keys) {
    ChunkComparer &comparer = comparers_.at(table_id).live;
    keys = to_compare(table_id, keys);
    Verdict verdict = comparer.list(keys);
    if (!verdict.discarded && !verdict.confirmed.empty()) {
        std::vector<std::string> differ;
        for (const nlohmann::json &one : verdict.confirmed)
            differ.push_back(postgres::bytes_of(one.at("key").get<std::string>()));
        refuse(comparer.table(), differ);
    }
    if (verdict.skipped || verdict.discarded)
        return {};
    return std::move(verdict.equal);
}

void ChangedRows::verify(int table_id, const std::vector<std::string> &keys, Clock::time_point deadline) {
    ChunkComparer &comparer = comparers_.at(table_id).standing;
    const std::vector<std::string> wanted = to_compare(table_id, keys);
    std::size_t pieces = first_keys;
    for (std::size_t first = 0; first < wanted.size();) {
        const Clock::time_point started = Clock::now();
        if (started > deadline)
            throw core::Error(core::Side::worker, "57014",
                              "rows that changed could not be compared within the pause: " + std::to_string(wanted.size() - first) +
                                  " of table \"" + comparer.table().name + "\" are left",
                              false, "Nothing has changed. Call again, or allow a longer max_pause.");
        const auto from = wanted.begin() + static_cast<std::ptrdiff_t>(first);
        const std::vector<std::string> some(from, from + static_cast<std::ptrdiff_t>(std::min(pieces, wanted.size() - first)));
        if (const std::vector<Suspect> suspects = comparer.standing(some); !suspects.empty()) {
            std::vector<std::string> differ;
            for (const Suspect &suspect : suspects)
                differ.push_back(suspect.key);
            refuse(comparer.table(), differ);
        }
        first += some.size();
        if (Clock::now() - started < soon)
            pieces = std::min(2 * pieces, keys_at_once);
    }
}

} // namespace tandem::sync
