#include "sync/batch.hpp"

#include "core/encode.hpp"
#include "sync/failpoint.hpp"

#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

namespace tandem::sync {
namespace {

int loss_flag(std::string_view image) { return core::has_losses(image) ? core::flag_losses : 0; }

} // namespace

std::string untranslatable_json(const core::Untranslatable &bad) {
    const nlohmann::json object = {{"sqlstate", bad.sqlstate}, {"column", bad.column}, {"message", bad.message}};
    return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

CopiedTable copy_events(mysql::SourceSession &source, const core::TableConfig &table, const core::EventSet &events,
                        postgres::CopyWriter &writer) {
    CopiedTable copied;
    // Keys whose row has not come yet. A key without an image is readable text, which no tuple equals.
    std::unordered_map<std::string_view, const core::KeyEvent *> waiting;
    waiting.reserve(events.keys.size());
    for (const core::KeyEvent &event : events.keys) {
        copied.oldest_us = std::max(copied.oldest_us, event.age_us);
        copied.removes = copied.removes || event.flags != 0;
        waiting.emplace(event.key, &event);
    }
    source.read_rows(table, events.ids, [&](std::string_view key, std::string_view image, const core::Untranslatable *bad) {
        failpoint("pump:in_copy_batch");
        // A row that equals an event's key only under the old side's collation has no event of its own in this snapshot; its image is
        // current all the same, so it may be applied.
        const auto found = waiting.find(key);
        const int flags = found == waiting.end() ? 0 : found->second->flags;
        const auto age = found == waiting.end() ? std::nullopt : std::optional(found->second->age_us);
        if (bad != nullptr)
            writer.row(table.table_id, 'X', flags, age, key, untranslatable_json(*bad));
        else
            writer.row(table.table_id, 'U', flags | loss_flag(image), age, key, image);
        ++copied.rows;
        copied.bytes += static_cast<std::int64_t>(image.size());
        if (found != waiting.end())
            waiting.erase(found);
    });
    for (const auto &[key, event] : waiting)
        writer.row(table.table_id, event->key_error ? 'X' : 'D', event->flags, event->age_us, key, std::nullopt);
    return copied;
}

mysql::ChunkEnd copy_chunk(mysql::SourceSession &source, const core::TableConfig &table, const std::vector<std::string> &cursor,
                           std::size_t limit, postgres::CopyWriter &writer) {
    return source.read_chunk(table, cursor, limit, [&](std::string_view key, std::string_view image, const core::Untranslatable *bad) {
        failpoint("pump:in_copy_batch");
        if (bad != nullptr)
            writer.row(table.table_id, 'X', flag_backfill, std::nullopt, key, untranslatable_json(*bad));
        else
            writer.row(table.table_id, 'U', flag_backfill | loss_flag(image), std::nullopt, key, image);
    });
}

std::string backfill_json(int table_id, const std::vector<std::string> &cursor, bool done, std::uint64_t rows) {
    const nlohmann::json object = {{"table_id", table_id}, {"cursor", cursor}, {"done", done}, {"rows", rows}};
    return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string reset_json(int table_id, std::int64_t loss) {
    const nlohmann::json object = {
        {"table_id", table_id}, {"cursor", nlohmann::json::array()}, {"done", false}, {"rows", 0}, {"reset", loss}};
    return object.dump();
}

} // namespace tandem::sync
