#include "sync/reconciler.hpp"

#include "core/backoff.hpp"
#include "core/error.hpp"
#include "log.hpp"

#include <algorithm>

namespace tandem::sync {
namespace {

using core::Error;
using nlohmann::json;

constexpr Millis after_failure{10000};
constexpr Millis others_patience{10000};
constexpr std::size_t scans_at_once = 1; // of one source: more would not be faster, and press the old side harder

std::chrono::microseconds micros(Clock::duration time) { return std::chrono::duration_cast<std::chrono::microseconds>(time); }

ComparePace asked_pace(const json &table) {
    ComparePace pace;
    if (const auto share = table.find("share"); share != table.end() && share->is_number())
        pace.share = share->get<double>();
    if (const auto rate = table.find("rows_per_second"); rate != table.end() && rate->is_number())
        pace.rows_per_second = rate->get<double>();
    return pace;
}

// What keeps a key from being settled by its own next change.
bool stays(const std::string &reason) { return reason != "queue" && reason != "journal"; }

} // namespace

Reconciler::Reconciler(std::string conninfo, std::string holder, core::SourceConnection source, std::shared_ptr<const Lease> lease)
    : conninfo_(std::move(conninfo)), holder_(std::move(holder)), source_(std::move(source)), lease_(std::move(lease)),
      thread_([this] { run(); }) {}

Reconciler::~Reconciler() {
    stop_.request();
    {
        const std::lock_guard lock(mutex_);
        if (sessions_)
            sessions_->old.interrupt();
    }
    thread_.join();
}

void Reconciler::connect() {
    auto sessions =
        std::make_unique<CompareSessions>(conninfo_, holder_, source_, "reconcile " + source_.name, [this] { return stopping(); });
    const std::lock_guard lock(mutex_);
    sessions_ = std::move(sessions);
}

// Passes hold references to the sessions; runs stay as they are in the catalog and go on where they stood.
void Reconciler::forget() {
    scans_.clear();
    runs_.clear();
    verifiers_.clear();
    rechecks_.clear();
    tables_.clear();
    refreshed_ = {};
    const std::lock_guard lock(mutex_);
    sessions_.reset();
}

void Reconciler::run() {
    core::Backoff backoff(Millis(500), Millis(15000));
    while (!stopping()) {
        try {
            if (!sessions_)
                connect();
            if (Clock::now() - refreshed_ >= refresh_every)
                refresh();
            if (!round())
                stop_.wait_for(Millis(50));
            backoff.reset();
        } catch (const Error &error) {
            forget();
            if (stopping())
                break;
            log::warning("reconciliation interrupted, goes on later",
                         {{"source", source_.name}, {"sqlstate", error.sqlstate()}, {"error", error.what()}, {"hint", error.hint()}});
            stop_.wait_for(backoff.next());
        } catch (const std::exception &error) {
            forget();
            log::error("reconciliation ended by an unexpected error, goes on later", {{"source", source_.name}, {"error", error.what()}});
            stop_.wait_for(backoff.next());
        }
    }
    try {
        forget();
    } catch (const std::exception &error) {
        log::debug("sessions of reconciliation could not be closed", {{"error", error.what()}});
    }
}

const core::TableConfig *Reconciler::config(int table_id) const {
    const auto found = std::ranges::find_if(tables_, [&](const core::TableConfig &table) { return table.table_id == table_id; });
    return found == tables_.end() || found->digest.mode == core::DigestPlan::Mode::none ? nullptr : &*found;
}

json Reconciler::table_work(int table_id) const {
    for (const json &table : work_.value("tables", json::array()))
        if (table.at("table_id") == table_id)
            return table;
    return json::object();
}

// Something failed in the midst of a chunk: the sessions go (see run), and a table must not keep the others from being compared. A pass is
// ended only by what will not pass; else it goes on where it stood.
void Reconciler::failed(int table_id, ComparePass *pass, const Error &error) {
    put_off_[table_id] = Clock::now() + after_failure;
    if (pass == nullptr || error.retryable())
        return;
    try {
        pass->give_up("failed", error.what());
    } catch (const Error &second) {
        log::warning("a failed reconciliation could not be ended", {{"table", pass->table()}, {"error", second.what()}});
    }
}

// The limits are those of the backfill (tandem.backfill_max_…): what is too much for the application does not depend on who asks.
void Reconciler::look_at_load() {
    mysql::OldSideLoad load = sessions_->old.load();
    if (load.threads_running >= 0) {
        running_ = running_ < 0 ? load.threads_running : running_ * 0.5 + load.threads_running * 0.5;
        load.threads_running = running_;
    }
    const bool waited = pressure_.waits;
    pressure_ = pace_of(load, sessions_->api.reload_settings());
    if (pressure_.waits != waited)
        log::info(pressure_.waits ? "reconciliation waits for the old side" : "reconciliation goes on",
                  {{"source", source_.name}, {"load", pressure_.reason}});
}

void Reconciler::refresh() {
    const auto since = std::chrono::duration_cast<Millis>(Clock::now() - refreshed_);
    if (pressure_.waits && refreshed_ != Clock::time_point{}) {
        for (auto &[table_id, scan] : scans_)
            scan.pass->stalled(since, pressure_.reason);
        for (auto &[run_id, scan] : runs_)
            scan.pass->stalled(since, pressure_.reason);
    }
    refreshed_ = Clock::now();
    look_at_load();
    work_ = sessions_->runs.work(source_.source_id);
    if (tables_.empty() || (scans_.empty() && runs_.empty()))
        tables_ = sessions_->api.tables(source_.source_id);

    std::map<int, double> shares;
    for (const json &table : work_.value("tables", json::array()))
        if (table.value("verify", false) && config(table.at("table_id").get<int>()) != nullptr)
            shares[table.at("table_id").get<int>()] = table.value("verify_share", 1.0);
    std::erase_if(verifiers_, [&](const auto &entry) { return !shares.contains(entry.first); });
    applied_.want(std::move(shares));

    cancel();
    // Paused, or not to be scanned any more: nothing is held, the pass stays open and goes on later.
    std::erase_if(scans_, [&](const auto &entry) { return !table_work(entry.first).value("continuous", false); });
    for (auto &[table_id, scan] : scans_) {
        const ComparePace pace = asked_pace(table_work(table_id));
        if (pace.share != scan.pace.share || pace.rows_per_second != scan.pace.rows_per_second)
            scan.due = std::min(scan.due, Clock::now()); // do not wait out a pause of the old pace
        scan.pace = pace;
    }
    if (rechecks_.empty())
        for (const json &one : work_.value("recheck", json::array()))
            rechecks_.push_back(one);
    start_runs();
    start_scan();
}

// Runs that shall end. One that is not in hand here may be in somebody's call, which ends it by itself, or in nobody's.
void Reconciler::cancel() {
    std::map<std::int64_t, Clock::time_point> seen;
    for (const json &id : work_.value("cancel", json::array())) {
        const auto run_id = id.get<std::int64_t>();
        const auto end = [&](auto &scans) {
            return std::erase_if(scans, [&](auto &entry) {
                       if (entry.second.pass->run_id() != run_id)
                           return false;
                       entry.second.pass->give_up("cancelled", "");
                       return true;
                   }) > 0;
        };
        if (end(runs_) || end(scans_))
            continue;
        const bool ours = std::erase_if(verifiers_, [&](const auto &entry) { return entry.second.run_id == run_id; }) > 0;
        const auto before = cancelling_.find(run_id);
        const Clock::time_point since = before == cancelling_.end() ? Clock::now() : before->second;
        if (ours || Clock::now() - since > others_patience)
            (void)sessions_->runs.end_pass(run_id, "cancelled", "");
        else
            seen.emplace(run_id, since);
    }
    cancelling_ = std::move(seen);
}

void Reconciler::start_runs() {
    for (const json &run : work_.value("runs", json::array())) {
        const int table_id = run.at("table_id").get<int>();
        const auto run_id = run.at("run_id").get<std::int64_t>();
        const core::TableConfig *table = config(table_id);
        if (table == nullptr || runs_.contains(run_id) || put_off_[table_id] > Clock::now())
            continue;
        json options = run.value("options", json::object());
        options["kind"] = "requested";
        options["run_id"] = run_id;
        try {
            Scan scan;
            scan.pace = asked_pace(options);
            scan.pass = std::make_unique<ComparePass>(sessions_->sides(), *table, cascade_ancestors(*table, tables_), options);
            runs_.emplace(run_id, std::move(scan));
        } catch (const Error &error) {
            failed(table_id, nullptr, error);
            throw;
        }
    }
}

// One table after another, the one whose turn it is longest first (that is their order in reconcile_work).
void Reconciler::start_scan() {
    for (const json &one : work_.value("tables", json::array())) {
        if (scans_.size() >= scans_at_once)
            return;
        const int table_id = one.at("table_id").get<int>();
        const core::TableConfig *table = config(table_id);
        if (table == nullptr || !one.value("continuous", false) || !one.value("due", true) || scans_.contains(table_id) ||
            put_off_[table_id] > Clock::now())
            continue;
        try {
            Scan scan;
            scan.pace = asked_pace(one);
            scan.pass =
                std::make_unique<ComparePass>(sessions_->sides(), *table, cascade_ancestors(*table, tables_), json{{"kind", "continuous"}});
            scans_.emplace(table_id, std::move(scan));
        } catch (const Error &error) {
            failed(table_id, nullptr, error);
            throw;
        }
    }
}

bool Reconciler::round() {
    if (pressure_.waits)
        return false;
    bool worked = verify();
    worked = recheck() || worked;
    const auto go_on = [&](auto &scans) {
        for (auto at = scans.begin(); at != scans.end();) {
            const bool due = at->second.due <= Clock::now();
            worked = worked || due;
            at = due && !step(at->second) ? scans.erase(at) : std::next(at);
        }
    };
    go_on(runs_);
    go_on(scans_);
    return worked;
}

// False: the pass is over.
bool Reconciler::step(Scan &scan) {
    ComparePass::Step result{};
    try {
        result = scan.pass->step();
    } catch (const Error &error) {
        failed(scan.pass->table_id(), scan.pass.get(), error);
        throw;
    }
    switch (result) {
    case ComparePass::Step::done:
    case ComparePass::Step::cancelled:
        return false;
    case ComparePass::Step::waits:
        scan.due = Clock::now() + scan.pass->pause();
        return true;
    case ComparePass::Step::worked:
        break;
    }
    ComparePace pace = scan.pace;
    pace.share *= pressure_.share;
    scan.due = Clock::now() + pause_after_chunk(pace, scan.pass->rows_of_step(), scan.pass->time_of_step());
    return true;
}

// Tier 1. In flight again is no news: the key will be applied again, and verified then.
bool Reconciler::verify() {
    if (Clock::now() < verify_due_)
        return false;
    for (const int table_id : applied_.tables()) {
        const core::TableConfig *table = config(table_id);
        if (table == nullptr || put_off_[table_id] > Clock::now())
            continue;
        const AppliedKeys::Taken taken = applied_.take(table_id, keys_at_once);
        if (taken.keys.empty())
            continue;
        const Clock::time_point started = Clock::now();
        try {
            Verifier &verifier = verifiers_[table_id];
            if (!verifier.comparer) {
                const postgres::Pass pass = sessions_->runs.begin_pass(table_id, {{"kind", "verify"}});
                verifier.run_id = pass.run_id;
                verifier.comparer =
                    std::make_unique<ChunkComparer>(sessions_->sides(), *table, cascade_ancestors(*table, tables_), pass.secret);
            }
            Verdict verdict = verifier.comparer->list(taken.keys);
            if (!verdict.skipped && !verdict.discarded) {
                std::erase_if(verdict.in_flight, [](const auto &one) { return !stays(one.second); });
                json chunk = chunk_report(verdict);
                chunk["chunks"] = 1;
                chunk["covered"] =
                    taken.covered * static_cast<std::int64_t>(verdict.equal.size()) / static_cast<std::int64_t>(taken.keys.size());
                chunk["ms"] = micros(Clock::now() - started).count() / 1000;
                if (!sessions_->runs.report_chunk(verifier.run_id, chunk, verdict.confirmed).value("continue", true)) {
                    sessions_->runs.end_pass(verifier.run_id, "cancelled", "");
                    verifiers_.erase(table_id);
                }
            }
        } catch (const Error &error) {
            failed(table_id, nullptr, error);
            throw;
        }
        const auto worked = micros(Clock::now() - started);
        verify_due_ = Clock::now() + pause_after_chunk({verify_share, 0}, 0, worked);
        return true;
    }
    return false;
}

// Keys that were in flight when a pass came by, and open discrepancies: settled, or still so.
bool Reconciler::recheck() {
    if (rechecks_.empty() || Clock::now() < recheck_due_)
        return false;
    const json one = rechecks_.back();
    rechecks_.pop_back();
    const int table_id = one.at("table_id").get<int>();
    const core::TableConfig *table = config(table_id);
    if (table == nullptr || put_off_[table_id] > Clock::now())
        return false;
    const Clock::time_point started = Clock::now();
    try {
        std::vector<std::string> keys;
        for (const json &key : one.at("keys"))
            keys.push_back(postgres::bytes_of(key.get<std::string>()));
        ChunkComparer comparer(sessions_->sides(), *table, cascade_ancestors(*table, tables_), core::RowDigest::new_secret());
        for (std::size_t first = 0; first < keys.size(); first += keys_at_once) {
            const std::vector<std::string> some(keys.begin() + static_cast<std::ptrdiff_t>(first),
                                                keys.begin() + static_cast<std::ptrdiff_t>(std::min(keys.size(), first + keys_at_once)));
            const Verdict verdict = comparer.list(some);
            if (verdict.skipped || verdict.discarded)
                break;
            json chunk = chunk_report(verdict);
            chunk["rechecks"] = some.size();
            chunk["ms"] = micros(Clock::now() - started).count() / 1000;
            sessions_->runs.report_chunk(one.at("run_id").get<std::int64_t>(), chunk, verdict.confirmed);
        }
    } catch (const Error &error) {
        failed(table_id, nullptr, error);
        throw;
    }
    recheck_due_ = Clock::now() + pause_after_chunk({verify_share, 0}, 0, micros(Clock::now() - started));
    return true;
}

} // namespace tandem::sync
