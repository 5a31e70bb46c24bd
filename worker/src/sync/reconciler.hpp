// Reconciliation that nobody waits for, of one source, in a thread and on sessions of its own, while this process leads the source:
//
//   tier 1   keys are verified soon after they were applied (AppliedKeys, filled by the pump)
//   tier 2   tables are scanned pass after pass, at the pace that tandem.reconcile_work says; a pass goes on where it stood
//   runs     passes that tandem.reconcile_start asked for
//   rechecks keys that were in flight, and open discrepancies
//
// Between two chunks nothing is held open. Whatever fails here is tried again later and never reaches the pump.
#pragma once

#include "core/error.hpp"
#include "core/types.hpp"
#include "sync/applied_keys.hpp"
#include "sync/compare_pass.hpp"
#include "sync/compare_sessions.hpp"
#include "sync/lease.hpp"
#include "sync/stop.hpp"
#include "sync/throttle.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace tandem::sync {

class Reconciler {
  public:
    Reconciler(std::string conninfo, std::string holder, core::SourceConnection source, std::shared_ptr<const Lease> lease);
    ~Reconciler(); // at once: a session in the midst of something is cut
    Reconciler(const Reconciler &) = delete;
    Reconciler &operator=(const Reconciler &) = delete;

    AppliedKeys &applied() { return applied_; }

    static constexpr Millis refresh_every{1000}; // a changed pace or a pause counts after so long
    static constexpr double verify_share = 0.25; // of the time that tier 1 may work
    static constexpr std::size_t keys_at_once = 1000;

  private:
    struct Scan {
        std::unique_ptr<ComparePass> pass;
        ComparePace pace;
        Clock::time_point due{};
    };
    struct Verifier {
        std::int64_t run_id = 0;
        std::unique_ptr<ChunkComparer> comparer;
    };

    void run();
    bool stopping() const { return stop_.requested() || !lease_->held(); }
    void connect();
    void forget();
    void refresh();
    void look_at_load();
    void cancel();
    void start_runs();
    void start_scan();
    bool round(); // false: nothing was due
    bool step(Scan &scan);
    bool verify();
    bool recheck();
    const core::TableConfig *config(int table_id) const;
    nlohmann::json table_work(int table_id) const;
    void failed(int table_id, ComparePass *pass, const core::Error &error);

    const std::string conninfo_;
    const std::string holder_;
    const core::SourceConnection source_;
    const std::shared_ptr<const Lease> lease_;
    Stop stop_;
    AppliedKeys applied_;

    std::mutex mutex_; // protects the pointer: interrupt() may come from another thread
    std::unique_ptr<CompareSessions> sessions_;

    // Of the thread alone.
    std::vector<core::TableConfig> tables_;
    nlohmann::json work_;
    std::map<int, Scan> scans_;                            // by table: tier 2
    std::map<std::int64_t, Scan> runs_;                    // by run
    std::map<int, Verifier> verifiers_;                    // by table
    std::map<int, Clock::time_point> put_off_;             // tables that failed, until when
    std::map<std::int64_t, Clock::time_point> cancelling_; // runs that others have in hand, since when they shall end
    std::vector<nlohmann::json> rechecks_;
    Clock::time_point refreshed_{}, verify_due_{}, recheck_due_{};
    Pace pressure_;       // what the old side's load leaves us
    double running_ = -1; // threads, smoothed: one sample says little
    std::thread thread_;
};

} // namespace tandem::sync
