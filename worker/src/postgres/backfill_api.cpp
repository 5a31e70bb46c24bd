// The calls of a direct backfill. See worker_api.hpp.
#include "postgres/worker_api.hpp"

namespace tandem::postgres {
namespace {

using nlohmann::json;

std::string array_of(const std::vector<std::int64_t> &numbers) {
    std::string text = "{";
    for (const std::int64_t number : numbers)
        text += (text.size() > 1 ? "," : "") + std::to_string(number);
    return text + "}";
}

std::optional<std::vector<std::string>> key_at(const Result &result, int column) {
    if (result.is_null(0, column))
        return std::nullopt;
    return json::parse(result.text(0, column)).get<std::vector<std::string>>();
}

} // namespace

std::string WorkerApi::begin_backfill(int table_id, std::int64_t epoch, std::int64_t rows_at_least, std::int64_t rows_estimate,
                                      std::int64_t bytes_estimate) {
    return session_
        .query("SELECT tandem.begin_backfill($1, $2, $3, $4, $5)",
               {std::to_string(table_id), std::to_string(epoch), std::to_string(rows_at_least), std::to_string(rows_estimate),
                std::to_string(bytes_estimate)})
        .text(0, 0);
}

core::ChunkReading WorkerApi::read_chunks(int source_id) {
    return core::parse_chunk_reading(session_.query("SELECT tandem.read_chunks($1)", {std::to_string(source_id)}).text(0, 0));
}

void WorkerApi::plan_chunks(int table_id, std::int64_t epoch, int after_chunk, const std::vector<std::vector<std::string>> &bounds,
                            bool last) {
    session_.query(
        "SELECT tandem.plan_chunks($1, $2, $3, $4, $5)",
        {std::to_string(table_id), std::to_string(epoch), std::to_string(after_chunk), json(bounds).dump(), last ? "true" : "false"});
}

MarkedChunk WorkerApi::mark_chunk(int table_id, std::int64_t epoch, const std::vector<std::int64_t> &busy) {
    const Result result =
        session_.query("SELECT m.chunk, pg_catalog.to_json(m.low), pg_catalog.to_json(m.high), m.attempt, m.unstarted, m.planned,"
                       " m.undone, m.planned_all, pg_catalog.to_json(m.last_high) FROM tandem.mark_chunk($1, $2, $3) AS m",
                       {std::to_string(table_id), std::to_string(epoch), array_of(busy)});
    MarkedChunk marked;
    if (result.rows() == 0 || result.is_null(0, 7))
        return marked;
    marked.copies = true;
    if (!result.is_null(0, 0))
        marked.chunk = static_cast<int>(result.number(0, 0));
    marked.low = key_at(result, 1);
    marked.high = key_at(result, 2);
    marked.attempt = static_cast<int>(result.number(0, 3));
    marked.unstarted = static_cast<int>(result.number(0, 4));
    marked.planned = static_cast<int>(result.number(0, 5));
    marked.undone = static_cast<int>(result.number(0, 6));
    marked.planned_all = result.boolean(0, 7);
    marked.last_high = key_at(result, 8);
    return marked;
}

void WorkerApi::write_chunk(int table_id, int chunk, int attempt, std::int64_t epoch, std::string_view rows) {
    session_.send_bytes("SELECT tandem.write_chunk($1, $2, $3, $4, $5)",
                        {std::to_string(table_id), std::to_string(chunk), std::to_string(attempt), std::to_string(epoch)}, rows);
}

std::int64_t WorkerApi::take_written() { return session_.take_result().number(0, 0); }

void WorkerApi::end_chunk(int table_id, int chunk, int attempt, std::int64_t epoch, std::int64_t rows, std::int64_t bytes) {
    session_.query("SELECT tandem.end_chunk($1, $2, $3, $4, $5, $6)",
                   {std::to_string(table_id), std::to_string(chunk), std::to_string(attempt), std::to_string(epoch), std::to_string(rows),
                    std::to_string(bytes)});
}

std::string WorkerApi::end_backfill(int table_id, std::int64_t epoch) {
    return session_.query("SELECT tandem.end_backfill($1, $2)", {std::to_string(table_id), std::to_string(epoch)}).text(0, 0);
}

std::optional<std::string> WorkerApi::build_index(int table_id, std::int64_t epoch) {
    const Result result = session_.query("SELECT tandem.build_index($1, $2)", {std::to_string(table_id), std::to_string(epoch)});
    if (result.is_null(0, 0))
        return std::nullopt;
    return result.text(0, 0);
}

void WorkerApi::report_pace(int source_id, std::int64_t epoch, const json &pace) {
    session_.query("SELECT tandem.report_pace($1, $2, $3)",
                   {std::to_string(source_id), std::to_string(epoch), pace.dump(-1, ' ', false, json::error_handler_t::replace)});
}

} // namespace tandem::postgres
