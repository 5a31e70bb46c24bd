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

void CaptureKeeper::want(const core::TableConfig &table, Want want, bool may_install) {
    const std::lock_guard lock(mutex_);
    const auto [found, inserted] = entries_.try_emplace(table.table_id);
    Entry &entry = found->second;
    entry.table = table;
    if (!inserted && entry.want == want && entry.may_install == may_install)
        return;
    entry.want = want;
    entry.may_install = may_install;
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
        if (!entry.reached && entry.want != Want::measured)
            return true;
    return !news_.empty();
}

void CaptureKeeper::tell(std::uint64_t wish, CaptureNews news) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(news.table_id);
    if (found == entries_.end() || found->second.wish != wish)
        return; // nobody wants this any more
    found->second.reached = true;
    news_.push_back(std::move(news));
}

void CaptureKeeper::postpone(int table_id, std::uint64_t wish, const std::string &reason) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(table_id);
    if (found == entries_.end() || found->second.wish != wish)
        return;
    found->second.due = Clock::now() + found->second.backoff.next();
    if (found->second.want != Want::measured && !reason.empty())
        news_.push_back({table_id, CaptureNews::Kind::waiting, reason, false, 0});
}

CaptureNews CaptureKeeper::install(mysql::ControlSession &session, const Entry &entry) {
    const core::TableConfig &table = entry.table;
    CaptureNews news{table.table_id, CaptureNews::Kind::installed, "", false, 0};
    const auto faulty = [&](const core::SeenSource &seen, const std::string &identity) {
        auto fault = core::judge(table, seen, seen.tables.at(table.table_id), identity, {});
        if (fault)
            return fault;
        const mysql::CaptureStatus status = session.check_capture(table);
        if (!status.complete)
            fault = core::CaptureFault{"trigger", "capture on the old side is not complete: " + status.missing, true};
        return fault;
    };
    core::SeenSource seen = session.look({&table}, true);
    auto fault = faulty(seen, table.identity);
    if (!fault && table.identity.empty())
        fault = core::CaptureFault{"trigger", "capture on the old side was not complete", true};
    if (!fault) {
        news.was_complete = true;
    } else {
        // Its own triggers on another table are taken away by the installation; a table that cannot be captured as it is needs somebody.
        const bool installable = fault->automatic || fault->cause == "swapped" || fault->cause == "server";
        if (!installable || !entry.may_install) {
            news.kind = CaptureNews::Kind::broken;
            news.fault = *fault;
            return news;
        }
        session.install_capture(table, lock_timeout_ms_);
        // Before any row is read anew: a gap that appears from here on must stay.
        session.clear_gaps(table);
        seen = session.look({&table}, true);
        if (const auto again = faulty(seen, {}))
            throw Error(core::Side::old_side, "55000", again->reason, true);
    }
    news.identity = core::identity_of(seen, seen.tables.at(table.table_id)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return news;
}

// One attempt for one table, without holding the lock.
void CaptureKeeper::work_on(mysql::ControlSession &session, int table_id, Entry entry) {
    try {
        switch (entry.want) {
        case Want::removed:
            session.remove_capture(entry.table, lock_timeout_ms_);
            tell(entry.wish, {table_id, CaptureNews::Kind::removed, "", false, 0});
            break;
        case Want::installed:
            tell(entry.wish, install(session, entry));
            break;
        case Want::measured:
            tell(entry.wish, {table_id, CaptureNews::Kind::cost, "", false, session.measure_capture_cost(entry.table)});
            break;
        }
    } catch (const core::SessionLost &) {
        postpone(table_id, entry.wish, "");
        throw;
    } catch (const Error &error) {
        log::warning("capture is not as wanted yet", {{"source", connection_.name}, {"table", entry.table.name}, {"error", error.what()}});
        postpone(table_id, entry.wish, std::string(error.what()) + (error.hint().empty() ? "" : " (" + error.hint() + ")"));
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
                if (entry.due <= Clock::now() && !entry.reached && (!next || entry.due < next->second.due))
                    next.emplace(table_id, entry);
        }
        if (!next || !lease_->held()) {
            stop_.wait_for(Millis(20));
            continue;
        }
        try {
            if (!session)
                session.emplace(connection_);
            work_on(*session, next->first, next->second);
            backoff.reset();
        } catch (const Error &error) {
            session.reset();
            log::warning("control session on the old side lost", {{"source", connection_.name}, {"error", error.what()}});
            stop_.wait_for(backoff.next());
        }
    }
}

} // namespace tandem::sync
