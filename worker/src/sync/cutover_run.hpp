// One run that a DBA asked for: a change of the source of truth or a rehearsal of it (tandem.cutover_run), and its calls on PostgreSQL.
// Steps are noted while clients wait and written when they do not.
#pragma once

#include "postgres/worker_api.hpp"
#include "sync/stop.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace tandem::sync {

class CutoverRun {
  public:
    // What was asked of the leader of a source; nullopt: nothing.
    static std::optional<CutoverRun> next(postgres::WorkerApi &api, int source_id, std::int64_t epoch);

    std::int64_t id = 0;
    std::string kind; // cutover, rehearsal, rollback, contract, mend
    std::vector<int> table_ids;
    std::map<int, std::string> moved_to;
    Millis max_pause{1000};
    Millis lock_wait{30000};
    std::vector<std::string> kill; // users of the old side whose sessions may be ended when they hold the tables
    bool verifies = true;          // rows that changed since the last pass are compared
    bool takes_old_tables = false; // a rollback: whatever has become of them since the cut-over
    std::int64_t attempt = 0;      // epoch of this attempt

    // --- each one transaction on PostgreSQL
    void probe(postgres::WorkerApi &api) const; // 55P03: somebody keeps the targets from being locked
    void begin(postgres::WorkerApi &api, Millis lock_timeout);
    std::string obstacle(postgres::WorkerApi &api) const; // empty: everything has arrived
    std::int64_t queued(postgres::WorkerApi &api) const;  // writes through routed views that are not on the old side
    void commit(postgres::WorkerApi &api, const nlohmann::json &auto_increments, Millis lock_timeout);
    bool abort(postgres::WorkerApi &api) const; // false: it is committed, or somebody else ended it
    void contract(postgres::WorkerApi &api, Millis lock_timeout) const;
    void end(postgres::WorkerApi &api, const nlohmann::json &error);

    // The run fails with this error; nothing has changed.
    [[noreturn]] static void refuse(const std::string &sqlstate, const std::string &message, const std::string &hint = {});

    // --- the clock
    void step(const std::string &name, const std::string &detail = {});
    void write_steps(postgres::WorkerApi &api);
    void pause_begins() { paused_at_ = Clock::now(); }
    void pause_ends();
    Clock::time_point paused_at() const { return paused_at_; }
    Millis left(double share = 1.0) const; // of the longest pause, at least 1 ms

  private:
    struct Step {
        std::string name, detail;
        double ms;
    };
    std::vector<Step> steps_;
    Clock::time_point last_ = Clock::now();
    Clock::time_point paused_at_{};
    double pause_ms_ = -1;
};

} // namespace tandem::sync
