// One pass over one table, chunk by chunk: where it stands, what is still in flight, and what is told to tandem.report_chunk. The owner
// calls step() again and again and pauses in between as it likes; nothing is held open between two steps.
#pragma once

#include "sync/compare_chunk.hpp"
#include "sync/reconcile_pacing.hpp"

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace tandem::sync {

class ComparePass {
  public:
    // Begins the pass (tandem.begin_pass). `options`: kind, and low, high, sample as the contract says.
    ComparePass(Sides sides, const core::TableConfig &table, std::vector<core::TableConfig> ancestors, const nlohmann::json &options);

    enum class Step {
        worked,
        waits,    // nothing can be done before `pause()`: the table cannot be compared now, or keys are in flight
        done,     // everything was read; summary() is set
        cancelled // so says the extension
    };
    Step step();
    void give_up(const std::string &state, const std::string &error); // cancelled, failed

    // Told with the next chunk: for how long nothing was read, and why.
    void stalled(Millis time, const std::string &reason) {
        stalled_ += time;
        stall_reason_ = reason;
    }

    std::int64_t run_id() const { return pass_.run_id; }
    int table_id() const { return comparer_->table().table_id; }
    const nlohmann::json &summary() const { return summary_; }
    Millis pause() const { return pause_; } // after Step::waits
    std::int64_t rows_of_step() const { return step_rows_; }
    std::chrono::microseconds time_of_step() const { return step_time_; } // after Step::worked
    std::int64_t rows() const { return rows_; }
    std::int64_t confirmed() const { return confirmed_; }
    std::size_t pending() const { return pending_.size(); }
    bool rechecking() const { return phase_ == Phase::recheck; }
    const std::string &table() const { return comparer_->table().name; }

    static constexpr Millis recheck_patience{10000}; // then what is in flight is reported as such

  private:
    enum class Phase { forward, backward, recheck, ended };
    void resume_at(const nlohmann::json &cursor);
    Step chunk();
    Step recheck();
    Step finish();
    mysql::KeyInterval next_interval(bool &last);
    bool report(const Verdict &verdict, const nlohmann::json &cursor, std::size_t rechecks);
    nlohmann::json cursor() const;
    void enter(Phase phase);
    bool left_out();

    Sides sides_;
    postgres::Pass pass_;
    std::unique_ptr<ChunkComparer> comparer_;
    bool by_range_ = false;
    std::optional<std::int64_t> largest_key_; // of a key of one integer column that is read by ranges
    bool part_ = false;                       // only an interval is asked for
    std::optional<double> sample_;
    std::minstd_rand random_;

    Phase phase_ = Phase::forward;
    mysql::KeyText low_, high_; // what is left; high_ stays
    mysql::KeyText after_;      // of the way backward
    CompareSize size_;
    IntegerSpan span_;
    int discarded_in_a_row_ = 0;

    std::map<std::string, std::string> pending_; // key → reason
    Clock::time_point recheck_since_{}, recheck_due_{};
    Millis recheck_wait_{100};
    std::size_t rechecked_ = 0;

    std::int64_t rows_ = 0, confirmed_ = 0;
    std::int64_t step_rows_ = 0;
    std::chrono::microseconds step_time_{0};
    Millis pause_{0}, stalled_{0};
    std::string stall_reason_;
    nlohmann::json summary_;
};

// Tables of `all` whose cascades reach `table`, over any number of steps; itself if it is among them.
std::vector<core::TableConfig> cascade_ancestors(const core::TableConfig &table, const std::vector<core::TableConfig> &all);

// Body of tandem.report_chunk: what a verdict says. Shared with the looks at keys that belong to no pass of ours.
nlohmann::json chunk_report(const Verdict &verdict);

} // namespace tandem::sync
