// The pump of one source: moves keys and rows from the outboxes to tandem.queue and deletes the events once they are applied.
// Models: docs/model/a_pump.pml (variant V_PIPELINE), b2_ordered.pml and, beside copiers, b1_chunks.pml; steps carry the models' names.
//
// One thread owns everything here. One session on the old side reads and deletes (invariant I1: ids die with the session that read
// them); one session on PostgreSQL copies, submits and waits, under an epoch that was taken by that very session (I4). When either is
// lost, run() throws, all memory of events is gone with the object (forget), and the owner starts another pump under another epoch.
#pragma once

#include "postgres/worker_api.hpp"
#include "sync/backfill.hpp"
#include "sync/barrier.hpp"
#include "sync/batch.hpp"
#include "sync/capture_guard.hpp"
#include "sync/capture_keeper.hpp"
#include "sync/changed_keys.hpp"
#include "sync/cutover_run.hpp"
#include "sync/lease.hpp"
#include "sync/live_table.hpp"
#include "sync/reconciler.hpp"
#include "sync/reverse_pump.hpp"
#include "sync/write_pump.hpp"
#include "sync/stats.hpp"
#include "sync/stop.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>

namespace tandem::sync {

class ChangedRows;

class Pump {
  public:
    enum class Outcome { stopped, fenced };

    Pump(std::string conninfo, postgres::SourceRow source, LeaseKeeper &leases, const Stop &stop, std::int64_t reconnects);
    ~Pump();
    Pump(const Pump &) = delete;
    Pump &operator=(const Pump &) = delete;

    // Waits for the lease, then pumps until told to stop or the lease is lost. Throws core::Error when a session is lost.
    Outcome run();

    bool led() const { return lease_ != nullptr; } // got the lease at some time: the owner may reset its backoff

    static constexpr Millis stop_grace{5000}; // how long a stopping pump waits for the apply of what is in flight

  private:
    // pump.cpp
    bool bump_epoch();
    bool gave_up() const;
    Outcome loop();
    Millis pause_length(bool worked);
    bool await_journal(Millis timeout);
    void delete_exact(const std::vector<std::int64_t> &acked);
    void drain();
    void report_stats(bool now);

    // pump_copy.cpp
    bool copy_live_batch();
    bool copy_chunk_batch();
    std::vector<LiveTable *> tables_with_events(bool all);
    bool backfills_now(const LiveTable &table) const;
    void submit(postgres::CopyWriter &writer, Batch batch, Clock::time_point started, const std::optional<std::string> &backfill);
    core::IdSet ids_in_flight(int table_id) const;
    bool everything_syncs() const;

    // pump_backfill.cpp
    void begin_backfill(LiveTable &table);
    void follow_backfill();
    core::ChunkReading read_chunks(const std::vector<LiveTable *> &tables);
    bool look_again(const std::map<int, std::map<int, core::IdSet>> &not_started);

    // pump_resync.cpp
    void take_guard_news();
    void report_guard();
    void lose_capture(LiveTable &table, const core::CaptureFault &fault);
    void suspect(LiveTable &table, const std::string &reason);
    void could_read(LiveTable &table);
    bool copy_reset_batch();
    bool sweep();
    void nothing_waits(LiveTable &table, std::int64_t last_batch);
    void end_sweep(LiveTable &table);

    // pump_tables.cpp
    void load_tables();
    void advance_tables();
    void take_capture_news();
    void advance(LiveTable &table);
    void wish_capture(LiveTable &table);
    void block(LiveTable &table, const std::string &reason);
    void report(LiveTable &table, Stage stage, const std::string &reason = {});
    void chunk_acknowledged(const Batch &batch);
    void move_requests();
    void insert_requests(LiveTable &table, const std::vector<postgres::Request> &requests);
    // pump_verify.cpp
    void follow_changed_keys(bool now);
    std::unique_ptr<ChangedRows> compare_changed(CutoverRun &run);
    void verify_changed(CutoverRun &run, ChangedRows &rows);
    void go_on_beside(const CutoverRun &run);
    void refuse_unless_in_sync(const CutoverRun &run);

    // pump_cutover.cpp
    void take_cutover();
    void cut_over(CutoverRun &run);
    void await_guard(const CutoverRun &run);
    void patiently(CutoverRun &run, const std::string &step, const std::function<void()> &attempt);
    void go_on_for(const CutoverRun &run, Millis time);
    void await_queued_writes(CutoverRun &run);
    void lock_old_tables(CutoverRun &run);
    void unlock_old_tables();
    void settle_in_flight(Clock::time_point deadline);
    std::string drain_held(const CutoverRun &run, Clock::time_point deadline);
    void drop_own_fences(const CutoverRun &run, bool locked);
    void end_unknown(const CutoverRun &run, bool locked, bool commit_sent);

    // pump_rollback.cpp
    void roll_back(CutoverRun &run);
    void refuse_changed_old_tables(const CutoverRun &run, const nlohmann::json &seen);
    void unfence(const std::vector<int> &table_ids, std::int64_t up_to);
    void contract(CutoverRun &run);
    void put_back_remains();
    std::vector<const core::TableConfig *> configs_of(const std::vector<int> &table_ids);

    LiveTable *find(int table_id);
    bool in_flight(int table_id) const;
    bool in_flight_up_to(std::int64_t batch_id) const { return !in_flight_.empty() && in_flight_.front().batch_id <= batch_id; }
    std::vector<LiveTable *> all_tables();
    std::int64_t next_batch_id() { return (epoch_ << 32) | ++batches_; }

    const std::string conninfo_;
    const postgres::SourceRow row_;
    LeaseKeeper &leases_;
    const Stop &stop_;

    std::unique_ptr<postgres::WorkerApi> api_;
    std::unique_ptr<mysql::SourceSession> source_;
    std::shared_ptr<Lease> lease_;
    std::unique_ptr<CaptureKeeper> capture_;
    std::unique_ptr<ReversePump> reverse_;
    std::unique_ptr<WritePump> writes_;
    std::unique_ptr<Backfill> backfill_;
    std::set<int> copying_; // tables that the copiers have
    std::int64_t copied_generation_ = -1;
    std::unique_ptr<CaptureGuard> guard_;
    std::unique_ptr<Reconciler> reconciler_;
    postgres::Settings settings_;
    std::int64_t epoch_ = 0;
    std::int64_t batches_ = 0;
    std::int64_t generation_ = -1;
    std::optional<Clock::time_point> stopping_since_;

    std::map<int, LiveTable> tables_;
    std::deque<Batch> in_flight_; // in order of submission
    std::size_t turn_ = 0;        // which table comes first in the next batch, and which is backfilled next
    PollSchedule schedule_;
    Barrier barrier_;
    PumpStats stats_;
    std::string guard_error_;
    Clock::time_point guard_told_{};
    Clock::time_point pinged_{};
    ChangedKeys changed_;
    std::map<int, std::optional<std::int64_t>> relied_on_; // changed_.since() of the tables of a run, when its gates were looked at
    nlohmann::json changed_told_;                          // last report of it
    Clock::time_point changed_told_at_{}, changed_looked_at_{};
    std::set<int> held_;       // during a cut-over only these tables are read; empty: all
    bool look_for_run_ = true; // the configuration has changed: a cut-over may be asked for
};

} // namespace tandem::sync
