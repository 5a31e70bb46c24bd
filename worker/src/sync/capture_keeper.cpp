#include "sync/capture_keeper.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "mysql/control_session.hpp"

#include <optional>

namespace tandem::sync {

using core::Error;

CaptureKeeper::CaptureKeeper(core::SourceConnection connection, std::shared_ptr<const Lease> lease, unsigned lock_timeout_ms)
    : connection_(std::move(connection)), lease_(std::move(lease)), lock_timeout_ms_(lock_timeout_ms), thread_([this] { run(); }) {}

CaptureKeeper::~CaptureKeeper() {
    stop_.request();
    thread_.join();
}

void CaptureKeeper::want(const core::TableConfig &table, Want want) {
    const std::lock_guard lock(mutex_);
    const auto [found, inserted] = entries_.try_emplace(table.table_id);
    Entry &entry = found->second;
    entry.table = table;
    if (!inserted && entry.want == want)
        return;
    entry.want = want;
    entry.reached = false;
    entry.due = {};
    entry.backoff.reset();
    entry.wish = ++wishes_;
}

void CaptureKeeper::ignore(int table_id) {
    const std::lock_guard lock(mutex_);
    entries_.erase(table_id);
}

std::vector<CaptureNews> CaptureKeeper::take_news() {
    const std::lock_guard lock(mutex_);
    return std::exchange(news_, {});
}

bool CaptureKeeper::busy() const {
    const std::lock_guard lock(mutex_);
    for (const auto &[table_id, entry] : entries_)
        if (!entry.reached && entry.want != Want::watched)
            return true;
    return !news_.empty();
}

void CaptureKeeper::tell(std::uint64_t wish, CaptureNews news, bool reached) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(news.table_id);
    if (found == entries_.end() || found->second.wish != wish)
        return; // nobody wants this any more
    found->second.reached = found->second.reached || reached;
    found->second.due = Clock::now() + watch_every;
    found->second.backoff.reset();
    if (news.kind == CaptureNews::Kind::cost)
        found->second.cost_known = true;
    news_.push_back(std::move(news));
}

void CaptureKeeper::postpone(int table_id, std::uint64_t wish, const std::string &reason) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(table_id);
    if (found == entries_.end() || found->second.wish != wish)
        return;
    found->second.due = Clock::now() + found->second.backoff.next();
    if (found->second.want != Want::watched && !reason.empty())
        news_.push_back({table_id, CaptureNews::Kind::waiting, reason, false, 0});
}

// One look or one attempt for one table, without holding the lock. Returns false if the session should not be used again.
bool CaptureKeeper::work_on(mysql::ControlSession &session, int table_id, Entry entry) {
    try {
        CaptureNews news{table_id, CaptureNews::Kind::installed, "", false, 0};
        if (entry.want == Want::removed) {
            session.remove_capture(entry.table, lock_timeout_ms_);
            news.kind = CaptureNews::Kind::removed;
            tell(entry.wish, news, true);
            return true;
        }
        const mysql::CaptureStatus status = session.check_capture(entry.table);
        const bool whole = status.complete && status.gaps == 0 && status.drift.empty();
        if (entry.want == Want::installed && !entry.reached) {
            news.was_complete = whole;
            if (!whole) {
                session.install_capture(entry.table, lock_timeout_ms_);
                // Before any row is read anew: a gap that appears from here on must stay.
                session.clear_gaps(entry.table);
            }
            tell(entry.wish, news, true);
        } else if (!whole) {
            news.kind = CaptureNews::Kind::broken;
            if (!status.complete)
                news.reason = "capture on the old side is not complete: " + status.missing;
            else if (status.gaps > 0)
                news.reason = std::to_string(status.gaps) + " events could not be written to the outbox (see capture_gap on the old side)";
            else
                news.reason = "the old table was altered: " + status.drift;
            tell(entry.wish, news, true);
        } else if (!entry.cost_known) {
            news.kind = CaptureNews::Kind::cost;
            news.cost_us = session.measure_capture_cost(entry.table);
            tell(entry.wish, news, true);
        } else {
            const std::lock_guard lock(mutex_);
            if (const auto found = entries_.find(table_id); found != entries_.end())
                found->second.due = Clock::now() + watch_every;
        }
        return true;
    } catch (const core::SessionLost &) {
        postpone(table_id, entry.wish, "");
        throw;
    } catch (const Error &error) {
        log::warning("capture is not as wanted yet", {{"source", connection_.name}, {"table", entry.table.name}, {"error", error.what()}});
        postpone(table_id, entry.wish, std::string(error.what()) + (error.hint().empty() ? "" : " (" + error.hint() + ")"));
        return true;
    }
}

void CaptureKeeper::run() {
    core::Backoff backoff(Millis(200), Millis(5000));
    std::optional<mysql::ControlSession> session;
    while (!stop_.requested()) {
        std::optional<std::pair<int, Entry>> next;
        {
            const std::lock_guard lock(mutex_);
            for (const auto &[table_id, entry] : entries_)
                if (entry.due <= Clock::now() && !(entry.reached && entry.want == Want::removed) && (!next || entry.due < next->second.due))
                    next.emplace(table_id, entry);
        }
        if (!next || !lease_->held()) {
            stop_.wait_for(Millis(20));
            continue;
        }
        try {
            if (!session)
                session.emplace(connection_);
            if (!work_on(*session, next->first, next->second))
                session.reset();
            backoff.reset();
        } catch (const Error &error) {
            session.reset();
            log::warning("control session on the old side lost", {{"source", connection_.name}, {"error", error.what()}});
            stop_.wait_for(backoff.next());
        }
    }
}

} // namespace tandem::sync
