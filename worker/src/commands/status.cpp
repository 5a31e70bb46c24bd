// `tandem-sync status`: who leads each source, and where each table is. Reads the views only.
#include "commands/commands.hpp"
#include "commands/text_table.hpp"

#include "postgres/session.hpp"

#include <iostream>

namespace tandem::commands {
namespace {

// NULL is shown as "-".
void print(const postgres::Result &result, const char *none) {
    std::vector<std::string> head;
    for (int column = 0; column < result.columns(); ++column)
        head.push_back(result.column_name(column));
    TextTable table(std::move(head));
    for (int row = 0; row < result.rows(); ++row) {
        std::vector<std::string> cells;
        for (int column = 0; column < result.columns(); ++column)
            cells.push_back(result.is_null(row, column) ? "-" : result.text(row, column));
        table.add(std::move(cells));
    }
    if (table.rows() == 0)
        std::cout << none << "\n";
    else
        table.print(std::cout);
}

constexpr const char *sources_query = R"(
SELECT s.name AS source, s.database AS database,
       CASE WHEN l.expires_at > clock_timestamp() THEN split_part(l.holder, ':', 1) || ':' || split_part(l.holder, ':', 2) END AS worker,
       l.epoch, CASE WHEN l.expires_at > clock_timestamp() THEN 'held' WHEN l.source_id IS NULL THEN 'never taken' ELSE 'ended' END AS lease
FROM tandem.source AS s LEFT JOIN tandem.lease AS l USING (source_id)
WHERE cardinality($1::text[]) = 0 OR s.name = ANY ($1::text[])
ORDER BY s.name)";

constexpr const char *tables_query = R"(
SELECT t.source, t."table", t.target::text AS target, t.state, t.captured, t.upserted, t.deleted, t.retry_rows AS retry, t.dead_letters AS dead,
       t.backfill_done AS backfilled, t.lag_rows, round(t.lag_seconds::numeric, 1) AS lag_s, round(t.latency_p99_ms::numeric, 1) AS p99_ms, t.reason
FROM tandem.pg_stat_tandem_tables AS t
WHERE cardinality($1::text[]) = 0 OR t.source = ANY ($1::text[])
ORDER BY t.source, t."table")";

std::string text_array(const std::vector<std::string> &names) {
    std::string array = "{";
    for (const std::string &name : names) {
        array += array.size() > 1 ? ",\"" : "\"";
        for (const char c : name) {
            if (c == '"' || c == '\\')
                array += '\\';
            array += c;
        }
        array += '"';
    }
    return array + "}";
}

} // namespace

int status(const Options &options) {
    postgres::Session session(options.postgres, "tandem-sync status");
    const std::string wanted = text_array(options.sources);
    print(session.query(sources_query, {wanted}), "no sources: SELECT tandem.add_source(…)");
    std::cout << "\n";
    print(session.query(tables_query, {wanted}), "no tables: SELECT tandem.add_table(…)");
    return 0;
}

} // namespace tandem::commands
