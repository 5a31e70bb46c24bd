#include "postgres/worker_api.hpp"

#include "core/secret.hpp"
#include "core/table_config.hpp"
#include "log.hpp"

#include <algorithm>

namespace tandem::postgres {
namespace {

using core::Error;
using core::Side;
using nlohmann::json;

std::string array_of(const std::vector<std::int64_t> &numbers) {
    std::string text = "{";
    for (const std::int64_t number : numbers)
        text += (text.size() > 1 ? "," : "") + std::to_string(number);
    return text + "}";
}

std::vector<std::int64_t> numbers_of(const std::string &array) {
    std::vector<std::int64_t> numbers;
    std::size_t at = 1;
    while (at < array.size() && array[at] != '}') {
        std::size_t used = 0;
        numbers.push_back(std::stoll(array.substr(at), &used));
        at += used;
        if (at < array.size() && array[at] == ',')
            ++at;
    }
    return numbers;
}

std::string dump(const json &value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

constexpr const char *connection_columns =
    "s.source_id, s.name, s.database, s.metadata_database, s.host, s.port, s.username, s.password, s.password_ref, s.tls,"
    " s.ssl_ca, s.ssl_capath, s.ssl_cert, s.ssl_key, s.ssl_cipher, s.hash";

core::SourceConnection connection_of(const Result &result, int row) {
    core::SourceConnection connection;
    connection.source_id = static_cast<int>(result.number(row, 0));
    connection.name = result.text(row, 1);
    connection.database = result.text(row, 2);
    if (!result.is_null(row, 3))
        connection.metadata_database = result.text(row, 3);
    connection.host = result.text(row, 4);
    if (!result.is_null(row, 5))
        connection.port = static_cast<unsigned>(result.number(row, 5));
    connection.username = result.text(row, 6);
    connection.password = result.is_null(row, 8) ? result.text(row, 7) : core::resolve_password(result.text(row, 8));
    if (!result.is_null(row, 9))
        connection.tls = result.text(row, 9);
    connection.ssl_ca = result.text(row, 10);
    connection.ssl_capath = result.text(row, 11);
    connection.ssl_cert = result.text(row, 12);
    connection.ssl_key = result.text(row, 13);
    connection.ssl_cipher = result.text(row, 14);
    return connection;
}

} // namespace

Settings parse_settings(const std::string &json_text) {
    Settings settings;
    try {
        const json parsed = json::parse(json_text);
        const auto at_least = [&](const char *name, std::int64_t fallback, std::int64_t least) {
            return std::max(least, parsed.value(name, fallback));
        };
        settings.lease_ttl = Millis(at_least("lease_ttl_ms", settings.lease_ttl.count(), 500));
        settings.batch_rows = at_least("batch_rows", settings.batch_rows, 1);
        settings.batch_bytes = at_least("batch_bytes", settings.batch_bytes, 1024);
        settings.poll_min = Millis(at_least("poll_min_ms", settings.poll_min.count(), 1));
        settings.poll_max = std::max(settings.poll_min, Millis(at_least("poll_max_ms", settings.poll_max.count(), 1)));
        settings.pipeline_depth = static_cast<int>(at_least("pipeline_depth", settings.pipeline_depth, 1));
        settings.source_lock_timeout_ms = static_cast<unsigned>(at_least("source_lock_timeout_ms", settings.source_lock_timeout_ms, 100));
        settings.backfill_copiers = static_cast<int>(at_least("backfill_copiers", settings.backfill_copiers, 0));
        settings.backfill_direct_rows = at_least("backfill_direct_rows", settings.backfill_direct_rows, 0);
        settings.backfill_chunk = Millis(at_least("backfill_chunk_ms", settings.backfill_chunk.count(), 1));
        settings.backfill_rows_per_second = at_least("backfill_rows_per_second", settings.backfill_rows_per_second, 0);
        settings.backfill_yield = at_least("backfill_yield", settings.backfill_yield, 0);
        settings.backfill_max_threads_running = at_least("backfill_max_threads_running", settings.backfill_max_threads_running, 0);
        settings.backfill_max_history_list = at_least("backfill_max_history_list", settings.backfill_max_history_list, 0);
        settings.backfill_max_replica_lag = Millis(at_least("backfill_max_replica_lag_ms", settings.backfill_max_replica_lag.count(), 0));
    } catch (const json::exception &error) {
        throw Error(Side::new_side, "22023", std::string("settings of the extension cannot be read: ") + error.what(), false);
    }
    return settings;
}

WorkerApi::WorkerApi(const std::string &conninfo, const std::string &role_of_session, const std::string &holder, Abandon abandon)
    : session_(conninfo, "tandem-sync " + role_of_session, std::move(abandon)) {
    try {
        settings_ = parse_settings(session_.query("SELECT tandem.worker_hello($1, $2)", {TANDEM_VERSION, holder}).text(0, 0));
    } catch (const core::SessionLost &) {
        throw;
    } catch (const Error &error) {
        if (error.sqlstate() == "3F000" || error.sqlstate() == "42883")
            throw Error(Side::new_side, error.sqlstate(), std::string("this database has no extension pg_tandem: ") + error.what(), true,
                        "CREATE EXTENSION pg_tandem CASCADE; in the database that --postgres names.");
        if (error.sqlstate() == "42501")
            throw Error(Side::new_side, error.sqlstate(), error.what(), true,
                        "GRANT tandem_worker TO the role that tandem-sync connects as.");
        throw;
    }
}

Settings WorkerApi::reload_settings() {
    settings_ = parse_settings(session_.query("SELECT tandem.worker_settings()").text(0, 0));
    return settings_;
}

std::vector<SourceRow> WorkerApi::sources() {
    const Result result =
        session_.query(std::string("SELECT ") + connection_columns + " FROM tandem.worker_sources() AS s ORDER BY s.source_id");
    std::vector<SourceRow> rows;
    for (int row = 0; row < result.rows(); ++row) {
        try {
            rows.push_back({connection_of(result, row), result.text(row, 15)});
        } catch (const Error &error) {
            log::error("source cannot be used", {{"source", result.text(row, 1)}, {"error", error.what()}, {"hint", error.hint()}});
        }
    }
    return rows;
}

core::SourceConnection WorkerApi::server(const std::string &server, const std::string &database, const std::string &mapping_role) {
    const Result result = session_.query(std::string("SELECT ") + connection_columns + " FROM tandem.worker_server($1, $2, $3) AS s",
                                         {server, database, mapping_role.empty() ? Parameter() : Parameter(mapping_role)});
    if (result.rows() != 1)
        throw Error(Side::new_side, "42704", "server \"" + server + "\" does not exist", false);
    core::SourceConnection connection = connection_of(result, 0);
    connection.database = database;
    return connection;
}

std::optional<std::int64_t> WorkerApi::acquire_lease(int source_id, const std::string &holder) {
    const Result result = session_.query("SELECT tandem.acquire_lease($1, $2)", {std::to_string(source_id), holder});
    if (result.is_null(0, 0))
        return std::nullopt;
    return result.number(0, 0);
}

bool WorkerApi::renew_lease(int source_id, const std::string &holder, std::int64_t epoch) {
    const Result result =
        session_.query("SELECT tandem.renew_lease($1, $2, $3)", {std::to_string(source_id), holder, std::to_string(epoch)});
    return !result.is_null(0, 0) && result.boolean(0, 0);
}

void WorkerApi::release_lease(int source_id, const std::string &holder, std::int64_t epoch) {
    session_.query("SELECT tandem.release_lease($1, $2, $3)", {std::to_string(source_id), holder, std::to_string(epoch)});
}

std::vector<core::TableConfig> WorkerApi::tables(int source_id, std::optional<int> table_id) {
    const Result result = session_.query("SELECT tandem.worker_tables($1, $2)",
                                         {std::to_string(source_id), table_id ? Parameter(std::to_string(*table_id)) : Parameter()});
    if (result.rows() == 0 || result.is_null(0, 0))
        return {};
    return core::parse_table_configs(result.text(0, 0));
}

void WorkerApi::submit_batch(std::int64_t batch_id, int source_id, std::int64_t epoch, std::int64_t rows, std::int64_t bytes,
                             std::int64_t fetch_us, const std::optional<std::string> &backfill) {
    session_.query("SELECT tandem.submit_batch($1, $2, $3, $4, $5, $6, $7)",
                   {std::to_string(batch_id), std::to_string(source_id), std::to_string(epoch), std::to_string(rows), std::to_string(bytes),
                    std::to_string(std::min<std::int64_t>(fetch_us, 2000000000)), backfill});
    session_.run("COMMIT");
}

WaitResult WorkerApi::wait_events(int source_id, std::int64_t epoch, std::int64_t seen_generation, Millis timeout) {
    const Result result = session_.query(
        "SELECT w.acked, w.fenced, w.generation, w.requests, w.barrier FROM tandem.wait_events($1, $2, $3, $4) AS w",
        {std::to_string(source_id), std::to_string(epoch), std::to_string(seen_generation), std::to_string(timeout.count())});
    WaitResult wait;
    if (result.rows() == 0)
        return wait;
    wait.acked = result.is_null(0, 0) ? std::vector<std::int64_t>{} : numbers_of(result.text(0, 0));
    wait.fenced = result.boolean(0, 1);
    wait.generation = result.number(0, 2);
    wait.requests = !result.is_null(0, 3) && result.boolean(0, 3);
    wait.barrier = result.is_null(0, 4) ? 0 : result.number(0, 4);
    return wait;
}

void WorkerApi::finish_batches(const std::vector<std::int64_t> &batch_ids) {
    session_.query("SELECT tandem.finish_batches($1)", {array_of(batch_ids)});
}

std::vector<Request> WorkerApi::take_requests(int source_id, int limit) {
    const Result result =
        session_.query("SELECT r.request_id, r.table_id, pg_catalog.to_json(r.key_text), r.flags FROM tandem.take_requests($1, $2) AS r",
                       {std::to_string(source_id), std::to_string(limit)});
    std::vector<Request> requests;
    for (int row = 0; row < result.rows(); ++row)
        requests.push_back({result.number(row, 0), static_cast<int>(result.number(row, 1)),
                            json::parse(result.text(row, 2)).get<std::vector<std::string>>(), static_cast<int>(result.number(row, 3))});
    return requests;
}

void WorkerApi::finish_requests(const std::vector<std::int64_t> &ids) {
    session_.query("SELECT tandem.finish_requests($1)", {array_of(ids)});
}

void WorkerApi::report_table(int table_id, std::int64_t epoch, const std::string &state, const std::string &reason, const json &detail) {
    session_.query("SELECT tandem.report_table($1, $2, $3, $4, $5)", {std::to_string(table_id), std::to_string(epoch), state,
                                                                      reason.empty() ? Parameter() : Parameter(reason), dump(detail)});
}

void WorkerApi::forget_table(int table_id, std::int64_t epoch) {
    session_.query("SELECT tandem.forget_table($1, $2)", {std::to_string(table_id), std::to_string(epoch)});
}

WorkerApi::Loss WorkerApi::capture_lost(int table_id, std::int64_t epoch, const std::string &cause, const std::string &reason,
                                        bool automatic) {
    const Result result = session_.query("SELECT l.loss, l.state FROM tandem.capture_lost($1, $2, $3, $4, $5) AS l",
                                         {std::to_string(table_id), std::to_string(epoch), cause, reason, automatic ? "true" : "false"});
    if (result.rows() == 0 || result.is_null(0, 0))
        return {};
    return {result.number(0, 0), result.text(0, 1)};
}

void WorkerApi::note_identity(int table_id, std::int64_t epoch, const std::string &identity) {
    session_.query("SELECT tandem.note_identity($1, $2, $3)", {std::to_string(table_id), std::to_string(epoch), identity});
}

void WorkerApi::report_columns(int table_id, std::int64_t epoch, const std::string &changes) {
    session_.query("SELECT tandem.report_columns($1, $2, $3)", {std::to_string(table_id), std::to_string(epoch), changes});
}

void WorkerApi::report_guard(int source_id, std::int64_t epoch, int tables, double look_ms, bool by_number, const std::string &error) {
    session_.query("SELECT tandem.report_guard($1, $2, $3, $4, $5, $6)",
                   {std::to_string(source_id), std::to_string(epoch), std::to_string(tables),
                    error.empty() ? Parameter(std::to_string(look_ms)) : Parameter(),
                    error.empty() ? Parameter(by_number ? "true" : "false") : Parameter(), error.empty() ? Parameter() : Parameter(error)});
}

std::vector<std::vector<std::string>> WorkerApi::sweep_keys(int table_id, std::int64_t epoch, std::int64_t loss, int limit) {
    const Result result = session_.query("SELECT pg_catalog.to_json(k) FROM tandem.sweep_keys($1, $2, $3, $4) AS k",
                                         {std::to_string(table_id), std::to_string(epoch), std::to_string(loss), std::to_string(limit)});
    std::vector<std::vector<std::string>> keys;
    for (int row = 0; row < result.rows(); ++row)
        keys.push_back(json::parse(result.text(row, 0)).get<std::vector<std::string>>());
    return keys;
}

void WorkerApi::report_sweep(int table_id, std::int64_t epoch, std::int64_t loss, const std::vector<std::string> &cursor, std::size_t swept,
                             std::size_t suspected, bool done) {
    session_.query("SELECT tandem.report_sweep($1, $2, $3, CASE WHEN $4::jsonb <> '[]' THEN ARRAY(SELECT "
                   "pg_catalog.jsonb_array_elements_text($4::jsonb)) END,"
                   " $5, $6, $7)",
                   {std::to_string(table_id), std::to_string(epoch), std::to_string(loss), dump(cursor), std::to_string(swept),
                    std::to_string(suspected), done ? "true" : "false"});
}

void WorkerApi::reached_barrier(int source_id, std::int64_t epoch, std::int64_t barrier) {
    session_.query("SELECT tandem.reached_barrier($1, $2, $3)",
                   {std::to_string(source_id), std::to_string(epoch), std::to_string(barrier)});
}

std::int64_t WorkerApi::next_moment() { return session_.query("SELECT tandem.next_moment()").number(0, 0); }

json WorkerApi::report_changed_keys(int source_id, std::int64_t epoch, const json &since) {
    return json::parse(
        session_.query("SELECT tandem.report_changed_keys($1, $2, $3)", {std::to_string(source_id), std::to_string(epoch), since.dump()})
            .text(0, 0));
}

void WorkerApi::report_stats(int source_id, std::int64_t epoch, const json &stats) {
    session_.query("SELECT tandem.report_stats($1, $2, $3)", {std::to_string(source_id), std::to_string(epoch), dump(stats)});
}

std::optional<Question> WorkerApi::next_question(Millis timeout) {
    const Result result =
        session_.query("SELECT q.question_id, q.question FROM tandem.next_question($1) AS q", {std::to_string(timeout.count())});
    if (result.rows() == 0 || result.is_null(0, 0))
        return std::nullopt;
    return Question{result.number(0, 0), json::parse(result.text(0, 1))};
}

bool WorkerApi::answer(std::int64_t question_id, int seq, const json &payload, bool last, const json &error) {
    const Result result =
        session_.query("SELECT tandem.answer($1, $2, $3, $4, $5)",
                       {std::to_string(question_id), std::to_string(seq), payload.is_null() ? Parameter() : Parameter(dump(payload)),
                        last ? "true" : "false", error.is_null() ? Parameter() : Parameter(dump(error))});
    return result.boolean(0, 0);
}

} // namespace tandem::postgres
