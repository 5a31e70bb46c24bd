#include "sync/capture_guard.hpp"

#include "core/backoff.hpp"
#include "core/error.hpp"
#include "log.hpp"
#include "mysql/control_session.hpp"

namespace tandem::sync {

using core::Error;

namespace {

constexpr std::size_t looked_at_singly = 20;

bool same_columns(const core::TableConfig &a, const core::TableConfig &b) {
    if (a.columns.size() != b.columns.size())
        return false;
    for (std::size_t i = 0; i < a.columns.size(); ++i)
        if (a.columns[i].name != b.columns[i].name || a.columns[i].gone != b.columns[i].gone ||
            a.columns[i].mapped != b.columns[i].mapped || a.columns[i].mysql_type != b.columns[i].mysql_type)
            return false;
    return true;
}

std::vector<const core::TableConfig *> configs_of(const auto &entries) {
    std::vector<const core::TableConfig *> tables;
    for (const auto *entry : entries)
        tables.push_back(&entry->table);
    return tables;
}

} // namespace

std::optional<core::CaptureFault> CaptureGuard::judged(const Entry &entry, const core::SeenSource &source) {
    return core::judge(entry.table, source, source.tables.at(entry.table.table_id), entry.table.identity, entry.last);
}

CaptureGuard::CaptureGuard(core::SourceConnection connection, std::shared_ptr<const Lease> lease)
    : connection_(std::move(connection)), lease_(std::move(lease)), thread_([this] { run(); }) {}

CaptureGuard::~CaptureGuard() {
    stop_.request();
    thread_.join();
}

void CaptureGuard::watch(const core::TableConfig &table) {
    const std::lock_guard lock(mutex_);
    const auto [found, inserted] = entries_.try_emplace(table.table_id);
    Entry &entry = found->second;
    if (!inserted && entry.table.identity == table.identity && same_columns(entry.table, table)) {
        entry.table = table;
        return;
    }
    // What was told of its columns stays told.
    Entry fresh;
    fresh.table = table;
    fresh.told_columns = inserted ? "" : entry.told_columns;
    fresh.examined = entry.examined;
    fresh.watch = ++watches_;
    entry = std::move(fresh);
}

void CaptureGuard::ignore(int table_id) {
    const std::lock_guard lock(mutex_);
    entries_.erase(table_id);
}

bool CaptureGuard::examine(int table_id) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(table_id);
    if (found == entries_.end())
        return false;
    found->second.examined = true;
    found->second.watch = ++watches_; // a look that is under way may have been too early
    look_now_ = true;
    return true;
}

std::optional<std::string> CaptureGuard::fault_under_lock(mysql::ControlSession &session, mysql::Client &holder,
                                                          const std::vector<int> &table_ids) {
    std::vector<Entry> entries;
    {
        const std::lock_guard lock(mutex_);
        for (const int table_id : table_ids) {
            const auto found = entries_.find(table_id);
            if (found == entries_.end() || found->second.told_broken)
                return "capture of table " + std::to_string(table_id) + " is not whole";
            entries.push_back(found->second);
        }
    }
    // MySQL 5.6 finds one table by its name, and opens all tables of the database for two.
    const std::size_t at_once = entries.size() <= looked_at_singly ? 1 : entries.size();
    for (std::size_t from = 0; from < entries.size(); from += at_once) {
        std::vector<const Entry *> some;
        for (std::size_t i = from; i < from + at_once; ++i)
            some.push_back(&entries[i]);
        const core::SeenSource source = session.look_under_lock(configs_of(some), holder);
        for (const Entry *entry : some)
            if (const auto fault = judged(*entry, source))
                return fault->reason;
    }
    return std::nullopt;
}

std::vector<GuardNews> CaptureGuard::take_news() {
    const std::lock_guard lock(mutex_);
    return std::exchange(news_, {});
}

std::optional<GuardReport> CaptureGuard::take_report() {
    const std::lock_guard lock(mutex_);
    return std::exchange(report_, std::nullopt);
}

void CaptureGuard::report(GuardReport report) {
    const std::lock_guard lock(mutex_);
    report_ = std::move(report);
}

void CaptureGuard::conclude(const Entry &looked, const core::SeenSource &source, const std::optional<core::CaptureFault> &fault) {
    const core::SeenTable &seen = source.tables.at(looked.table.table_id);
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(looked.table.table_id);
    if (found == entries_.end() || found->second.watch != looked.watch)
        return; // nobody wants to know this any more
    Entry &entry = found->second;
    const int table_id = entry.table.table_id;
    const std::string columns = core::column_changes(entry.table, seen).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    if (seen.exists && columns != entry.told_columns) {
        entry.told_columns = columns;
        news_.push_back({table_id, GuardNews::Kind::columns, {}, columns});
    }
    if (fault) {
        if (!entry.told_broken)
            news_.push_back({table_id, GuardNews::Kind::broken, *fault, {}});
        entry.told_broken = true;
        return;
    }
    const nlohmann::json identity = core::identity_of(source, seen);
    if (entry.table.identity.empty() || nlohmann::json::parse(entry.table.identity) != identity) {
        entry.table.identity = identity.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        news_.push_back({table_id, GuardNews::Kind::identity, {}, entry.table.identity});
    }
    entry.last = {seen.auto_increment, seen.bytes, true, source.uptime};
    if (std::exchange(entry.examined, false))
        news_.push_back({table_id, GuardNews::Kind::fine, {}, {}});
}

void CaptureGuard::look(mysql::ControlSession &session) {
    std::vector<Entry> entries;
    {
        const std::lock_guard lock(mutex_);
        look_now_ = false;
        for (const auto &[table_id, entry] : entries_)
            if (!entry.told_broken)
                entries.push_back(entry);
    }
    const Clock::time_point started = Clock::now();
    std::vector<const Entry *> all, odd;
    for (const Entry &entry : entries)
        all.push_back(&entry);
    const core::SeenSource source = session.look(configs_of(all));
    const auto took = std::chrono::duration<double, std::milli>(Clock::now() - started).count();
    for (const Entry *entry : all) {
        if (judged(*entry, source))
            odd.push_back(entry);
        else
            conclude(*entry, source, std::nullopt);
    }
    if (!odd.empty()) {
        // The queries of a look are not of one moment, and a table may be in the midst of a change: what is said is what a second look says.
        const core::SeenSource again = session.look(configs_of(odd), true);
        for (const Entry *entry : odd)
            conclude(*entry, again, judged(*entry, again));
    }
    report({static_cast<int>(all.size()), took, source.numbers_readable, {}});
}

void CaptureGuard::run() {
    core::Backoff backoff(Millis(200), Millis(2000));
    std::optional<mysql::ControlSession> session;
    Clock::time_point due{};
    while (!stop_.requested()) {
        bool now;
        {
            const std::lock_guard lock(mutex_);
            now = look_now_ || (!entries_.empty() && due <= Clock::now());
        }
        if (!now || !lease_->held()) {
            stop_.wait_for(Millis(20));
            continue;
        }
        try {
            if (!session)
                session.emplace(connection_);
            look(*session);
            due = Clock::now() + look_every;
            backoff.reset();
        } catch (const Error &error) {
            session.reset();
            log::warning("the capture guard cannot look at the old side", {{"source", connection_.name}, {"error", error.what()}});
            report({0, 0, false, std::string(error.what()) + (error.hint().empty() ? "" : " (" + error.hint() + ")")});
            stop_.wait_for(backoff.next());
        }
    }
}

} // namespace tandem::sync
