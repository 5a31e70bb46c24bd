// Typed calls of the worker-facing functions of the extension (docs/protocol.md section 5), on one session.
// Not thread-safe: one owner thread.
#pragma once

#include "core/chunks.hpp"
#include "core/types.hpp"
#include "postgres/session.hpp"

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace tandem::postgres {

using Millis = std::chrono::milliseconds;

struct Settings {
    Millis lease_ttl{10000};
    std::int64_t batch_rows = 20000;
    std::int64_t batch_bytes = 16 * 1024 * 1024;
    Millis poll_min{2};
    Millis poll_max{250};
    int pipeline_depth = 3;
    unsigned source_lock_timeout_ms = 2000;
    int backfill_copiers = 2;
    std::int64_t backfill_direct_rows = 10000;
    Millis backfill_chunk{500};
    std::int64_t backfill_rows_per_second = 0; // 0: no limit, here and below
    std::int64_t backfill_yield = 8;
    std::int64_t backfill_max_threads_running = 25;
    std::int64_t backfill_max_history_list = 200000;
    Millis backfill_max_replica_lag{10000};
};
Settings parse_settings(const std::string &json_text);

struct SourceRow {
    core::SourceConnection connection; // password resolved
    std::string hash;                  // changes when any part of the connection changes
};

struct WaitResult {
    std::vector<std::int64_t> acked;
    bool fenced = false;
    std::int64_t generation = 0;
    bool requests = false;
    std::int64_t barrier = 0;
};

struct Request {
    std::int64_t request_id = 0;
    int table_id = 0;
    std::vector<std::string> key;
    int flags = 0;
};

// A chunk in the hands of a copier, and how far the table is planned (tandem.mark_chunk).
struct MarkedChunk {
    bool copies = false;      // the table is copied directly now: neither paused nor done nor set back
    std::optional<int> chunk; // none: all that are planned are done, or others have them
    std::optional<std::vector<std::string>> low, high;
    int attempt = 0;
    int unstarted = 0, planned = 0, undone = 0;
    bool planned_all = false;
    std::optional<std::vector<std::string>> last_high; // of the last planned chunk
};

struct Question {
    std::int64_t question_id = 0;
    nlohmann::json question;
};

class WorkerApi {
  public:
    // Connects and says hello: throws core::Error (55000) when the extension is of another version.
    WorkerApi(const std::string &conninfo, const std::string &role_of_session, const std::string &holder, Abandon abandon = {});

    const Settings &settings() const { return settings_; } // as hello gave them
    Settings reload_settings();
    Session &session() { return session_; }

    std::vector<SourceRow> sources(); // a source whose password reference cannot be resolved is left out, with an error in the log
    core::SourceConnection server(const std::string &server, const std::string &database, const std::string &mapping_role);

    std::optional<std::int64_t> acquire_lease(int source_id, const std::string &holder);
    bool renew_lease(int source_id, const std::string &holder, std::int64_t epoch);
    void release_lease(int source_id, const std::string &holder, std::int64_t epoch);

    std::vector<core::TableConfig> tables(int source_id, std::optional<int> table_id = std::nullopt); // of all tables, or of one
    // In the transaction that COPY began; commits it.
    void submit_batch(std::int64_t batch_id, int source_id, std::int64_t epoch, std::int64_t rows, std::int64_t bytes,
                      std::int64_t fetch_us, const std::optional<std::string> &backfill);
    WaitResult wait_events(int source_id, std::int64_t epoch, std::int64_t seen_generation, Millis timeout);
    void finish_batches(const std::vector<std::int64_t> &batch_ids);
    std::vector<Request> take_requests(int source_id, int limit);
    void finish_requests(const std::vector<std::int64_t> &ids);
    void report_table(int table_id, std::int64_t epoch, const std::string &state, const std::string &reason, const nlohmann::json &detail);
    void forget_table(int table_id, std::int64_t epoch);

    // Capture guard and re-synchronisation (docs/protocol.md section 17).
    struct Loss {
        std::int64_t loss = 0;
        std::string state; // empty: the table is gone
    };
    Loss capture_lost(int table_id, std::int64_t epoch, const std::string &cause, const std::string &reason, bool automatic);
    void note_identity(int table_id, std::int64_t epoch, const std::string &identity);
    void report_columns(int table_id, std::int64_t epoch, const std::string &changes);
    void report_guard(int source_id, std::int64_t epoch, int tables, double look_ms, bool by_number, const std::string &error);
    std::vector<std::vector<std::string>> sweep_keys(int table_id, std::int64_t epoch, std::int64_t loss, int limit);
    void report_sweep(int table_id, std::int64_t epoch, std::int64_t loss, const std::vector<std::string> &cursor, std::size_t swept,
                      std::size_t suspected, bool done);
    void reached_barrier(int source_id, std::int64_t epoch, std::int64_t barrier);
    // Changed keys that the pump remembers (docs/protocol.md section 18).
    std::int64_t next_moment();
    nlohmann::json report_changed_keys(int source_id, std::int64_t epoch, const nlohmann::json &since);
    void report_stats(int source_id, std::int64_t epoch, const nlohmann::json &stats);

    // Backfill (docs/protocol.md section 16).
    std::string begin_backfill(int table_id, std::int64_t epoch, std::int64_t rows_at_least, std::int64_t rows_estimate,
                               std::int64_t bytes_estimate);
    core::ChunkReading read_chunks(int source_id);
    void plan_chunks(int table_id, std::int64_t epoch, int after_chunk, const std::vector<std::vector<std::string>> &bounds, bool last);
    MarkedChunk mark_chunk(int table_id, std::int64_t epoch, const std::vector<std::int64_t> &busy);
    // Sends a block of rows; take_written waits for it and returns how many rows went in without a merge.
    void write_chunk(int table_id, int chunk, int attempt, std::int64_t epoch, std::string_view rows);
    std::int64_t take_written();
    void end_chunk(int table_id, int chunk, int attempt, std::int64_t epoch, std::int64_t rows, std::int64_t bytes);
    std::string end_backfill(int table_id, std::int64_t epoch);               // copying, building indexes, done
    std::optional<std::string> build_index(int table_id, std::int64_t epoch); // none left; "" built; else why not yet
    void report_pace(int source_id, std::int64_t epoch, const nlohmann::json &pace);

    std::optional<Question> next_question(Millis timeout);
    // False: nobody waits for the answer any more.
    bool answer(std::int64_t question_id, int seq, const nlohmann::json &payload, bool last, const nlohmann::json &error = nullptr);

  private:
    Session session_;
    Settings settings_;
};

} // namespace tandem::postgres
